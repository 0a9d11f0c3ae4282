"""The hot read over HTTP, and as a SQL function under pgbench."""

import re
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from statistics import mean, median

from tests.bench import load
from tests.bench.data import add_layers, connect, copy_of, data_set, data_set_of_release, url_of
from tests.bench.outcome import Row, at_least, at_most, interleaved, progress, ratio, timed
from tests.bench.released import command_of
from tests.bench.server import CONSTANT, HOT, ONE_QUERY, Running, running
from tests.bench.sizes import Sizes

RATE = 1000
HOT_CALL = "select segmentation.http_user_segments(:id)"

# The least that a read can cost: an answer of the same form, from the assignments alone.
ASSIGNMENTS_ONLY = """
    create or replace function segmentation.bench_assignments_only (user_id bigint)
      returns text
      language plpgsql
      security definer
      set search_path = pg_catalog, pg_temp
    as $$
    begin
      return '{"user_id":' || bench_assignments_only.user_id || ',"segments":' || array_to_json(array(
        select s.slug
        from segmentation.memberships as m
        join segmentation.segments as s on s.segment_id = m.segment_id
        where m.user_id = bench_assignments_only.user_id
        order by s.slug
      )) || '}';
    end
    $$;
    alter function segmentation.bench_assignments_only(bigint) owner to segmentation_owner;
"""


def over_http(sizes: Sizes) -> list[Row]:
    """The hot read against a constant, against one query a request, against version 1.0.0, and its latency."""
    if not load.have_wrk():
        return [Row("GET /v1/users/{id}/segments", "not measured: wrk is not installed", None)]
    with copy_of(data_set(sizes, sizes.users)) as database:
        with running(database) as server:
            progress("reading over HTTP")
            rows = _against_its_floors(sizes, server, "GET /v1/users/{id}/segments, 16 connections")
            progress(f"  latency at {RATE} requests a second")
            latency = load.latency(server, sizes.users, RATE, load.after(5 * sizes.seconds))
            rows.append(
                Row(
                    f"the same at {RATE} requests a second, p50",
                    f"{latency.p50:.2f} ms  (p99 {latency.p99:.2f} ms)",
                    latency.p50,
                )
            )
            rows.append(_against_release(sizes, server))
        with running(database, workers=2) as server:
            progress("reading over HTTP from two workers")
            rows += _against_its_floors(sizes, server, "the same, WORKERS=2")
    return rows


def _against_its_floors(sizes: Sizes, server: Running, what: str) -> list[Row]:
    """The hot read against what the same server does without a database, and with a call for each request."""
    read = partial(load.throughput, server, users=sizes.users, seconds=sizes.seconds)
    for path in (CONSTANT, ONE_QUERY, HOT):
        read(path, seconds=1)
    taken = interleaved(
        sizes.rounds,
        {
            "constant": partial(read, CONSTANT),
            "hot read": partial(read, HOT),
            "one query a request": partial(read, ONE_QUERY),
        },
    )
    constant, hot, one = (median(each) for each in taken.values())
    return [
        at_least(
            f"{what}, against a constant",
            ratio(taken["hot read"], taken["constant"]),
            0.7,
            f"{hot:,.0f} of {constant:,.0f} a second",
        ),
        at_least(
            f"{what}, against one query a request",
            ratio(taken["hot read"], taken["one query a request"]),
            2,
            f"{hot:,.0f} and {one:,.0f} a second",
        ),
    ]


def _against_release(sizes: Sizes, server: Running) -> Row:
    """The hot read of this service and of version 1.0.0's, each on a database of its own version."""
    what = "the same over 16 connections, against version 1.0.0"
    # To install it takes longer than all that is measured at the smallest size.
    command = command_of("1.0.0") if sizes.name != "tiny" else None
    if command is None:
        return Row(what, "not measured", None)
    with (
        copy_of(data_set_of_release(sizes, "1.0.0"), 5) as database,
        running(database, command) as released,
    ):
        read = partial(load.throughput, path=HOT, users=sizes.users)
        read(released, seconds=1)
        taken = interleaved(
            sizes.rounds,
            {
                "hot read": partial(read, server, seconds=sizes.seconds),
                "hot read of 1.0.0": partial(read, released, seconds=sizes.seconds),
            },
        )
    hot, earlier = (median(each) for each in taken.values())
    return at_least(
        what,
        ratio(taken["hot read"], taken["hot read of 1.0.0"]),
        1.3,
        f"{hot:,.0f} and {earlier:,.0f} a second",
    )


def in_sql(sizes: Sizes) -> list[Row]:
    """The function against one that only joins, against version 1.0.0, with more segments and with layers."""
    narrow, wide = data_set(sizes, sizes.users), data_set(sizes, sizes.users, wide=True)
    with (
        copy_of(narrow, 1) as few,
        copy_of(wide, 2) as many,
        copy_of(narrow, 3) as layered,
        copy_of(data_set_of_release(sizes, "1.0.0"), 4) as released,
    ):
        with connect(few) as dba:
            dba.execute(ASSIGNMENTS_ONLY)
        with connect(layered) as dba:
            add_layers(dba)
        progress("reading in SQL")
        run = partial(pgbench, users=sizes.users, seconds=sizes.seconds)
        taken = interleaved(
            sizes.rounds,
            {
                "assignments only": partial(run, few, "select segmentation.bench_assignments_only(:id)"),
                "hot read": partial(run, few, HOT_CALL),
                "hot read, 20 layers": partial(run, layered, HOT_CALL),
                "hot read, more segments": partial(run, many, HOT_CALL),
                "hot read of 1.0.0": partial(run, released, HOT_CALL),
            },
        )
    least, hot, with_layers, more, before = (median(each) for each in taken.values())
    return [
        at_least(
            "the read in SQL, against a function that only joins assignments to slugs",
            ratio(taken["hot read"], taken["assignments only"]),
            0.75,
            f"{hot:,.0f} of {least:,.0f} a second",
        ),
        at_least(
            "the read in SQL, against version 1.0.0",
            ratio(taken["hot read"], taken["hot read of 1.0.0"]),
            0.97,
            f"{hot:,.0f} and {before:,.0f} a second",
        ),
        at_least(
            "the read in SQL with 20 layers of 5 segments more, against without",
            ratio(taken["hot read, 20 layers"], taken["hot read"]),
            0.8,
            f"{with_layers:,.0f} of {hot:,.0f} a second",
        ),
        at_least(
            f"the read in SQL, {sizes.wide_segments:,} segments, {sizes.wide_rolling} rolling out,"
            f" against {sizes.segments} and {sizes.rolling}",
            ratio(taken["hot read, more segments"], taken["hot read"]),
            0.6,
            f"{more:,.0f} of {hot:,.0f} a second",
        ),
    ]


def growth(sizes: Sizes) -> list[Row]:
    """Reads and changes of segments, with few users and with many."""
    small, large = data_set(sizes, sizes.few_users), data_set(sizes, sizes.growth_users)
    with copy_of(small, 1) as few, copy_of(large, 2) as many:
        progress("growth")
        # A session is slow until it has touched each page of shared memory; the service's sessions last.
        read = partial(pgbench, seconds=2 * sizes.seconds, warm=4 * sizes.seconds)
        taken = interleaved(
            sizes.rounds,
            {
                f"{sizes.few_users:,} users": partial(read, few, HOT_CALL, sizes.few_users),
                f"{sizes.growth_users:,} users": partial(read, many, HOT_CALL, sizes.growth_users),
            },
        )
        slow, fast = taken[f"{sizes.growth_users:,} users"], taken[f"{sizes.few_users:,} users"]
        changes = changes_of_segments(few, many, sizes)
    among = f"{sizes.growth_users:,} users"
    return [
        at_least(
            f"the read in SQL, {among} against {sizes.few_users:,}",
            ratio(slow, fast),
            0.9,
            f"{median(slow):,.0f} of {median(fast):,.0f} a second",
        ),
        *(
            at_most(
                f"{change}, {among}",
                times[1],
                5,
                "ms",
                f"{times[0]:.2f} ms with {sizes.few_users:,}",
            )
            for change, times in changes.items()
        ),
    ]


def changes_of_segments(few: str, many: str, sizes: Sizes) -> dict[str, tuple[float, float]]:
    """Median milliseconds of set_rollout, in no layer and in a full one, and delete_segment, among few users and many."""
    calls = {
        "set_rollout in a layer": (
            "select set_rollout('LAYER_' || to_char(1 + %s %% 10, 'FM00') || '_1', 10 + %s / 10)"
        ),
        "set_rollout": "select set_rollout('SEGMENT_' || to_char(%s, 'FM0000'), 60 + %s %% 40)",
        "delete_segment": "select delete_segment('SEGMENT_' || to_char(%s, 'FM0000'), reason => 'no. ' || %s)",
    }
    medians = {}
    with connect(few) as small, connect(many) as large:
        add_layers(small, layers=10)
        add_layers(large, layers=10)
        for change, call in calls.items():
            progress(f"  {change}")
            times: list[list[float]] = [[], []]
            for number in range(1, sizes.segments + 1):
                for dba, taken in ((small, times[0]), (large, times[1])):
                    taken.append(1000 * timed(partial(dba.execute, call, (number, number))))
            medians[change] = (median(times[0]), median(times[1]))
    return medians


def pgbench(database: str, statement: str, users: int, seconds: float, warm: float = 0) -> float:
    """Calls per second by one client, for random users, after some seconds of warming up."""
    ahead, counted = round(warm), max(1, round(seconds))
    with tempfile.TemporaryDirectory(prefix="segmentation-bench-") as directory:
        script = Path(directory, "read.sql")
        script.write_text(f"\\set id random(1, {users})\n{statement};\n")
        done = subprocess.run(
            [
                *("pgbench", "-n", "-M", "prepared", "-c1", f"-T{ahead + counted}", "-P1"),
                *("-f", str(script), url_of(database)),
            ],
            capture_output=True,
            text=True,
            timeout=warm + seconds + 60,
        )
    by_second = [float(tps) for tps in re.findall(r"^progress: .* ([\d.]+) tps", done.stderr, re.MULTILINE)]
    if done.returncode or len(by_second) <= ahead:
        raise RuntimeError(f"pgbench failed: {done.stderr}")
    return mean(by_second[ahead:])
