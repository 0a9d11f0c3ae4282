"""Answers: JSON sent on as PostgreSQL built it, and rows streamed as CSV by COPY, never whole in memory."""

import asyncio
import logging
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from litestar import Request, Response, Router
from litestar.handlers import HTTPRouteHandler, route
from litestar.types import HTTPScope, Message, Receive, Scope, Send

from service.database import Database

T = TypeVar("T")

log = logging.getLogger(__name__)

# Who is in what is nobody's to keep: neither a browser's nor a proxy's.
NO_STORE = (b"cache-control", b"no-store")
# Buffers between PostgreSQL and a client: when they are full, PostgreSQL waits.
BUFFERS = 4


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


class Csv(Response[bytes]):
    """The rows of a query, copied to the client as they come from PostgreSQL."""

    def __init__(
        self, database: Database, role: str, query: str, *arguments: Any, file_name: str, **options: Any
    ) -> None:
        """Send what this query finds as this role, to be saved under this name; options are those of COPY."""
        self.database = database
        self.role = role
        self.query = query
        self.arguments = arguments
        self.options = options
        self.started = False
        self.start: Any = {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/csv; charset=utf-8"),
                (b"content-disposition", f'attachment; filename="{file_name}"'.encode()),
                NO_STORE,
            ],
        }

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Be sent as it is."""
        return self

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Send until the rows end or the client goes away; either way the connection is given back."""
        filled, buffers = anyio.create_memory_object_stream[bytes](BUFFERS)
        copying = asyncio.create_task(self._copy(filled))
        sending = asyncio.create_task(self._send(send, buffers, copying))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except Exception as error:
            # Before the first byte it is an answer of its own. After it, all that is left is to end without
            # the last chunk: the server closes the connection, and the client sees that rows are missing.
            if not self.started:
                raise
            log.warning("%s %s was broken off: %r", scope["method"], scope["path_template"], error)
        finally:
            for task in (gone, sending, copying):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            filled.close()
            buffers.close()

    async def _copy(self, filled: MemoryObjectSendStream[bytes]) -> None:
        with filled:
            async with self.database.bulk(self.role) as connection:
                await connection.copy_from_query(
                    self.query, *self.arguments, output=filled.send, format="csv", **self.options
                )

    async def _send(
        self, send: Send, buffers: MemoryObjectReceiveStream[bytes], copying: asyncio.Task[None]
    ) -> None:
        patience = self.database.settings.stall_timeout
        async for buffer in buffers:
            await self._start(send)
            try:
                async with asyncio.timeout(patience):
                    await send({"type": "http.response.body", "body": buffer, "more_body": True})
            except TimeoutError:
                raise TimeoutError(f"the client took nothing for {patience:g} seconds") from None
        # Raises whatever ended the rows too early.
        await copying
        await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        if not self.started:
            self.started = True
            await send(self.start)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
