"""Writers of one user and one segment: they take turns, each effective change is one event, none is lost."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg.errors import ForeignKeyViolation, NoDataFound, SerializationFailure

from tests.concurrency.conftest import Session, Waits, race
from tests.conftest import Clock, Database
from tests.expect import refuses

Consistent = Callable[[], None]
Open = Callable[..., Session]

ADD = "select * from change_user_segments(1000, '{A}')"
REMOVE = "select * from change_user_segments(1000, remove => '{A}')"


@pytest.fixture(autouse=True)
def segments(db: Database) -> None:
    """Segments A and B that roll out to nobody."""
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B')")


def times(db: Database) -> list[Any]:
    """The times of the events of user 1000."""
    return db.column("select at from user_history(1000)")


def test_two_additions_are_one_event(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    assert race(session(), session(), waits, ADD, ADD) == [("A", "unchanged")]
    assert db.events_of(1000) == [("A", "add", "assigned")]
    consistent()


def test_an_addition_undone_is_none(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    assert race(session(), session(), waits, ADD, ADD, commit=False) == [("A", "added")]
    assert db.events_of(1000) == [("A", "add", "assigned")]
    consistent()


def test_two_removals_are_one_event(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    db.rows(ADD)
    assert race(session(), session(), waits, REMOVE, REMOVE) == [("A", "unchanged")]
    assert db.events_of(1000) == [("A", "add", "assigned"), ("A", "remove", "removed")]
    consistent()


def test_a_removal_that_waited_for_the_addition_comes_after_it(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    assert race(session(), session(), waits, ADD, REMOVE) == [("A", "removed")]
    assert db.events_of(1000) == [("A", "add", "assigned"), ("A", "remove", "removed")]
    assert times(db) == sorted(set(times(db)))
    consistent()


def test_an_addition_that_waited_for_the_removal_comes_after_it(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    db.rows(ADD)
    assert race(session(), session(), waits, REMOVE, ADD) == [("A", "added")]
    assert [operation for _, operation, _ in db.events_of(1000)] == ["add", "remove", "add"]
    assert times(db) == sorted(set(times(db)))
    consistent()


def test_a_transaction_that_began_first_and_came_second_is_stamped_second(
    db: Database, session: Open, consistent: Consistent
) -> None:
    early, late = session(), session()
    early.rows("begin")
    early.rows("select 1")
    late.rows(ADD)
    early.rows(REMOVE)
    early.rows("commit")
    assert [operation for _, operation, _ in db.events_of(1000)] == ["add", "remove"]
    assert times(db) == sorted(set(times(db)))
    consistent()


def test_a_removal_and_an_addition_of_a_rolled_out_user(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    db.rows("select set_rollout('A', 100)")
    db.segments_of(1000)
    assert race(session(), session(), waits, REMOVE, ADD) == [("A", "added")]
    assert [operation for _, operation, _ in db.events_of(1000)] == ["add", "remove", "add"]
    assert race(session(), session(), waits, ADD.replace("'{A}'", "'{B}'"), REMOVE) == [("A", "removed")]
    assert db.segments_of(1000) == ["B"]
    consistent()


def test_different_segments_of_one_user_are_both_kept(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    race(session(), session(), waits, ADD, ADD.replace("'{A}'", "'{B}'"))
    assert db.segments_of(1000) == ["A", "B"]
    consistent()


def test_different_users_do_not_wait_for_each_other(
    db: Database, session: Open, consistent: Consistent
) -> None:
    first, other = session(), session(lock_timeout="1s")
    first.rows("begin")
    first.rows(ADD)
    assert other.rows("select change from change_user_segments(1002, '{A}')") == [("added",)]
    assert other.rows("select changed from change_segment_members('A', '{1004,1006}')") == [(2,)]
    first.rows("commit")
    consistent()


def test_a_rollout_raised_in_the_middle_of_a_removal_makes_no_second_period(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    """A removal looks at the rollout once, however long it then takes to write."""
    db.rows(ADD)
    for partition in db.column("select partition::text from history_partitions()"):
        db.rows(f"drop table {partition}")
    holder, raiser, remover = session(), session(), session()
    holder.rows("begin")
    holder.rows("lock table segmentation.membership_history in share update exclusive mode")
    raiser.rows("begin")
    raiser.rows("select set_rollout('A', 100)")
    running = remover.start(REMOVE)
    waits(remover, running)
    raiser.rows("commit")
    holder.rows("commit")
    assert running.result() == [("A", "removed")]
    consistent()


# Deleting the segment meanwhile.


def test_a_deletion_waits_for_an_addition_and_takes_it_along(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    race(session(), session(), waits, ADD, "select delete_segment('A')")
    assert db.segments_of(1000) == []
    assert db.events_of(1000) == [("A", "add", "assigned"), ("A", "remove", "segment_deleted")]
    db.rows("call sweep()")
    assert db.events_of(1000) == [("A", "add", "assigned"), ("A", "remove", "segment_deleted")]
    consistent()


def test_an_addition_waits_for_a_deletion_and_is_refused(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    with refuses(ForeignKeyViolation, unknown_segments=["A"]):
        race(session(), session(), waits, "select delete_segment('A')", ADD)
    with refuses(NoDataFound, segment="B"):
        race(
            session(),
            session(),
            waits,
            "select delete_segment('B')",
            "select change_segment_members('B', '{1000}')",
        )
    assert db.events_of(1000) == []
    consistent()


def test_an_addition_that_waited_for_a_deletion_undone_goes_through(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    assert race(session(), session(), waits, "select delete_segment('A')", ADD, commit=False) == [
        ("A", "added")
    ]
    assert db.segments_of(1000) == ["A"]
    consistent()


# Bulk.


def test_two_imports_of_the_same_ids_make_one_assignment_and_one_event_each(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    answer = race(
        session(),
        session(),
        waits,
        "select change_segment_members('A', array(select generate_series(1, 60)))",
        "select * from change_segment_members('A', array(select generate_series(31, 90)))",
    )
    assert [row[:3] for row in answer] == [(60, 30, 30)]
    assert db.value("select count(*) from segmentation.memberships") == 90
    assert {tuple(db.events_of(user_id)) for user_id in range(1, 91)} == {(("A", "add", "assigned"),)}
    consistent()


REPLACE = "select added, removed from change_segment_members('A', '{{{}}}', 'replace')"


def test_two_lists_are_in_order_and_the_second_sees_the_first(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    db.rows(REPLACE.format("1,2,3"))
    assert race(session(), session(), waits, REPLACE.format("3,4"), REPLACE.format("4,5")) == [(1, 1)]
    assert db.column("select user_id from segment_members('A')") == [4, 5]
    assert race(session(), session(), waits, REPLACE.format("9"), REPLACE.format("4"), commit=False) == [
        (0, 1)
    ]
    assert db.column("select user_id from segment_members('A')") == [4]
    consistent()


def test_a_list_that_waited_for_an_exception_of_support_leaves_it_alone(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    by_support = "select change_user_segments(7, '{A}', expires_at => 'tomorrow', actor => 'support')"
    assert race(session(), session(), waits, by_support, REPLACE.format("7,8")) == [(1, 0)]
    assert db.row("select actor from segmentation.memberships where user_id = 7") == ("support",)
    assert db.value("select until < 'infinity' from user_segments(7)")
    consistent()


def test_two_registrations_of_the_same_ids_know_them_once(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    race(session(), session(), waits, "select register_users('{1,2,3}')", "select register_users('{4,3,2}')")
    assert db.column("select user_id from segmentation.users order by 1") == [1, 2, 3, 4]
    consistent()


def test_plain_dml_that_was_quicker_is_told_and_nothing_is_lost(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    """A plain INSERT holds none of the functions' locks."""
    db.rows("select register_users('{1000}')")
    with refuses(SerializationFailure):
        race(
            session(),
            session(),
            waits,
            "insert into segmentation.memberships (user_id, segment_id) values (1000, 1)",
            ADD,
        )
    assert db.events_of(1000) == [("A", "add", "assigned")]
    assert db.rows(ADD) == [("A", "unchanged")]
    consistent()


# Expiry meanwhile.


def tomorrow(db: Database) -> datetime:
    """A moment after all that the running clock has stamped."""
    return db.value("select clock_timestamp() + interval '1 day'")


@pytest.fixture
def expired(db: Database, clock: Clock) -> Any:
    """1000 and 1002 were in A until a moment ago; returns that moment."""
    began = tomorrow(db)
    clock.set(began)
    end = began + timedelta(hours=1)
    db.rows("select change_segment_members('A', '{1000,1002}', expires_at => %s)", end)
    clock.set(end + timedelta(microseconds=1))
    return end


def history_of_a_return(db: Database, clock: Clock, end: Any) -> bool:
    """Whether 1000 got in, out at the exact end, and in again now."""
    events = db.rows("select operation, at, cause from user_history(1000)")
    return [tuple(event) for event in events][1:] == [
        ("remove", end, "expired"),
        ("add", clock.now, "assigned"),
    ]


def test_an_addition_waits_for_the_sweep_of_its_row_and_is_not_lost(
    db: Database, clock: Clock, expired: Any, session: Open, waits: Waits, consistent: Consistent
) -> None:
    assert race(session(), session(), waits, "select expire_memberships(100)", ADD) == [("A", "added")]
    assert db.segments_of(1000) == ["A"]
    assert history_of_a_return(db, clock, expired)
    consistent()


def test_a_sweep_leaves_a_row_that_is_being_added_again(
    db: Database, clock: Clock, expired: Any, session: Open, consistent: Consistent
) -> None:
    writer, sweeper = session(), session(lock_timeout="1s")
    writer.rows("begin")
    writer.rows(ADD)
    assert sweeper.value("select expire_memberships(100)") == 1
    writer.rows("commit")
    assert db.segments_of(1000) == ["A"]
    assert history_of_a_return(db, clock, expired)
    assert sweeper.value("select expire_memberships(100)") == 0
    consistent()


def test_a_new_end_set_just_before_the_old_one_wins_over_the_sweep(
    db: Database, clock: Clock, session: Open, consistent: Consistent
) -> None:
    began = tomorrow(db)
    clock.set(began)
    end = began + timedelta(hours=1)
    db.rows("select change_user_segments(1000, '{A}', expires_at => %s)", end)
    writer, sweeper = session(), session(lock_timeout="1s")
    writer.rows("begin")
    writer.rows(ADD)
    clock.set(end)
    assert sweeper.value("select expire_memberships(100)") == 0
    writer.rows("commit")
    assert sweeper.value("select expire_memberships(100)") == 0
    assert [tuple(event) for event in db.rows("select operation, at from user_history(1000)")] == [
        ("add", began)
    ]
    assert db.segments_of(1000) == ["A"]
    consistent()


# Forgetting meanwhile.


def test_an_addition_that_waited_for_a_forgetting_begins_anew(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    db.rows("select change_user_segments(1000, '{B}')")
    assert race(session(), session(), waits, "select forget_user(1000)", ADD) == [("A", "added")]
    assert db.segments_of(1000) == ["A"]
    assert db.events_of(1000) == [("A", "add", "assigned")]
    consistent()


def test_an_addition_that_waited_for_a_forgetting_makes_the_user_known(
    db: Database, session: Open, waits: Waits
) -> None:
    db.rows("select change_user_segments(1000, '{B}')")
    race(session(), session(), waits, "select forget_user(1000)", ADD)
    known = db.rows(
        "select u.registered_at <= m.starts_at from segmentation.users as u"
        " join segmentation.memberships as m using (user_id) where user_id = 1000"
    )
    assert known == [(True,)]


def test_a_forgetting_that_waited_for_an_addition_takes_it_along(
    db: Database, session: Open, waits: Waits
) -> None:
    for known in (False, True):
        if known:
            db.rows("select change_user_segments(1000, '{B}')")
        race(session(), session(), waits, ADD, "select forget_user(1000)")
        for table in ("users", "memberships", "membership_history"):
            assert db.value(f"select count(*) from segmentation.{table}") == 0


def test_a_forgetting_that_waited_for_the_sweep_leaves_nothing(
    db: Database, expired: Any, session: Open, waits: Waits
) -> None:
    race(session(), session(), waits, "select expire_memberships(100)", "select forget_user(1000)")
    for table in ("users", "memberships", "membership_history"):
        assert db.value(f"select count(*) from segmentation.{table} where user_id = 1000") == 0


def test_a_sweep_leaves_the_rows_of_a_user_who_is_being_forgotten(
    db: Database, expired: Any, session: Open
) -> None:
    eraser, sweeper = session(), session(lock_timeout="1s")
    eraser.rows("begin")
    eraser.rows("select forget_user(1000)")
    assert sweeper.value("select expire_memberships(100)") == 1
    eraser.rows("commit")
    for table in ("users", "memberships", "membership_history"):
        assert db.value(f"select count(*) from segmentation.{table} where user_id = 1000") == 0
