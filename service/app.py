"""The wiring of the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, Router

from service import docs, health, members, reports, segments, users
from service.auth import ApiKeys, Authentication
from service.database import Database
from service.errors import answer_problem
from service.idempotency import Idempotency
from service.reads import SharedReads
from service.schemas import Moment, MomentSchema
from service.settings import Settings, read_settings
from service.wire import ApiRequest


def create_app(settings: Settings | None = None) -> Litestar:
    """Put the service together; without settings, those of the environment."""
    settings = settings or read_settings()
    database = Database(settings)
    reads = SharedReads(database)
    keys = ApiKeys(database)

    @asynccontextmanager
    async def connections(_: Litestar) -> AsyncIterator[None]:
        async with database.open(), reads.open(), keys.listen():
            yield

    with_key = Router(
        "/",
        route_handlers=[
            *users.HANDLERS,
            *segments.HANDLERS,
            *members.HANDLERS,
            *reports.HANDLERS_WITH_KEY,
        ],
        middleware=[Authentication(), Idempotency()],
    )
    app = Litestar(
        [with_key, *reports.HANDLERS, *health.HANDLERS, *docs.HANDLERS],
        lifespan=[connections],
        request_class=ApiRequest,
        request_max_body_size=settings.max_body_bytes,
        exception_handlers={Exception: answer_problem},
        type_decoders=[(lambda type_: type_ is Moment, Moment.read)],
        plugins=[MomentSchema()],
        openapi_config=docs.CONFIG,
        logging_config=None,
    )
    app.state.database = database
    app.state.reads = reads
    app.state.api_keys = keys
    app.state.openapi = docs.describe(app)
    return app
