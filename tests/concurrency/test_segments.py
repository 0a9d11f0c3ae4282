"""Changes of one segment at once: one at a time; nobody else waits for them."""

from collections.abc import Callable

import pytest
from psycopg.errors import NoDataFound, UniqueViolation

from tests.concurrency.conftest import Session, Waits, race
from tests.conftest import Clock, Database
from tests.expect import FOREVER, refuses

Consistent = Callable[[], None]
Open = Callable[..., Session]


def test_one_slug_is_created_once(db: Database, session: Open, waits: Waits) -> None:
    with refuses(UniqueViolation, segment="A"):
        race(session(), session(), waits, "select create_segment('A', 10)", "select create_segment('A', 20)")
    assert db.rows("select slug, percent from list_segments()") == [("A", 10)]


def test_a_slug_whose_creation_was_undone_is_free(db: Database, session: Open, waits: Waits) -> None:
    race(
        session(),
        session(),
        waits,
        "select create_segment('A', 10)",
        "select create_segment('A', 20)",
        commit=False,
    )
    assert db.rows("select slug, percent from list_segments()") == [("A", 20)]


def test_a_slug_is_free_as_soon_as_its_segment_is_deleted(db: Database, session: Open, waits: Waits) -> None:
    db.rows("select create_segment('A', 10)")
    race(session(), session(), waits, "select delete_segment('A')", "select create_segment('A', 20)")
    assert db.rows("select slug, percent from list_segments()") == [("A", 20)]
    lives = db.rows("select created_at, deleted_at from segmentation.segments order by created_at")
    assert lives[0].deleted_at <= lives[1].created_at


def test_the_lives_of_a_slug_never_overlap(db: Database, clock: Clock, session: Open, waits: Waits) -> None:
    """A creation waits while the old segment is changed and deleted, and is stamped after both."""
    db.rows("select create_segment('A')")
    clock.advance(hours=1)
    deleter, creator = session(), session()
    deleter.rows("begin")
    deleter.rows("select update_segment('A', 'soon gone')")
    running = creator.start("select create_segment('A')")
    waits(creator, running)
    clock.advance(hours=1)
    deleter.rows("select delete_segment('A')")
    deleter.rows("commit")
    running.result()
    old, new = db.rows("select created_at, deleted_at from segmentation.segments order by segment_id")
    assert old.deleted_at <= new.created_at


def test_two_rollout_changes_are_two_steps_that_join(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    db.rows("select create_segment('A', 10)")
    db.rows("select register_users(array(select generate_series(1, 50)))")
    race(session(), session(), waits, "select set_rollout('A', 60)", "select set_rollout('A', 30)")
    steps = db.rows("select percent, starts_at, ends_at from rollout_steps('A')")
    assert [step.percent for step in steps] == [10, 60, 30]
    assert [step.ends_at for step in steps] == [steps[1].starts_at, steps[2].starts_at, FOREVER]
    assert all(step.starts_at < step.ends_at for step in steps)
    consistent()


def test_two_changes_to_the_same_percentage_are_one_step(db: Database, session: Open, waits: Waits) -> None:
    db.rows("select create_segment('A', 10)")
    race(session(), session(), waits, "select set_rollout('A', 60)", "select set_rollout('A', 60)")
    assert db.column("select percent from rollout_steps('A')") == [10, 60]


def test_a_step_set_and_cancelled_at_once(db: Database, session: Open, waits: Waits) -> None:
    db.rows("select create_segment('A', 10)")
    race(
        session(),
        session(),
        waits,
        "select set_rollout('A', 60, '2100-01-01Z')",
        "select cancel_rollout_step('A', '2100-01-01Z')",
    )
    assert db.column("select percent from rollout_steps('A')") == [10]


def test_two_descriptions_are_both_recorded_and_the_later_stays(
    db: Database, session: Open, waits: Waits
) -> None:
    db.rows("select create_segment('A')")
    race(
        session(), session(), waits, "select update_segment('A', 'one')", "select update_segment('A', 'two')"
    )
    assert db.value("select description from get_segment('A')") == "two"
    assert db.column("select description from segment_history('A') where operation = 'describe'") == [
        "one",
        "two",
    ]


def test_two_deletions_are_one(db: Database, session: Open, waits: Waits) -> None:
    db.rows("select create_segment('A')")
    with refuses(NoDataFound, segment="A"):
        race(session(), session(), waits, "select delete_segment('A')", "select delete_segment('A')")
    assert db.column("select operation from segment_history('A')") == ["create", "delete"]


@pytest.mark.parametrize(
    "change",
    ["set_rollout('A', 30)", "update_segment('A', 'new')", "cancel_rollout_step('A', '2100-01-01Z')"],
)
def test_a_change_that_waited_for_the_deletion_finds_nothing(
    db: Database, session: Open, waits: Waits, change: str
) -> None:
    db.rows("select create_segment('A', 10)")
    with refuses(NoDataFound, segment="A"):
        race(session(), session(), waits, "select delete_segment('A')", f"select {change}")
    assert db.value("select count(*) from segmentation.rollouts") == 1


def test_lists_that_replace_each_other_do_not_overtake_a_deletion(
    db: Database, session: Open, waits: Waits
) -> None:
    db.rows("select create_segment('A')")
    replace = "select removed from change_segment_members('A', '{%s}', 'replace')"
    first, deleter, second = session(), session(), session()
    first.rows("begin")
    first.rows(replace % 1)
    deletion = deleter.start("select delete_segment('A')")
    waits(deleter, deletion)
    replacement = second.start(replace % 2)
    waits(second, replacement)
    first.rows("commit")
    deletion.result()
    with refuses(NoDataFound, segment="A"):
        replacement.result()


def test_a_change_that_waited_while_the_slug_changed_hands_goes_to_the_new_segment(
    db: Database, session: Open, waits: Waits
) -> None:
    db.rows("select create_segment('A', 10)")
    for change in ("select set_rollout('A', 30)", "select update_segment('A', 'new')"):
        first, then = session(), session()
        first.rows("begin")
        first.rows("select delete_segment('A')")
        first.rows("select create_segment('A', 20)")
        running = then.start(change)
        waits(then, running)
        first.rows("commit")
        running.result()
    assert db.row("select percent, description from get_segment('A')") == (20, "new")
    assert db.column("select percent from rollout_steps('A')") == [20]
    assert db.value("select count(*) from segmentation.rollouts where percent = 30") == 1


def test_a_rollout_change_does_not_wait_for_an_import_nor_an_import_for_it(
    db: Database, session: Open
) -> None:
    db.rows("select create_segment('A')")
    importer, changer = session(lock_timeout="1s"), session(lock_timeout="1s")
    importer.rows("begin")
    importer.rows("select change_segment_members('A', '{1,2,3}')")
    changer.rows("begin")
    changer.rows("select set_rollout('A', 30)")
    changer.rows("select update_segment('A', 'new')")
    importer.rows("select change_segment_members('A', '{4,5,6}')")
    importer.rows("commit")
    changer.rows("commit")
    assert db.value("select assigned from segment_stats('A')") == 6


def test_changes_of_different_segments_do_not_wait_for_each_other(db: Database, session: Open) -> None:
    for slug in ("A", "B", "C"):
        db.rows("select create_segment(%s)", slug)
    one, other = session(), session(lock_timeout="1s")
    one.rows("begin")
    for change in (
        "set_rollout('A', 30)",
        "update_segment('A', 'new')",
        "delete_segment('B')",
        "create_segment('D')",
    ):
        one.rows(f"select {change}")
    for change in (
        "set_rollout('C', 30)",
        "update_segment('C', 'new')",
        "delete_segment('C')",
        "create_segment('E')",
    ):
        other.rows(f"select {change}")
    one.rows("commit")
    assert db.column("select slug from list_segments()") == ["A", "D", "E"]


def test_a_deletion_that_waits_for_a_forgotten_transaction_holds_up_nobody_else(
    db: Database, session: Open, waits: Waits, consistent: Consistent
) -> None:
    for slug in ("A", "B"):
        db.rows("select create_segment(%s)", slug)
    forgotten, deleter, writer = session(), session(), session(lock_timeout="1s")
    forgotten.rows("begin")
    forgotten.rows("select change_user_segments(1000, '{A}')")
    running = deleter.start("select delete_segment('A')")
    waits(deleter, running)
    for change in (
        "change_user_segments(1002, '{A,B}')",
        "change_segment_members('A', '{1004,1006}')",
        "set_rollout('A', 10)",
        "update_segment('A', 'new')",
    ):
        writer.rows(f"select {change}")
    forgotten.rows("commit")
    running.result()
    assert [event[1:] for event in db.events_of(1002) if event[0] == "A"] == [
        ("add", "assigned"),
        ("remove", "segment_deleted"),
    ]
    consistent()


def test_no_login_can_lock_out_writers_by_an_advisory_lock(db: Database, session: Open) -> None:
    """Any login may take any advisory lock: none of ours makes a writer, the sweep or a deletion wait."""
    db.rows("select create_segment('A', 10)")
    taken = session()
    watcher = session()
    changes = (
        "select change_user_segments(1000, '{A}')",
        "select change_user_segments(1000, '{}', '{A}')",
        "select change_segment_members('A', '{1000}', 'replace')",
        "select set_rollout('A', 20)",
        "call sweep()",
        "select ensure_history_partitions(6)",
        "select delete_segment('A')",
    )
    for change in changes:
        if not change.startswith("call"):
            taken.rows("begin")
        taken.rows(change)
        assert (
            watcher.rows("select objid from pg_locks where locktype = 'advisory' and mode <> 'ShareLock'")
            == []
        ), change
        if not change.startswith("call"):
            taken.rows("rollback")


def test_a_login_that_holds_the_locks_of_writers_keeps_none_of_them_waiting(
    db: Database, clock: Clock, session: Open
) -> None:
    db.rows("select create_segment('A')")
    taken = session()
    taken.rows("begin")
    taken.rows(
        "select pg_advisory_xact_lock(segmentation.writer_key(at)) from generate_series("
        " segmentation.clock() - interval '1 s', segmentation.clock() + interval '1 s', '1 ms') as at"
    )
    db.rows("set lock_timeout = '1ms'")
    db.rows("select change_user_segments(1000, '{A}')")
    taken.rows("rollback")
    assert [slug for slug, _, _ in db.events_of(1000)] == ["A"]
    # Stamped a little later than it was, it holds at once all the same.
    assert db.column("select segment from user_segments(1000)") == ["A"]


@pytest.mark.parametrize(
    "change",
    [
        "change_user_segments(1000, '{A}')",
        "change_segment_members('A', '{1000}')",
        "set_rollout('A', 10)",
        "update_segment('A', 'new')",
        "delete_segment('A')",
    ],
)
def test_a_forgotten_transaction_of_a_person_ends_by_itself(db: Database, session: Open, change: str) -> None:
    db.rows("select create_segment('A')")
    person, service = session(), session(lock_timeout="777ms")
    for one in (person, service):
        one.rows("begin")
    person.rows(f"select {change}")
    assert person.value("show idle_in_transaction_session_timeout") == "1min"
    assert person.value("show lock_timeout") == "5s"
    person.rows("rollback")
    service.rows(f"select {change}")
    assert service.value("show lock_timeout") == "777ms"
    service.rows("rollback")
    assert person.value("show idle_in_transaction_session_timeout") == "0"
