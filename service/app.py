"""The wiring of the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from litestar import Litestar, Router
from litestar.plugins import CLIPlugin
from litestar.types import ASGIApp, Scope

from service import health, members, ofrep, reports, segments, users
from service.database import Database
from service.docs import openapi
from service.errors import answer_problem, malformed
from service.http import metrics
from service.http.answers import with_options
from service.http.auth import ApiKeys, Authentication
from service.http.bodies import ApiRequest
from service.http.connections import Connections
from service.http.idempotency import Idempotency
from service.http.rate_limit import rate_limit
from service.http.request_ids import RequestIds
from service.schemas import Moment, MomentSchema
from service.settings import Settings, SettingsError, is_traced, read_settings
from service.shared_reads import SharedReads

if TYPE_CHECKING:
    from click import Group

    from service.http.tracing import Tracing


class CommandLine(CLIPlugin):
    """Adds the commands of python -m service to Litestar's own: litestar --app service.app:create_app."""

    def on_cli_init(self, cli: "Group") -> None:
        """Add them."""
        # Only now, as serving needs none of it.
        from service.cli.commands import commands

        for command in commands.commands.values():
            cli.add_command(command)


def create_app(settings: Settings | None = None, tracing: "Tracing | None" = None) -> Litestar:
    """Put the service together; without settings and tracing, as the environment says."""
    settings = settings or read_settings()
    tracing = tracing or (load_tracing() if is_traced() else None)
    database = tracing.database(settings) if tracing else Database(settings)
    reads = tracing.reads(database) if tracing else SharedReads(database)
    keys = ApiKeys(database)

    @asynccontextmanager
    async def connections(_: Litestar) -> AsyncIterator[None]:
        async with database.open(), reads.open(), keys.listen():
            yield

    with_key = Router(
        "/",
        route_handlers=[
            *with_options(users.HANDLERS),
            *with_options(segments.HANDLERS),
            Router("/", route_handlers=with_options(members.HANDLERS), middleware=[metrics.CountBytes()]),
            *reports.HANDLERS_WITH_KEY,
            *metrics.HANDLERS,
        ],
        middleware=[Authentication(), *rate_limit(settings), Idempotency()],
    )
    open_feature = Router(
        "/",
        route_handlers=ofrep.HANDLERS,
        middleware=[Authentication(x_api_key=True), *rate_limit(settings)],
        exception_handlers={Exception: ofrep.answer_failure},
    )
    with_link = Router("/", route_handlers=reports.HANDLERS, middleware=[metrics.CountBytes()])
    app = Litestar(
        [with_key, open_feature, with_link, *health.HANDLERS, *openapi.HANDLERS],
        lifespan=[*([tracing.lifespan] if tracing else []), connections],
        middleware=[metrics.CONFIG.middleware],
        request_class=ApiRequest,
        request_max_body_size=settings.max_body_bytes,
        exception_handlers={Exception: answer_problem},
        type_decoders=[(lambda type_: type_ is Moment, Moment.read)],
        plugins=[MomentSchema(), CommandLine()],
        openapi_config=openapi.CONFIG,
        cors_config=ofrep.cors(settings.cors_origins),
        logging_config=None,
    )
    # Around everything, so that answers to unknown paths have an id as well.
    asgi = Connections(app.asgi_handler, refuse)
    app.asgi_handler = RequestIds(tracing.requests(asgi) if tracing else asgi)
    app.state.database = database
    app.state.reads = reads
    app.state.api_keys = keys
    app.state.openapi = openapi.describe(app)
    return app


def refuse(scope: Scope, fault: str) -> ASGIApp:
    """Answer a request that is malformed before anybody looks at what it asks for."""
    request = ApiRequest(scope)
    answer: ASGIApp = answer_problem(request, malformed([{"detail": fault}])).to_asgi_response(None, request)
    return answer


def load_tracing() -> "Tracing":
    """Import what tracing needs, which is large and not always installed, and set it up."""
    try:
        from service.http.tracing import tracing_of_environment
    except ImportError as error:
        raise SettingsError(
            f"tracing is switched on (OTEL_…), but {error.name} is missing: pip install '.[otel]'."
        ) from error
    return tracing_of_environment()
