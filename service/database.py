"""One connection pool for each role, and the one way to call a SQL function."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import asyncpg

from service.errors import DATABASE_UNAVAILABLE, INVALID_VALUE, Problem
from service.settings import Settings

ROLES = ("reader", "editor", "admin")

# All reads of users that wait at the same moment: one call, one JSON text for each.
READ_USERS = "select segmentation.http_user_segments_each($1)"
MAX_SHARED_READS = 200


class Database:
    """A pool for each role, so that PostgreSQL itself refuses what a role may not do."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet: see open."""
        self.settings = settings
        self._pools: dict[str, asyncpg.Pool[asyncpg.Record]] = {}
        self._waiting: dict[int, list[asyncio.Future[str]]] = {}
        self._reading = 0
        self._readers: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the pools open; connections are made at need, so this works while the database is away."""
        for role in ROLES:
            self._pools[role] = await asyncpg.create_pool(
                min_size=0,
                max_size=getattr(self.settings, f"{role}_pool_size"),
                max_inactive_connection_lifetime=0,
                init=_send_numbers_as_text,
                reset=_leave_as_it_is,
                **self.connect_arguments(role),
            )
        try:
            yield
        finally:
            for pool in self._pools.values():
                await _close(pool)

    def connect_arguments(self, role: str) -> dict[str, Any]:
        """What every connection of a role is made with."""
        settings = self.settings
        return {
            "dsn": settings.database_url,
            "timeout": settings.acquire_timeout,
            # Only for a server that falls silent: a slow call is ended by statement_timeout.
            "command_timeout": settings.statement_timeout + 5,
            "max_cached_statement_lifetime": 0,
            "server_settings": {
                "role": f"segmentation_{role}",
                "application_name": f"segmentation service ({role})",
                "search_path": "segmentation",
                "timezone": "UTC",
                "jit": "off",
                "statement_timeout": f"{settings.statement_timeout * 1000:.0f}",
                "lock_timeout": f"{settings.lock_timeout * 1000:.0f}",
                "idle_in_transaction_session_timeout": f"{settings.idle_transaction_timeout * 1000:.0f}",
            },
        }

    async def call(self, role: str, function: str, **arguments: Any) -> str:
        """Call one SQL function and return the JSON text it built, unparsed."""
        try:
            rows = await self.fetch(role, _call(function, *arguments), *arguments.values())
        except asyncpg.DataError as error:
            raise _unsendable(error, arguments) or error from None
        text: str = rows[0][0]
        return text

    async def fetch(self, role: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement as a role; once more if another change came in between."""
        try:
            return await self._fetch(role, statement, *arguments)
        except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
            # The failed transaction had no effect.
            return await self._fetch(role, statement, *arguments)

    async def _fetch(self, role: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        pool = self._pools[role]
        try:
            connection = await pool.acquire(timeout=self.settings.acquire_timeout)
        except TimeoutError as error:
            raise Problem(
                DATABASE_UNAVAILABLE, "No connection to the database became free in time."
            ) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Problem(DATABASE_UNAVAILABLE, "The database does not answer.") from error
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await pool.release(connection)

    async def read_user(self, user_id: int) -> str:
        """The JSON text of a user's present segments; reads that wait for a connection share one call."""
        if not 0 < user_id < 2**63:
            return await self.call("reader", "http_user_segments", user_id=user_id)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, []).append(future)
        if self._reading < self.settings.shared_reads:
            self._reading += 1
            # The set keeps the task from being collected as garbage.
            reader = asyncio.create_task(self._answer_waiting())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await future

    async def _answer_waiting(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                for user_id in list(asked)[MAX_SHARED_READS:]:
                    self._waiting[user_id] = asked.pop(user_id)
                await self._answer(asked)
        finally:
            self._reading -= 1

    async def _answer(self, asked: dict[int, list[asyncio.Future[str]]]) -> None:
        # Sorted, so that two calls that register new users never wait for each other in a circle.
        user_ids = sorted(asked)
        try:
            ((texts,),) = await self.fetch("reader", READ_USERS, user_ids)
        except Exception as error:
            for future in _unsettled(asked.values()):
                future.set_exception(error)
        else:
            for user_id, text in zip(user_ids, texts, strict=True):
                for future in _unsettled([asked[user_id]]):
                    future.set_result(text)


def _unsettled(futures: Iterable[list[asyncio.Future[str]]]) -> Iterator[asyncio.Future[str]]:
    """All but those whose client has gone away meanwhile."""
    return (future for alike in futures for future in alike if not future.done())


async def _close(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@cache
def _call(function: str, *names: str) -> str:
    """The text of a call in named notation."""
    arguments = ", ".join(f"{name} => ${number}" for number, name in enumerate(names, 1))
    return f"select segmentation.{function}({arguments})"


async def _send_numbers_as_text(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Give PostgreSQL the digits that the client wrote: 33.3, not the binary fraction next to it, and 30."""
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=lambda number: str(number).removesuffix(".0"), decoder=str
    )


async def _leave_as_it_is(_: object) -> None:
    """In the place of the pool's reset query, a second round trip: calls leave nothing behind."""


def _unsendable(error: asyncpg.DataError, arguments: dict[str, Any]) -> Problem | None:
    """Say which argument does not fit its SQL type, if that was found before anything was sent."""
    found = re.match(r"invalid input for query argument \$(\d+): .*\((.+)\)$", str(error.args[0]), re.DOTALL)
    if not found:
        return None
    name = list(arguments)[int(found[1]) - 1]
    value = arguments[name]
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, int) and abs(item) >= 2**63), None)
    return Problem(INVALID_VALUE, f"{name} {value} is not possible: {found[2]}.", **{name: value})
