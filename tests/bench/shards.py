"""A router with two shards against a database by itself that holds the same: four servers on this machine."""

import hashlib
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psycopg

from service.migrate import migrate
from service.migrate.shards import add_shards
from tests.bench import load
from tests.bench.data import CATALOG, SERVER, USERS, connect, copy_of, data_set, fill, month_of_report, value
from tests.bench.outcome import Row, at_least, at_most, interleaved, progress, ratio, timed
from tests.bench.server import CSV, HOT, JSON, Running, running
from tests.bench.sizes import MB, Sizes
from tests.expect import wait_until
from tests.launcher import ROOT

KINDS = {"router": "router", "s0": "shard", "s1": "shard"}
IS_HERE = r"""
    select regexp_replace(pg_get_expr(conbin, conrelid), '\S*refuse_user_of_another_shard\(user_id\)', 'false')
    from pg_constraint where conname = 'users_are_of_this_shard'
"""
CATALOG_IS_HERE = "select (select count(*) from segments), (select count(*) from rollouts)"
EXPORTED = "SEGMENT_0020"
LIST = 1000
EACH = "select http_user_segments_each(array(select 1 + (random() * %s)::bigint from generate_series(1, %s)))"


class Side(NamedTuple):
    """One of the two that are compared: the service on it, a DBA's session, and its servers' postmasters."""

    server: Running
    dba: psycopg.Connection
    postmasters: dict[str, int]


def shards(sizes: Sizes) -> list[Row]:
    """Each measure in turns: a database by itself, then the router."""
    with copy_of(data_set(sizes, sizes.users)) as database, connect(database) as dba:
        if not value(dba, "select count(*) from pg_available_extensions where name = 'plproxy'"):
            return [Row("a router with two shards", "not measured: PL/Proxy is not installed", None)]
        with (
            _router(sizes) as (url, postmasters),
            connect(url) as dba_of_router,
            running(database) as server,
            running(url) as router,
        ):
            alone = Side(server, dba, {"alone": _postmaster(SERVER)})
            sides = {"alone": alone, "router": Side(router, dba_of_router, postmasters)}
            return [
                *_reads(sizes, sides),
                *_processor(sizes, sides),
                *_questions(sizes, sides),
                *_imports(sizes, sides),
                *_rollouts(sizes, sides),
            ]


@contextmanager
def _router(sizes: Sizes) -> Iterator[tuple[str, dict[str, int]]]:
    """Three servers with the data set over them, deleted in the end: the router's URL, and the postmasters."""
    progress(f"a router with two shards: {sizes.users:,} users")
    numbers = {"segments": sizes.segments, "rolling": sizes.rolling}
    with ThreadPoolExecutor() as threads:
        try:
            urls = dict(zip(KINDS, threads.map(_start, KINDS), strict=True))
            of_shards = {name: url for name, url in urls.items() if name != "router"}
            add_shards(urls["router"], of_shards)
            with connect(urls["router"]) as router:
                fill(router, CATALOG.format(slug="slug, "), **numbers)
            list(threads.map(partial(_fill_shard, sizes), of_shards.values()))
            yield urls["router"], {name: _postmaster(url) for name, url in urls.items()}
        finally:
            list(threads.map(partial(_cluster, "remove"), KINDS))


def _start(name: str) -> str:
    _cluster("remove", name)
    _cluster("start", name, "--shards")
    url = _cluster("url", name)
    migrate(url, kind=KINDS[name])
    return url


def _cluster(action: str, name: str, *options: str) -> str:
    # Where make stop and make clean look for it.
    directory = ROOT / ".local" / "shards" / f"bench_{name}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    command = [str(ROOT / ".dev" / "cluster"), action, str(directory), *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _fill_shard(sizes: Sizes, url: str) -> None:
    with connect(url) as dba:
        wait_until(
            lambda: dba.execute(CATALOG_IS_HERE).fetchone() == (sizes.segments, sizes.rolling), seconds=60
        )
        fill(dba, USERS.format(is_here=value(dba, IS_HERE)), users=sizes.users, segments=sizes.segments)


def _compared(sides: dict[str, Side], measure: Callable[[Side], float], rounds: int) -> tuple[float, str]:
    """What the router takes as a factor of what a database by itself does, and both in milliseconds."""
    taken = interleaved(rounds, {name: partial(measure, side) for name, side in sides.items()})
    alone, router = (1000 * median(each) for each in taken.values())
    return ratio(taken["router"], taken["alone"]), f"{router:,.1f} ms and {alone:,.1f} ms"


def _reads(sizes: Sizes, sides: dict[str, Side]) -> list[Row]:
    what = "router with two shards: GET /v1/users/{id}/segments, 16 connections, against one database"
    if not load.have_wrk():
        return [Row(what, "not measured: wrk is not installed", None)]
    read = partial(load.throughput, path=HOT, users=sizes.users)
    progress("reading over HTTP")
    for side in sides.values():
        read(side.server, seconds=1)
    taken = interleaved(
        sizes.rounds,
        {name: partial(read, side.server, seconds=sizes.seconds) for name, side in sides.items()},
    )
    alone, router = (median(each) for each in taken.values())
    return [
        at_least(
            what, ratio(taken["router"], taken["alone"]), 0.65, f"{router:,.0f} and {alone:,.0f} a second"
        )
    ]


def _processor(sizes: Sizes, sides: dict[str, Side]) -> list[Row]:
    """What a read takes of the processor on each server: with shards on cores of their own, the first one to be busy is
    the limit.
    """
    rows = []
    for users in (1, 8, 100):
        progress(f"processor time of a call for {users} users")
        microseconds: dict[str, list[float]] = {}
        for _ in range(sizes.rounds):
            for side in sides.values():
                calls = max(20, 1000 // users)
                for _ in range(20):
                    side.dba.execute(EACH, (sizes.users - 1, users))
                before = _busy(side.postmasters)
                for _ in range(calls):
                    side.dba.execute(EACH, (sizes.users - 1, users))
                for name, nanoseconds in _busy(side.postmasters).items():
                    spent = (nanoseconds - before[name]) / 1000 / calls / users
                    microseconds.setdefault(name, []).append(spent)
        told = ", ".join(f"{name} {median(each):.0f} µs" for name, each in microseconds.items())
        rows.append(Row(f"processor time per read, {users} in a call", told, median(microseconds["router"])))
    return rows


def _busy(postmasters: dict[str, int]) -> dict[str, int]:
    """Nanoseconds that a server's processes have had a processor."""
    busy = {}
    for name, postmaster in postmasters.items():
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        busy[name] = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in children)
    return busy


def _postmaster(url: str) -> int:
    with connect(url) as dba:
        directory = value(dba, "show data_directory")
    return int(Path(directory, "postmaster.pid").read_text().split()[0])


def _questions(sizes: Sizes, sides: dict[str, Side]) -> list[Row]:
    """Lists of users, counts, members and the report of the month."""
    progress(f"lists of {LIST} users")
    batch, batch_told = _compared(sides, partial(_batch, sizes), sizes.rounds)
    progress("counts of a segment")
    stats, stats_told = _compared(sides, partial(_get, f"/v1/segments/{EXPORTED}/stats", 5), sizes.rounds)
    progress("members of a segment")
    export, export_told = _compared(sides, partial(_get, f"/v1/segments/{EXPORTED}/members", 1), sizes.rounds)
    progress("report of a month")
    links = {name: side.server.link_to_report(month_of_report(side.dba)) for name, side in sides.items()}
    bodies = {name: _download(side.server, links[name]) for name, side in sides.items()}
    taken = interleaved(
        sizes.rounds,
        {name: partial(timed, partial(_download, side.server, links[name])) for name, side in sides.items()},
    )
    alone, router = (median(each) for each in taken.values())
    length, _ = bodies["alone"]
    return [
        at_most(f"a list of {LIST:,} users, against one database", batch, 1.1, "×", batch_told),
        at_most("counts of a segment, against one database", stats, 1.2, "×", stats_told),
        at_most("members of a segment as CSV, against one database", export, 1.2, "×", export_told),
        at_most(
            f"report of a month, {length / MB:.0f} MB, against one database",
            ratio(taken["router"], taken["alone"]),
            1.5,
            "×",
            f"{router:.2f} s and {alone:.2f} s",
        ),
        at_most(
            "bytes of the report that differ",
            0 if bodies["alone"] == bodies["router"] else length,
            0,
            "",
            "by their hash",
        ),
    ]


def _batch(sizes: Sizes, side: Side) -> float:
    times = []
    for _ in range(10):
        body = json.dumps({"user_ids": random.sample(range(1, sizes.users + 1), LIST)})
        ask = partial(side.server.ask, "POST", "/v1/users/segments", body, **JSON)
        times.append(timed(ask))
    return median(times)


def _get(path: str, calls: int, side: Side) -> float:
    accept = "text/csv" if path.endswith("members") else "application/json"
    return median(timed(partial(side.server.ask, "GET", path, Accept=accept)) for _ in range(calls))


def _download(server: Running, path: str) -> tuple[int, str]:
    """Length and hash."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=900)
    connection.request("GET", path, headers=server.headers)
    response = connection.getresponse()
    assert response.status == 200, response.read(500)
    length, told = 0, hashlib.sha256()
    while part := response.read(MB):
        length += len(part)
        told.update(part)
    connection.close()
    return length, told.hexdigest()


def _imports(sizes: Sizes, sides: dict[str, Side]) -> list[Row]:
    """An import into a new segment each time."""
    ids = "".join(f"{number}\n" for number in range(1, sizes.imported + 1)).encode()
    progress(f"importing {sizes.imported:,} ids")
    factor, told = _compared(sides, partial(_import, ids, sizes.imported), sizes.rounds)
    return [at_most(f"import of {sizes.imported:,} ids, against one database", factor, 1.2, "×", told)]


def _import(ids: bytes, number: int, side: Side) -> float:
    slug = f"IMPORT_{random.randrange(10**9)}"
    side.dba.execute("select create_segment(%s)", [slug])
    answers = []
    seconds = timed(
        lambda: answers.append(side.server.ask("POST", f"/v1/segments/{slug}/members", ids, **CSV))
    )
    assert json.loads(answers[0][0])["changed"] == number
    return seconds


def _rollouts(sizes: Sizes, sides: dict[str, Side]) -> list[Row]:
    """A change of a rollout, and whether the reads after it know of it."""
    rounds = 20 * sizes.rounds
    stale = 0
    taken: dict[str, list[float]] = {name: [] for name in sides}
    progress("changes of a rollout")
    for side in sides.values():
        side.dba.execute("select create_segment('ROLLING')")
    for number in range(rounds):
        for name, side in sides.items():
            change = "select set_rollout('ROLLING', %s)"
            taken[name].append(timed(partial(side.dba.execute, change, [100 * (number % 2 == 0)])))
            stale += value(
                side.dba,
                "select count(*) from users_segments(array(select generate_series(1, 20)))"
                " where ('ROLLING' = any (segments)) <> %s",
                number % 2 == 0,
            )
    alone, router = (1000 * median(each) for each in taken.values())
    return [
        at_most(
            "set_rollout, more than on one database",
            router - alone,
            3,
            "ms",
            f"{router:.2f} ms and {alone:.2f} ms",
        ),
        at_most("reads after its answer that do not know of it", stale, 0, "", f"of {2 * 20 * rounds:,}"),
    ]
