"""change_user_segments: the seven rules, each by what a user, a reader of the history and a DBA see."""

import time
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from psycopg.errors import (
    ForeignKeyViolation,
    InvalidParameterValue,
    ObjectNotInPrerequisiteState,
)

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, inside, outside, physically, refuses

USER = 1000
TOMORROW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
TABLES = ("users", "memberships", "membership_history")


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """Segments A, B and C that roll out to nobody."""
    for slug in ("A", "B", "C"):
        db.rows("select create_segment(%s)", slug)
    clock.advance(hours=1)


def add(db: Database, user_id: int = USER, slug: str = "A", **arguments: Any) -> str:
    """Add one user to one segment; the change."""
    return change(db, user_id, add=[slug], **arguments)[slug]


def remove(db: Database, user_id: int = USER, slug: str = "A", **arguments: Any) -> str:
    """Remove one user from one segment; the change."""
    return change(db, user_id, remove=[slug], **arguments)[slug]


def change(db: Database, user_id: int | None = USER, **arguments: Any) -> dict[str, str]:
    """change_user_segments in named notation, as {segment: change}."""
    named = "".join(f", {name} => %s" for name in arguments)
    return dict(db.rows(f"select * from change_user_segments(%s{named})", user_id, *arguments.values()))


def overrides(db: Database, user_id: int = USER) -> list[tuple]:
    """The live and planned overrides of a user: (included, starts_at, ends_at)."""
    return [
        tuple(row)
        for row in db.rows(
            "select included, starts_at, ends_at from segmentation.memberships"
            " where user_id = %s order by segment_id",
            user_id,
        )
    ]


def events(db: Database, user_id: int = USER) -> list[tuple]:
    """The user's history: (segment, operation, at, cause)."""
    return [
        tuple(row) for row in db.rows("select segment, operation, at, cause from user_history(%s)", user_id)
    ]


# 1. All or nothing; lists are sets.


def test_a_user_is_added_and_removed_in_one_call(db: Database, clock: Clock) -> None:
    change(db, add=["A", "B"])
    clock.advance(hours=1)
    assert change(db, add=["C"], remove=["A"]) == {"A": "removed", "C": "added"}
    assert db.segments_of(USER) == ["B", "C"]


def test_changes_come_back_bytewise_by_segment(db: Database) -> None:
    for slug in ("b", "a", "Z"):
        db.rows("select create_segment(%s)", slug)
    returned = db.column("select segment from change_user_segments(%s, '{b,Z,C}', '{a,A}')", USER)
    assert returned == ["A", "C", "Z", "a", "b"]


def test_a_slug_twice_in_one_list_counts_once(db: Database) -> None:
    assert change(db, add=["A", "A", "B", "A"]) == {"A": "added", "B": "added"}
    assert [event[:2] for event in events(db)] == [("A", "add"), ("B", "add")]


def test_a_slug_in_both_lists_is_an_error_that_names_it(db: Database) -> None:
    with refuses(InvalidParameterValue, overlapping_segments=["A", "B"]):
        change(db, add=["C", "B", "A"], remove=["A", "B"])
    assert db.segments_of(USER) == []


def test_unknown_slugs_are_an_error_that_names_them_all(db: Database) -> None:
    with refuses(ForeignKeyViolation, unknown_segments=["X", "Y", "a"]):
        change(db, add=["A", "Y", "a"], remove=["X", "B"])
    assert db.segments_of(USER) == []


def test_a_deleted_segment_is_unknown(db: Database) -> None:
    db.rows("select delete_segment('B')")
    with refuses(ForeignKeyViolation, unknown_segments=["B"]):
        change(db, add=["B"])
    with refuses(ForeignKeyViolation, unknown_segments=["B"]):
        change(db, remove=["B"])


def test_a_missing_slug_is_unknown(db: Database) -> None:
    with refuses(ForeignKeyViolation, unknown_segments=[None]):
        change(db, add=["A", None])


def test_nothing_to_do_at_all_is_an_error(db: Database) -> None:
    nothing: list[dict[str, Any]] = [
        {},
        {"add": []},
        {"add": [], "remove": []},
        {"add": None, "remove": None},
    ]
    for arguments in nothing:
        with refuses(InvalidParameterValue):
            change(db, **arguments)


def test_an_error_changes_nothing_at_all(db: Database) -> None:
    change(db, add=["A"])
    before = physically(db, *TABLES)
    with refuses(ForeignKeyViolation):
        change(db, add=["B", "X"], remove=["A"])
    with refuses(ForeignKeyViolation):
        change(db, 4711, add=["X"])
    assert physically(db, *TABLES) == before


def test_a_user_id_is_above_zero(db: Database) -> None:
    for user_id in (0, -1, -(2**63)):
        with refuses(InvalidParameterValue, user_id=user_id):
            change(db, user_id, add=["A"])
    with refuses(InvalidParameterValue):
        change(db, None, add=["A"])
    assert change(db, 2**63 - 1, add=["A"]) == {"A": "added"}


# 2. Nothing already there is lost or overwritten.


def test_adding_one_segment_leaves_the_others_as_they_are(db: Database, clock: Clock) -> None:
    change(db, add=["A"], expires_at=FRIDAY, actor="ann", reason="first")
    clock.advance(hours=1)
    before = db.rows("select ctid, xmin::text, * from segmentation.memberships")
    change(db, add=["B"], actor="bob")
    after = db.rows("select ctid, xmin::text, * from segmentation.memberships order by segment_id")
    assert after[:1] == before
    assert db.segments_of(USER) == ["A", "B"]


def test_removing_one_segment_leaves_the_others_as_they_are(db: Database, clock: Clock) -> None:
    change(db, add=["A", "B"])
    clock.advance(hours=1)
    remove(db, slug="B")
    assert db.segments_of(USER) == ["A"]
    assert overrides(db) == [(True, NOON + timedelta(hours=1), FOREVER)]


def test_one_user_is_no_business_of_another(db: Database, clock: Clock) -> None:
    add(db, 1)
    add(db, 2)
    clock.advance(hours=1)
    remove(db, 1)
    assert (db.segments_of(1), db.segments_of(2)) == ([], ["A"])


# 3. Add.


def test_adding_starts_an_assignment(db: Database, clock: Clock) -> None:
    assert add(db, actor="ann", reason="ticket 17") == "added"
    assert db.segments_of(USER) == ["A"]
    assert [tuple(row) for row in db.rows("select * from user_segments(%s)", USER)] == [
        ("A", "assignment", clock.now, FOREVER)
    ]
    assert [tuple(row) for row in db.rows("select * from user_history(%s)", USER)] == [
        ("A", "add", clock.now, "assigned", "ann", "ticket 17")
    ]


def test_adding_again_with_another_end_goes_on_with_that_end_and_without_an_event(
    db: Database, clock: Clock
) -> None:
    began = clock.now
    add(db, expires_at=FRIDAY)
    clock.advance(hours=1)
    assert add(db, expires_at=MONDAY) == "rescheduled"
    assert overrides(db) == [(True, began, MONDAY)]
    assert events(db) == [("A", "add", began, "assigned")]
    clock.advance(hours=1)
    assert add(db, expires_at=TOMORROW) == "rescheduled"
    assert overrides(db) == [(True, began, TOMORROW)]


def test_adding_again_without_an_end_makes_it_permanent(db: Database, clock: Clock) -> None:
    began = clock.now
    add(db, expires_at=FRIDAY)
    clock.advance(hours=1)
    assert add(db) == "rescheduled"
    assert overrides(db) == [(True, began, FOREVER)]
    clock.set(MONDAY)
    assert db.segments_of(USER) == ["A"]


def test_a_rescheduled_assignment_keeps_who_began_it_and_learns_who_ended_it(
    db: Database, clock: Clock
) -> None:
    add(db, actor="ann", reason="trial")
    clock.advance(hours=1)
    add(db, expires_at=FRIDAY, actor="bob", reason="until Friday")
    clock.set(MONDAY)
    assert [
        tuple(row) for row in db.rows("select operation, cause, actor, reason from user_history(%s)", USER)
    ] == [
        ("add", "assigned", "ann", "trial"),
        ("remove", "expired", "bob", "until Friday"),
    ]


def test_adding_an_excluded_user_ends_the_exclusion(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    db.segments_of(USER)
    excluded = clock.advance(hours=1)
    remove(db)
    added = clock.advance(hours=1)
    assert add(db) == "added"
    assert db.segments_of(USER) == ["A"]
    assert overrides(db) == [(True, added, FOREVER)]
    assert [
        tuple(row)
        for row in db.rows(
            "select included, starts_at, ends_at, end_cause from segmentation.membership_history"
        )
    ] == [(False, excluded, added, "removed")]
    assert events(db)[-2:] == [("A", "remove", excluded, "removed"), ("A", "add", added, "assigned")]


def test_adding_a_user_whom_the_rollout_holds_is_recorded_without_an_event(
    db: Database, clock: Clock
) -> None:
    db.rows("select set_rollout('A', 50)")
    user_id = next(inside(db, "A", 50))
    db.segments_of(user_id)
    before = events(db, user_id)
    clock.advance(hours=1)
    assert add(db, user_id) == "added"
    assert overrides(db, user_id) == [(True, clock.now, FOREVER)]
    assert events(db, user_id) == before
    assert db.row("select source, since from user_segments(%s)", user_id) == ("assignment", before[0][2])


def test_an_assigned_user_stays_in_when_the_rollout_shrinks(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 50)")
    user_id = next(inside(db, "A", 50))
    add(db, user_id)
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 0)")
    assert db.segments_of(user_id) == ["A"]
    assert [operation for _, operation, *_ in events(db, user_id)] == ["add"]


def test_an_assignment_that_ends_inside_a_rollout_leaves_the_user_in(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    add(db, expires_at=FRIDAY)
    clock.set(MONDAY)
    assert db.segments_of(USER) == ["A"]
    assert db.value("select source from user_segments(%s)", USER) == "rollout"
    assert [operation for _, operation, *_ in events(db)] == ["add"]


# 4. Remove.


def test_removing_ends_the_assignment(db: Database, clock: Clock) -> None:
    began = clock.now
    add(db)
    ended = clock.advance(hours=1)
    assert remove(db, actor="bob", reason="abuse") == "removed"
    assert db.segments_of(USER) == []
    assert overrides(db) == []
    assert [tuple(row) for row in db.rows("select * from user_history(%s)", USER)][1:] == [
        ("A", "remove", ended, "removed", "bob", "abuse")
    ]
    assert events(db)[0] == ("A", "add", began, "assigned")


def test_removing_an_assigned_user_whom_the_rollout_would_hold_starts_an_exclusion(
    db: Database, clock: Clock
) -> None:
    db.rows("select set_rollout('A', 100)")
    add(db)
    removed = clock.advance(hours=1)
    assert remove(db) == "removed"
    assert overrides(db) == [(False, removed, FOREVER)]
    assert db.segments_of(USER) == []
    assert events(db)[1:] == [("A", "remove", removed, "removed")]


def test_removing_a_user_whom_only_the_rollout_holds_starts_an_exclusion(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    db.segments_of(USER)
    removed = clock.advance(hours=1)
    assert remove(db, actor="bob", reason="asked for it") == "removed"
    assert overrides(db) == [(False, removed, FOREVER)]
    assert db.segments_of(USER) == []
    assert [tuple(row) for row in db.rows("select * from user_history(%s)", USER)][1:] == [
        ("A", "remove", removed, "removed", "bob", "asked for it")
    ]


def test_removing_a_user_whom_the_rollout_does_not_hold_starts_no_exclusion(
    db: Database, clock: Clock
) -> None:
    db.rows("select set_rollout('A', 50)")
    user_id = next(outside(db, "A", 50))
    add(db, user_id)
    clock.advance(hours=1)
    remove(db, user_id)
    assert overrides(db, user_id) == []
    db.rows("select set_rollout('A', 100)")
    assert db.segments_of(user_id) == ["A"]


def test_removing_a_user_who_is_not_in_changes_nothing(db: Database) -> None:
    db.rows("select register_users(array[%s::bigint])", USER)
    before = physically(db, *TABLES)
    assert remove(db) == "unchanged"
    assert physically(db, *TABLES) == before


def test_removing_a_user_twice_changes_nothing_the_second_time(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    add(db, slug="B")
    clock.advance(hours=1)
    assert change(db, remove=["A", "B"]) == {"A": "removed", "B": "removed"}
    before = physically(db, *TABLES)
    clock.advance(hours=1)
    assert change(db, remove=["A", "B"]) == {"A": "unchanged", "B": "unchanged"}
    assert physically(db, *TABLES) == before


def test_an_exclusion_lasts_until_the_user_is_added_again(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 50)")
    user_id = next(inside(db, "A", 50))
    remove(db, user_id)
    for percent in (0, 30, 100):
        clock.advance(days=100)
        db.rows("select set_rollout('A', %s)", percent)
        db.rows("call sweep()")
        assert db.segments_of(user_id) == []
    clock.advance(hours=1)
    add(db, user_id)
    assert db.segments_of(user_id) == ["A"]


def test_removing_a_user_whose_assignment_expired_inside_a_rollout_starts_an_exclusion(
    db: Database, clock: Clock
) -> None:
    db.rows("select set_rollout('A', 100)")
    add(db, expires_at=FRIDAY)
    clock.set(MONDAY)
    assert remove(db) == "removed"
    assert overrides(db) == [(False, MONDAY, FOREVER)]
    assert events(db)[1:] == [("A", "remove", MONDAY, "removed")]
    assert [
        tuple(row)
        for row in db.rows("select included, ends_at, end_cause from segmentation.membership_history")
    ] == [(True, FRIDAY, "expired")]


def test_removing_a_user_whose_assignment_expired_changes_nothing(db: Database, clock: Clock) -> None:
    add(db, expires_at=FRIDAY)
    clock.set(MONDAY)
    assert remove(db) == "unchanged"
    assert [event[1:] for event in events(db)][1:] == [("remove", FRIDAY, "expired")]


# 5. Periods: ends, plans.


def test_an_end_is_exact_to_the_microsecond_even_if_nothing_sweeps(db: Database, clock: Clock) -> None:
    add(db, expires_at=FRIDAY)
    clock.set(FRIDAY - timedelta(microseconds=1))
    assert db.segments_of(USER) == ["A"]
    clock.set(FRIDAY)
    assert db.segments_of(USER) == []
    assert events(db)[-1] == ("A", "remove", FRIDAY, "expired")


def test_an_end_lies_in_the_future(db: Database, clock: Clock) -> None:
    for expires_at in (NOON, clock.now, "-infinity"):
        with refuses(InvalidParameterValue):
            add(db, expires_at=expires_at)
    assert db.segments_of(USER) == []


def test_an_end_that_is_infinity_is_no_end(db: Database) -> None:
    assert add(db, expires_at="infinity") == "added"
    assert overrides(db)[0][2] == FOREVER


def test_an_end_comes_after_the_start(db: Database) -> None:
    for expires_at in (FRIDAY, TOMORROW):
        with refuses(InvalidParameterValue):
            add(db, starts_at=FRIDAY, expires_at=expires_at)


def test_a_start_is_not_in_the_past(db: Database, clock: Clock) -> None:
    for starts_at in (NOON, "-infinity", "infinity"):
        with refuses(InvalidParameterValue):
            add(db, starts_at=starts_at)
    assert add(db, starts_at=clock.now) == "added"
    assert db.segments_of(USER) == ["A"]


def test_a_start_or_an_end_belongs_to_an_addition(db: Database) -> None:
    add(db)
    for name in ("expires_at", "starts_at"):
        period: dict[str, Any] = {name: FRIDAY}
        with refuses(InvalidParameterValue):
            remove(db, **period)
    assert db.segments_of(USER) == ["A"]


def test_a_planned_user_is_not_in_yet(db: Database, clock: Clock) -> None:
    assert add(db, starts_at=FRIDAY, expires_at=MONDAY, actor="ann", reason="sale") == "added"
    assert overrides(db) == [(True, FRIDAY, MONDAY)]
    assert (db.segments_of(USER), events(db)) == ([], [])
    clock.set(FRIDAY - timedelta(microseconds=1))
    assert db.segments_of(USER) == []
    clock.set(FRIDAY)
    assert db.segments_of(USER) == ["A"]
    clock.set(MONDAY)
    assert db.segments_of(USER) == []
    assert [tuple(row) for row in db.rows("select * from user_history(%s)", USER)] == [
        ("A", "add", FRIDAY, "assigned", "ann", "sale"),
        ("A", "remove", MONDAY, "expired", "ann", "sale"),
    ]


def test_adding_again_replaces_a_plan(db: Database, clock: Clock) -> None:
    add(db, starts_at=FRIDAY)
    assert add(db, starts_at=MONDAY) == "rescheduled"
    assert overrides(db) == [(True, MONDAY, FOREVER)]
    clock.advance(hours=1)
    assert add(db) == "added"
    assert overrides(db) == [(True, clock.now, FOREVER)]
    assert events(db) == [("A", "add", clock.now, "assigned")]
    assert db.rows("select * from segmentation.membership_history") == []


def test_a_plan_is_replaced_at_its_own_start(db: Database, clock: Clock) -> None:
    add(db, starts_at=FRIDAY, expires_at=MONDAY, actor="ann", reason="sale")
    clock.advance(hours=1)
    later = MONDAY + timedelta(days=1)
    assert add(db, starts_at=FRIDAY, expires_at=later, actor="bob", reason="longer") == "rescheduled"
    assert overrides(db) == [(True, FRIDAY, later)]
    clock.set(later)
    assert [
        tuple(row) for row in db.rows("select operation, at, actor, reason from user_history(%s)", USER)
    ] == [
        ("add", FRIDAY, "bob", "longer"),
        ("remove", later, "bob", "longer"),
    ]


def test_a_plan_replaced_at_its_own_start_fails_no_batch(db: Database) -> None:
    for end in (MONDAY, MONDAY + timedelta(days=1)):
        assert db.row(
            "select changed from change_segment_members('A', '{1,2}', starts_at => %s, expires_at => %s,"
            " reason => %s)",
            FRIDAY,
            end,
            str(end),
        ) == (2,)


def test_the_same_plan_again_writes_nothing(db: Database) -> None:
    add(db, starts_at=FRIDAY, expires_at=MONDAY)
    before = physically(db, *TABLES)
    assert add(db, starts_at=FRIDAY, expires_at=MONDAY) == "unchanged"
    assert physically(db, *TABLES) == before


def test_a_planned_start_for_a_user_already_assigned_only_sets_the_end(db: Database, clock: Clock) -> None:
    began = clock.now
    add(db)
    clock.advance(hours=1)
    assert add(db, starts_at=FRIDAY, expires_at=MONDAY) == "rescheduled"
    assert overrides(db) == [(True, began, MONDAY)]
    assert db.segments_of(USER) == ["A"]
    assert add(db, starts_at=FRIDAY) == "rescheduled"
    assert add(db, starts_at=FRIDAY) == "unchanged"
    assert overrides(db) == [(True, began, FOREVER)]
    assert events(db) == [("A", "add", began, "assigned")]


def test_a_planned_start_for_an_excluded_user_is_an_error_that_names_the_segments(
    db: Database, clock: Clock
) -> None:
    for slug in ("A", "B"):
        db.rows("select set_rollout(%s, 100)", slug)
    change(db, remove=["A", "B"])
    clock.advance(hours=1)
    before = physically(db, *TABLES)
    with refuses(ObjectNotInPrerequisiteState, excluded_segments=["A", "B"]):
        change(db, add=["A", "B", "C"], starts_at=FRIDAY)
    assert physically(db, *TABLES) == before
    assert change(db, add=["C"], starts_at=FRIDAY) == {"C": "added"}


def test_removing_a_plan_cancels_it_without_an_event(db: Database, clock: Clock) -> None:
    add(db, starts_at=FRIDAY)
    clock.advance(hours=1)
    assert remove(db) == "removed"
    assert overrides(db) == []
    clock.set(MONDAY)
    assert (db.segments_of(USER), events(db)) == ([], [])
    assert db.rows("select * from segmentation.membership_history") == []


def test_removing_a_planned_user_whom_the_rollout_holds_takes_the_user_out(
    db: Database, clock: Clock
) -> None:
    db.rows("select set_rollout('A', 100)")
    add(db, starts_at=FRIDAY)
    clock.advance(hours=1)
    assert db.segments_of(USER) == ["A"]
    assert remove(db) == "removed"
    assert overrides(db) == [(False, clock.now, FOREVER)]
    clock.set(MONDAY)
    assert db.segments_of(USER) == []


def test_a_plan_for_a_user_whom_the_rollout_holds_makes_no_event(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    db.segments_of(USER)
    add(db, starts_at=FRIDAY)
    clock.set(MONDAY)
    assert [operation for _, operation, *_ in events(db)] == ["add"]
    assert db.value("select source from user_segments(%s)", USER) == "assignment"


def test_a_plan_replaces_what_has_expired_unswept(db: Database, clock: Clock) -> None:
    began = clock.now
    add(db, expires_at=TOMORROW)
    clock.set(FRIDAY)
    assert add(db, starts_at=MONDAY) == "added"
    assert overrides(db) == [(True, MONDAY, FOREVER)]
    clock.set(MONDAY)
    assert events(db) == [
        ("A", "add", began, "assigned"),
        ("A", "remove", TOMORROW, "expired"),
        ("A", "add", MONDAY, "assigned"),
    ]


# 6. Exactly one event per effective change, none for a no-op.


def test_adding_an_assigned_user_again_writes_nothing(db: Database, clock: Clock) -> None:
    add(db, actor="ann", reason="first")
    add(db, slug="B", expires_at=FRIDAY)
    before = physically(db, *TABLES)
    clock.advance(hours=1)
    assert add(db, actor="bob", reason="second") == "unchanged"
    assert add(db, slug="B", expires_at=FRIDAY) == "unchanged"
    assert physically(db, *TABLES) == before


def test_every_effective_change_makes_one_event(db: Database, clock: Clock) -> None:
    moments = []
    for call in (add, remove, add, remove, remove, add, add):
        moments.append(clock.advance(hours=1))
        call(db)
    assert events(db) == [
        ("A", "add", moments[0], "assigned"),
        ("A", "remove", moments[1], "removed"),
        ("A", "add", moments[2], "assigned"),
        ("A", "remove", moments[3], "removed"),
        ("A", "add", moments[5], "assigned"),
    ]


def test_changes_in_one_transaction_have_moments_of_their_own(db: Database, clock: Clock) -> None:
    clock.set(None)
    with db.connection.transaction():
        add(db)
        remove(db)
        add(db)
    moments = [at for _, _, at, _ in events(db)]
    assert [operation for _, operation, *_ in events(db)] == ["add", "remove", "add"]
    assert moments == sorted(set(moments))


def test_adding_again_after_an_expiry_that_nobody_swept_is_a_new_period(db: Database, clock: Clock) -> None:
    began = clock.now
    add(db, expires_at=FRIDAY)
    clock.set(MONDAY)
    assert add(db) == "added"
    assert events(db) == [
        ("A", "add", began, "assigned"),
        ("A", "remove", FRIDAY, "expired"),
        ("A", "add", MONDAY, "assigned"),
    ]
    assert overrides(db) == [(True, MONDAY, FOREVER)]


def test_adding_again_after_a_swept_expiry_is_a_new_period(db: Database, clock: Clock) -> None:
    began = clock.now
    add(db, expires_at=FRIDAY)
    clock.set(MONDAY)
    db.rows("call sweep()")
    assert add(db) == "added"
    assert events(db) == [
        ("A", "add", began, "assigned"),
        ("A", "remove", FRIDAY, "expired"),
        ("A", "add", MONDAY, "assigned"),
    ]


# 7. A user never seen before.


def test_changing_a_user_never_seen_registers_the_user(db: Database, clock: Clock) -> None:
    add(db)
    remove(db, 4711)
    assert [tuple(row) for row in db.rows("select * from segmentation.users order by user_id")] == [
        (USER, clock.now),
        (4711, clock.now),
    ]


def test_reading_a_user_never_seen_registers_the_user(db: Database, clock: Clock) -> None:
    db.segments_of(1)
    db.rows("select * from user_segments(2)")
    db.rows("select * from explain_membership(3, 'A')")
    db.rows("select * from user_history(4)")
    assert db.column("select user_id from segmentation.users order by 1") == [1, 2, 3, 4]


def test_reading_a_user_never_seen_where_nothing_can_be_written_just_does_not(
    db: Database, clock: Clock
) -> None:
    db.rows("select set_rollout('A', 100)")
    db.rows("set default_transaction_read_only = on")
    assert db.segments_of(1) == ["A"]
    assert [tuple(row) for row in db.rows("select segment, since from user_segments(1)")] == [
        ("A", clock.now)
    ]
    assert db.value("select member from explain_membership(1, 'A')")
    assert db.events_of(1) == [("A", "add", "rollout")]
    assert db.rows("select * from segmentation.users") == []


def test_without_an_actor_the_history_names_the_login(db: Database) -> None:
    add(db)
    assert db.value("select actor from user_history(%s)", USER) == db.value("select session_user::text")


# The table of rules itself.


def expected(wanted: bool, state: str, rolled_out: bool, planning: bool, start: bool, end: bool) -> str:
    """The README's table, said another way."""
    if not wanted:
        leaves = state in ("assigned", "planned") or (state == "none" and rolled_out)
        return "removed" if leaves else "unchanged"
    if state == "assigned":
        return "unchanged" if end else "rescheduled"
    if planning:
        if state == "planned":
            return "unchanged" if start and end else "rescheduled"
        return "refused" if state == "excluded" else "added"
    return "added"


def test_the_table_of_rules_is_complete(db: Database) -> None:
    truth = [False, True]
    cases = list(product(truth, ["none", "assigned", "excluded", "planned"], truth, truth, truth, truth))
    for case in cases:
        change_ = db.value("select segmentation.override_change(%s, %s, %s, %s, %s, %s)", *case)
        assert change_ == expected(*case), case


def test_an_empty_reason_is_none_in_every_change(db: Database, clock: Clock) -> None:
    add(db, reason="")
    clock.advance(hours=1)
    remove(db, reason="")
    assert db.column("select reason from user_history(%s)", USER) == [None, None]


def test_a_start_at_infinity_is_told_apart_from_one_in_the_past(db: Database) -> None:
    for starts_at in ("infinity", "-infinity"):
        with pytest.raises(InvalidParameterValue, match="not a valid moment"):
            add(db, starts_at=starts_at)


@pytest.mark.parametrize("names", [["add"], ["remove"], ["add", "remove"]])
def test_more_segments_than_one_call_takes_are_refused_before_any_work(
    db: Database, names: list[str]
) -> None:
    slugs = [f"S{number}" for number in range(40_000)]
    began = time.monotonic()
    with refuses(InvalidParameterValue, segments=len(slugs), at_most=1000):
        change(db, USER, **dict.fromkeys(names, slugs))
    assert time.monotonic() - began < 1
