"""A DBA's plain DML: recorded like a function call, or refused; the past cannot be rewritten."""

from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.errors import (
    CheckViolation,
    FeatureNotSupported,
    ForeignKeyViolation,
    ObjectNotInPrerequisiteState,
    UniqueViolation,
)

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
HISTORY_TABLES = ("membership_history", "segment_history")


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """Segments A (1) and B (2); 1000 assigned to A an hour ago."""
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B')")
    db.rows("select change_user_segments(1000, '{A}', actor => 'ann', reason => 'trial')")
    clock.advance(hours=1)


def events(db: Database, user_id: int = 1000) -> list[tuple]:
    """The user's whole history."""
    return [tuple(event) for event in db.rows("select * from user_history(%s)", user_id)]


# memberships


def test_an_insert_is_an_assignment_from_now_on_by_the_login(db: Database, clock: Clock) -> None:
    db.rows("insert into segmentation.memberships (user_id, segment_id) values (1002, 1), (1004, 2)")
    assert (db.segments_of(1002), db.segments_of(1004)) == (["A"], ["B"])
    assert events(db, 1002) == [("A", "add", clock.now, "assigned", "postgres", None)]


def test_an_insert_makes_its_users_known(db: Database, clock: Clock) -> None:
    db.rows(
        "insert into segmentation.memberships (user_id, segment_id) values (1002, 1), (1002, 2), (1000, 2)"
    )
    assert [tuple(row) for row in db.rows("select * from segmentation.users order by user_id")] == [
        (1000, NOON),
        (1002, clock.now),
    ]
    stats = db.row("select assigned, members from segment_stats('A')")
    assert tuple(stats) == (2, 2)
    growth = db.row("select users, members, actual_percent from segment_growth('A') order by at desc limit 1")
    assert growth.members <= growth.users


def test_a_delete_is_a_removal_now_by_the_login_for_the_reason_set(db: Database, clock: Clock) -> None:
    db.rows("set segmentation.reason = 'cleaned up'")
    db.rows("delete from segmentation.memberships")
    assert db.segments_of(1000) == []
    assert events(db) == [
        ("A", "add", NOON, "assigned", "ann", "trial"),
        ("A", "remove", clock.now, "removed", "postgres", "cleaned up"),
    ]


def test_an_actor_of_an_earlier_call_does_not_stick(db: Database, clock: Clock) -> None:
    with db.connection.transaction():
        db.rows("select change_user_segments(1002, '{A}', actor => 'eve', reason => 'earlier')")
        db.rows("delete from segmentation.memberships where user_id = 1000")
    assert events(db)[1] == ("A", "remove", clock.now, "removed", "postgres", None)


def test_a_setting_does_not_silence_the_history(db: Database, clock: Clock) -> None:
    """Whatever a session sets, a deletion is recorded; only forget_user erases."""
    db.rows("set segmentation.forgetting = '1000'")
    db.rows("delete from segmentation.memberships where user_id = 1000")
    assert [event[1] for event in events(db)] == ["add", "remove"]


def test_a_setting_does_not_silence_a_function_either(db: Database, clock: Clock) -> None:
    db.rows("set segmentation.forgetting = '1000'")
    db.rows("select change_user_segments(1000, remove => '{A}')")
    assert [event[1] for event in events(db)] == ["add", "remove"]


def test_deleting_what_has_expired_records_its_true_end(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(1000, '{A}', expires_at => %s, actor => 'bob')", FRIDAY)
    clock.set(MONDAY)
    db.rows("delete from segmentation.memberships")
    assert events(db)[1] == ("A", "remove", FRIDAY, "expired", "bob", None)


def test_an_update_of_the_end_reschedules(db: Database, clock: Clock) -> None:
    db.rows("update segmentation.memberships set ends_at = %s", FRIDAY)
    clock.set(MONDAY)
    assert [event[1:4] for event in events(db)] == [("add", NOON, "assigned"), ("remove", FRIDAY, "expired")]


def test_an_update_of_the_end_to_now_ends_it_now(db: Database, clock: Clock) -> None:
    db.rows("update segmentation.memberships set ends_at = clock()")
    assert db.segments_of(1000) == []
    assert [event[1:3] for event in events(db)] == [("add", NOON), ("remove", clock.now)]


def test_an_update_to_an_exclusion_from_now_on_closes_the_assignment(db: Database, clock: Clock) -> None:
    db.rows("update segmentation.memberships set included = false, starts_at = clock()")
    assert db.segments_of(1000) == []
    assert events(db)[1:] == [("A", "remove", clock.now, "removed", "postgres", None)]
    assert db.row("select included, ends_at from segmentation.membership_history") == (True, clock.now)


@pytest.mark.parametrize(
    "change",
    [
        "included = false",
        "starts_at = starts_at - interval '1 day'",
        "starts_at = starts_at + interval '1 minute'",
        "ends_at = starts_at + interval '1 minute'",
        "user_id = 1002",
        "segment_id = 2",
        "actor = 'eve'",
        "reason = 'other'",
    ],
)
def test_an_update_that_would_rewrite_the_past_is_refused(db: Database, change: str) -> None:
    before = events(db)
    with refuses(ObjectNotInPrerequisiteState):
        db.rows(f"update segmentation.memberships set {change}")
    assert events(db) == before


def test_an_end_that_has_come_cannot_be_moved(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(1000, '{A}', expires_at => %s)", FRIDAY)
    clock.set(MONDAY)
    for end in (FOREVER, MONDAY):
        with refuses(ObjectNotInPrerequisiteState, user_id=1000):
            db.rows("update segmentation.memberships set ends_at = %s", end)


def test_an_insert_into_the_past_is_refused(db: Database) -> None:
    with refuses(ObjectNotInPrerequisiteState, user_id=1002):
        db.rows(
            "insert into segmentation.memberships (user_id, segment_id, starts_at) values (1002, 1, %s)", NOON
        )
    assert events(db, 1002) == []


def test_an_insert_into_no_living_segment_is_refused(db: Database) -> None:
    db.rows("select delete_segment('B')")
    for segment_id in (2, 99):
        with refuses(ForeignKeyViolation, segment_id=segment_id):
            db.rows(
                "insert into segmentation.memberships (user_id, segment_id) values (1002, %s)", segment_id
            )


def test_one_row_that_is_wrong_refuses_the_whole_statement(db: Database) -> None:
    with refuses(ForeignKeyViolation, segment_id=99):
        db.rows("insert into segmentation.memberships (user_id, segment_id) values (1002, 1), (1004, 99)")
    assert db.segments_of(1002) == []


def test_a_second_override_of_the_same_pair_is_refused(db: Database) -> None:
    with pytest.raises(UniqueViolation):
        db.rows(
            "insert into segmentation.memberships (user_id, segment_id, included) values (1000, 1, false)"
        )


def test_wrong_values_are_refused_by_named_constraints(db: Database) -> None:
    for values, constraint in (
        ("0, 1, default, default", "memberships_user_id_is_positive"),
        ("1, 1, 'infinity', default", "memberships_starts_at_is_finite"),
        ("1, 1, clock(), clock()", "memberships_start_before_end"),
    ):
        with pytest.raises(CheckViolation) as caught:
            db.rows(
                "insert into segmentation.memberships (user_id, segment_id, starts_at, ends_at)"
                f" values ({values})"
            )
        assert caught.value.diag.constraint_name in {constraint, "memberships_start_before_end"}


def test_triggers_run_once_a_statement_however_many_rows(db: Database) -> None:
    triggers = db.rows(
        "select tgname, tgtype & 1 as for_each_row from pg_trigger"
        " where tgrelid in ('segmentation.memberships'::regclass, 'segmentation.rollouts'::regclass,"
        " 'segmentation.segments'::regclass) and not tgisinternal"
    )
    assert len(triggers) >= 11
    # What somebody types needs its actor set row by row, and the WHEN of these spares the functions. Few rows are steps
    # or segments of a layer.
    assert {trigger.tgname for trigger in triggers if trigger.for_each_row} == {
        "memberships_name_the_login",
        "rollouts_name_the_login",
        "rollouts_take_the_layer",
        "segments_take_the_salt",
    }


# rollouts


def test_an_inserted_step_is_recorded_and_ends_the_one_before(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 10)")
    now = clock.advance(hours=1)
    db.rows(
        "insert into segmentation.rollouts (segment_id, salt, percent, ends_at)"
        " select segment_id, salt, 100, %s from segmentation.segments where slug = 'A'",
        MONDAY,
    )
    assert [tuple(step)[:3] for step in db.rows("select * from rollout_steps('A')")] == [
        (10, NOON.replace(hour=13), now),
        (100, now, FOREVER),
    ]
    change = db.rows("select operation, percent, starts_at, actor from segment_history('A')")[-1]
    assert tuple(change) == ("set_rollout", 100, now, "postgres")


def test_the_end_of_a_step_is_derived_whatever_is_written(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 10)")
    db.rows("select set_rollout('A', 50, %s)", MONDAY)
    before = db.rows("select * from rollout_steps('A')")
    db.rows("update segmentation.rollouts set ends_at = %s", FRIDAY.replace(year=2030))
    assert db.rows("select * from rollout_steps('A')") == before


def test_a_step_to_come_can_be_changed_moved_and_deleted_and_each_is_recorded(
    db: Database, clock: Clock
) -> None:
    db.rows("select set_rollout('A', 10)")
    db.rows("select set_rollout('A', 50, %s)", FRIDAY)
    clock.advance(hours=1)
    db.rows("update segmentation.rollouts set percent = 60 where percent = 50")
    clock.advance(hours=1)
    db.rows("update segmentation.rollouts set starts_at = %s where percent = 60", MONDAY)
    assert [tuple(step)[:3] for step in db.rows("select * from rollout_steps('A')")] == [
        (10, NOON.replace(hour=13), MONDAY),
        (60, MONDAY, FOREVER),
    ]
    clock.advance(hours=1)
    db.rows("delete from segmentation.rollouts where starts_at > clock()")
    assert [tuple(step)[:3] for step in db.rows("select * from rollout_steps('A')")] == [
        (10, NOON.replace(hour=13), FOREVER)
    ]
    recorded = db.rows("select operation, percent, starts_at from segment_history('A')")[3:]
    assert [tuple(change) for change in recorded] == [
        ("set_rollout", 60, FRIDAY),
        ("set_rollout", 60, MONDAY),
        ("cancel_rollout_step", 60, MONDAY),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "update segmentation.rollouts set percent = 90",
        "update segmentation.rollouts set actor = 'eve'",
        "update segmentation.rollouts set reason = 'other'",
        "update segmentation.rollouts set starts_at = starts_at + interval '1 minute'",
        "update segmentation.rollouts set starts_at = clock() + interval '1 day'",
        "update segmentation.rollouts as r set (segment_id, salt) ="
        " (select segment_id, salt from segmentation.segments where slug = 'B')",
        "delete from segmentation.rollouts",
        "insert into segmentation.rollouts (segment_id, salt, percent, starts_at)"
        " select segment_id, salt, 50, created_at from segmentation.segments where slug = 'A'",
    ],
)
def test_a_step_that_has_begun_is_settled(db: Database, clock: Clock, statement: str) -> None:
    db.rows("select set_rollout('A', 10)")
    clock.advance(hours=1)
    before = db.rows("select * from segmentation.rollouts")
    with refuses(ObjectNotInPrerequisiteState):
        db.rows(statement)
    assert db.rows("select * from segmentation.rollouts") == before


def test_a_step_has_the_salt_of_its_segment(db: Database) -> None:
    with pytest.raises(ForeignKeyViolation):
        db.rows(
            "insert into segmentation.rollouts (segment_id, salt, percent)"
            " select segment_id, salt + 1, 50 from segmentation.segments where slug = 'A'"
        )


# segments


def test_an_inserted_segment_is_one_like_any_other(db: Database, clock: Clock) -> None:
    db.rows("insert into segmentation.segments (slug) values ('C')")
    db.rows("select change_user_segments(1002, '{C}')")
    assert db.segments_of(1002) == ["C"]
    assert db.rows("select operation, actor from segment_history('C')") == [("create", "postgres")]


def test_a_segment_deleted_by_an_update_is_deleted_like_any_other(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 100)")
    clock.advance(hours=1)
    db.rows("update segmentation.segments set deleted_at = clock() where slug = 'A'")
    assert db.segments_of(1000) == []
    assert events(db)[-1] == ("A", "remove", clock.now, "segment_deleted", "postgres", None)
    assert db.value("select ends_at from segmentation.rollouts") == clock.now


@pytest.mark.parametrize(
    "change",
    [
        "slug = 'C'",
        "salt = 42",
        "created_at = created_at - interval '1 day'",
        "segment_id = default",
        "deleted_at = created_at",
        "deleted_at = clock() + interval '1 day'",
    ],
)
def test_what_is_settled_of_a_segment_cannot_be_changed(db: Database, change: str) -> None:
    with refuses(ObjectNotInPrerequisiteState):
        db.rows(f"update segmentation.segments set {change} where slug = 'A'")
    assert db.segments_of(1000) == ["A"]


def test_a_deleted_segment_does_not_come_back(db: Database, clock: Clock) -> None:
    db.rows("select delete_segment('A')")
    clock.advance(hours=1)
    for moment in ("'infinity'", "clock()"):
        with refuses(ObjectNotInPrerequisiteState, segment="A"):
            db.rows(f"update segmentation.segments set deleted_at = {moment} where slug = 'A'")


def test_segments_refuse_delete(db: Database) -> None:
    with refuses(ObjectNotInPrerequisiteState):
        db.rows("delete from segmentation.segments")


# truncate, and the history itself


def test_what_keeps_history_refuses_truncate(db: Database) -> None:
    for table in ("memberships", "rollouts", *HISTORY_TABLES):
        with refuses(ObjectNotInPrerequisiteState):
            db.rows(f"truncate segmentation.{table}")
    with pytest.raises(FeatureNotSupported):
        db.rows("truncate segmentation.segments")
    with refuses(ObjectNotInPrerequisiteState):
        db.rows("truncate segmentation.segments cascade")
    assert db.segments_of(1000) == ["A"]


def test_the_history_refuses_update_and_delete(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(1000, remove => '{A}')")
    before = events(db)
    for table in HISTORY_TABLES:
        for statement in (
            f"delete from segmentation.{table}",
            f"update segmentation.{table} set reason = 'other'",
        ):
            with refuses(ObjectNotInPrerequisiteState):
                db.rows(statement)
    assert events(db) == before


def test_each_partition_of_the_history_refuses_them_too(db: Database) -> None:
    partitions = db.column("select partition::text from history_partitions()")
    assert partitions
    for partition in partitions:
        for statement in (
            f"insert into {partition} select * from {partition}",
            f"delete from {partition}",
            f"update {partition} set reason = 'other'",
            f"truncate {partition}",
        ):
            with refuses(ObjectNotInPrerequisiteState):
                db.rows(statement)


def test_a_setting_does_not_open_the_history(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(1000, remove => '{A}')")
    db.rows("set segmentation.forgetting = '1000'")
    for table in HISTORY_TABLES:
        with refuses(ObjectNotInPrerequisiteState):
            db.rows(f"delete from segmentation.{table}")


def test_replication_roles_aside_no_trigger_is_disabled(db: Database) -> None:
    assert (
        db.rows(
            "select tgrelid::regclass, tgname from pg_trigger"
            " where tgenabled <> 'O' and tgrelid::regclass::text like 'segmentation.%%'"
        )
        == []
    )


@pytest.mark.parametrize("table", HISTORY_TABLES)
def test_nobody_writes_the_history_but_the_triggers(db: Database, table: str) -> None:
    """Not even the owner of the tables."""
    db.rows("select change_user_segments(1000, remove => '{A}')")
    before = db.rows(f"select * from segmentation.{table}")
    for role in ("postgres", "segmentation_owner"):
        db.rows(f"set role {role}")
        with refuses(ObjectNotInPrerequisiteState):
            db.rows(f"insert into segmentation.{table} select * from segmentation.{table}")
        db.rows("reset role")
    assert db.rows(f"select * from segmentation.{table}") == before


@pytest.mark.parametrize(
    "statement",
    [
        "insert into segmentation.users (user_id, registered_at) values (7, '2020-01-01Z')",
        "update segmentation.users set registered_at = '2020-01-01Z'",
        "delete from segmentation.users",
        "truncate segmentation.users",
        "update segmentation.retention set kept_since = '-infinity'",
        "delete from segmentation.retention",
        "insert into segmentation.retention default values",
        "truncate segmentation.retention",
        "delete from segmentation.layer_cells",
        "truncate segmentation.layer_cells",
    ],
)
def test_what_decides_how_the_past_looks_takes_no_plain_dml(db: Database, statement: str) -> None:
    before = events(db)
    with refuses(ObjectNotInPrerequisiteState):
        db.rows(statement)
    assert events(db) == before


@pytest.mark.parametrize(
    "change", ["created_at = '2020-01-01Z'", "created_at = '2100-01-01Z'", "deleted_at = clock()"]
)
def test_a_segment_begins_now(db: Database, clock: Clock, change: str) -> None:
    column, value = change.split(" = ")
    with refuses(ObjectNotInPrerequisiteState, segment="C"):
        db.rows(f"insert into segmentation.segments (slug, {column}) values ('C', {value})")


# Who it was


@pytest.fixture
def pretending(db: Database) -> Database:
    """A DBA whose session names somebody else wherever it can."""
    db.rows("set segmentation.actor = 'eve'")
    return db


def test_whatever_is_set_or_written_the_login_is_the_actor(pretending: Database, clock: Clock) -> None:
    db = pretending
    db.rows(
        "insert into segmentation.memberships (user_id, segment_id, actor, reason, ends_at, end_actor, decided_at)"
        " values (7, 1, 'eve', 'why', %s, 'eve', '2100-01-01Z')",
        FRIDAY,
    )
    assert events(db, 7) == [("A", "add", clock.now, "assigned", "postgres", "why")]
    clock.set(FRIDAY)
    assert events(db, 7)[1] == ("A", "remove", FRIDAY, "expired", "postgres", None)
    db.rows(
        "update segmentation.memberships set ends_at = clock() + interval '1 hour', end_actor = 'eve' where user_id = 1000"
    )
    removed = clock.advance(minutes=1)
    db.rows("delete from segmentation.memberships where user_id = 1000")
    assert events(db)[1] == ("A", "remove", removed, "removed", "postgres", None)
    db.rows(
        "insert into segmentation.rollouts (segment_id, salt, percent, actor) select segment_id, salt, 10, 'eve' from segmentation.segments where slug = 'A'"
    )
    db.rows("update segmentation.segments set description = 'new' where slug = 'A'")
    assert db.value("select actor from rollout_steps('A')") == "postgres"
    assert "eve" not in db.column("select actor from segment_history('A')")


def test_who_set_an_end_cannot_be_rewritten(pretending: Database, clock: Clock) -> None:
    db = pretending
    db.rows(
        "select change_user_segments(1000, '{A}', expires_at => %s, actor => 'ann', reason => 'trial')",
        FRIDAY,
    )
    db.rows("update segmentation.memberships set end_actor = 'eve', end_reason = 'other'")
    clock.set(FRIDAY)
    assert events(db)[1] == ("A", "remove", FRIDAY, "expired", "ann", "trial")


def test_an_end_that_is_typed_is_the_logins(pretending: Database, clock: Clock) -> None:
    db = pretending
    db.rows("set segmentation.reason = 'cleaned up'")
    db.rows("update segmentation.memberships set ends_at = %s, end_actor = 'eve'", FRIDAY)
    clock.set(FRIDAY)
    assert events(db)[1] == ("A", "remove", FRIDAY, "expired", "postgres", "cleaned up")


def test_a_failed_statement_leaves_no_history(db: Database, clock: Clock) -> None:
    before = events(db)
    with pytest.raises(psycopg.Error), db.connection.transaction():
        db.rows("delete from segmentation.memberships")
        db.rows("select 1 / 0")
    assert events(db) == before
    assert db.segments_of(1000) == ["A"]
