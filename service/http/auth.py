"""Who calls: API keys, remembered for seconds by their digest."""

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from service.http.problems import Problem

# For a handler that anybody may call: @get(…, **OPEN).
OPEN: Any = {"security": [{}], "opt": {"is_open": True}}

# Whose key it is, and for how many seconds that is certain; None if nobody's.
LookUp = Callable[[bytes], Awaitable[tuple[Any, float] | None]]


class ApiKeys:
    """The keys seen lately; unknown keys are looked up each time."""

    def __init__(self, look_up: LookUp, lifetime: float) -> None:
        """Remember what is looked up for so many seconds at most."""
        self._look_up = look_up
        self._lifetime = lifetime
        self._known: dict[bytes, tuple[float, Any]] = {}

    async def find(self, key: bytes) -> Any:
        """Find out whose key this is."""
        digest = hashlib.sha256(key).digest()
        until, caller = self._known.get(digest, (0.0, None))
        if time.monotonic() < until:
            return caller
        # If keys change while this one is looked up, forget() has put another dictionary in place.
        known = self._known
        if found := await self._look_up(key):
            caller, seconds = found
            known[digest] = (time.monotonic() + min(self._lifetime, seconds), caller)
            return caller
        known.pop(digest, None)
        return None

    def forget(self) -> None:
        """Look every key up anew."""
        self._known = {}


class Authentication(ASGIMiddleware):
    """Lets a request through if it brings a valid key, as a bearer token or in X-API-Key."""

    scopes = (ScopeType.HTTP,)
    exclude_opt_key = "is_open"

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Put the caller and the caller's name into the scope, or answer 401."""
        # Not kept here: Litestar copies middleware for each route.
        keys: ApiKeys = scope["litestar_app"].state.api_keys
        for name, value in scope["headers"]:
            is_bearer = name == b"authorization" and value[:7].lower() == b"bearer "
            if is_bearer or name == b"x-api-key":
                caller = await keys.find((value[7:] if is_bearer else value).strip())
                if caller is None:
                    raise _unauthorized("The API key is unknown, revoked or expired.")
                scope["user"] = caller.name
                scope["auth"] = caller
                return await next_app(scope, receive, send)
        raise _unauthorized("There is no API key in the request.")


def _unauthorized(detail: str) -> Problem:
    return Problem(
        "unauthorized", detail, hint="Send Authorization: Bearer KEY.", headers={"WWW-Authenticate": "Bearer"}
    )
