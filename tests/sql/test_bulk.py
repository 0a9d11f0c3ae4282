"""change_segment_members: many users, one segment, by the rules of change_user_segments."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from psycopg.errors import InvalidParameterValue, NoDataFound, ObjectNotInPrerequisiteState

from tests.conftest import Clock, Database
from tests.expect import FOREVER, physically, refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
TABLES = ("users", "memberships", "membership_history")


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """Segments A and B that roll out to nobody."""
    for slug in ("A", "B"):
        db.rows("select create_segment(%s)", slug)
    clock.advance(hours=1)


def change(db: Database, user_ids: Sequence[int | None] | None, **arguments: object) -> tuple[int, int, int]:
    """change_segment_members of A in named notation: (received, changed, unchanged)."""
    named = "".join(f", {name} => %s" for name in arguments)
    return tuple(
        db.row(
            f"select received, changed, unchanged from change_segment_members('A', %s::bigint[]{named})",
            user_ids,
            *arguments.values(),
        )
    )


def members(db: Database) -> list[int]:
    """The members of A."""
    return db.column("select user_id from segment_members('A')")


def test_many_users_are_added_and_removed_at_once(db: Database, clock: Clock) -> None:
    assert change(db, [3, 1, 2]) == (3, 3, 0)
    assert members(db) == [1, 2, 3]
    clock.advance(hours=1)
    assert change(db, [2, 3], operation="remove") == (2, 2, 0)
    assert members(db) == [1]


def test_what_was_so_already_and_duplicates_count_as_unchanged(db: Database) -> None:
    change(db, [1, 2])
    assert change(db, [1, 2, 3, 3, 3, 4]) == (6, 2, 4)
    assert change(db, [9, 9], operation="remove") == (2, 0, 2)


def test_each_user_gets_one_event_with_actor_and_reason(db: Database, clock: Clock) -> None:
    change(db, [1, 2, 2], actor="ann", reason="list of November")
    change(db, [1, 2], actor="bob")
    for user_id in (1, 2):
        assert [tuple(event) for event in db.rows("select * from user_history(%s)", user_id)] == [
            ("A", "add", clock.now, "assigned", "ann", "list of November")
        ]


def test_one_moment_stamps_them_all(db: Database, clock: Clock) -> None:
    clock.set(None)
    change(db, list(range(1, 501)))
    assert db.value("select count(distinct starts_at) from segmentation.memberships") == 1


def test_an_end_and_a_planned_start_hold_for_all(db: Database, clock: Clock) -> None:
    change(db, [1, 2], starts_at=FRIDAY, expires_at=MONDAY)
    assert members(db) == []
    clock.set(FRIDAY)
    assert members(db) == [1, 2]
    clock.set(MONDAY)
    assert members(db) == []


def test_other_segments_of_the_same_users_stay_as_they_are(db: Database) -> None:
    db.rows("select change_user_segments(1, '{B}')")
    change(db, [1, 2])
    change(db, [1], operation="remove")
    assert db.segments_of(1) == ["B"]


def test_removing_users_whom_the_rollout_holds_excludes_them(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    db.rows("select register_users('{1,2,3}')")
    clock.advance(hours=1)
    assert change(db, [1, 2], operation="remove") == (2, 2, 0)
    assert members(db) == [3]
    assert db.events_of(1) == [("A", "add", "rollout"), ("A", "remove", "removed")]


def test_each_state_is_handled_in_one_call(db: Database, clock: Clock) -> None:
    """1 assigned with an end, 2 assigned, 3 excluded, 4 planned, 5 expired, 6 never seen."""
    change(db, [5], expires_at=FRIDAY)
    db.rows("select set_rollout('A', 100)")
    change(db, [3], operation="remove")
    db.rows("select set_rollout('A', 0, %s)", FRIDAY)
    clock.set(FRIDAY)
    change(db, [1], expires_at=MONDAY)
    change(db, [2])
    change(db, [4], starts_at=MONDAY)
    clock.advance(hours=1)
    assert change(db, [1, 2, 3, 4, 5, 6]) == (6, 5, 1)
    assert members(db) == [1, 2, 3, 4, 5, 6]
    assert db.column("select ends_at from segmentation.memberships") == [FOREVER] * 6


def test_nobody_is_changed_if_one_cannot_be(db: Database) -> None:
    change(db, [1])
    before = physically(db, *TABLES)
    for wrong in ([2, 0], [2, -5], [2, None]):
        with refuses(InvalidParameterValue):
            change(db, wrong)
    assert physically(db, *TABLES) == before


def test_a_plan_for_an_excluded_user_refuses_them_all(db: Database) -> None:
    db.rows("select set_rollout('A', 100)")
    change(db, [2], operation="remove")
    before = physically(db, *TABLES)
    with refuses(ObjectNotInPrerequisiteState, excluded_segments=["A"]):
        change(db, [1, 2, 3], starts_at=FRIDAY)
    assert physically(db, *TABLES) == before


def test_wrong_arguments_are_refused(db: Database) -> None:
    with refuses(InvalidParameterValue):
        change(db, [])
    with refuses(InvalidParameterValue):
        change(db, None)
    for operation in ("", "ADD", "delete", None):
        with refuses(InvalidParameterValue, operation=operation):
            change(db, [1], operation=operation)
    for period in ({"expires_at": FRIDAY}, {"starts_at": FRIDAY}):
        with refuses(InvalidParameterValue):
            change(db, [1], operation="remove", **period)
    with refuses(NoDataFound, segment="X"):
        db.rows("select change_segment_members('X', '{1}')")


def test_adding_them_again_writes_nothing(db: Database, clock: Clock) -> None:
    change(db, [1, 2, 3])
    before = physically(db, *TABLES)
    clock.advance(hours=1)
    assert change(db, [1, 2, 3], reason="again") == (3, 0, 3)
    assert physically(db, *TABLES) == before
