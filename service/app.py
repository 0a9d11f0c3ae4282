"""Puts the service together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

from litestar import Litestar, Router
from litestar.plugins import CLIPlugin
from litestar.types import ASGIApp, Scope

from service import changes, health, layers, members, ofrep, reports, segments, users
from service.database import Database
from service.docs import openapi
from service.errors import answer_problem
from service.http.answers import with_options
from service.http.auth import ApiKeys, Authentication
from service.http.bodies import ApiRequest
from service.http.connections import Connections
from service.http.logs import log_request
from service.http.metrics import count_request
from service.http.parameters import DECODERS, KnownParameters, ParameterSchemas
from service.http.problems import malformed
from service.http.proxies import behind_proxies
from service.http.rate_limit import RateLimit
from service.http.requests import EveryRequest
from service.http.transfers import Limits
from service.settings import Settings, SettingsError, is_traced, read_settings
from service.shared_reads import SharedReads

if TYPE_CHECKING:
    from click import Group

    from service.http.tracing import Tracing


class CommandLine(CLIPlugin):
    """Adds the commands of python -m service to Litestar's own: litestar --app service.app:create_app."""

    def on_cli_init(self, cli: "Group") -> None:
        # Imported here, as serving needs none of it.
        from service.cli.commands import commands

        for command in commands.commands.values():
            cli.add_command(command)


def create_app(settings: Settings | None = None, tracing: "Tracing | None" = None) -> Litestar:
    """Put the service together; without settings and tracing, as the environment says."""
    settings = settings or read_settings()
    tracing = tracing or (load_tracing() if is_traced() else None)
    database = Database(settings)
    reads = SharedReads(database)
    keys = ApiKeys(database.find_caller, settings.api_key_cache_seconds)

    @asynccontextmanager
    async def connections(_: Litestar) -> AsyncIterator[None]:
        async with database.open(), reads.open():
            listening = asyncio.create_task(database.listen("segmentation_api_keys", keys.forget))
            try:
                yield
            finally:
                listening.cancel()
                await asyncio.wait([listening])

    limit = [RateLimit(settings.rate_limit_per_minute)] if settings.rate_limit_per_minute else []
    with_key = [Authentication(), *limit, KnownParameters()]
    # In the order of the documentation.
    modules = {
        "Segments": segments,
        "Layers": layers,
        "Users": users,
        "Members": members,
        "Reports": reports,
        "Changes": changes,
        "OpenFeature": ofrep,
        "Health": health,
    }
    handlers = [handler for tag, module in modules.items() for handler in openapi.handlers_of(module, tag)]
    app = Litestar(
        [
            Router("/", route_handlers=with_options(handlers), middleware=with_key),
            *openapi.HANDLERS,
        ],
        lifespan=[*([tracing.lifespan] if tracing else []), connections],
        request_class=ApiRequest,
        request_max_body_size=settings.max_body_bytes,
        exception_handlers={Exception: answer_problem},
        type_decoders=DECODERS,
        plugins=[ParameterSchemas(), CommandLine()],
        openapi_config=openapi.CONFIG,
        cors_config=ofrep.cors(settings.cors_origins, settings.cors_headers),
        logging_config=None,
    )
    with_cors = app.asgi_handler
    asgi: ASGIApp = Connections(
        ofrep.cors_for_ofrep_only(with_cors) if app.cors_config else with_cors, refuse
    )
    asgi = EveryRequest(
        tracing.requests(asgi) if tracing else asgi,
        [count_request, *([log_request] if settings.access_log else [])],
    )
    app.asgi_handler = behind_proxies(asgi, settings.trusted_proxies, settings.root_path)
    app.state.requests_counted = {}
    app.state.running = set()
    app.state.limits = Limits(
        settings.stall_timeout,
        settings.transfer_timeout,
        settings.min_bytes_per_second,
        settings.max_upload_rows,
    )
    app.state.database = database
    app.state.reads = reads
    app.state.api_keys = keys
    app.state.openapi = openapi.describe(app, handlers, settings.root_path)
    return app


def refuse(scope: Scope, fault: str) -> ASGIApp:
    """Answer a request that is malformed before anybody looks at what it asks for."""
    request = ApiRequest(scope)
    answer: ASGIApp = answer_problem(request, malformed(fault)).to_asgi_response(None, request)
    return answer


@cache
def load_tracing() -> "Tracing":
    """Import what tracing needs, which is large and not always installed, and set it up."""
    try:
        from service.http.tracing import tracing_of_environment

        return tracing_of_environment()
    except ImportError as error:
        raise SettingsError(
            f"tracing is switched on (OTEL_…), but {error.name} is missing: .dev/install --trace, or pip install '.[otel]'."
        ) from error
    # What the SDK raises for an unknown exporter, sampler or the like.
    except (RuntimeError, ValueError) as error:
        raise SettingsError(f"the settings of tracing (OTEL_…) are not valid: {error}.") from error
