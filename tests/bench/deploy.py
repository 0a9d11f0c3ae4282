"""A deploy from version 1.0.0 under traffic: its own service answers while the database becomes today's.

A session that has read `memberships` and then idles in its transaction stops a first attempt, which names it: no column
can be added under a reader. Once that session is gone, a second attempt goes through.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from http.client import HTTPException
from time import sleep

import psycopg

from tests.bench import load
from tests.bench.data import connect, copy_of, data_set_of_release, month_of_report, url_of, value
from tests.bench.outcome import Row, at_most, progress, timed
from tests.bench.released import command_of
from tests.bench.server import CSV, HOT, JSON, Running, running
from tests.bench.sizes import Sizes
from tests.launcher import ROOT

VERSION = "1.0.0"
# Calls that nobody should feel a deploy in.
QUICK = ("read", "history", "write", "ready")
# The report of more would take minutes.
MOST_USERS = 300_000
# What an answer is compared by: its past as both versions tell it. The traffic changes other users.
COMPARED = 37
HISTORIES = f"""
    select u.user_id, md5(string_agg(h::text, E'\\n'
      order by h.at, h.segment, h.operation))
    from segmentation.users as u
    cross join lateral segmentation.user_history(u.user_id) as h
    where mod(u.user_id, {COMPARED}) = 0 and h.at < %s
    group by u.user_id
"""
# Lists, plans and what has ended; each of them leaves history.
PAST = (
    "select change_segment_members('SEGMENT_0041', {some}, reason => 'bought a car')",
    "select change_segment_members('SEGMENT_0042', {some}, expires_at => clock() + interval '1 year')",
    "select change_segment_members('SEGMENT_0041', {some}, operation => 'remove', reason => 'sold it')",
    "select change_segment_members('SEGMENT_0043', {some}, starts_at => clock() + interval '1 year')",
    "select change_segment_members('SEGMENT_0001', {some}, operation => 'remove')",
)


class Traffic:
    """Clients that ask all the time, and how long each answer took."""

    def __init__(self, server: Running, sizes: Sizes, month: str) -> None:
        """Know whom to ask for what."""
        self._server = server
        self._users = sizes.users
        self._month = month
        self._ids = "".join(
            f"{number}\n" for number in range(1, sizes.users // 50) if number % COMPARED
        ).encode()
        self.times: dict[str, list[float]] = {}
        self.failures: list[str] = []

    def going_on(self) -> AbstractContextManager[None]:
        """Ask meanwhile."""
        asked: dict[str, Callable[[], object]] = {
            "read": lambda: self._server.ask("GET", HOT.format(self._some_user())),
            "history": lambda: self._server.ask("GET", f"/v1/users/{self._some_user()}/history"),
            "write": self._write,
            "ready": lambda: self._server.ask("GET", "/health/ready"),
            "import": lambda: self._server.ask("POST", "/v1/segments/SEGMENT_0050/members", self._ids, **CSV),
            "report": lambda: self._server.ask("GET", self._server.link_to_report(self._month)),
        }
        self.times = {name: [] for name in asked}
        return load.meanwhile([(partial(self._ask, *each), 0.005) for each in asked.items()])

    def slowest(self, *names: str) -> float:
        """Seconds that the slowest of these answers took."""
        return max(max(self.times[name]) for name in names)

    def _ask(self, name: str, ask: Callable[[], object]) -> None:
        try:
            self.times[name].append(timed(ask))
        except (RuntimeError, OSError, HTTPException) as error:
            self.failures.append(f"{name}: {error}")

    def _some_user(self) -> int:
        return random.randint(1, self._users)

    def _write(self) -> None:
        user_id = random.randrange(1, self._users, COMPARED)
        change = {
            random.choice(("add", "remove")): [f"SEGMENT_{random.randint(21, 40):04}"],
            "reason": "deploy",
        }
        self._server.ask("PATCH", f"/v1/users/{user_id}/segments", json.dumps(change), **JSON)


def deploy(sizes: Sizes) -> list[Row]:
    """Calls that fail or take long while the database is migrated, and histories that come out otherwise."""
    what = f"a deploy from version {VERSION} under traffic"
    command = command_of(VERSION) if sizes.name != "tiny" else None
    if command is None:
        return [Row(what, "not measured", None)]
    sizes = sizes._replace(users=min(sizes.users, MOST_USERS))
    with copy_of(data_set_of_release(sizes, VERSION)) as database, connect(database) as dba:
        dba.execute("call sweep()")
        some = f"array(select generate_series(3, {sizes.users}, 10))"
        for statement in PAST:
            dba.execute(statement.format(some=some))
        with running(database, command) as server:
            traffic = Traffic(server, sizes, month_of_report(dba))
            before: dict[int, str] = dict(
                dba.execute(HISTORIES, [moment := value(dba, "select clock()")]).fetchall()
            )
            progress(what)
            with traffic.going_on():
                sleep(10 * sizes.seconds)
            usual = traffic.slowest(*QUICK)
            with traffic.going_on():
                with psycopg.connect(url_of(database)) as forgotten:
                    forgotten.execute("select * from segmentation.user_history(7)")
                    pid = f"pid {forgotten.info.backend_pid}"
                    stopped = _migrate(database, "--wait", "10", goes_through=False)
                if pid not in stopped:
                    raise RuntimeError(f"who was in the way, {pid}, was not named: {stopped}")
                took = timed(lambda: _migrate(database))
                sleep(sizes.seconds)
            after: dict[int, str] = dict(dba.execute(HISTORIES, [moment]).fetchall())
    for failure in traffic.failures:
        progress(f"  {failure}")
    calls = sum(map(len, traffic.times.values())) + len(traffic.failures)
    changed = [
        user_id for user_id in before.keys() | after.keys() if before.get(user_id) != after.get(user_id)
    ]
    slowest = traffic.slowest(*QUICK)
    return [
        at_most(
            f"calls that fail during {what}", len(traffic.failures), 0, "", f"of {calls:,} in {took:.0f} s"
        ),
        at_most(
            f"slowest read, history, write or readiness during {what}",
            slowest,
            0.5,
            "s",
            f"{usual:.2f} s before it",
        ),
        Row(
            "slowest import · report meanwhile",
            f"{traffic.slowest('import'):.1f} · {traffic.slowest('report'):.1f} s",
            None,
        ),
        at_most("histories that it changes", len(changed), 0, "", f"of {len(before):,}"),
    ]


def _migrate(database: str, *options: str, goes_through: bool = True) -> str:
    """Bring the database up to date as an operator does; what was said last."""
    done = subprocess.run(
        [sys.executable, "-m", "service.migrate", *options],
        env=os.environ | {"DATABASE_URL": url_of(database)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if (done.returncode == 0) is not goes_through:
        raise RuntimeError(f"migrate ended with {done.returncode}: {done.stderr}")
    return done.stderr
