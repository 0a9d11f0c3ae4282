"""An assignment in a layer: for as long as it lasts the user is in no other segment of the layer."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from psycopg.errors import ForeignKeyViolation, ObjectNotInPrerequisiteState, UniqueViolation

from tests.conftest import NOON, Clock, Database
from tests.expect import refuses

HOUR = timedelta(hours=1)
USER = 7


@pytest.fixture(autouse=True)
def layer(db: Database, clock: Clock) -> None:
    """User 7, known since noon, is in A by rollout; B and C of the same layer have none."""
    db.rows("select register_users(array[7])")
    db.rows("select create_layer('L')")
    for slug, percent in {"A": 100, "B": 0, "C": 0}.items():
        db.rows("select create_segment(%s, %s::numeric, layer => 'L')", slug, percent)
    clock.advance(hours=1)


def change(db: Database, add: str = "", remove: str = "", **when: Any) -> dict[str, str]:
    """Change user 7's segments, in a call that gives a reason."""
    query = (
        "select * from change_user_segments(7, string_to_array(%s, ' '), string_to_array(%s, ' '),"
        " %s, %s, reason => 'a call')"
    )
    return {r[0]: r[1] for r in db.rows(query, add, remove, when.get("expires_at"), when.get("starts_at"))}


def test_support_assigns_another_segment_for_an_hour(db: Database, clock: Clock) -> None:
    change(db, "B", expires_at=NOON + 2 * HOUR)
    assert db.segments_of(USER) == ["B"]
    with refuses(
        ObjectNotInPrerequisiteState, code="exclusive_segments", exclusive_segments=["B"], users=None
    ):
        change(db, "C")
    clock.advance(hours=1)
    assert db.segments_of(USER) == ["A"]
    history = db.rows("select segment, operation, at, cause, reason from user_history(7)")
    assert [tuple(event) for event in history] == [
        ("A", "add", NOON, "rollout", None),
        ("A", "remove", NOON + HOUR, "exclusive", "a call"),
        ("B", "add", NOON + HOUR, "assigned", "a call"),
        ("A", "add", NOON + 2 * HOUR, "rollout", "a call"),
        ("B", "remove", NOON + 2 * HOUR, "expired", "a call"),
    ]
    before = db.value("select count(*) from segmentation.memberships")
    db.rows("select expire_memberships(10)")
    assert db.value("select count(*) from segmentation.memberships") == before - 1
    assert db.rows("select segment, operation, at, cause, reason from user_history(7)") == history


def test_the_explanation_names_the_assignment_elsewhere(db: Database, clock: Clock) -> None:
    change(db, "B", expires_at=NOON + 2 * HOUR)
    e = db.row("select * from explain_membership(7, 'A')")
    assert (e.member, e.source, e.since, e.until, e.reason) == (
        False,
        "none",
        NOON + HOUR,
        NOON + 2 * HOUR,
        "a call",
    )
    # A rollout that comes meanwhile would hold the user: the assignment elsewhere is what keeps it out.
    db.rows("select set_rollout('A', 0)")
    clock.advance(minutes=10)
    db.rows("select set_rollout('C', 100, reason => 'a ramp')")
    e = db.row("select * from explain_membership(7, 'C')")
    assert (e.member, e.source, e.until, e.reason) == (False, "none", NOON + 2 * HOUR, "a call")
    assert db.segments_of(USER) == ["B"]


def test_one_call_moves_a_user(db: Database, clock: Clock) -> None:
    change(db, "B")
    clock.advance(hours=1)
    assert change(db, "C", "B") == {"B": "removed", "C": "added"}
    assert db.segments_of(USER) == ["C"]
    assert db.events_of(USER)[-2:] == [("B", "remove", "removed"), ("C", "add", "assigned")]


def test_a_move_leaves_no_gap_in_real_time(db: Database, set_clock: Callable[[None], None]) -> None:
    set_clock(None)
    change(db, "B")
    change(db, "C", "B")
    moved = db.rows("select segment, operation, at from user_history(7) order by at desc, segment limit 2")
    assert [(e.segment, e.operation) for e in moved] == [("B", "remove"), ("C", "add")]
    assert moved[0].at == moved[1].at, "the rollout of A had the user in between"


def test_a_plan_excludes_too(db: Database, clock: Clock) -> None:
    change(db, "B", starts_at=NOON + 3 * HOUR)
    assert db.segments_of(USER) == ["A"]
    with refuses(ObjectNotInPrerequisiteState, code="exclusive_segments", exclusive_segments=["B"]):
        change(db, "C")
    clock.advance(hours=2)
    assert db.segments_of(USER) == ["B"]


def test_what_is_over_stands_in_nobodys_way(db: Database, clock: Clock) -> None:
    change(db, "B", expires_at=NOON + 2 * HOUR)
    clock.advance(hours=1)
    assert change(db, "C") == {"C": "added"}
    clock.advance(hours=1)
    db.rows("select delete_segment('C')")
    assert change(db, "B") == {"B": "added"}
    assert db.segments_of(USER) == ["B"]
    assert db.events_of(USER)[2:] == [
        ("B", "add", "assigned"),
        ("B", "remove", "expired"),
        ("C", "add", "assigned"),
        ("B", "add", "assigned"),
        ("C", "remove", "segment_deleted"),
    ]


def test_two_segments_of_a_layer_are_not_added_together(db: Database) -> None:
    with refuses(ObjectNotInPrerequisiteState, code="exclusive_segments", exclusive_segments=["B", "C"]):
        change(db, "B C")


def test_many_users_are_refused_with_ten_of_those_concerned(db: Database) -> None:
    db.rows("select change_segment_members('B', array(select generate_series(101, 112)))")
    before = db.rows("select * from segmentation.memberships order by user_id, segment_id")
    with refuses(
        ObjectNotInPrerequisiteState,
        code="exclusive_segments",
        exclusive_segments=["B"],
        users=12,
        user_ids=list(range(101, 111)),
    ):
        db.rows("select change_segment_members('C', array(select generate_series(1, 10000)))")
    assert db.rows("select * from segmentation.memberships order by user_id, segment_id") == before


def test_a_list_that_replaces_follows_the_rule(db: Database) -> None:
    db.rows("select change_segment_members('B', array[101])")
    with refuses(ObjectNotInPrerequisiteState, code="exclusive_segments", exclusive_segments=["B"]):
        db.rows("select change_segment_members('C', array[101, 102], 'replace')")


def test_removing_from_a_segment_that_another_excludes_changes_nothing(db: Database) -> None:
    change(db, "B")
    assert change(db, remove="A") == {"A": "unchanged"}
    # Without B the rollout would hold the user.
    assert change(db, remove="A B") == {"A": "removed", "B": "removed"}
    assert db.segments_of(USER) == []


def test_a_segment_that_is_deleted_excludes_no_more(db: Database, clock: Clock) -> None:
    change(db, "B")
    clock.advance(hours=1)
    db.rows("select delete_segment('B', reason => 'over')")
    assert db.segments_of(USER) == ["A"]
    back = db.rows("select segment, operation, at, cause, reason from user_history(7)")[-2:]
    assert [tuple(event) for event in back] == [
        ("A", "add", NOON + 2 * HOUR, "rollout", "over"),
        ("B", "remove", NOON + 2 * HOUR, "segment_deleted", "over"),
    ]
    db.rows("select expire_memberships(10)")
    assert db.rows("select segment, operation, at, cause, reason from user_history(7)")[-2:] == back


def test_plain_dml_cannot_get_round_it(db: Database) -> None:
    insert = (
        "insert into segmentation.memberships (user_id, segment_id)"
        " select 7, segment_id from segmentation.segments where slug = %s"
    )
    db.rows(insert, "B")
    assert db.segments_of(USER) == ["B"]
    with pytest.raises(UniqueViolation):
        db.rows(insert, "C")
    # Another layer than the segment's is not taken, neither by the login nor by the owner.
    db.rows("update segmentation.memberships set layer_id = null")
    with pytest.raises(UniqueViolation):
        db.rows(insert, "C")
    with refuses(ForeignKeyViolation):
        db.rows("set role segmentation_owner")
        db.rows(insert.replace("7", "8"), "C")
