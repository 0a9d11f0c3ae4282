"""The sweep: what readers and writers feel of it."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import NamedTuple

import psycopg

from tests.bench import load
from tests.bench.data import connect, copy_of, data_set, value
from tests.bench.outcome import Row, at_most, progress, ratio, timed
from tests.bench.server import running
from tests.bench.sizes import Sizes

RATE = 500
ROUNDS = 3
WRITES = 25
# One row for each of so many users, all of the same import, whose time is over.
EXPIRED = """
    set local session_replication_role = replica;
    insert into segments (slug, created_at) values (%(slug)s, now() - interval '60 days');
    insert into memberships (user_id, segment_id, starts_at, ends_at, end_actor)
    select
      id, (select segment_id from segments where slug = %(slug)s),
      now() - interval '10 days', now() - interval '1 hour', 'bench'
    from generate_series(1, %(expired)s) as id;
"""


class Writers:
    """Users who are not swept are changed some times per second; every wait for a lock above 1 ms is counted."""

    def __init__(self, database: str, users: range) -> None:
        """Open the session, but do nothing yet."""
        self.waits: list[str] = []
        self.seen_waiting = 0
        self.times: list[float] = []
        self._users = users
        self._end = Event()
        self._session = connect(database)
        self._session.execute("set deadlock_timeout = '1ms'")
        self._session.execute("set log_lock_waits = on")
        self._session.execute("set client_min_messages = log")
        self._session.add_notice_handler(self._notice)
        self._watch = connect(database)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if "still waiting" in (notice.message_primary or ""):
            self.waits.append(str(notice.message_primary))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Write meanwhile."""
        threads = [Thread(target=self._write), Thread(target=self._look)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._end.set()
            for thread in threads:
                thread.join()
            self._session.close()
            self._watch.close()

    def _write(self) -> None:
        number = 0
        while not self._end.wait(1 / WRITES):
            number += 1
            started = perf_counter()
            self._session.execute(
                "select change_user_segments(%s, add => array[%s], expires_at => clock() + interval '1 hour')",
                [random.choice(self._users), f"SEGMENT_{random.randint(21, 50):04}"],
            )
            self.times.append(1000 * (perf_counter() - started))

    def _look(self) -> None:
        pid = self._session.info.backend_pid
        while not self._end.wait(0.01):
            self.seen_waiting += bool(value(self._watch, "select cardinality(pg_blocking_pids(%s)) > 0", pid))


class Round(NamedTuple):
    """One sweep: p99 of reads in milliseconds, without it and meanwhile, its seconds, and the writers."""

    idle: float
    meanwhile: float
    seconds: float
    writers: Writers


def sweep(sizes: Sizes) -> list[Row]:
    """Reads at a fixed rate before, during and after a sweep, with writers at work all the time; a few times."""
    with copy_of(data_set(sizes, sizes.users)) as database:
        rounds = [_one_sweep(database, sizes, number) for number in range(1, _rounds(sizes) + 1)]
    waits = sum(len(each.writers.waits) + each.writers.seen_waiting for each in rounds)
    times = [time for each in rounds for time in each.writers.times]
    return [
        at_most(
            f"sweep of {sizes.expired:,} expired rows, read p99 at {RATE} a second against idle",
            ratio([each.meanwhile for each in rounds], [each.idle for each in rounds]),
            2,
            "×",
            f"{median(each.meanwhile for each in rounds):.2f} ms and {median(each.idle for each in rounds):.2f} ms;"
            f" swept in {median(each.seconds for each in rounds):.1f} s",
        ),
        at_most(
            "lock waits of writers of other users meanwhile",
            waits,
            0,
            "",
            f"{len(times)} writes, {median(times):.1f} ms each",
        ),
    ]


def _rounds(sizes: Sizes) -> int:
    return min(ROUNDS, sizes.rounds)


def _one_sweep(database: str, sizes: Sizes, number: int) -> Round:
    # A few users above those who are swept.
    writing = range(sizes.expired + 1, sizes.expired + 10_001)
    with connect(database) as dba:
        progress(f"sweeping {sizes.expired:,} expired rows, round {number} of {_rounds(sizes)}")
        with dba.transaction(), psycopg.ClientCursor(dba) as cursor:
            cursor.execute(EXPIRED, {"expired": sizes.expired, "slug": f"CAMPAIGN_{number}"})
        dba.execute("vacuum analyze memberships")
        dba.execute("checkpoint")
        with running(database) as server:
            progress(f"  reading at {RATE} a second")
            ask = partial(load.latency, server, sizes.users, RATE)
            ask(load.after(1))
            writers = Writers(database, writing)
            with writers.at_work():
                idle = [ask(load.after(5 * sizes.seconds))]
                progress("  the same while the sweep runs")
                with ThreadPoolExecutor(1) as thread:
                    sweeping = thread.submit(timed, partial(dba.execute, "call sweep(max_seconds => 600)"))
                    meanwhile = ask(sweeping.done)
                    seconds = sweeping.result()
                progress("  and after it")
                idle.append(ask(load.after(5 * sizes.seconds)))
        left = value(dba, "select count(*) from memberships where ends_at < now() - interval '1 minute'")
        assert left == 0, f"{left} rows were not swept"
    return Round(median(each.p99 for each in idle), meanwhile.p99, seconds, writers)
