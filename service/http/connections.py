"""What HTTP asks of each connection: one host per request, HEAD, refusals that arrive, an orderly end."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import Problem

T = TypeVar("T")

# Seconds in which the rest of a body is read after its answer.
LINGER = 10
# RFC 3986: an address in brackets or a name; then, perhaps, a port.
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::([0-9]{0,5}))?")
CLOSE = (b"connection", b"close")
BODY = (b"content-length", b"transfer-encoding")
# A part of a path without anything in it, as in /users//7 or /users/7%2F: Litestar would leave it out.
EMPTY_PART = re.compile(rb"//|/%2F|%2F/|%2F$", re.IGNORECASE)
IS_HEAD = "segmentation.is_head"


class Farewell:
    """The two ends of a process: tells when the app has started; and closes connections by Connection: close in the
    answers, as soon as it is to stop."""

    def __init__(self, app: ASGIApp, on_startup: Callable[[], None]) -> None:
        self._app = app
        self._on_startup = on_startup
        self.is_leaving = False

    def __call__(self, scope: Any, receive: Receive, send: Send) -> Any:

        async def close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], CLOSE]
            await send(message)

        async def started(message: Any) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._on_startup()

        if scope["type"] == "lifespan":
            return self._app(scope, receive, started)
        # In HTTP/2 the server sends a GOAWAY frame instead.
        if self.is_leaving and scope["http_version"] != "2":
            return self._app(scope, receive, close)
        return self._app(scope, receive, send)


class Connections:
    """Refuses what RFC 9112 forbids, answers HEAD, and keeps connections open until a refusal has arrived."""

    def __init__(self, app: ASGIApp, refuse: Callable[[Scope, str], ASGIApp]) -> None:
        """Wrap the app; refuse makes the answer to a request that is malformed."""
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return await self._app(scope, receive, send)
        app = self._app
        _complete_host(scope)
        if fault := _fault(scope):
            app = self._refuse(scope, fault)
        if scope["method"] == "HEAD":
            return await _answer_head(app, scope, receive, send)
        # A GET seldom has a body, and without one there is nothing to read on.
        if scope["method"] == "GET" and not any(name in BODY for name, _ in scope["headers"]):
            return await app(scope, receive, send)
        body = Body(receive)
        await app(scope, body.receive, send)
        await body.read_on(expects=any(name == b"expect" for name, _ in scope["headers"]))


def is_head(scope: Any) -> bool:
    """Whether this request, which is handled as GET, is HEAD: only status and headers are wanted."""
    return IS_HEAD in scope


async def _answer_head(app: ASGIApp, scope: Any, receive: Receive, send: Send) -> None:
    """Answer as GET would be answered, without the body."""

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.body":
            if message["more_body"]:
                return
            message = {**message, "body": b""}
        await send(message)

    scope["method"] = "GET"
    scope[IS_HEAD] = True
    try:
        await app(scope, receive, send_on)
    finally:
        # Metrics and the log see the true method.
        scope["method"] = "HEAD"


def _complete_host(scope: Any) -> None:
    """Give HTTP/1.0, which need not name a host, the address that it was sent to: granian gives an empty name."""
    if scope["http_version"] == "1":
        address, port = scope["server"]
        host = (f"[{address}]" if ":" in address else address).encode() + b":%d" % int(port)
        scope["headers"] = [(b"host", host) if each == (b"host", b"") else each for each in scope["headers"]]


def _fault(scope: Any) -> str | None:
    path = scope["raw_path"]
    if (b"//" in path or b"%2" in path) and EMPTY_PART.search(path):
        return "Path: A part of it is empty"
    hosts = keys = 0
    for name, value in scope["headers"]:
        if name == b"host":
            hosts += 1
            if not _is_host(value):
                return f"Host: {value.decode('latin-1')!r} is no host" if value else "Host: There is none"
        elif name == b"authorization":
            keys += 1
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            return "Transfer-Encoding: Only chunked is understood"
    if hosts > 1:
        return "Host: There is more than one"
    return "Authorization: There is more than one" if keys > 1 else None


@lru_cache(maxsize=1024)
def _is_host(value: bytes) -> bool:
    found = HOST.fullmatch(value)
    return bool(found) and int(found[1] or 0) < 65536  # type: ignore[index]


class Body:
    """A body that is read to its end, even if the handler did not read it.

    A client that is still sending when its connection is closed never sees the answer.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._begun = False
        self._ended = False

    async def receive(self) -> Any:
        """Pass the next part on."""
        message: Any = await self._receive()
        self._begun = True
        self._ended = not message.get("more_body", False)
        return message

    async def read_on(self, expects: bool) -> None:
        """Read the rest for a limited time, unless the client waits for 100 Continue before it sends."""
        if expects and not self._begun:
            return
        try:
            async with asyncio.timeout(LINGER):
                while not self._ended:
                    await self.receive()
        except TimeoutError:
            pass


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do some work after the body has come, and cancel it if the client goes away meanwhile."""
    working, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Problem("malformed_request", "The client went away before it was answered.")
        return working.result()
    finally:
        for task in (gone, working):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
