"""What a client may do before its request is understood: connect while there is room, send a short head in time.

The body has limits of its own, further in; here there is no key yet, so that anybody could fill the memory.
"""

import logging
from asyncio import TimerHandle, Transport
from functools import cache
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import (
    HEAD_TOO_LARGE,
    MALFORMED_REQUEST,
    PROBLEM_JSON,
    TOO_MANY_CONNECTIONS,
    Kind,
    problem_body,
    problem_headers,
)
from service.http.request_ids import NO_SNIFFING, new_request_id
from service.settings import Settings, read_settings
from service.transport import Corked

log = logging.getLogger(__name__)

settings: Any = cache(read_settings)

# Seconds that a connection for which there is no room gets to ask, so as to be told.
SURPLUS_PATIENCE = 1


class Protocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, with an end to heads that do not end and to connections without number."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing of a head has come."""
        super().__init__(*args, **kwargs)
        given: Settings = settings()
        self._most = given.max_head_bytes
        self._most_connections = given.max_connections
        self._patience = given.stall_timeout
        self._head_bytes = 0
        self._of_a_body = False
        self._late: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(Corked(transport))  # type: ignore[arg-type]
        if len(self.connections) <= self._most_connections:
            self._wait(self.timeout_keep_alive)
        else:
            # Closed at once, it would not learn why.
            self.app = self._turn_away
            self._patience = min(self._patience, SURPLUS_PATIENCE)
            self._wait(self._patience)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; count it only while a head is unfinished, which it hardly ever is."""
        self._of_a_body = False
        earlier = self.scope
        if len(data) > self._most:
            self._measure_heads()
        super().data_received(data)
        if self.scope and not self.scope.get("method"):
            self._measure_heads()
            if self.scope is not earlier:
                # Where in the data it begins is not known, and what came before it may be long.
                self._wait(self._patience)
            else:
                self._head_bytes += len(data)
            if self._head_bytes > self._most:
                self._refuse(HEAD_TOO_LARGE, self._too_long())
        elif self.cycle and self.cycle.more_body and not self._of_a_body:
            # The trailer of a body, which has no end either unless it is given one.
            self._stop_waiting(self._head_bytes + len(data))
            if self._head_bytes > self._most:
                self.transport.close()
        elif self._late or self._head_bytes:
            self._stop_waiting()

    def on_body(self, body: bytes) -> None:
        """Notice that what came was a body's."""
        self._of_a_body = True
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the form of all other errors."""
        self._refuse(MALFORMED_REQUEST, msg)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self, head_bytes: int = 0) -> None:
        self._head_bytes = head_bytes
        if self._late:
            self._late.cancel()
            self._late = None

    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _give_up(self) -> None:
        if self._is_answering():
            # What was asked before this head began.
            self._late = self.loop.call_later(self._patience, self._give_up)
        elif self.scope and not self.scope.get("method"):
            self._refuse(
                MALFORMED_REQUEST, f"The head of the request took more than {self._patience:g} seconds."
            )
        else:
            self.transport.close()

    def _measure_heads(self) -> None:
        """Measure what is whole as well, on a connection where it may be too long: most never get there."""
        if self.app is self.config.loaded_app:
            self.app = self._measured

    async def _measured(self, scope: Any, receive: Any, send: Any) -> None:
        """Be the app, to requests whose head is no longer than it may be."""
        length = len(scope["raw_path"]) + len(scope["query_string"])
        length += sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
        if length > self._most:
            await _answer(send, HEAD_TOO_LARGE, self._too_long())
        else:
            await self.config.loaded_app(scope, receive, send)

    def _too_long(self) -> str:
        return f"The head of the request is longer than {self._most} bytes."

    async def _turn_away(self, scope: Any, receive: Any, send: Any) -> None:
        """Be all the app that a connection too many gets to see: a crowd is no reason to restart the service."""
        if scope["path"].startswith("/health/"):
            self.cycle.keep_alive = False
            await self.config.loaded_app(scope, receive, send)
            return
        log.warning("turned away: %d connections are open", len(self.connections))
        detail = f"This process holds {self._most_connections} connections already."
        await _answer(send, TOO_MANY_CONNECTIONS, detail)

    def _refuse(self, kind: Kind, detail: str) -> None:
        if self.transport.is_closing():
            return
        is_of_another = self.cycle and (
            self.cycle.response_started or self.pipeline or not self.scope.get("method")
        )
        if self._is_answering() and is_of_another:
            # It would look like the answer to what was asked before.
            self.transport.close()
            return
        headers, body = _problem(kind, detail)
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[kind.status], *lines, b"\r\n", body]))
        self.transport.close()


def _problem(kind: Kind, detail: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    body = msgspec.json.encode(problem_body(kind, detail))
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in problem_headers(kind).items()),
        NO_SNIFFING,
        (b"x-request-id", new_request_id()),
    ]
    return headers, body


async def _answer(send: Any, kind: Kind, detail: str) -> None:
    headers, body = _problem(kind, detail)
    await send({"type": "http.response.start", "status": kind.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
