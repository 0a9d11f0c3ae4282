"""The two ends of the wire: bodies read strictly by their schema, answers sent on as PostgreSQL built them."""

import asyncio
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec
from litestar import Request, Response, Router
from litestar.datastructures import State
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler, route
from litestar.types import Message, Receive, Scope, Send

from service.auth import Caller
from service.errors import MALFORMED_REQUEST, UNSUPPORTED_MEDIA_TYPE, Problem, late_body, malformed_body

T = TypeVar("T")

# Who is in what is nobody's to keep: neither a browser's nor a proxy's.
NO_STORE = (b"cache-control", b"no-store")


class ApiRequest(Request[str, Caller, State]):
    """A request whose body is decoded by the very type of its handler's data, with no conversions."""

    async def body(self) -> bytes:
        """Wait for the body, but not for ever."""
        patience = self.app.state.database.settings.stall_timeout
        try:
            async with asyncio.timeout(patience):
                return await super().body()
        except TimeoutError:
            raise late_body(patience) from None
        except InternalServerException:
            raise Problem(MALFORMED_REQUEST, "The client went away before the body's end.") from None

    async def json(self) -> Any:
        """Decode the body, or say which place of it is wrong."""
        if self.content_type[0] not in ("application/json", ""):
            raise Problem(
                UNSUPPORTED_MEDIA_TYPE,
                f"The body has the type {self.content_type[0]}.",
                hint="Send JSON and say Content-Type: application/json.",
            )
        body = await self.body()
        try:
            return _decoder(self.route_handler.parsed_data_field.annotation).decode(body)  # type: ignore[union-attr]
        except ValueError as error:
            raise malformed_body(error) from None


@cache
def _decoder(schema: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(schema)


class Json(Response[T], Generic[T]):
    """The JSON text of an answer, which is never parsed here; T only documents it."""

    def __init__(self, text: str, *headers: tuple[bytes, bytes]) -> None:
        """Send this text; the status is the handler's."""
        self.body = text.encode()
        self.extra_headers = headers

    def to_asgi_response(self, *_: Any, status_code: int | None = None, **__: Any) -> Any:
        """Leave out what Litestar does for cookies, templates and background tasks: a third of its time."""
        return _Answer(status_code, self.body, self.extra_headers)


class _Answer:
    __slots__ = ("body", "start")

    def __init__(self, status: int | None, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self.start: Any = {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                NO_STORE,
                *headers,
            ],
        }
        self.body: Message = {"type": "http.response.body", "body": body, "more_body": False}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self.start)
        await send(self.body)


def with_options(handlers: list[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """Have OPTIONS answered with all methods of a path; Litestar's own answer names those of its first handler."""
    routes = Router("/", route_handlers=handlers).routes
    allowed = {each.path_format: ", ".join(sorted(each.methods)) for each in routes}

    @route(
        [each.path for each in routes],
        http_method="OPTIONS",
        include_in_schema=False,
        status_code=204,
        sync_to_thread=False,
    )
    def say_methods(request: Request[Any, Any, Any]) -> Response[None]:
        """Say which methods there are."""
        return Response(None, headers={"Allow": allowed[request.scope["path_template"]]})

    # First: where there is one, Litestar makes none.
    return [say_methods, *handlers]
