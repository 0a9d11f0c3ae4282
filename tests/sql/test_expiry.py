"""Expiry is decided at read time; the sweep moves what has ended to the history, with its true end."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.errors import InvalidParameterValue

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, physically, refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """Segments A and B."""
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B')")


def live(db: Database) -> list[tuple]:
    """The overrides in memberships: (user_id, segment_id)."""
    return [
        tuple(row)
        for row in db.rows("select user_id, segment_id from segmentation.memberships order by 1, 2")
    ]


def past(db: Database) -> list[tuple]:
    """The closed overrides: (user_id, ends_at, end_cause)."""
    return [
        tuple(row)
        for row in db.rows(
            "select user_id, ends_at, end_cause from segmentation.membership_history order by 1, 2"
        )
    ]


def add(db: Database, user_ids: list[int], expires_at: datetime | None = None, slug: str = "A") -> None:
    """Assign users until a moment."""
    db.rows("select change_segment_members(%s, %s::bigint[], expires_at => %s)", slug, user_ids, expires_at)


def expire(db: Database, max_rows: int = 1000) -> int:
    """One batch."""
    return db.value("select expire_memberships(%s)", max_rows)


def test_what_has_ended_moves_with_the_moment_it_ended_not_that_of_the_sweep(
    db: Database, clock: Clock
) -> None:
    add(db, [1, 2], FRIDAY)
    add(db, [3], MONDAY)
    add(db, [4])
    clock.set(FRIDAY + timedelta(days=1))
    assert expire(db) == 2
    assert live(db) == [(3, 1), (4, 1)]
    assert past(db) == [(1, FRIDAY, "expired"), (2, FRIDAY, "expired")]


def test_a_row_ends_at_its_end_not_a_microsecond_later(db: Database, clock: Clock) -> None:
    add(db, [1], FRIDAY)
    clock.set(FRIDAY - timedelta(microseconds=1))
    assert expire(db) == 0
    clock.set(FRIDAY)
    assert expire(db) == 1


def test_a_sweep_changes_no_answer(db: Database, clock: Clock) -> None:
    add(db, [1, 2], FRIDAY)
    add(db, [2, 3], None, "B")
    clock.set(MONDAY)
    db.rows("select delete_segment('B')")

    def answers() -> list[object]:
        return [
            [db.segments_of(user_id), db.rows("select * from user_history(%s)", user_id)]
            for user_id in (1, 2, 3)
        ] + [
            db.rows("select * from history_report('2026-11')"),
            db.rows("select * from segment_members('A')"),
        ]

    before = answers()
    db.rows("call sweep()")
    assert live(db) == []
    assert answers() == before


def test_a_batch_is_bounded(db: Database, clock: Clock) -> None:
    add(db, list(range(1, 11)), FRIDAY)
    db.rows("select change_segment_members('B', array(select generate_series(1, 10)))")
    clock.set(MONDAY)
    db.rows("select delete_segment('B')")
    assert [expire(db, 8) for _ in range(5)] == [8, 8, 4, 0, 0]
    assert live(db) == []
    assert len(past(db)) == 20


@pytest.mark.parametrize("ended", ["expired", "deleted"])
def test_a_batch_is_bounded_whatever_the_plan(db: Database, clock: Clock, ended: str) -> None:
    """Without statistics the planner expects one row and takes a nested loop, which evaluates a subquery once per row."""
    add(db, [1], FRIDAY)
    db.rows("analyze segmentation.memberships")
    add(db, list(range(2, 11)), FRIDAY)
    if ended == "deleted":
        db.rows("select delete_segment('A')")
    else:
        clock.set(MONDAY)
    assert [expire(db, 3) for _ in range(5)] == [3, 3, 3, 1, 0]


def test_the_longest_ended_go_first(db: Database, clock: Clock) -> None:
    add(db, [1], MONDAY)
    add(db, [2], FRIDAY)
    clock.set(MONDAY)
    expire(db, 1)
    assert live(db) == [(1, 1)]


def test_with_nothing_to_do_nothing_is_written(db: Database, clock: Clock) -> None:
    add(db, [1])
    add(db, [2], FRIDAY)
    clock.set(MONDAY)
    expire(db)
    tables = ("memberships", "membership_history", "segments", "rollouts", "users", "segment_history")
    before = physically(db, *tables)
    assert expire(db) == 0
    db.rows("call sweep()")
    assert physically(db, *tables) == before


def test_a_batch_has_at_least_one_row(db: Database) -> None:
    for max_rows in (0, -1, None):
        with refuses(InvalidParameterValue, max_rows=max_rows):
            db.rows("select expire_memberships(%s::integer)", max_rows)


def test_members_of_a_deleted_segment_leave_at_its_deletion(db: Database, clock: Clock) -> None:
    add(db, [1])
    add(db, [2], MONDAY)
    add(db, [3], NOON + HOUR)
    db.rows("select change_segment_members('A', '{4}', starts_at => %s)", MONDAY)
    deleted = clock.advance(hours=2)
    db.rows("select delete_segment('A', 'ann', 'over')")
    clock.set(MONDAY)
    assert expire(db) == 4
    assert past(db) == [
        (1, deleted, "segment_deleted"),
        (2, deleted, "segment_deleted"),
        (3, NOON + HOUR, "expired"),
    ]
    assert db.row("select end_actor, end_reason from segmentation.membership_history where user_id = 1") == (
        "ann",
        "over",
    )


def test_an_exclusion_of_a_deleted_segment_ends_with_it(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    db.rows("select change_segment_members('A', '{1}', 'remove')")
    deleted = clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.set(MONDAY)
    db.rows("call sweep()")
    assert past(db) == [(1, deleted, "segment_deleted")]
    assert [event[1:] for event in db.events_of(1)] == []


def test_a_segment_once_swept_is_not_looked_at_again(db: Database, clock: Clock) -> None:
    add(db, list(range(1, 6)))
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    assert [expire(db, 3), db.value("select swept from segmentation.segments where slug = 'A'")] == [3, False]
    assert [expire(db, 3), db.value("select swept from segmentation.segments where slug = 'A'")] == [2, True]
    assert db.value("select swept from segmentation.segments where slug = 'B'") is False


def test_a_slug_used_again_keeps_its_members_when_the_old_ones_leave(db: Database, clock: Clock) -> None:
    add(db, [1, 2])
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.advance(hours=1)
    db.rows("select create_segment('A')")
    add(db, [2, 3])
    db.rows("call sweep()")
    assert [db.segments_of(user_id) for user_id in (1, 2, 3)] == [[], ["A"], ["A"]]


def test_after_months_of_downtime_every_end_is_the_true_one(db: Database, clock: Clock) -> None:
    """The ends lie in months that have no partition yet."""
    ends = [NOON + timedelta(days=45 * number) for number in range(1, 13)]
    for number, end in enumerate(ends, start=1):
        add(db, [number], end)
    clock.set(ends[-1] + timedelta(days=500))
    assert [db.segments_of(number) for number in range(1, 13)] == [[]] * 12
    db.rows("call sweep(5)")
    assert live(db) == []
    assert past(db) == [(number, end, "expired") for number, end in enumerate(ends, start=1)]


def test_a_deletion_long_ago_is_swept_into_its_own_month(db: Database, clock: Clock) -> None:
    add(db, [1])
    deleted = clock.set(datetime(2028, 2, 29, tzinfo=UTC))
    db.rows("select delete_segment('A')")
    clock.set(datetime(2030, 1, 1, tzinfo=UTC))
    db.rows("call sweep()")
    assert past(db) == [(1, deleted, "segment_deleted")]


def test_the_sweep_takes_all_there_is_in_batches_and_says_so(db: Database, clock: Clock) -> None:
    add(db, list(range(1, 101)), FRIDAY)
    clock.set(MONDAY)
    db.rows("call sweep(batch_rows => 7)")
    assert live(db) == []
    assert tuple(db.row("select finished_at, rows from segmentation.upkeep where task = 'sweep'")) == (
        MONDAY,
        100,
    )


def test_a_sweep_out_of_time_stops_after_a_batch_and_the_next_goes_on(db: Database, clock: Clock) -> None:
    add(db, list(range(1, 11)), FRIDAY)
    clock.set(MONDAY)
    db.rows("call sweep(batch_rows => 4, max_seconds => 0)")
    assert len(live(db)) == 6
    db.rows("call sweep()")
    assert live(db) == []


def test_rows_that_somebody_holds_are_left_for_the_next_sweep(
    db: Database, clock: Clock, connect: Callable[..., Database]
) -> None:
    add(db, [1, 2], FRIDAY)
    clock.set(MONDAY)
    other = connect()
    with other.connection.transaction():
        other.rows("select * from segmentation.memberships where user_id = 1 for update")
        assert expire(db) == 1
        assert live(db) == [(1, 1)]
    assert expire(db) == 1


def test_a_deleted_segment_stays_unswept_while_somebody_holds_a_row_of_it(
    db: Database, clock: Clock, connect: Callable[..., Database]
) -> None:
    add(db, [1, 2])
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    other = connect()
    with other.connection.transaction():
        other.rows("select * from segmentation.memberships where user_id = 1 for update")
        db.rows("call sweep()")
        assert db.value("select swept from segmentation.segments where slug = 'A'") is False
    db.rows("call sweep()")
    assert (live(db), db.value("select swept from segmentation.segments where slug = 'A'")) == ([], True)


def test_expired_then_permanent_again_stays(db: Database, clock: Clock) -> None:
    add(db, [1], FRIDAY)
    clock.set(FRIDAY - HOUR)
    add(db, [1])
    clock.set(MONDAY)
    assert expire(db) == 0
    assert db.row("select ends_at, end_actor from segmentation.memberships") == (FOREVER, None)
