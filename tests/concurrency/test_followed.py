"""A consumer of changes among writers whose transactions last longer than its steps.

FOLLOWED_SECONDS=60 follows them for a minute, among imports of 200,000.
"""

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import Error
from psycopg.errors import InvalidParameterValue, ObjectNotInPrerequisiteState, ReadOnlySqlTransaction

from tests.concurrency.conftest import Session
from tests.conftest import Clock, Database
from tests.expect import wait_until
from tests.readmes import block

SECONDS = float(os.environ.get("FOLLOWED_SECONDS", "4"))
IMPORTED = 200_000 if SECONDS > 30 else 2_000

Open = Callable[..., Session]
SETTLED = "select settled_until()"
ADD = "select * from change_user_segments(1000, '{A}')"


@pytest.fixture(autouse=True)
def segments(db: Database) -> None:
    """Segments A and B that roll out to nobody."""
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B')")


@pytest.fixture
def clock(db: Database, segments: None) -> Clock:
    """The clock, stopped when the segments are there."""
    stopped = Clock(db)
    stopped.set(db.value("select clock()"))
    return stopped


@pytest.mark.parametrize(
    "writes",
    [
        ADD,
        "select register_users('{1, 2}')",
        "select set_rollout('A', 10)",
        "select create_segment('C')",
        "select delete_segment('B')",
        "insert into segmentation.memberships (user_id, segment_id) select 7, min(segment_id) from segmentation.segments",
        "delete from segmentation.memberships",
    ],
)
def test_nothing_is_settled_after_the_first_write_of_an_open_transaction(
    db: Database, clock: Clock, session: Open, writes: str
) -> None:
    clock.advance(seconds=1)
    writer = session()
    before = db.value("select clock()")
    writer.rows("begin")
    writer.rows(writes)
    clock.advance(milliseconds=20)
    stopped = db.value(SETTLED)
    assert (
        before - timedelta(milliseconds=102)
        <= stopped
        <= db.value("select clock()") - timedelta(milliseconds=20)
    )
    assert db.value(SETTLED) == stopped
    with pytest.raises(InvalidParameterValue):
        db.rows("select * from membership_changes(%s, clock())", before)
    writer.rows("commit")
    assert db.value(SETTLED) > stopped


def test_a_savepoint_that_is_rolled_back_leaves_no_gap(db: Database, clock: Clock, session: Open) -> None:
    writer = session()
    writer.rows("begin")
    writer.rows("savepoint s")
    writer.rows(ADD)
    writer.rows("rollback to s")
    free = db.value(SETTLED)
    writer.rows(ADD)
    held = db.value(SETTLED)
    assert held >= free
    clock.advance(milliseconds=20)
    assert db.value(SETTLED) == held
    writer.rows("commit")
    assert db.value("select since from user_segments(1000)") >= held


def test_plain_dml_cannot_begin_before_its_transaction_said_that_it_writes(
    db: Database, session: Open
) -> None:
    """now() is that of the transaction: in the same moment it will do, later it would be in a settled stretch."""
    insert = (
        "insert into segmentation.memberships (user_id, segment_id, starts_at)"
        " select 7, min(segment_id), now() from segmentation.segments"
    )
    writer = session()
    writer.rows(insert)
    writer.rows("begin")
    writer.rows("select 1")
    # now() is PostgreSQL's own, which no test can set.
    time.sleep(0.15)
    with pytest.raises(ObjectNotInPrerequisiteState):
        writer.rows(insert.replace("select 7", "select 8"))


def test_a_setting_given_by_hand_hides_no_writer(db: Database, clock: Clock, session: Open) -> None:
    for forged in ("0", "1", "4000000000000000"):
        writer = session()
        writer.rows("begin")
        writer.rows(f"set segmentation.writes_since = '{forged}'")
        writer.rows(ADD)
        held = db.value(SETTLED)
        clock.advance(milliseconds=20)
        assert db.value(SETTLED) == held
        assert writer.value("select starts_at from segmentation.memberships") <= db.value("select clock()")
        writer.rows("rollback")


def test_who_holds_back_what_is_settled_is_found_and_ended(db: Database, clock: Clock, session: Open) -> None:
    """Any login may hold any advisory lock: then consumers wait, and never miss a change."""
    clock.advance(seconds=1)
    told = db.value(SETTLED)
    hostile = session()
    hostile.rows("select pg_advisory_lock_shared(segmentation.writer_key(clock() - interval '1 day'))")
    db.rows(ADD)
    clock.advance(seconds=1)
    assert db.value(SETTLED) == told
    (found,) = db.rows(block("who holds changes back"))
    assert found.pid == hostile.pid
    db.rows("select pg_terminate_backend(%s)", found.pid)
    wait_until(lambda: db.value(SETTLED) > told)
    assert [row.user_id for row in db.rows("select * from membership_changes(%s)", told)] == [1000]


def test_who_may_not_write_gets_what_was_told_last(db: Database, clock: Clock, session: Open) -> None:
    db.rows("call sweep()")
    told = db.value(SETTLED)
    clock.advance(milliseconds=20)
    reader = session()
    reader.rows("set default_transaction_read_only = on")
    with pytest.raises(ReadOnlySqlTransaction):
        reader.rows("select register_users('{5}')")
    assert reader.value(SETTLED) == told
    assert db.value(SETTLED) > told


def test_a_consumer_gets_every_change_once(db: Database, session: Open) -> None:
    """Ten writers of all kinds, some of which keep their transactions open, while a consumer asks every few moments."""
    stopping = threading.Event()
    failed: list[BaseException] = []

    def go_on(number: int, work: Callable[[Session, int], None]) -> threading.Thread:
        def run() -> None:
            writer, turn = session(), 0
            while not stopping.is_set():
                turn += 1
                try:
                    work(writer, turn)
                except Error as error:
                    writer.connection.rollback()
                    if not error.sqlstate or error.sqlstate[:2] not in ("40", "55", "22"):
                        failed.append(error)

        thread = threading.Thread(target=run, name=f"writer {number}")
        thread.start()
        return thread

    def single(writer: Session, turn: int) -> None:
        writer.rows("select change_user_segments(%s, '{A}', expires_at => clock() + '50 ms')", turn % 40 + 1)
        writer.rows("select change_user_segments(%s, remove => '{A}')", (turn + 20) % 40 + 1)

    def long(writer: Session, turn: int) -> None:
        writer.rows("begin")
        writer.rows("select change_user_segments(%s, '{B}')", turn % 30 + 100)
        time.sleep(0.15)
        writer.rows("savepoint s")
        writer.rows("select change_user_segments(%s, '{A}')", turn % 30 + 100)
        writer.rows("rollback to s")
        writer.rows("select change_user_segments(%s, remove => '{B}')", (turn + 15) % 30 + 100)
        writer.rows("commit")

    def dml(writer: Session, turn: int) -> None:
        writer.rows(
            "insert into segmentation.memberships (user_id, segment_id, ends_at) select %s, segment_id, clock() + '80 ms'"
            " from segmentation.segments where slug = 'B'",
            200 + turn,
        )
        writer.rows("delete from segmentation.memberships where user_id = %s", 200 + turn - 3)

    def bulk(writer: Session, turn: int) -> None:
        writer.rows(
            "select change_segment_members('A', array(select generate_series(%s::bigint, %s)), 'replace')",
            1000 + turn * 500,
            4000 + turn * 500,
        )

    def ramp(writer: Session, turn: int) -> None:
        writer.rows("select set_rollout('B', %s, clock() + '30 ms')", turn * 7 % 30)
        writer.rows("select expire_memberships()")
        stopping.wait(SECONDS / 13)

    def imports(writer: Session, turn: int) -> None:
        with writer.connection.transaction(), writer.connection.cursor() as cursor:
            cursor.execute("select begin_import('A')")
            with cursor.copy("copy pg_temp.import from stdin") as copy:
                copy.write("".join(f"{user_id}\n" for user_id in range(100_000, 100_000 + IMPORTED)))
            cursor.execute("select finish_import('A', %s)", ["add" if turn % 2 else "remove"])
        stopping.wait(SECONDS / 4)

    writers = (single, single, single, long, long, long, dml, bulk, ramp, imports)
    began: datetime = db.value("select clock()")
    threads = [go_on(number, work) for number, work in enumerate(writers)]
    told: list[tuple[Any, ...]] = []
    reached = began
    stretches = 0
    stop_at = time.monotonic() + SECONDS
    while time.monotonic() < stop_at:
        end = db.value("select changes_end(%s)", reached)
        told += [tuple(row) for row in db.rows("select * from membership_changes(%s, %s)", reached, end)]
        stretches += end > reached
        reached = end
        time.sleep(0.05)
    stopping.set()
    for thread in threads:
        thread.join()
    assert not failed
    stopped = db.value("select clock()")
    wait_until(lambda: db.value(SETTLED) > stopped)
    end = db.value("select changes_end(%s)", reached)
    told += [tuple(row) for row in db.rows("select * from membership_changes(%s, %s)", reached, end)]
    month = began.astimezone(UTC).strftime("%Y-%m")
    limit = end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    report = [tuple(row) for row in db.rows("select * from history_report(%s)", month) if row.at < limit]
    assert told == sorted(report, key=lambda row: (row[3], row[0], row[1], row[2] == "add"))
    print(f"{len(told):,} changes in {stretches} stretches")
    assert len(told) > 1000
    assert stretches > 3
