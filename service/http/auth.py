"""Whose request it is: API keys, cached for some seconds by their digest."""

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from service.http.problems import Problem, malformed

# For a handler that anybody may call: @get(…, **OPEN).
OPEN: Any = {"security": [{}], "opt": {"is_open": True}}

# The owner of a key, and for how many seconds the key is valid; None if the key is nobody's.
LookUp = Callable[[bytes], Awaitable[tuple[Any, float] | None]]


class ApiKeys:
    """A cache of the keys seen lately; an unknown key is looked up each time."""

    def __init__(self, look_up: LookUp, lifetime: float) -> None:
        """Keep each key for this many seconds at most."""
        self._look_up = look_up
        self._lifetime = lifetime
        self._known: dict[bytes, tuple[float, Any]] = {}

    async def find(self, key: bytes) -> Any:
        digest = hashlib.sha256(key).digest()
        until, caller = self._known.get(digest, (0.0, None))
        if time.monotonic() < until:
            return caller
        # If keys change during this look-up, forget() replaces the dictionary, and this result is not kept.
        known = self._known
        if found := await self._look_up(key):
            caller, seconds = found
            known[digest] = (time.monotonic() + min(self._lifetime, seconds), caller)
            return caller
        known.pop(digest, None)
        return None

    def forget(self) -> None:
        """Empty the cache, as keys have changed."""
        self._known = {}


class Authentication(ASGIMiddleware):
    """Refuses a request without a valid key, which is a bearer token or stands in X-API-Key."""

    scopes = (ScopeType.HTTP,)
    exclude_opt_key = "is_open"

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Put the caller and the caller's name into the scope, or answer 401."""
        # In the app's state, not here: Litestar copies middleware for each route.
        keys: ApiKeys = scope["litestar_app"].state.api_keys
        given = {key for name, value in scope["headers"] if (key := _key_in(name, value)) is not None}
        if not given:
            raise _unauthorized("There is no API key in the request.")
        if len(given) > 1:
            raise malformed("There is more than one API key", parameter="X-API-Key")
        caller = await keys.find(given.pop())
        if caller is None:
            raise _unauthorized("The API key is unknown, revoked or expired.")
        scope["user"] = caller.name
        scope["auth"] = caller
        await next_app(scope, receive, send)


def _key_in(name: bytes, value: bytes) -> bytes | None:
    """The key in a header, if it may hold one."""
    if name == b"authorization" and value[:7].lower() == b"bearer ":
        return value[7:].strip()
    return value.strip() if name == b"x-api-key" else None


def _unauthorized(detail: str) -> Problem:
    return Problem(
        "unauthorized", detail, hint="Send Authorization: Bearer KEY.", headers={"WWW-Authenticate": "Bearer"}
    )
