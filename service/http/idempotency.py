"""Writes that are repeated with the same Idempotency-Key: done once, answered each time."""

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service.errors import (
    IDEMPOTENCY_KEY_REUSED,
    PAYLOAD_TOO_LARGE,
    Problem,
    answer_problem,
    late_body,
    malformed,
)
from service.http.answers import NO_STORE
from service.http.auth import Caller
from service.http.bodies import ApiRequest
from service.settings import Settings

CLAIM = "select fingerprint, status, location, answer from segmentation.claim_idempotency_key($1, $2)"
KEEP = "select segmentation.keep_answer($1, $2, $3, $4, $5, $6, $7)"
METHODS = {"POST", "PATCH", "PUT", "DELETE"}
# As in the IETF draft, a string in quotes; or bare, as most clients send it.
KEY = re.compile(rb'"([!#-\[\]-~ ]{1,255})"|([!#-~]{1,255})')


class Idempotency(ASGIMiddleware):
    """Puts a write with an Idempotency-Key, and the keeping of its answer, into one transaction."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Answer from what was kept, or let the request through and keep its answer."""
        scope = cast("HTTPScope", scope)
        given = [value for name, value in scope["headers"] if name == b"idempotency-key"]
        reads_only = scope["route_handler"].opt.get("reads_only")
        if not given or scope["method"] not in METHODS or reads_only:
            return await next_app(scope, receive, send)
        key = _read_key(given)
        caller: Caller = scope["auth"]
        body = HashedBody(scope, receive)
        answer = KeptAnswer()
        is_import = scope["route_handler"].opt.get("is_import", False)
        if not is_import:
            # A client that sends slowly is not to hold a connection meanwhile.
            await body.read_ahead(caller.database.settings)
        try:
            async with caller.database.whole_request(caller.role, bulk=is_import) as connection:
                kept = await connection.fetchrow(CLAIM, caller.name, key)
                if not kept:
                    await next_app(scope, body.receive, answer.send)
                    if not answer.is_success:
                        raise _NotKept
                    await connection.execute(
                        KEEP,
                        caller.name,
                        key,
                        await body.fingerprint(),
                        scope["path"],
                        answer.start["status"],
                        answer.location,
                        answer.body.decode(),
                    )
        except _NotKept:
            # Rolled back: an error changed nothing, and the next try may succeed.
            pass
        except Exception as error:
            if not answer.start:
                raise
            if answer.is_success:
                # Litestar takes the answer that was held back for one that was sent, and would send no other.
                request = ApiRequest(scope)
                problem = answer_problem(request, error).to_asgi_response(app=None, request=request)
                return await problem(scope, receive, send)
        else:
            # What is left of the body comes at the client's pace: no connection waits for it.
            if kept:
                if await body.rest(caller.database.settings) != kept["fingerprint"]:
                    raise Problem(
                        IDEMPOTENCY_KEY_REUSED,
                        "This Idempotency-Key was used for another request.",
                        hint="Take a new key for each new request.",
                    )
                answer.replay(kept["status"], kept["location"], kept["answer"])
        # Only now, when all is committed, the client gets to know.
        await send(answer.start)
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


class _NotKept(Exception):
    """Ends the transaction of a request that was refused."""


class HashedBody:
    """A request's body on its way to the handler, and the fingerprint of the whole request."""

    def __init__(self, scope: HTTPScope, receive: Receive) -> None:
        """Begin with what is known before the body comes."""
        self._receive = receive
        self._ended = False
        self._ahead: deque[Any] = deque()
        target = b"\0".join([scope["method"].encode(), scope["path"].encode(), scope["query_string"], b""])
        self._digest = hashlib.sha256(target)

    async def receive(self) -> Any:
        """Pass the next part on."""
        return self._ahead.popleft() if self._ahead else await self._next()

    async def read_ahead(self, settings: Settings) -> None:
        """Take the body in before the handler asks."""
        left = settings.max_body_bytes
        try:
            async with asyncio.timeout(settings.stall_timeout):
                while not self._ended and left >= 0:
                    message = await self._next()
                    self._ahead.append(message)
                    if message["type"] == "http.disconnect":
                        return
                    left -= len(message.get("body", b""))
        except TimeoutError:
            raise late_body(settings.stall_timeout) from None
        if left < 0:
            raise Problem(
                PAYLOAD_TOO_LARGE,
                f"The body is longer than {settings.max_body_bytes} bytes.",
                hint=PAYLOAD_TOO_LARGE.advice,
            )

    async def _next(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.request":
            self._digest.update(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        return message

    async def rest(self, settings: Settings) -> bytes:
        """Read what nobody has asked for, which may be an import of any length, then sum up."""
        try:
            async with asyncio.timeout(settings.transfer_timeout):
                return await self.fingerprint()
        except TimeoutError:
            raise late_body(settings.transfer_timeout) from None

    async def fingerprint(self) -> bytes:
        """Read what the handler has left unread, then sum up."""
        while not self._ended:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise malformed([{"detail": "The body broke off"}])
        return self._digest.digest()


class KeptAnswer:
    """An answer held back until its transaction is committed."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.start: Any = {}
        self.body = b""

    @property
    def send(self) -> Callable[[Message], Awaitable[None]]:
        """Take the parts of an answer."""

        async def take(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.start = message
            elif message["type"] == "http.response.body":
                self.body += message.get("body", b"")

        return take

    @property
    def is_success(self) -> bool:
        """Whether something was done."""
        return self.start["status"] in range(200, 300)

    @property
    def location(self) -> str | None:
        """The header Location."""
        return next((value.decode() for name, value in self.start["headers"] if name == b"location"), None)

    def replay(self, status: int, location: str | None, text: str) -> None:
        """Be what was answered the first time."""
        self.body = text.encode()
        headers = [
            (b"idempotency-replayed", b"true"),
            NO_STORE,
            *([(b"content-type", b"application/json")] if text else []),
            *([(b"content-length", str(len(self.body)).encode())] if text else []),
            *([(b"location", location.encode())] if location else []),
        ]
        self.start = {"type": "http.response.start", "status": status, "headers": headers}


def _read_key(given: list[bytes]) -> str:
    found = KEY.fullmatch(given[0]) if len(given) == 1 else None
    if not found:
        raise malformed(
            [
                {
                    "detail": "Send one key of 1 to 255 printable ASCII characters, in quotes or bare",
                    "parameter": "Idempotency-Key",
                }
            ]
        )
    return (found[1] or found[2]).decode()
