"""What holds for every request: it has an id, its answer bears that and nosniff, and observers (metrics, the log) hear of its end."""

import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from random import getrandbits
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Commands name their sessions by the id as well, and do without Litestar.
    from litestar.types import ASGIApp, Message, Receive, Send

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")
VALID_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
# Browsers must not guess another type than the one in Content-Type, and run it.
NO_SNIFFING = (b"x-content-type-options", b"nosniff")

# Called at the end of each request with its scope, the status of its answer, and how many seconds it took.
Observer = Callable[[Any, int, float], None]


def new_request_id() -> bytes:
    """An id for a request that brought none."""
    return b"%032x" % getrandbits(128)


def _with_head(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """The header, and HEAD beside GET in it if it is Allow."""
    return name, value.replace(b"GET", b"GET, HEAD") if name.lower() == b"allow" else value


class EveryRequest:
    """Wraps the whole app, so that requests for unknown paths are observed too."""

    def __init__(self, app: "ASGIApp", observers: Sequence[Observer] = ()) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Any, receive: "Receive", send: "Send") -> None:
        """Pass a request on under its id: its own X-Request-ID if that is a good one."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and VALID_ID.fullmatch(value):
                request_id = value
        if not request_id:
            request_id = new_request_id()
        REQUEST_ID.set(request_id.decode())
        status = 500

        async def send_on(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                if status in (204, 405):
                    headers = [_with_head(*header) for header in headers]
                message["headers"] = [*headers, NO_SNIFFING, (b"x-request-id", request_id)]
            await send(message)

        began = perf_counter()
        try:
            await self._app(scope, receive, send_on)
        finally:
            seconds = perf_counter() - began
            for observe in self._observers:
                observe(scope, status, seconds)
