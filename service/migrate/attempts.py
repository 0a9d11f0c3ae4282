"""Waits for locks in a way that nobody notices: asks briefly, and again later, with nothing held in between."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, TypeVar

import psycopg
from psycopg import errors

T = TypeVar("T")

# Calls in progress: transactions, by the lock that each holds on itself and everybody may see, and queries, as a procedure
# goes on after a commit. Of sessions of others, this login may not see the query. What has no login is PostgreSQL's own.
CALLS = """
    select a.pid, l.virtualtransaction, case when a.state = 'active' then a.query_start end, a.state ~ '^idle in '
    from pg_catalog.pg_stat_activity as a
    left join pg_catalog.pg_locks as l
      on l.pid = a.pid and l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.granted
    where a.datname = current_database() and a.pid <> pg_backend_pid() and a.usesysid is not null
      and a.backend_type is distinct from 'walsender' and (l.pid is not null or a.state = 'active')
"""
# Whoever may create in schema public can put a function there that fits better than PostgreSQL's own: never look there.
# A time limit of the login, the database or the URL is for calls, not for a deploy. And definitions are read as PostgreSQL
# writes them where nobody has set anything.
OWN_SETTINGS = """
    set statement_timeout = 0;
    set search_path = pg_catalog, pg_temp;
    select set_config(s.name, own.setting, false)
    from (
      values
        ('transaction_timeout', '0'), ('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
        ('quote_all_identifiers', 'off'), ('standard_conforming_strings', 'on'), ('client_encoding', 'UTF8')
    ) as own (name, setting)
    join pg_catalog.pg_settings as s on s.name = own.name
"""
# Seconds after which it is worth a word that somebody is waited for.
MOMENT = 1.0

# Whoever calls meanwhile waits behind us, but no longer than this.
LOCK_TIMEOUT = "set lock_timeout = '50ms'"
PAUSE = 0.5
# The gap between two calls may be short.
GLANCE = 0.005
# Calls that hold what is to be locked, and will not have ended by then. Readers are in the way of ACCESS EXCLUSIVE alone.
HOLDERS = """
    select distinct coalesce(l.pid, 0)
    from unnest(%s::regclass[], %s::boolean[]) as asked (relation, is_from_readers)
    join pg_catalog.pg_locks as l on l.relation = asked.relation
    left join pg_catalog.pg_stat_activity as a on a.pid = l.pid
    where l.locktype = 'relation' and l.granted and l.pid is distinct from %s
      and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
      and (asked.is_from_readers or l.mode not in ('AccessShareLock', 'RowShareLock'))
      and (l.pid is null or a.xact_start < clock_timestamp() - interval '50 milliseconds')
"""

# Everybody may see the lock that a transaction holds on itself.
TRANSACTIONS = """
    select l.virtualtransaction from pg_catalog.pg_locks as l
    where l.pid = any (%s) and l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.granted
"""
SESSIONS = """
    select a.pid, a.usename, a.application_name, a.state, a.query_start, regexp_replace(a.query, '\\s+', ' ', 'g')
    from pg_stat_activity as a
    where a.pid = any (%(pids)s)
    union all
    -- They have no session. To PostgreSQL's functions about locks, each is 0.
    select
      0, min(p.owner::text), 'prepared: commit it, or roll it back, by its name', null, min(p.prepared),
      string_agg(p.gid, ', ' order by p.prepared)
    from pg_prepared_xacts as p
    where 0 = any (%(pids)s) and p.database = current_database()
    having count(*) > 0
"""


class GaveUp(Exception):
    """Somebody else held on for too long; the message says who."""


class Attempts:
    """Tries until time is up, and then says who was in the way."""

    def __init__(
        self, connection: psycopg.Connection, url: str, say: Callable[[str], None], patience: float
    ) -> None:
        """Take the patience: how many seconds to try for, in each step."""
        self.connection = connection
        self.url = url
        self.say = say
        self.patience = patience
        self._begin()

    def _begin(self) -> None:
        self.until = time.monotonic() + self.patience

    def take_turns(self, lock: int) -> None:
        """Take the advisory lock that one run at a time has, and hold it as long as the connection lasts."""
        holders = "select array_agg(pid) from pg_locks where locktype = 'advisory' and (classid::bigint << 32) | objid::bigint = %s"
        said = ""
        # Asked for again and again, as "create index concurrently" would wait for a query that waits.
        while self.connection.execute("select pg_try_advisory_lock(%s)", [lock]).fetchone() != (True,):
            found = self.connection.execute(holders, [lock]).fetchone()
            who = _names(self.connection, found and found[0])
            if time.monotonic() > self.until:
                raise GaveUp(f"another migrate has been running for {self.patience:.0f} seconds: {who}")
            if who and not said:
                said = who
                self.say(f"another migrate is running, and is waited for: {who}")
            time.sleep(0.1)

    def left(self) -> float:
        """How many seconds of patience are left."""
        return self.until - time.monotonic()

    def __call__(self, what: str, work: Callable[[], T], is_long: bool = False) -> T:
        """Do what undoes itself when it fails. What may wait long in one attempt is watched from the first on."""
        self._begin()
        told: set[int] = set()

        def tell(seen: dict[int, str]) -> None:
            # Each session once, however many queries it runs meanwhile.
            if not seen.keys() <= told:
                told.update(seen)
                self.say(f"{what} waits for a lock; in the way: {'; '.join(seen.values())}")

        last_seen: dict[int, str] = {}
        try:
            if is_long:
                with self._watch(last_seen, tell):
                    return work()
            return work()
        except psycopg.Error as error:
            if not in_the_way(error):
                raise
        # Only now is it worth a look who that is: seldom is anybody.
        time.sleep(PAUSE)
        while True:
            seen: dict[int, str] = {}
            try:
                with self._watch(seen, tell):
                    return work()
            except psycopg.Error as error:
                if not in_the_way(error):
                    raise
                # An attempt may be over before anybody was seen.
                last_seen = seen or last_seen
                in_progress = self._transactions(last_seen)
                who = "; ".join(last_seen.values()) or str(error.diag.message_primary)
                if time.monotonic() > self.until:
                    raise self._gave_up(what, who) from error
                tell(last_seen or {0: who})
                self._let_end(last_seen, in_progress)

    def _transactions(self, pids: Collection[int]) -> set[str]:
        """Of the sessions, those in progress."""
        return {each for (each,) in self.connection.execute(TRANSACTIONS, [list(pids)])}

    def _let_end(self, pids: Collection[int], transactions: set[str]) -> None:
        """Wait until these transactions have ended: to ask before would be in vain, and the moment after may be short.

        Not for ever, as one may only have waited as well, and go on for long with something else.
        """
        if not transactions:
            time.sleep(PAUSE)
        until = min(self.until, time.monotonic() + 10 * MOMENT)
        while transactions and time.monotonic() < until:
            time.sleep(GLANCE)
            transactions &= self._transactions(pids)

    def between_calls(self, what: str, locks: Collection[tuple[str, bool]], work: Callable[[], T]) -> T:
        """Within a transaction, do what locks these relations (each for all, or for writers only) once no long call holds them.

        To ask while one does would be in vain, and others would wait behind us each time.
        """
        asked = [list(each) for each in zip(*locks, strict=True)] or [[], []]
        began, is_told = time.monotonic(), False
        # From a connection of its own: within a transaction pg_stat_activity stays as it was, and the owner of the schema
        # may not see what others do.
        with self._watcher() as watcher:
            while True:
                found = watcher.execute(HOLDERS, [*asked, self.connection.info.backend_pid])
                holders = [pid for (pid,) in found]
                is_over = time.monotonic() > self.until
                if not holders:
                    try:
                        with self.connection.transaction():
                            return work()
                    except psycopg.Error as error:
                        if is_over or not in_the_way(error):
                            raise
                    time.sleep(PAUSE)
                elif is_over:
                    raise self._gave_up(what, _names(watcher, holders))
                elif time.monotonic() > began + MOMENT and not is_told:
                    is_told = True
                    self.say(f"{what} waits for a lock; in the way: {_names(watcher, holders)}")
                time.sleep(GLANCE)

    def _gave_up(self, what: str, who: str) -> GaveUp:
        return GaveUp(
            f"{what}: waited {self.patience:.0f} seconds for a lock, and nothing of it was applied. "
            f"In the way: {who}. Let that end, or end it, and migrate again"
        )

    def wait_for_calls(self, what: str) -> str:
        """Wait until the calls that are in progress now have ended; who is left when time is up.

        A transaction in which nothing runs may be forgotten, and may have a cursor open: nobody waits for it, but it is left.
        """
        self._begin()
        began = time.monotonic()
        first = self._calls()
        told = False
        while True:
            now = self._calls()
            left = [pid for pid, (signs, _) in now.items() if pid in first and signs & first[pid][0]]
            busy = [pid for pid in left if not now[pid][1]]
            is_over = time.monotonic() > began + MOMENT
            if not left:
                return ""
            if is_over and (not busy or time.monotonic() > self.until):
                return _names(self.connection, left)
            if is_over and not told:
                told = True
                self.say(f"{what} waits for calls in progress: {_names(self.connection, busy)}")
            time.sleep(0.05)

    def _calls(self) -> dict[int, tuple[set[Any], bool]]:
        """By session what tells one call from the next, and whether nothing runs."""
        rows = self.connection.execute(CALLS).fetchall()
        return {pid: ({each for each in signs if each}, bool(is_idle)) for pid, *signs, is_idle in rows}

    @contextmanager
    def _watch(self, seen: dict[int, str], tell: Callable[[dict[int, str]], None]) -> Iterator[None]:
        """Note from a connection of its own who blocks the other one meanwhile, and tell if that lasts."""
        done = Event()
        pid = self.connection.info.backend_pid

        def watch(watcher: psycopg.Connection) -> None:
            lasts, began = False, time.monotonic()
            while not done.wait(MOMENT if lasts else 0.01):
                lasts = time.monotonic() > began + MOMENT
                blockers = watcher.execute("select pg_catalog.pg_blocking_pids(%s)", [pid]).fetchone()
                found = _sessions(watcher, blockers and blockers[0])
                seen.update(found)
                if lasts:
                    tell(found)

        # Connected before the attempt, which is soon over.
        with self._watcher() as watcher:
            thread = Thread(target=watch, args=[watcher])
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join()

    @contextmanager
    def _watcher(self) -> Iterator[psycopg.Connection]:
        """A connection beside the one that migrates."""
        with psycopg.connect(self.url, autocommit=True) as watcher:
            watcher.execute(OWN_SETTINGS)
            yield watcher


def _sessions(connection: psycopg.Connection, pids: Any) -> dict[int, str]:
    return {row[0]: _session(*row) for row in connection.execute(SESSIONS, {"pids": pids or []})}


def _names(connection: psycopg.Connection, pids: Any) -> str:
    return "; ".join(_sessions(connection, pids).values())


def _session(pid: int, login: str, application: str, state: str | None, since: Any, query: str) -> str:
    last = f'query since {since:%H:%M:%S %Z}: "{query[:100]}"' if since else None
    return ", ".join(filter(None, [f"pid {pid}", f"login {login}", application, state, last]))


def in_the_way(error: psycopg.Error) -> bool:
    """Whether another session held what was asked for, or changed it at the same moment."""
    # What two databases of one server share, such as the settings of a role: both wrote the first.
    at_once = isinstance(error, errors.UniqueViolation) and error.diag.schema_name == "pg_catalog"
    at_once |= isinstance(error, errors.InternalError_) and "concurrently" in str(error.diag.message_primary)
    return at_once or isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected)
