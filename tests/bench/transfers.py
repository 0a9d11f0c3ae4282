"""Imports and reports over HTTP, against a bare COPY of the same rows."""

import json
from functools import partial
from statistics import median

import psycopg

from tests.bench.data import connect, copy_of, data_set, month_of_report
from tests.bench.outcome import Row, at_most, interleaved, progress, ratio, timed
from tests.bench.server import CSV, Running, running
from tests.bench.sizes import MB, Sizes

# The client's part of a COPY is the same for all: blocks of this size.
BLOCK = 2**18
FLAT = 32
# What an import fills in.
COLUMNS = "user_id, segment_id, included, starts_at, ends_at, actor, decided_at"


def imports(sizes: Sizes) -> list[Row]:
    """An import of known users, in ascending order, and its list replaced, against COPY into an identical table; each
    round in a new copy.
    """
    ids = "".join(f"{number}\n" for number in range(1, sizes.imported + 1)).encode()
    taken: dict[str, list[float]] = {"COPY": [], "import": [], "replace": []}
    grown = 0.0
    for number in range(sizes.rounds):
        progress(f"importing {sizes.imported:,} ids, round {number + 1} of {sizes.rounds}")
        with (
            copy_of(data_set(sizes, sizes.users)) as database,
            running(database) as server,
            connect(database) as dba,
        ):
            taken["COPY"].append(_copy_in(dba, _rows(dba, sizes.imported)))
            before = server.memory()
            server.forget_peak()
            taken["import"].append(_import(dba, server, ids, sizes.imported))
            taken["replace"].append(_replace(dba, server, sizes.imported))
            grown = max(grown, (server.memory("VmHWM") - before) / MB)
    return [
        at_most(
            f"import of {sizes.imported:,} ids over HTTP, against a bare COPY",
            ratio(taken["import"], taken["COPY"]),
            2,
            "×",
            f"{median(taken['import']):.2f} s and {median(taken['COPY']):.2f} s",
        ),
        at_most(
            "the same list with 1 % of it changed, by replace, against the COPY",
            ratio(taken["replace"], taken["COPY"]),
            1,
            "×",
            f"{median(taken['replace']):.2f} s",
        ),
        at_most("memory of the service meanwhile", grown, FLAT, "MB", f"{len(ids) / MB:.0f} MB came in"),
    ]


def _rows(dba: psycopg.Connection, number: int) -> bytes:
    """The rows that an import makes, as COPY takes them."""
    query = (
        "copy (select id, 51, true, now(), 'infinity'::timestamptz, 'bench', now()"
        f" from generate_series(1, {number}) as id) to stdout"
    )
    with dba.cursor() as cursor, cursor.copy(query) as copy:
        return b"".join(bytes(part) for part in copy)


def _copy_in(dba: psycopg.Connection, rows: bytes) -> float:
    """Seconds of a COPY into an empty table like memberships, with its constraints and primary key."""
    dba.execute("create table bench_copy (like memberships including defaults including constraints)")
    dba.execute("alter table bench_copy add primary key (user_id, segment_id)")
    dba.execute("checkpoint")

    def copy_in() -> None:
        with dba.cursor() as cursor, cursor.copy(f"copy bench_copy ({COLUMNS}) from stdin") as copy:
            for start in range(0, len(rows), BLOCK):
                copy.write(rows[start : start + BLOCK])

    return timed(copy_in)


def _import(dba: psycopg.Connection, server: Running, ids: bytes, number: int) -> float:
    """Seconds of an import into a new segment."""
    dba.execute("select create_segment('IMPORT')")
    dba.execute("checkpoint")
    answers = []
    seconds = timed(lambda: answers.append(server.ask("POST", "/v1/segments/IMPORT/members", ids, **CSV)))
    assert json.loads(answers[0][0]) | {"received": number, "changed": number} == json.loads(answers[0][0])
    return seconds


def _replace(dba: psycopg.Connection, server: Running, number: int) -> float:
    """Seconds in which the imported list is replaced by one that lacks 0.5 % and has 0.5 % more."""
    changed = number // 200
    ids = "".join(f"{id}\n" for id in range(1, number + changed + 1) if id > number or id % 200).encode()
    dba.execute("vacuum analyze users, memberships")
    dba.execute("checkpoint")
    answers = []
    seconds = timed(
        lambda: answers.append(
            server.ask("POST", "/v1/segments/IMPORT/members?operation=replace", ids, **CSV)
        )
    )
    counted = json.loads(answers[0][0])
    assert (counted["added"], counted["removed"], counted["changed"]) == (changed, changed, 2 * changed), (
        counted
    )
    return seconds


def reports(sizes: Sizes) -> list[Row]:
    """The month's report against COPY of the same rows from a plain table that holds them in this order."""
    with (
        copy_of(data_set(sizes, sizes.users)) as database,
        running(database) as server,
        connect(database) as dba,
    ):
        period = month_of_report(dba)
        progress(f"report of {period}")
        dba.execute("create table bench_report as select * from history_report(%s)", [period])
        dba.execute("vacuum (analyze, freeze) bench_report")
        events, by_rollout = dba.execute(
            "select count(*), 1 - (select count(*) from memberships where starts_at >= month_start(%s))::float8 / count(*)"
            " from bench_report",
            [period],
        ).fetchone() or (0, 0)
        _report(server, period)
        before = server.memory()
        server.forget_peak()
        taken = interleaved(
            sizes.rounds,
            {"COPY": partial(_copy_out, dba), "report": partial(_report, server, period)},
        )
        grown = (server.memory("VmHWM") - before) / MB
    times = {name: [seconds for seconds, _ in each] for name, each in taken.items()}
    (length,) = {length for each in taken.values() for _, length in each}
    return [
        at_most(
            f"report of {events:,} events ({by_rollout:.0%} from rollouts) over HTTP, against COPY from a plain table",
            ratio(times["report"], times["COPY"]),
            2.5,
            "×",
            f"{median(times['report']):.2f} s and {median(times['COPY']):.2f} s",
        ),
        at_most(
            "memory of the service meanwhile", grown, FLAT, "MB", f"{length / MB:.0f} MB went out each time"
        ),
    ]


def _copy_out(dba: psycopg.Connection) -> tuple[float, int]:
    """Seconds and bytes of a COPY to this client."""
    lengths = []

    def copy_out() -> None:
        with (
            dba.cursor() as cursor,
            cursor.copy("copy bench_report to stdout (format csv, delimiter ';')") as copy,
        ):
            lengths.append(sum(map(len, copy)))

    return timed(copy_out), lengths[0]


def _report(server: Running, period: str) -> tuple[float, int]:
    """Seconds and bytes of a report over HTTP."""
    path = server.link_to_report(period)
    lengths = []
    seconds = timed(lambda: lengths.append(server.ask("GET", path)[1]))
    return seconds, lengths[0]
