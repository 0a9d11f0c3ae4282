"""Reads wait for nobody, and nobody waits for a read."""

from collections.abc import Callable

import pytest

from tests.concurrency.conftest import Session
from tests.conftest import Database

Open = Callable[..., Session]
READS = (
    "select * from users_segments('{1}')",
    "select * from user_segments(1)",
    "select * from explain_membership(1, 'A')",
    "select * from user_history(1)",
    "select * from segment_members('A')",
    "select * from segment_stats('A')",
    "select * from list_segments()",
    "select * from service_status()",
)


@pytest.fixture(autouse=True)
def segments(db: Database) -> None:
    """A and B, half rolled out; user 1 assigned to A."""
    for slug in ("A", "B"):
        db.rows("select create_segment(%s, 50)", slug)
    db.rows("select change_user_segments(1, '{A}')")


def test_reads_do_not_wait_for_changes_under_way(db: Database, session: Open) -> None:
    reader = session(lock_timeout="1s")
    before = [reader.rows(read) for read in READS[:-1]]
    for change in (
        "change_user_segments(1, '{B}', '{A}')",
        "change_segment_members('A', '{1,2,3}', 'remove')",
        "set_rollout('A', 100)",
        "delete_segment('A')",
        "forget_user(1)",
        "expire_memberships(100)",
        "ensure_history_partitions(100)",
    ):
        writer = session()
        writer.rows("begin")
        writer.rows(f"select {change}")
        assert [reader.rows(read) for read in READS[:-1]] == before, change
        reader.rows(READS[-1])
        writer.rows("rollback")


def test_a_read_does_not_wait_for_an_import_that_brings_its_user(db: Database, session: Open) -> None:
    """A user is first seen by an import and a page view at once: the page does not wait for a million rows."""
    importer, reader = session(), session(lock_timeout="2s")
    importer.rows("begin")
    importer.rows("select change_segment_members('A', array(select generate_series(1001, 2000)))")
    for read in ("users_segments('{1500}')", "user_segments(1501)", "user_history(1502)"):
        reader.rows(f"select * from {read}")
    importer.rows("commit")
    assert "A" in db.segments_of(1500)


def test_two_reads_of_a_user_never_seen_know_it_once(db: Database, session: Open) -> None:
    sessions = [session() for _ in range(4)]
    for user_id in range(5000, 5030):
        running = [
            one.start("select segments from users_segments(array[%s::bigint])", user_id) for one in sessions
        ]
        assert len({str(future.result()) for future in running}) == 1
    assert db.value("select count(*) from segmentation.users where user_id >= 5000") == 30


def test_a_long_report_holds_nobody_up(db: Database, session: Open) -> None:
    reporter, writer = session(), session(lock_timeout="1s")
    reporter.rows("begin isolation level repeatable read")
    reporter.rows("select * from history_report(to_char(clock() at time zone 'UTC', 'YYYY-MM'))")
    for change in (
        "change_user_segments(1, remove => '{A}')",
        "set_rollout('A', 100)",
        "delete_segment('B')",
        "forget_user(1)",
        "expire_memberships(100)",
        "ensure_history_partitions(100)",
    ):
        writer.rows(f"select {change}")
    reporter.rows("commit")
