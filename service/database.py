"""One connection pool for each role, and the one way to call a SQL function."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, TypeAlias

import asyncpg

from service.errors import CONNECTION_LOST, DATABASE_UNAVAILABLE, INVALID_VALUE, Problem
from service.http.request_ids import REQUEST_ID
from service.settings import Settings

ROLES = ("reader", "editor", "admin")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

STATUS = "select item, ok, value, hint from segmentation.service_status()"
BECOME = "select set_config('role', $1, true), set_config('application_name', $2, true)"

# The transaction that a request runs in as a whole, if it does: see idempotency.
TRANSACTION: ContextVar["PooledConnection | None"] = ContextVar("transaction", default=None)


class Database:
    """A pool for each role, so that PostgreSQL itself refuses what a role may not do."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet: see open."""
        self.settings = settings
        self._pools: dict[str, asyncpg.Pool[asyncpg.Record]] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the pools open; connections are made at need, so this works while the database is away."""
        for name in (*ROLES, "bulk"):
            self._pools[name] = await asyncpg.create_pool(
                min_size=0,
                max_size=getattr(self.settings, f"{name}_pool_size"),
                max_inactive_connection_lifetime=0,
                init=_send_numbers_as_text,
                reset=_leave_as_it_is,
                **self.connect_arguments(name),
            )
        try:
            yield
        finally:
            for pool in self._pools.values():
                await _close(pool)

    @property
    def pools(self) -> "dict[str, asyncpg.Pool[asyncpg.Record]]":
        """The pools by name, to look at."""
        return self._pools

    def connect_arguments(self, role: str) -> dict[str, Any]:
        """What every connection of a role is made with."""
        settings = self.settings
        longest = settings.transfer_timeout if role == "bulk" else settings.statement_timeout
        return {
            "dsn": settings.database_url,
            "timeout": settings.acquire_timeout,
            # Only for a server that falls silent: a slow call is ended by statement_timeout.
            "command_timeout": longest + 5,
            "max_cached_statement_lifetime": 0,
            "server_settings": {
                # A bulk connection takes its role with each transaction.
                "role": "none" if role == "bulk" else f"segmentation_{role}",
                "application_name": f"segmentation service ({role})",
                "search_path": "segmentation",
                "timezone": "UTC",
                "jit": "off",
                "statement_timeout": f"{longest * 1000:.0f}",
                # What an import waits for may be another import.
                "lock_timeout": f"{(longest if role == 'bulk' else settings.lock_timeout) * 1000:.0f}",
                "idle_in_transaction_session_timeout": f"{settings.idle_transaction_timeout * 1000:.0f}",
            },
        }

    async def call(self, role: str, function: str, **arguments: Any) -> str:
        """Call one SQL function and return the JSON text it built, unparsed."""
        return await _text_of(partial(self.fetch, role), function, arguments)

    async def fetch(self, role: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement as a role."""
        if transaction := TRANSACTION.get():
            return await run_within(transaction, statement, *arguments)
        pool = self._pools[role]
        with _unavailable():
            connection = await pool.acquire(timeout=self.settings.acquire_timeout)
        try:
            return await run(connection, statement, *arguments)
        finally:
            await pool.release(connection)

    async def call_on(
        self, connection: "Connection | PooledConnection", function: str, **arguments: Any
    ) -> str:
        """Call one SQL function inside the transaction that this connection is in."""
        return await _text_of(partial(run_within, connection), function, arguments)

    @asynccontextmanager
    async def bulk(self, role: str) -> AsyncIterator[PooledConnection]:
        """A transaction for a long transfer as this role, on a connection kept apart for such."""
        if transaction := TRANSACTION.get():
            yield transaction
            return
        async with self._transaction("bulk") as connection:
            # Ends with the transaction, so that nothing of it is left to the next one.
            await connection.execute(BECOME, f"segmentation_{role}", session_name())
            yield connection

    @asynccontextmanager
    async def whole_request(self, role: str, *, bulk: bool) -> AsyncIterator[PooledConnection]:
        """One transaction for all that happens inside."""
        async with self.bulk(role) if bulk else self._transaction(role) as connection:
            token = TRANSACTION.set(connection)
            try:
                yield connection
            finally:
                TRANSACTION.reset(token)

    @asynccontextmanager
    async def _transaction(self, name: str) -> AsyncIterator[PooledConnection]:
        pool = self._pools[name]
        with _unavailable():
            connection = await pool.acquire(timeout=self.settings.acquire_timeout)
        try:
            async with connection.transaction():
                yield connection
        finally:
            # Waits until PostgreSQL has confirmed that a broken transfer is cancelled.
            await pool.release(connection, timeout=self.settings.acquire_timeout)

    async def connect(self, role: str) -> Connection:
        """Make a connection of its own, beside the pools."""
        with _unavailable():
            return await asyncpg.connect(**self.connect_arguments(role))


@contextmanager
def _unavailable() -> Iterator[None]:
    """Whatever goes wrong while connecting: the database is not there."""
    try:
        yield
    except TimeoutError as error:
        raise Problem(DATABASE_UNAVAILABLE, "No connection to the database became free in time.") from error
    except (asyncpg.PostgresError, *CONNECTION_LOST) as error:
        raise Problem(DATABASE_UNAVAILABLE, "The database does not answer.") from error


async def run(
    connection: "Connection | PooledConnection", statement: str, *arguments: Any
) -> list[asyncpg.Record]:
    """Run one statement; once more if another change came in between, as the first had no effect."""
    try:
        return await connection.fetch(statement, *arguments)
    except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
        return await connection.fetch(statement, *arguments)


async def run_within(
    connection: "Connection | PooledConnection", statement: str, *arguments: Any
) -> list[asyncpg.Record]:
    """The same inside a transaction: what it did before, such as a long COPY, is not lost if this is tried again."""
    try:
        async with connection.transaction():
            return await connection.fetch(statement, *arguments)
    # The last: a function was deployed anew, which asyncpg sees to by itself only outside of transactions.
    except (
        asyncpg.SerializationError,
        asyncpg.DeadlockDetectedError,
        asyncpg.InvalidCachedStatementError,
    ):
        return await connection.fetch(statement, *arguments)


async def _close(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _text_of(
    fetch: Callable[..., Awaitable[list[asyncpg.Record]]], function: str, arguments: dict[str, Any]
) -> str:
    try:
        rows = await fetch(_call(function, *arguments), *arguments.values(), session_name())
    except asyncpg.DataError as error:
        raise _unsendable(error, arguments) or error from None
    text: str = rows[0][1]
    return text


@cache
def _call(function: str, *names: str) -> str:
    """The text of a call in named notation; before it, in the same statement, the session gets its name.

    For this one transaction, so that it costs no round trip: PostgreSQL's log and pg_stat_activity name the
    request.
    """
    arguments = ", ".join(f"{name} => ${number}" for number, name in enumerate(names, 1))
    name_it = f"set_config('application_name', ${len(names) + 1}, true)"
    return f"select {name_it}, segmentation.{function}({arguments})"


def session_name() -> str:
    """What PostgreSQL calls a session while it works for a request; it takes 63 characters."""
    return f"segmentation service {REQUEST_ID.get()}"[:63]


async def _send_numbers_as_text(connection: Connection) -> None:
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
