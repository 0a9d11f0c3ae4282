"""A write that is repeated with the same Idempotency-Key is done once and answered each time."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, NamedTuple

from cryptography.fernet import Fernet

from service.http.answers import Json
from service.http.bodies import ApiRequest
from service.http.problems import Problem, late_body, malformed
from service.http.transfers import Limits

# As in the IETF draft, a string in quotes; or bare, as most clients send it.
KEY = re.compile(r'"([!#-\[\]-~ ]{1,255})"|([!#-~]{1,255})')
Handler = Callable[..., Awaitable[Any]]


class Kept(NamedTuple):
    """The answer of the first time, as it is stored."""

    status: int
    location: str | None
    text: str


def idempotent(*, upload: bool = False, secret: bool = False) -> Callable[[Handler], Handler]:
    """Let a handler be sent the same write again: key, effect and answer are one transaction.

    An upload is of any length and is read while it comes, so its fingerprint is known in the end only. An answer
    that holds a secret is kept encrypted by the API key, which its caller alone has.
    """

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def handle(request: ApiRequest, **arguments: Any) -> Any:
            given = request.headers.getall("idempotency-key", [])
            if not given:
                return await handler(request=request, **arguments)
            do = partial(handler, request=request, **arguments)
            return await _Write(request, _read_key(given), do, upload=upload, secret=secret).answer()

        return handle

    return decorate


class _Write:
    def __init__(self, request: ApiRequest, key: str, do: Handler, *, upload: bool, secret: bool) -> None:
        self._request = request
        self._caller = request.auth
        self._key = key
        self._do = do
        self._upload = upload
        self._secret = secret
        # The writes that run in this process. Between two attempts of one write, the database holds no claim of it.
        self._running: set[tuple[str, str]] = request.app.state.running
        self._is_running = False
        scope = request.scope
        target = [scope["method"].encode(), scope["path"].encode(), scope["query_string"], b""]
        request.digest = hashlib.sha256(b"\0".join(target))

    async def answer(self) -> Any:
        """Answer with the stored answer; or do the work and store its answer."""
        self._refuse_if_running()
        if not self._upload:
            self._request.digest.update(await self._request.body())
        try:
            answer = await self._caller.in_one_transaction(self._attempt, bulk=self._upload)
        finally:
            if self._is_running:
                self._running.discard((self._caller.name, self._key))
        if not isinstance(answer, Kept):
            return answer
        if self._upload:
            # The rest of the body comes as slowly as the client sends it, so no connection is held meanwhile.
            await self._caller.claim(self._key, await self._fingerprint())
        text = answer.text
        # An answer that an earlier version stored is not encrypted.
        if self._secret and not text.startswith("{"):
            text = Fernet(self._caller.seal).decrypt(text).decode()
        location = [(b"location", answer.location.encode())] if answer.location else []
        return Json(text, (b"idempotency-replayed", b"true"), *location)

    async def _attempt(self, within: Any) -> Any:
        # Asked anew, since this one may have waited for a connection: a claim of its own would get in the way of the
        # one that runs, between two attempts of that.
        self._refuse_if_running()
        kept = await within.claim(self._key, None if self._upload else await self._fingerprint())
        if kept:
            return Kept(*kept)
        self._refuse_if_running()
        self._is_running = True
        self._running.add((self._caller.name, self._key))
        self._request.scope["auth"] = within
        try:
            answer: Json[Any] | None = await self._do()
        finally:
            self._request.scope["auth"] = self._caller
        status = self._request.route_handler.status_code
        location = dict(answer.extra_headers).get(b"location", b"").decode() if answer else ""
        body = answer.body if answer else b""
        if self._secret:
            body = Fernet(self._caller.seal).encrypt(body)
        kept = Kept(status, location or None, body.decode())
        await within.keep(self._key, await self._fingerprint(), kept)
        return answer

    def _refuse_if_running(self) -> None:
        if not self._is_running and (self._caller.name, self._key) in self._running:
            raise Problem("in_progress", "A request with this Idempotency-Key is still running.")

    async def _fingerprint(self) -> bytes:
        """The digest of the whole request; of an upload, what the handler has not read of it is read first."""
        limits: Limits = self._request.app.state.limits
        try:
            async with asyncio.timeout(limits.transfer):
                while self._upload and self._request.is_connected:
                    async for _ in self._request.stream():
                        pass
        except TimeoutError:
            raise late_body(limits.transfer) from None
        return bytes(self._request.digest.digest())


def _read_key(given: list[str]) -> str:
    found = KEY.fullmatch(given[0].strip()) if len(given) == 1 else None
    if not found:
        raise malformed(
            "Send one key of 1 to 255 printable ASCII characters, in quotes or bare",
            parameter="Idempotency-Key",
        )
    return found[1] or found[2]
