"""segment_members and segment_stats: who is in a segment, listed and counted as the reads tell it."""

from datetime import UTC, datetime, timedelta

import pytest
from psycopg.errors import InvalidParameterValue

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.fixture(autouse=True)
def everything(db: Database, clock: Clock) -> None:
    """Users 1 to 60 in A by all ways, and moments later; B and C beside it."""
    db.rows("select create_segment('A', 30)")
    db.rows("select create_segment('B', 100)")
    db.rows("select create_segment('C')")
    db.rows("select register_users(array(select generate_series(1, 50)))")
    clock.advance(hours=1)
    db.rows("select change_segment_members('A', array(select generate_series(1, 50, 7)))")
    db.rows("select change_segment_members('A', array(select generate_series(2, 50, 7)), 'remove')")
    db.rows(
        "select change_segment_members('A', array(select generate_series(3, 50, 7)), expires_at => %s)",
        FRIDAY,
    )
    db.rows(
        "select change_segment_members('A', array(select generate_series(4, 50, 7)), starts_at => %s)", MONDAY
    )
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 60, %s)", FRIDAY)
    db.rows("select register_users(array(select generate_series(51, 60)))")
    clock.advance(hours=1)


def members(db: Database, at: datetime | None = None) -> list[tuple]:
    """segment_members of A."""
    return [tuple(row) for row in db.rows("select * from segment_members('A', %s)", at)]


def by_reads(db: Database, at: datetime | None = None) -> list[tuple]:
    """The same from user_segments of every known user."""
    return [
        tuple(row)
        for row in db.rows(
            "select u.user_id, s.source, s.since, s.until"
            " from (select user_id from segmentation.users order by user_id) as u"
            " cross join lateral user_segments(u.user_id, %s) as s where s.segment = 'A' order by 1",
            at,
        )
    ]


def test_members_are_those_whom_the_reads_tell_so(db: Database, clock: Clock) -> None:
    for moment in (clock.now, FRIDAY, MONDAY, MONDAY + timedelta(days=60)):
        clock.set(moment)
        db.rows("call sweep()")
        listed = members(db)
        assert listed == by_reads(db)
        assert [row[0] for row in listed] == [
            user_id for user_id in range(1, 61) if "A" in db.segments_of(user_id)
        ]


def test_members_of_any_moment_are_those_whom_the_reads_tell_so(db: Database, clock: Clock) -> None:
    clock.set(FRIDAY + timedelta(days=1))
    db.rows("call sweep()")
    for at in (
        NOON - INSTANT,
        NOON,
        NOON + timedelta(hours=1),
        NOON + timedelta(hours=2),
        FRIDAY - INSTANT,
        FRIDAY,
        MONDAY,
        MONDAY + timedelta(days=400),
    ):
        assert members(db, at) == by_reads(db, at), at


def test_stats_count_what_the_reads_tell(db: Database, clock: Clock) -> None:
    for moment in (clock.now, FRIDAY, MONDAY):
        clock.set(moment)
        stats = db.row("select * from segment_stats('A')")
        sources = db.column(
            "select e.source from segmentation.users as u"
            " cross join lateral explain_membership(u.user_id, 'A') as e"
        )
        assert stats.assigned == sources.count("assignment")
        assert stats.excluded == sources.count("exclusion")
        assert stats.rolled_out == sources.count("rollout")
        assert stats.members == stats.assigned + stats.rolled_out == len(members(db))


def test_stats_of_everybody_and_of_nobody(db: Database) -> None:
    assert tuple(db.row("select * from segment_stats('B')")) == (0, 0, 60, 60, 100, 100, None)
    assert tuple(db.row("select * from segment_stats('C')")) == (0, 0, 0, 0, 0, 0, None)


def test_members_come_a_page_at_a_time(db: Database) -> None:
    everybody = members(db)
    for max_rows in (1, 7, len(everybody), 1000):
        listed: list[tuple] = []
        after = None
        while page := [
            tuple(row)
            for row in db.rows(
                "select * from segment_members('A', after => %s, max_rows => %s)", after, max_rows
            )
        ]:
            assert len(page) <= max_rows
            listed += page
            after = page[-1][0]
        assert listed == everybody


def test_more_members_than_a_page_of_the_function_holds_are_listed_in_full(db: Database) -> None:
    db.rows("select change_segment_members('C', array(select generate_series(1, 25001)))")
    assert db.column("select user_id from segment_members('C')") == list(range(1, 25_002))
    assert db.column("select user_id from segment_members('C', max_rows => 20001)")[-1] == 20_001


def test_after_the_last_there_is_nobody(db: Database) -> None:
    assert db.rows("select * from segment_members('B', after => 60)") == []
    assert db.rows("select * from segment_members('B', after => 9223372036854775807)") == []
    assert db.column("select user_id from segment_members('B', after => -5, max_rows => 1)") == [1]


def test_wrong_bounds_are_refused(db: Database) -> None:
    for max_rows in (0, -1):
        with refuses(InvalidParameterValue, max_rows=max_rows):
            db.rows("select * from segment_members('A', max_rows => %s)", max_rows)
    for at in ("infinity", "-infinity"):
        with refuses(InvalidParameterValue, at=at):
            db.rows("select * from segment_members('A', %s::timestamptz)", at)


def test_a_member_says_by_what_since_when_and_until_when(db: Database, clock: Clock) -> None:
    held = 1000
    db.rows("select change_segment_members('C', array[%s]::bigint[], expires_at => %s)", held, MONDAY)
    assert [tuple(row) for row in db.rows("select * from segment_members('C')")] == [
        (held, "assignment", clock.now, MONDAY)
    ]
    assert tuple(db.rows("select * from segment_members('B')")[0]) == (1, "rollout", NOON, FOREVER)


def test_a_deleted_segment_has_had_members(db: Database, clock: Clock) -> None:
    deleted = clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.advance(hours=1)
    db.rows("select create_segment('A')")
    assert members(db) == []
    assert members(db, deleted) == []
    before = members(db, deleted - INSTANT)
    assert before == by_reads(db, deleted - INSTANT) != []
    db.rows("call sweep()")
    assert members(db, deleted - INSTANT) == before
