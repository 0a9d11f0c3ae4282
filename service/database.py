"""The database: connection pools, each under the role that PostgreSQL judges by, and the one way to call a function."""

import asyncio
import hashlib
import logging
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import asyncpg

from service.http.problems import Problem
from service.http.requests import REQUEST_ID
from service.settings import Settings
from service.urls import for_asyncpg

log = logging.getLogger(__name__)

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
AnyConnection: TypeAlias = "Connection | PooledConnection"

# Errors of a connection that is lost. The second is what asyncpg raises for a call on a connection that
# PostgreSQL has just ended, before its end is noticed.
CONNECTION_LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# Errors of a connection that cannot be made: the URL leads nowhere, or names no address at all.
CANNOT_CONNECT = (*CONNECTION_LOST, ValueError, OverflowError)
# The hint if the schema, a function or a role is missing in the database.
NEXT_STEP = "Is it migrated? Run python -m service migrate."
IS_URL_RIGHT = "Is DATABASE_URL right?"

# A pool for each role of API keys, and one for each kind of work that must not wait behind another.
ROLES = ("evaluator", "reader", "editor", "admin")
POOLS = (*ROLES, "keys", "heavy", "bulk")
# Seconds that a call waits for a lock before it gives its connection back and tries again.
LOCK_WAIT = 0.1
STATUS = "select item, ok, value, hint from segmentation.service_status(needed => $1)"
BECOME = "select set_config('role', $1, true), set_config('application_name', $2, true)"
CLAIM = "select status, location, answer from segmentation.claim_idempotency_key($1, $2, $3)"
KEEP = "select segmentation.keep_answer($1, $2, $3, null, $4, $5, $6)"
# expires_at may be infinity, from which PostgreSQL subtracts nothing: hence least().
AUTHENTICATE = """
    select name, role, extract(epoch from least(expires_at, now + interval '1 day') - now)::float8
    from segmentation.clock() as now, segmentation.authenticate_api_key($1)"""

OPEN_LINK = "select actor, role, period, user_id from segmentation.open_report_link($1)"

# What is asked for on every connection, and what the server says that it is.
ASKED = (
    *("role", "search_path", "timezone", "jit"),
    *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
)
SETTINGS = """
    select pg_catalog.lower(name), setting from pg_catalog.pg_settings where pg_catalog.lower(name) = any ($1)
    union all
    select 'role', pg_catalog.current_setting('role')"""


class NotAsAsked(asyncpg.PostgresError):
    """A connection does not have the role or a setting that was asked for, so nothing is done on it."""

    hint = (
        "A pooler such as PgBouncer drops that: let DATABASE_URL lead to PostgreSQL itself, as the service pools its"
        " connections."
    )


async def connect(*arguments: Any, **asked: Any) -> Connection:
    """Make a connection, and refuse it unless it has the role and settings asked for.

    A pooler in between may drop them, the role too: then a reader's key could do whatever the login may.
    """
    connection: Connection = await asyncpg.connect(*arguments, **asked)
    try:
        settings = asked["server_settings"]
        told = await connection.fetch(SETTINGS, ASKED)
        wrong = [f"{name}={settings[name]}" for name, setting in told if setting != settings[name]]
        if wrong:
            raise NotAsAsked(f"the connection is not as it was asked to be: {', '.join(wrong)}")
    except BaseException:
        connection.terminate()
        raise
    return connection


def why_unconnected(error: Exception) -> tuple[str, str | None]:
    """Why there is no connection, and what to do about it, if anybody can know."""
    match error:
        case asyncpg.TargetServerAttributeNotMatched():
            return "no server is what target_session_attrs asks for", IS_URL_RIGHT
        # No such login, a wrong password, no such database.
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return str(error.args[0]), IS_URL_RIGHT
        case asyncpg.SyntaxOrAccessError() | asyncpg.InvalidSchemaNameError():
            return str(error.args[0]), NEXT_STEP
        # The role that the connection is to have is a setting.
        case asyncpg.InvalidParameterValueError() if "segmentation_" in error.args[0]:
            return str(error.args[0]), NEXT_STEP
        case asyncpg.ProtocolViolationError():
            return str(error.args[0]), "Let DATABASE_URL lead to PostgreSQL itself, and to no pooler."
        case asyncpg.PostgresError():
            return str(error.args[0]), error.hint
        case _:
            return f"the database does not answer: {error or 'it took too long'}", IS_URL_RIGHT


class Database:
    """A pool for each role, so that PostgreSQL itself refuses what a role may not do."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet: see open."""
        self.settings = settings
        self.pools: dict[str, asyncpg.Pool[asyncpg.Record]] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}
        # By key or link. Each lives as long as somebody holds it or waits for it.
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the pools open; connections are made at need, so this works while the database is away."""
        for name in POOLS:
            self.pools[name] = await asyncpg.create_pool(
                min_size=0,
                max_size=getattr(self.settings, f"{name}_pool_size"),
                max_inactive_connection_lifetime=0,
                init=_send_as_text,
                reset=_leave_as_it_is,
                connect=connect,
                **self.connect_arguments(name, is_retried=name in ROLES),
            )
        try:
            yield
        finally:
            for pool in self.pools.values():
                await _close(pool)

    def connect_arguments(self, pool: str, *, is_retried: bool = False) -> dict[str, Any]:
        """What every connection of a pool is made with; a call that is retried waits for a lock in turns."""
        settings = self.settings
        longest = {"bulk": settings.transfer_timeout, "heavy": settings.heavy_timeout}.get(
            pool, settings.statement_timeout
        )
        # Keys, health and links are looked up as a reader. Heavy and bulk connections take a role in each transaction.
        role = {"keys": "segmentation_reader", "heavy": "none", "bulk": "none"}.get(
            pool, f"segmentation_{pool}"
        )
        # Heavy and bulk calls wait for locks as long as they may run: an import may have to wait for another.
        lock_wait = (
            longest if pool in ("bulk", "heavy") else LOCK_WAIT if is_retried else settings.lock_timeout
        )
        url = for_asyncpg(settings.database_url)
        return {
            "dsn": url.dsn,
            "timeout": settings.acquire_timeout,
            # For a server that does not answer at all: a slow call is ended by statement_timeout.
            "command_timeout": longest + 5,
            "max_cached_statement_lifetime": 0,
            "server_settings": {
                **url.server_settings,
                "role": role,
                "application_name": f"segmentation service ({pool})",
                "search_path": "segmentation",
                "timezone": "UTC",
                "jit": "off",
                "statement_timeout": f"{longest * 1000:.0f}",
                "lock_timeout": f"{lock_wait * 1000:.0f}",
                "idle_in_transaction_session_timeout": f"{settings.idle_transaction_timeout * 1000:.0f}",
            },
        }

    async def call(self, role: str, function: str, **arguments: Any) -> str:
        """Call one SQL function as a role and return the JSON text it built, unparsed."""
        return await self.in_turns(role, lambda: _text_of(partial(self.fetch, role), function, arguments))

    async def in_turns(self, role: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try, and where something stays locked, give the connection back and try again, until lock_timeout.

        Only half of a pool is for those who try again, so that one locked user never takes all connections.
        """
        try:
            return await attempt()
        except asyncpg.LockNotAvailableError as error:
            locked = error
        now = asyncio.get_running_loop().time
        end = now() + self.settings.lock_timeout
        half = max(1, self.pools[role].get_max_size() // 2)
        turns = self._turns.setdefault(role, asyncio.Semaphore(half))
        pause = LOCK_WAIT
        while True:
            try:
                async with asyncio.timeout_at(end):
                    await asyncio.sleep(pause)
                    await turns.acquire()
            except TimeoutError:
                raise locked from None
            try:
                return await attempt()
            except asyncpg.LockNotAvailableError as error:
                locked = error
                pause = min(2 * pause, 0.5)
            finally:
                turns.release()

    async def fetch(self, pool: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self._borrowed(pool) as connection:
            return await run(connection, statement, *arguments)

    @asynccontextmanager
    async def transaction(self, pool: str) -> AsyncIterator[PooledConnection]:
        async with self._borrowed(pool) as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def bulk(self, who: str) -> AsyncIterator[PooledConnection]:
        """A transaction on a connection for transfers; the transfers of one key or link never take all of them."""
        settings = self.settings
        most = min(settings.bulk_per_key, max(1, settings.bulk_pool_size - 1))
        share = self._shares.setdefault(who, asyncio.Semaphore(most))
        try:
            async with asyncio.timeout(settings.acquire_timeout):
                await share.acquire()
        except TimeoutError:
            raise Problem(
                "database_unavailable", f"{most} transfers of the same key or link run already.", at_most=most
            ) from None
        try:
            async with self.transaction("bulk") as connection:
                yield connection
        finally:
            share.release()

    @asynccontextmanager
    async def _borrowed(self, name: str) -> AsyncIterator[PooledConnection]:
        pool = self.pools[name]
        with _unavailable():
            connection = await pool.acquire(timeout=self.settings.acquire_timeout)
        try:
            yield connection
        finally:
            # Waits until PostgreSQL has confirmed that a broken transfer is cancelled.
            await pool.release(connection, timeout=self.settings.acquire_timeout)

    async def connect(self, pool: str) -> Connection:
        """Make a connection beside the pools, like those of this one."""
        with _unavailable():
            return await connect(**self.connect_arguments(pool))

    async def find_caller(self, key: bytes) -> "tuple[Caller, float] | None":
        """Whose API key this is, and for how many seconds it is valid, up to a day."""
        rows = await self.fetch("keys", AUTHENTICATE, hashlib.sha256(key).digest())
        # Encrypts answers that hold a secret. The database cannot know it: it has the digest of the key alone.
        seal = urlsafe_b64encode(hashlib.sha256(b"sealed by " + key).digest())
        return next(((Caller(name, role, self, seal), seconds) for name, role, seconds in rows), None)

    async def find_link(self, id_digest: bytes) -> "tuple[Caller, dict[str, Any]]":
        """Whose link this is, and which report it opens."""
        ((name, role, period, user_id),) = await self.fetch("keys", OPEN_LINK, id_digest)
        caller = Caller(name, role, self, link=id_digest.hex())
        return caller, {"period": period, "user_id": user_id}

    async def listen(self, channel: str, hear: Callable[[], None]) -> None:
        """For ever, call hear at each notice on a channel, and after each time without a connection."""
        arguments = self.connect_arguments("reader")
        arguments["server_settings"]["application_name"] = "segmentation service (listener)"
        is_lost = False
        while True:
            try:
                connection = await connect(**arguments)
                try:
                    lost = asyncio.Event()
                    connection.add_termination_listener(lambda _, lost=lost: lost.set())
                    await connection.add_listener(channel, lambda *_: hear())
                    hear()
                    is_lost = False
                    await lost.wait()
                finally:
                    await connection.close(timeout=1)
            except (asyncpg.PostgresError, *CONNECTION_LOST) as error:
                # Once, not each second: a standby, for one, never lets anybody listen.
                if not is_lost:
                    log.warning("cannot listen on %s, trying again and again: %s", channel, error)
                is_lost = True
            await asyncio.sleep(1)


class Caller(NamedTuple):
    """Who calls: the name of an API key is the actor, its role decides what PostgreSQL lets it do."""

    name: str
    role: str
    database: Database
    # Encrypts what only this caller may read again.
    seal: bytes = b""
    # The digest of a report's link, whose transfers count apart from those of its key.
    link: str = ""
    # The transaction that all calls are part of, if there is one.
    connection: "PooledConnection | None" = None

    async def call(self, function: str, **arguments: Any) -> str:
        """Call one SQL function with this key's role and return the JSON text it built."""
        if self.connection:
            return await _text_of(partial(run_within, self.connection), function, arguments)
        return await self.database.call(self.role, function, **arguments)

    async def call_heavy(self, function: str, **arguments: Any) -> str:
        """Call a function that may take long, on a connection kept apart for such calls."""
        async with self.transaction("heavy") as within:
            return await within.call(function, **arguments)

    async def change(self, function: str, **arguments: Any) -> str:
        """Call a function that keeps who calls it."""
        return await self.call(function, **arguments, actor=self.name)

    @asynccontextmanager
    async def transaction(self, pool: str = "") -> "AsyncIterator[Caller]":
        """The same caller, all of whose calls are one transaction: of the pool of its role, or of heavy or bulk."""
        if self.connection:
            yield self
            return
        database = self.database
        is_bulk = pool == "bulk"
        async with (
            database.bulk(self.link or self.name) if is_bulk else database.transaction(pool or self.role)
        ) as connection:
            if pool:
                # Ends with the transaction, so that nothing of it is left to the next one.
                await connection.execute(BECOME, f"segmentation_{self.role}", session_name())
            yield self._replace(connection=connection)

    async def copy(
        self, function: str, columns: str, arguments: dict[str, Any], *, output: Any, **options: Any
    ) -> None:
        """Copy the rows that a function returns as CSV to output, which is awaited for each part."""
        named = ", ".join(f"{name} => ${number}" for number, name in enumerate(arguments, 1))
        query = f"select {columns} from segmentation.{function}({named})"
        async with self.transaction("bulk") as within:
            assert within.connection
            try:
                await within.connection.copy_from_query(
                    query, *arguments.values(), output=output, format="csv", **options
                )
            except asyncpg.DataError as error:
                raise _unsendable(error, arguments) or error from None

    async def in_one_transaction(self, work: "Callable[[Caller], Awaitable[T]]", *, bulk: bool) -> T:
        """Do some work as one transaction; where something stays locked, all of it again."""

        async def attempt() -> T:
            async with self.transaction("bulk" if bulk else "") as within:
                return await work(within)

        return await (attempt() if bulk else self.database.in_turns(self.role, attempt))

    async def claim(self, key: str, fingerprint: bytes | None) -> asyncpg.Record | None:
        """The answer kept for an Idempotency-Key, if there is one; within a transaction, hold the key until its end."""
        claim = self.connection.fetch if self.connection else partial(self.database.fetch, self.role)
        return next(iter(await claim(CLAIM, self.name, key, fingerprint)), None)

    async def keep(self, key: str, fingerprint: bytes, kept: Iterable[Any]) -> None:
        """Keep the answer of a write for whoever repeats it."""
        assert self.connection
        await self.connection.execute(KEEP, self.name, key, fingerprint, *kept)


@contextmanager
def _unavailable() -> Iterator[None]:
    """Turn whatever goes wrong while connecting into database_unavailable."""
    try:
        yield
    except TimeoutError as error:
        raise Problem("database_unavailable", "No connection to the database became free in time.") from error
    except (asyncpg.PostgresError, *CONNECTION_LOST) as error:
        raise Problem("database_unavailable", "The database does not answer.") from error


async def run(connection: AnyConnection, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    """Run one statement; once more after a deadlock or serialization failure, as nothing was done."""
    try:
        return await connection.fetch(statement, *arguments)
    except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
        return await connection.fetch(statement, *arguments)


async def run_within(connection: AnyConnection, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    """The same inside a transaction: in a savepoint, so that a long COPY before it is not lost."""
    try:
        async with connection.transaction():
            return await connection.fetch(statement, *arguments)
    # The last: the function was deployed anew. asyncpg prepares anew by itself only outside of transactions.
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


async def _send_as_text(connection: Connection) -> None:
    """Give PostgreSQL what the client wrote: 33.3, not the binary fraction next to it; the last microsecond of the
    year 9999, which asyncpg takes for infinity. A moment that is in no year from 1 to 9999 of UTC is refused."""
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=lambda moment: moment.astimezone(UTC).isoformat(),
        decoder=str,
    )
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=lambda number: str(number).removesuffix(".0"), decoder=str
    )


async def _leave_as_it_is(_: object) -> None:
    """Replaces the pool's reset query, a second round trip. Calls leave nothing behind that it would reset."""


def _unsendable(error: asyncpg.DataError, arguments: dict[str, Any]) -> Problem | None:
    """Say which argument does not fit its SQL type, if asyncpg or PostgreSQL's decoder found that."""
    if isinstance(error, asyncpg.CharacterNotInRepertoireError):
        for name, value in arguments.items():
            if any("\0" in str(each) for each in (value if isinstance(value, list) else [value])):
                detail = f"{name} has a NUL character (U+0000), which no text in PostgreSQL can hold."
                return Problem("invalid_value", detail, hint="Leave it out.")
    found = re.match(r"invalid input for query argument \$(\d+): .*\((.+)\)$", str(error.args[0]), re.DOTALL)
    if not found:
        return None
    name = list(arguments)[int(found[1]) - 1]
    value = arguments[name]
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, int) and abs(item) >= 2**63), None)
    # As JSON knows it.
    value = int(value) if isinstance(value, int) else value and str(value)
    member: dict[str, Any] = {name: value}
    bits = re.search(r"int(\d+) range", found[2])
    hint = f"Give a whole number up to {2 ** (int(bits[1]) - 1) - 1}." if bits else None
    return Problem("invalid_value", f"{name} {value} is not possible: {found[2]}.", hint=hint, **member)
