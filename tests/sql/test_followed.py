"""settled_until and membership_changes: asked stretch after stretch, every change comes once, as the report has it."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.errors import InvalidParameterValue, ObjectNotInPrerequisiteState

from tests.conftest import NOON, Clock, Database
from tests.expect import refuses

MONTH = datetime(2026, 11, 1, tzinfo=UTC)
TOLERANCE = timedelta(milliseconds=100)


def changes(db: Database, from_time: datetime, to_time: datetime | None = None) -> list[tuple[Any, ...]]:
    """The rows of one stretch."""
    return [tuple(row) for row in db.rows("select * from membership_changes(%s, %s)", from_time, to_time)]


def report(db: Database) -> list[tuple[Any, ...]]:
    """The rows of the month's report, by time."""
    rows = [tuple(row) for row in db.rows("select * from history_report('2026-11')")]
    return sorted(rows, key=lambda row: (row[3], row[0], row[1], row[2] == "add"))


def test_what_is_settled_is_a_moment_behind_the_clock(db: Database, clock: Clock) -> None:
    assert db.value("select settled_until()") == NOON - TOLERANCE
    clock.advance(hours=1)
    assert db.value("select settled_until()") == NOON + timedelta(hours=1) - TOLERANCE


def test_every_kind_of_change_is_there_as_the_report_has_it(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select create_segment('R', 50)")
    clock.advance(hours=1)
    db.rows("select register_users(array(select generate_series(1, 20)))")
    clock.advance(hours=1)
    db.rows("select change_segment_members('A', '{1,2,3}', expires_at => clock() + interval '1 hour')")
    db.rows("select change_segment_members('A', '{4}', starts_at => clock() + interval '90 minutes')")
    db.rows("select set_rollout('R', 80, clock() + interval '2 hours')")
    clock.advance(minutes=1)
    db.rows("select change_user_segments(user_id, remove => '{R}') from segment_members('R') limit 3")
    clock.advance(hours=1)
    db.rows("select expire_memberships()")
    db.rows(
        "insert into segmentation.memberships (user_id, segment_id) select 20, segment_id from segmentation.segments"
    )
    clock.advance(hours=2)
    db.rows("delete from segmentation.memberships where user_id = 20")
    db.rows("select delete_segment('R')")
    clock.advance(hours=1)
    expected = report(db)
    assert {row[2] for row in expected} == {"add", "remove"}
    assert len(expected) > 20
    assert changes(db, MONTH) == expected
    # No rollout moves in these.
    for hours in range(1, 7):
        start, end = NOON + timedelta(hours=hours, minutes=30), NOON + timedelta(hours=hours + 1, minutes=30)
        texts = [moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for moment in (start, end)]
        if end <= db.value("select settled_until()"):
            assert changes(db, start, end) == [row for row in expected if texts[0] <= row[3] < texts[1]]


@pytest.mark.parametrize("seed", range(4))
def test_stretches_join_to_the_report_whatever_happens(db: Database, clock: Clock, seed: int) -> None:
    """A consumer asks at random moments while users, plans, rollouts, segments and the sweep change at random."""
    chance = random.Random(seed)
    db.rows("select create_layer('L')")
    db.rows("select create_segment('A', %s)", chance.choice([0, 40]))
    for slug in ("B", "C"):
        db.rows("select create_segment(%s, %s, layer => 'L')", slug, chance.choice([0, 40]))
    told: list[tuple[Any, ...]] = []
    reached = MONTH
    for _ in range(120):
        clock.advance(seconds=chance.choice([0, 0.001, 60, 3600]))
        slug, user_id = chance.choice("ABC"), chance.randint(1, 12)
        later = clock.now + timedelta(seconds=chance.choice([1, 3600, 7200]))  # type: ignore[operator]
        try:
            match chance.randint(0, 9):
                case 0 | 1:
                    db.rows(
                        "select change_user_segments(%s, array[%s], expires_at => %s)", user_id, slug, later
                    )
                case 2:
                    db.rows(
                        "select change_user_segments(%s, array[%s], starts_at => %s)", user_id, slug, later
                    )
                case 3:
                    db.rows("select change_user_segments(%s, remove => array[%s])", user_id, slug)
                case 4:
                    db.rows("select set_rollout(%s, %s)", slug, chance.choice([0, 20, 60, 100]))
                case 5:
                    db.rows("select set_rollout(%s, %s, %s)", slug, chance.choice([0, 20, 60, 100]), later)
                case 6:
                    db.rows("select expire_memberships()")
                case 7:
                    db.rows("select change_segment_members(%s, array[1, 2, 3, 4], 'replace')", slug)
                case 8:
                    db.rows("delete from segmentation.memberships where user_id = %s", user_id)
                case 9 if chance.random() < 0.3:
                    db.rows("select delete_segment(%s)", slug)
                    clock.advance(seconds=1)
                    db.rows("select create_segment(%s, 10, layer => %s)", slug, None if slug == "A" else "L")
        except (ObjectNotInPrerequisiteState, InvalidParameterValue):
            pass
        if chance.random() < 0.4:
            end = db.value("select changes_end(%s)", reached)
            rows = changes(db, reached, end)
            assert changes(db, reached, end) == rows
            told += rows
            reached = end
    clock.advance(days=1)
    told += changes(db, reached)
    assert told == report(db)
    assert len(told) > 50


def test_what_is_not_settled_is_refused(db: Database, clock: Clock) -> None:
    with refuses(InvalidParameterValue, settled_until="2026-11-20T11:59:59.900000Z"):
        changes(db, MONTH, NOON)
    with refuses(InvalidParameterValue):
        changes(db, NOON - timedelta(hours=1), NOON - timedelta(hours=2))
    with refuses(InvalidParameterValue):
        db.rows("select * from membership_changes(null, null)")
    # Nothing yet for who is ahead, such as on a standby.
    assert changes(db, NOON + timedelta(days=1)) == []
    assert changes(db, NOON, db.value("select changes_end(%s)", NOON)) == []


def test_a_snapshot_that_may_be_older_is_refused(db: Database, clock: Clock) -> None:
    with refuses(ObjectNotInPrerequisiteState), db.connection.transaction():
        db.rows("set transaction isolation level repeatable read")
        changes(db, MONTH)


def test_what_retention_dropped_cannot_be_told(db: Database, clock: Clock) -> None:
    db.rows("select drop_history_before('2026-11')")
    with refuses(InvalidParameterValue, kept_since=MONTH.isoformat()):
        changes(db, MONTH - timedelta(seconds=1))
    assert changes(db, MONTH) == []


def test_a_consumer_is_told_of_nothing_twice_when_the_clock_goes_back(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    clock.advance(minutes=1)
    db.rows("select change_user_segments(1, '{A}')")
    clock.advance(minutes=1)
    reached = db.value("select changes_end(%s)", MONTH)
    told = changes(db, MONTH, reached)
    clock.advance(minutes=-30)
    assert db.value("select settled_until()") == reached
    db.rows("select change_user_segments(2, '{A}')")
    db.rows("select change_user_segments(1, remove => '{A}')")
    db.rows("delete from segmentation.memberships where user_id = 2")
    clock.advance(hours=2)
    told += changes(db, reached)
    assert told == report(db)
    assert [row[:3] for row in told][:1] == [(1, "A", "add")]
    assert len(told) == 4


def test_a_clock_that_was_far_ahead_is_not_followed(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    clock.advance(days=400)
    db.rows("select settled_until()")
    clock.advance(days=-400)
    db.rows("select change_user_segments(1, '{A}')")
    assert db.value("select since from user_segments(1)") == NOON
    assert db.value("select settled_until()") == NOON - TOLERANCE
