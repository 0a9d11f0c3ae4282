"""Upkeep during daily work: a sweep waits for nobody, and writers of other users do not wait for it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.concurrency.conftest import Session, Waits
from tests.conftest import Clock, Database

Consistent = Callable[[], None]
Open = Callable[..., Session]
FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture(autouse=True)
def expired(db: Database, clock: Clock) -> None:
    """Users 1 to 100 whose time in A ended on Friday; 1000 is in B."""
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B')")
    db.rows(
        "select change_segment_members('A', array(select generate_series(1, 100)), expires_at => %s)", FRIDAY
    )
    db.rows("select change_user_segments(1000, '{B}')")
    clock.set(FRIDAY + timedelta(hours=1))


def moved(db: Database) -> int:
    """How many rows the history has, each with its true end."""
    assert db.column("select distinct ends_at from segmentation.membership_history") in ([], [FRIDAY])
    return db.value("select count(*) from segmentation.membership_history")


def test_two_batches_at_once_take_different_rows(db: Database, session: Open, consistent: Consistent) -> None:
    one, other = session(), session(lock_timeout="1s")
    one.rows("begin")
    assert one.value("select expire_memberships(60)") == 60
    assert other.value("select expire_memberships(60)") == 40
    one.rows("commit")
    assert moved(db) == 100
    consistent()


def test_many_sweeps_at_once_move_every_row_once(db: Database, session: Open, consistent: Consistent) -> None:
    running = [session().start("call sweep(batch_rows => 3)") for _ in range(4)]
    for future in running:
        future.result()
    db.rows("call sweep()")
    assert moved(db) == 100
    consistent()


def test_a_sweep_waits_for_no_writer(db: Database, session: Open, consistent: Consistent) -> None:
    writer, sweeper = session(), session(lock_timeout="1s")
    writer.rows("begin")
    writer.rows("select change_segment_members('A', '{1,2,3}')")
    writer.rows("select change_user_segments(1000, remove => '{B}')")
    sweeper.rows("call sweep()")
    assert db.value("select count(*) from segmentation.memberships where ends_at = %s", FRIDAY) == 3
    writer.rows("commit")
    assert [db.segments_of(user_id) for user_id in (1, 4)] == [["A"], []]
    consistent()


def test_no_writer_of_other_users_waits_for_a_sweep(
    db: Database, session: Open, consistent: Consistent
) -> None:
    sweeper, writer = session(), session(lock_timeout="1s")
    sweeper.rows("begin")
    assert sweeper.value("select expire_memberships(50)") == 50
    held = set(range(1, 101)) - set(
        db.column("select user_id from segmentation.memberships for update skip locked")
    )
    free = min(set(range(1, 101)) - held)
    for change in (
        f"change_user_segments({free}, '{{A,B}}')",
        "change_user_segments(1000, '{A}', '{B}')",
        "change_segment_members('A', '{2000,2001}')",
        "set_rollout('A', 10)",
        "create_segment('C')",
        "delete_segment('B')",
    ):
        writer.rows(f"select {change}")
    sweeper.rows("commit")
    assert db.segments_of(free) == ["A"]
    consistent()


def test_sweeping_a_deleted_segment_holds_up_no_change_of_another(
    db: Database, session: Open, consistent: Consistent
) -> None:
    db.rows("select delete_segment('B')")
    sweeper, writer = session(), session(lock_timeout="1s")
    sweeper.rows("begin")
    assert sweeper.value("select expire_memberships(1000)") == 101
    for change in (
        "change_user_segments(2000, '{A}')",
        "change_user_segments(1000, '{A}')",
        "create_segment('B')",
        "set_rollout('A', 10)",
        "change_user_segments(2000, '{B}')",
    ):
        writer.rows(f"select {change}")
    sweeper.rows("commit")
    assert [event for event in db.events_of(1000) if event[0] == "B"] == [
        ("B", "add", "assigned"),
        ("B", "remove", "segment_deleted"),
    ]


# Partitions made at need.


def drop_partitions(db: Database) -> None:
    """Drop them all, as if nobody had made any for months."""
    for partition in db.column("select partition::text from history_partitions()"):
        db.rows(f"drop table {partition}")


def test_two_sessions_that_need_the_same_partition_make_it_once(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    drop_partitions(db)
    one, other = session(), session()
    one.rows("begin")
    one.rows("select expire_memberships(50)")
    running = other.start("select expire_memberships(50)")
    waits(other, running)
    one.rows("commit")
    assert running.result() == [(50,)]
    assert len(db.rows("select * from history_partitions()")) == 1
    assert moved(db) == 100
    consistent()


def test_a_partition_whose_maker_gave_up_is_made_by_the_one_who_waited(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    drop_partitions(db)
    one, other = session(), session()
    one.rows("begin")
    one.rows("select expire_memberships(50)")
    running = other.start("select expire_memberships(50)")
    waits(other, running)
    one.rows("rollback")
    assert running.result() == [(50,)]
    db.rows("call sweep()")
    assert moved(db) == 100
    consistent()


def test_writers_and_readers_of_other_months_go_on_while_a_partition_is_made(
    db: Database, clock: Clock, session: Open
) -> None:
    drop_partitions(db)
    db.rows("select ensure_history_partitions(0)")
    clock.set(datetime(2027, 5, 5, tzinfo=UTC))
    maker, other = session(), session(lock_timeout="1s")
    maker.rows("begin")
    maker.rows("select change_user_segments(1000, remove => '{B}')")
    assert other.value("select expire_memberships(1000)") == 100
    for read in (
        "user_history(1)",
        "user_history(1000)",
        "history_report('2026-11')",
        "segment_members('A')",
    ):
        other.rows(f"select * from {read}")
    other.rows("select change_user_segments(2000, '{A,B}')")
    maker.rows("commit")
    assert moved_in(db) == {"2026_11": 100, "2027_05": 1}


def moved_in(db: Database) -> dict[str, int]:
    """How many rows each month of the history has."""
    return dict(
        db.rows(
            "select right(tableoid::regclass::text, 7), count(*)::integer"
            " from segmentation.membership_history group by 1"
        )
    )


def test_making_the_same_partitions_ahead_twice_at_once(db: Database, session: Open, waits: Waits) -> None:
    drop_partitions(db)
    one, other = session(), session()
    one.rows("begin")
    assert one.value("select ensure_history_partitions(12)") == 13
    running = other.start("select ensure_history_partitions(24)")
    waits(other, running)
    one.rows("commit")
    assert running.result() == [(12,)]
    assert len(db.rows("select * from history_partitions()")) == 25


@pytest.mark.filterwarnings("ignore")
def test_retention_makes_nobody_wait_for_a_slow_reader(db: Database, clock: Clock, session: Open) -> None:
    db.rows("select expire_memberships(1000)")
    clock.set(datetime(2027, 1, 5, tzinfo=UTC))
    reader, admin, others = session(), session(), session(lock_timeout="1s")
    reader.rows("begin")
    reader.rows("select * from user_history(1)")
    running = admin.start("select drop_history_before('2027-01')")
    while not running.done():
        others.rows("select * from user_history(1000)")
        others.rows("select change_user_segments(1000, '{A}', '{B}')")
        others.rows("select change_user_segments(1000, '{B}', '{A}')")
    assert running.result() == [(0,)]
    # Given up at once, dropped when nobody reads any more.
    assert db.events_of(1) == []
    assert moved_in(db)["2026_11"] == 100
    db.rows("select purge_expired()")
    assert moved_in(db)["2026_11"] == 100
    reader.rows("rollback")
    db.rows("select purge_expired()")
    assert "2026_11" not in moved_in(db)
