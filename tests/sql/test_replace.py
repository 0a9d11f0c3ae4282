"""change_segment_members with operation replace: the list is all whom one actor has assigned in one segment."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.errors import InvalidParameterValue, ObjectNotInPrerequisiteState

from tests.conftest import Clock, Database
from tests.expect import FOREVER, periods_never_overlap, physically, refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
TABLES = ("users", "memberships", "membership_history")


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """Segments A and B that roll out to nobody."""
    for slug in ("A", "B"):
        db.rows("select create_segment(%s)", slug)
    clock.advance(hours=1)


def change(db: Database, user_ids: Sequence[int], operation: str, **arguments: Any) -> dict[str, int]:
    """change_segment_members of A, without the counts that are 0."""
    named = "".join(f", {name} => %s" for name in arguments)
    row = db.row(
        f"select * from change_segment_members('A', %s::bigint[], %s{named})",
        list(user_ids),
        operation,
        *arguments.values(),
    )
    return {name: number for name, number in row._asdict().items() if number}


def replace(db: Database, user_ids: Sequence[int], **arguments: Any) -> dict[str, int]:
    """Replace the list of A, without the counts that are 0."""
    return change(db, user_ids, "replace", **arguments)


def members(db: Database) -> list[int]:
    """The members of A."""
    return db.column("select user_id from segment_members('A')")


def test_the_list_is_all_whom_the_actor_has_assigned(db: Database, clock: Clock) -> None:
    assert replace(db, [1, 2, 3]) == {"received": 3, "changed": 3, "added": 3}
    clock.advance(hours=1)
    assert replace(db, [4, 3, 2, 2]) == {
        "received": 4,
        "changed": 2,
        "unchanged": 3,
        "added": 1,
        "removed": 1,
    }
    assert members(db) == [2, 3, 4]
    assert db.events_of(1) == [("A", "add", "assigned"), ("A", "remove", "removed")]


def test_who_stays_costs_no_write_and_no_event(db: Database, clock: Clock) -> None:
    replace(db, range(1, 1001))
    before = physically(db, *TABLES)
    clock.advance(hours=1)
    assert replace(db, range(1, 1001), reason="again") == {"received": 1000, "unchanged": 1000}
    assert physically(db, *TABLES) == before
    replace(db, range(2, 1002))
    after = physically(db, "memberships")
    assert len(set(after) - set(before)) == 1


def test_who_is_gone_is_out_and_a_rollout_takes_over(db: Database, clock: Clock) -> None:
    """The assignment ends, no more: no exclusion starts."""
    replace(db, [1, 2])
    db.rows("select set_rollout('A', 100)")
    clock.advance(hours=1)
    replace(db, [2])
    assert members(db) == [1, 2]
    assert db.row("select source from user_segments(1)") == ("rollout",)
    assert db.column("select user_id from segmentation.memberships") == [2]
    assert db.events_of(1) == [("A", "add", "assigned")]


def test_what_others_assigned_stays_unless_all_actors(db: Database, clock: Clock) -> None:
    change(db, [7, 8], "add", actor="support")
    replace(db, [1, 2], actor="nightly")
    clock.advance(hours=1)
    assert replace(db, [1, 7], expires_at=FRIDAY, actor="nightly") == {
        "received": 2,
        "changed": 2,
        "unchanged": 1,
        "removed": 1,
        "rescheduled": 1,
    }
    assert members(db) == [1, 7, 8]
    assert db.row("select until from user_segments(7)") == (FOREVER,)
    clock.advance(hours=1)
    assert replace(db, [1, 9], all_actors=True, actor="nightly") == {
        "received": 2,
        "changed": 3,
        "unchanged": 1,
        "added": 1,
        "removed": 2,
    }
    assert members(db) == [1, 9]


def test_exclusions_stay_listed_or_not(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    db.rows("select register_users('{1,2,3}')")
    change(db, [1, 2], "remove", actor="support")
    clock.advance(hours=1)
    assert replace(db, [1, 3], all_actors=True) == {
        "received": 2,
        "changed": 1,
        "unchanged": 1,
        "added": 1,
    }
    assert members(db) == [3]


def test_another_end_is_set_only_when_one_is_given(db: Database, clock: Clock) -> None:
    replace(db, [1, 2], expires_at=FRIDAY)
    clock.advance(hours=1)
    assert replace(db, [1, 2]) == {"received": 2, "unchanged": 2}
    assert replace(db, [1, 2], expires_at=FRIDAY) == {"received": 2, "unchanged": 2}
    assert replace(db, [1, 3], expires_at=MONDAY) == {
        "received": 2,
        "changed": 3,
        "added": 1,
        "removed": 1,
        "rescheduled": 1,
    }
    assert db.column("select until from segment_members('A')") == [MONDAY, MONDAY]
    assert db.events_of(1) == [("A", "add", "assigned")]


def test_a_plan_counts_as_an_assignment(db: Database, clock: Clock) -> None:
    assert replace(db, [1, 2], starts_at=FRIDAY) == {"received": 2, "changed": 2, "added": 2}
    clock.advance(hours=1)
    assert replace(db, [2, 3], starts_at=MONDAY) == {
        "received": 2,
        "changed": 2,
        "unchanged": 1,
        "added": 1,
        "removed": 1,
    }
    clock.set(FRIDAY)
    assert members(db) == [2]
    assert db.events_of(1) == []
    with refuses(InvalidParameterValue, starts_at=MONDAY.isoformat()):
        replace(db, [2, 3], expires_at=FRIDAY.replace(hour=12))
    assert members(db) == [2]


def test_who_has_expired_or_was_removed_comes_back(db: Database, clock: Clock) -> None:
    replace(db, [1, 2], expires_at=FRIDAY)
    clock.set(FRIDAY)
    change(db, [2], "remove")
    assert replace(db, [1, 2]) == {"received": 2, "changed": 2, "added": 2}
    assert members(db) == [1, 2]
    periods_never_overlap(db)


def test_more_removals_than_allowed_are_refused(db: Database, clock: Clock) -> None:
    replace(db, range(1, 11))
    before = physically(db, *TABLES)
    for dry_run in (True, False):
        with refuses(ObjectNotInPrerequisiteState, code="too_many_removed", removed=5, max_removed=4):
            replace(db, [1, 2, 3, 4, 5, 99], max_removed=4, dry_run=dry_run)
    with refuses(ObjectNotInPrerequisiteState, code="too_many_removed", removed=2, max_removed=1):
        change(db, [1, 2], "remove", max_removed=1)
    assert physically(db, *TABLES) == before
    assert replace(db, [1, 2, 3, 4, 5], max_removed=5)["removed"] == 5


def test_an_empty_list_is_refused(db: Database) -> None:
    with refuses(ObjectNotInPrerequisiteState, code="too_many_removed", removed=0):
        replace(db, [])
    replace(db, [1, 2])
    for dry_run in (True, False):
        with refuses(ObjectNotInPrerequisiteState, code="too_many_removed", removed=2):
            replace(db, [], max_removed=100, dry_run=dry_run)
    assert members(db) == [1, 2]


@pytest.mark.parametrize("operation", ["add", "remove", "replace"])
def test_a_dry_run_counts_the_same_and_changes_nothing(db: Database, clock: Clock, operation: str) -> None:
    replace(db, [1, 2, 3])
    before = physically(db, *TABLES)
    clock.advance(hours=1)
    counted = change(db, [2, 3, 4, 5], operation, dry_run=True)
    assert physically(db, *TABLES) == before
    assert change(db, [2, 3, 4, 5], operation) == counted


def test_who_is_assigned_elsewhere_in_the_layer_refuses_the_list(db: Database, clock: Clock) -> None:
    db.rows("select create_layer('L')")
    for slug in ("X", "Y"):
        db.rows("select create_segment(%s, layer => 'L')", slug)
    db.rows("select change_user_segments(2, '{Y}')")
    before = physically(db, *TABLES)
    for dry_run in (True, False):
        with refuses(ObjectNotInPrerequisiteState, code="exclusive_segments"):
            db.rows("select change_segment_members('X', '{1,2,3}', 'replace', dry_run => %s)", dry_run)
    assert physically(db, *TABLES) == before


def test_other_segments_of_the_same_users_stay_as_they_are(db: Database) -> None:
    db.rows("select change_user_segments(1, '{B}')")
    replace(db, [1, 2])
    replace(db, [2])
    assert db.segments_of(1) == ["B"]


def test_each_change_is_one_event_with_actor_and_reason(db: Database, clock: Clock) -> None:
    replace(db, [1], actor="nightly", reason="monday")
    clock.advance(hours=1)
    replace(db, [2], actor="nightly", reason="tuesday")
    assert [
        tuple(event) for event in db.rows("select operation, cause, actor, reason from user_history(1)")
    ] == [
        ("add", "assigned", "nightly", "monday"),
        ("remove", "removed", "nightly", "tuesday"),
    ]


def test_wrong_arguments_are_refused(db: Database) -> None:
    with refuses(InvalidParameterValue, max_removed=-1):
        replace(db, [1], max_removed=-1)
    with refuses(InvalidParameterValue, operation="add"):
        change(db, [1], "add", all_actors=True)
    with refuses(InvalidParameterValue):
        replace(db, [1, 0])
    with refuses(InvalidParameterValue):
        replace(db, [1], expires_at=datetime(2026, 1, 1, tzinfo=UTC))
