"""Answers: JSON sent on as PostgreSQL built it, and rows streamed as CSV by COPY, never whole in memory; to OPTIONS, the methods."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from litestar import Request, Response, Router
from litestar.handlers import HTTPRouteHandler, route
from litestar.types import Message, Receive, Scope, Send

from service.http.auth import OPEN
from service.http.connections import is_head, while_connected
from service.http.metrics import TRANSFER_BYTES
from service.http.transfers import Pace

T = TypeVar("T")

log = logging.getLogger(__name__)

# Neither browsers nor proxies may store who is in which segment.
NO_STORE = (b"cache-control", b"no-store")


class Json(Response[T], Generic[T]):
    """The JSON text of an answer, which is never parsed here; T only documents it."""

    def __init__(self, text: str, *headers: tuple[bytes, bytes]) -> None:
        self.body = text.encode()
        self.extra_headers = headers

    def to_asgi_response(self, *_: Any, status_code: int | None = None, **__: Any) -> Any:
        """Skip what Litestar does for cookies, templates and background tasks, which takes a third of its time."""
        return _Answer(status_code, self.body, self.extra_headers)


class _Answer:
    __slots__ = ("body", "start")

    def __init__(self, status: int | None, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        length = str(len(body)).encode()
        content = [(b"content-type", b"application/json"), (b"content-length", length)] if body else []
        self.start: Any = {
            "type": "http.response.start",
            "status": status,
            "headers": [*content, NO_STORE, *headers],
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
        **OPEN,
        sync_to_thread=False,
    )
    def say_methods(request: Request[Any, Any, Any]) -> Response[None]:
        return Response(None, headers={"Allow": allowed[request.scope["path_template"]]})

    # First, as Litestar makes one of its own unless there is one already.
    return [say_methods, *handlers]


class Csv(Response[bytes]):
    """Rows, copied to the client as they come from PostgreSQL."""

    def __init__(
        self,
        copy: Callable[..., Awaitable[None]],
        file_name: str,
        check: Callable[[], Awaitable[Any]] | None = None,
        *headers: tuple[bytes, bytes],
    ) -> None:
        """Send what copy(output=…) gives to output, to be saved under this name.

        HEAD copies nothing: check fails where copy would fail, at little cost.
        """
        self._copy = copy
        self._check = check
        self._started = False
        self._start: Any = {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/csv; charset=utf-8"),
                (b"content-disposition", f'attachment; filename="{file_name}"'.encode()),
                NO_STORE,
                *headers,
            ],
        }

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Send until the rows end or the client goes away; in both cases the database connection is given back."""
        if is_head(scope):
            if self._check:
                await self._check()
            await send(self._start)
            # As if rows followed: so the headers are the same as with rows.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        pace = Pace(scope["litestar_app"].state.limits)
        counter = TRANSFER_BYTES.labels(scope["path_template"], "out")

        async def pass_on(part: bytes, *, more: bool = True) -> None:
            if not self._started:
                self._started = True
                await send(self._start)
            counter.inc(len(part))
            try:
                async with pace.wait():
                    await send({"type": "http.response.body", "body": part, "more_body": more})
            except TimeoutError:
                raise TimeoutError(f"the client is too slow: {pace}") from None
            pace.moved(len(part))

        async def transfer() -> None:
            # Awaited for each part, so that PostgreSQL waits for the client.
            await self._copy(output=pass_on)
            await pass_on(b"", more=False)

        try:
            await while_connected(receive, transfer())
        except Exception as error:
            # Before the first byte, the error is answered. After it, all that can be done is to end without
            # the last chunk: the server closes the connection, and the client sees that rows are missing.
            if not self._started:
                raise
            log.warning("%s %s was broken off: %r", scope["method"], scope["path_template"], error)
