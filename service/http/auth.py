"""Who calls: API keys, looked up by digest, cached for seconds, forgotten at once when PostgreSQL says so."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import asyncpg
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from service.database import Database
from service.errors import CONNECTION_LOST, UNAUTHORIZED, Problem

log = logging.getLogger(__name__)

CHANNEL = "segmentation_api_keys"
# An end may be infinity, from which nothing can be subtracted.
AUTHENTICATE = """
    select name, role, extract(epoch from least(expires_at, now + interval '1 day') - now)::float8
    from segmentation.clock() as now, segmentation.authenticate_api_key($1)"""


class Caller(NamedTuple):
    """The API key behind a request: its name is the actor, its role decides what PostgreSQL lets it do."""

    name: str
    role: str
    database: Database

    async def call(self, function: str, **arguments: object) -> str:
        """Call one SQL function with this key's role and return the JSON text it built."""
        return await self.database.call(self.role, function, **arguments)


class ApiKeys:
    """The keys seen lately, by their digest; unknown keys are looked up each time."""

    def __init__(self, database: Database) -> None:
        """Know no key yet."""
        self._database = database
        self._lifetime = database.settings.api_key_cache_seconds
        self._known: dict[bytes, tuple[float, Caller]] = {}

    async def find(self, key: bytes) -> Caller | None:
        """Find out whose key this is."""
        digest = hashlib.sha256(key).digest()
        until, caller = self._known.get(digest, (0.0, None))
        if time.monotonic() < until:
            return caller
        # If keys change while this one is looked up, forget() has put another dictionary in place.
        known = self._known
        rows = await self._database.fetch("reader", AUTHENTICATE, digest)
        for name, role, seconds_left in rows:
            caller = Caller(name, role, self._database)
            known[digest] = (time.monotonic() + min(self._lifetime, seconds_left), caller)
            return caller
        known.pop(digest, None)
        return None

    def forget(self) -> None:
        """Look every key up anew."""
        self._known = {}

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[None]:
        """Meanwhile, forget all keys whenever one changes; without a connection, lifetime alone counts."""
        listener = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener

    async def _listen(self) -> None:
        arguments = self._database.connect_arguments("reader")
        arguments["server_settings"]["application_name"] = "segmentation service (listener)"
        is_lost = False
        while True:
            try:
                connection = await asyncpg.connect(**arguments)
                try:
                    lost = asyncio.Event()
                    connection.add_termination_listener(lambda _, lost=lost: lost.set())
                    await connection.add_listener(CHANNEL, lambda *_: self.forget())
                    # What was said before is lost.
                    self.forget()
                    is_lost = False
                    await lost.wait()
                finally:
                    await connection.close(timeout=1)
            except (asyncpg.PostgresError, *CONNECTION_LOST) as error:
                # Once, not each second: a standby, for one, never lets anybody listen.
                if not is_lost:
                    log.warning("cannot listen for changes of API keys, trying again and again: %s", error)
                is_lost = True
            await asyncio.sleep(1)


class Authentication(ASGIMiddleware):
    """Lets a request through if it brings a valid key."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, *, x_api_key: bool = False) -> None:
        """Take the key from Authorization: Bearer, and if so wanted from X-API-Key."""
        self._x_api_key = x_api_key

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Put the key's name and role into the scope, or answer 401."""
        keys: ApiKeys = scope["litestar_app"].state.api_keys
        for name, value in scope["headers"]:
            is_bearer = name == b"authorization" and value[:7].lower() == b"bearer "
            if is_bearer or (name == b"x-api-key" and self._x_api_key):
                caller = await keys.find((value[7:] if is_bearer else value).strip())
                if caller is None:
                    raise _unauthorized("The API key is unknown, revoked or expired.")
                scope["user"] = caller.name
                scope["auth"] = caller
                return await next_app(scope, receive, send)
        raise _unauthorized("There is no API key in the request.")


def _unauthorized(detail: str) -> Problem:
    return Problem(
        UNAUTHORIZED, detail, hint="Send Authorization: Bearer KEY.", headers={"WWW-Authenticate": "Bearer"}
    )
