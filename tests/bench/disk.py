"""How much disk a million users, overrides and ended stays take, and how much memory the import of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psycopg

from service.migrate import migrate
from tests.bench.data import connect, create, remove, url_of, value
from tests.bench.outcome import Row, progress
from tests.bench.sizes import MB, Sizes

NAME = "disk"
# A table that has partitions takes no room itself, and a table that has none is not in the tree.
SIZE = """
    select (pg_total_relation_size(t.id) + coalesce(sum(pg_total_relation_size(p.relid)), 0))::bigint
    from (select %s::text::regclass) as t (id) left join pg_partition_tree(t.id) as p on true
    group by t.id
"""
IDS = "array(select generate_series(1, %(count)s))"
# What is written, into which table, and how.
STEPS = {
    "users": ("users", f"select register_users({IDS})"),
    "overrides, imported": (
        "memberships",
        f"select change_segment_members('IMPORTED', {IDS}, reason => 'winter sale')",
    ),
    "overrides, set one by one in no order": (
        "memberships",
        "select change_user_segments(id, '{ONE_BY_ONE}', reason => 'ticket 17')"
        " from generate_series(1, %(count)s / 10) as id order by hashint4(id)",
    ),
    "ended stays": (
        "membership_history",
        f"select change_segment_members('IMPORTED', {IDS}, 'remove', reason => 'over')",
    ),
}


def disk(sizes: Sizes) -> list[Row]:
    """Fill a new database through the functions that people call, and look at its files after each step."""
    remove(NAME)
    create(NAME)
    migrate(url_of(NAME))
    rows = []
    with connect(NAME) as opened:
        opened.execute("select create_segment('IMPORTED'), create_segment('ONE_BY_ONE')")
        for what, (table, statement) in STEPS.items():
            progress(f"  {what}")
            number = sizes.imported // (10 if "/ 10" in statement else 1)
            before = value(opened, SIZE, table)
            with peak_of(opened) as peak:
                opened.execute(statement.encode(), {"count": sizes.imported})
            opened.execute("vacuum")
            each = (value(opened, SIZE, table) - before) / number
            rows.append(Row(f"disk for 1,000,000 {what}", f"{each * 1e6 / MB:.0f} MB", each))
            if "imported" in what:
                rows.append(Row(f"memory of PostgreSQL to import {number:,}", f"{peak[0]:.0f} MB", peak[0]))
    remove(NAME)
    return rows


@contextmanager
def peak_of(session: psycopg.Connection) -> Iterator[list[float]]:
    """The most memory of its own, in MB, that the server's process for this session has meanwhile."""
    status = Path(f"/proc/{session.info.backend_pid}/status")
    peak = [0.0]
    done = Event()

    def look() -> None:
        while not done.wait(0.01):
            (line,) = (line for line in status.read_text().splitlines() if line.startswith("RssAnon:"))
            peak[0] = max(peak[0], int(line.split()[1]) / 1024)

    watching = Thread(target=look)
    watching.start()
    try:
        yield peak
    finally:
        done.set()
        watching.join()
