"""segment_periods: every stay that overlaps a window, as the algebra has it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.errors import InvalidParameterValue, NoDataFound

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, first, inside, outside, refuses
from tests.readmes import block

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """Segment A that rolls out to nobody."""
    db.rows("select create_segment('A')")
    clock.advance(hours=1)


def periods(db: Database, *window: datetime | None) -> list[tuple[Any, ...]]:
    """The stays in A."""
    query = "select * from segment_periods('A'" + ", %s" * len(window) + ")"
    return [tuple(row) for row in db.rows(query, *window)]


def test_a_stay_is_given_whole_if_it_overlaps_the_window(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(1, '{A}', expires_at => clock() + interval '2 hours')")
    clock.advance(hours=4)
    db.rows("select change_user_segments(1, '{A}')")
    early = (1, "assignment", NOON + HOUR, NOON + 3 * HOUR)
    late = (1, "assignment", NOON + 5 * HOUR, FOREVER)
    clock.advance(hours=1)
    assert periods(db) == [early, late]
    assert periods(db, NOON + 2 * HOUR, NOON + 2 * HOUR + timedelta(microseconds=1)) == [early]
    assert periods(db, NOON + 3 * HOUR, NOON + 5 * HOUR) == []
    assert periods(db, NOON + 4 * HOUR) == [late]
    assert periods(db, NOON, NOON + HOUR) == []


def test_rollout_members_are_there_and_exclusions_are_not(db: Database, clock: Clock) -> None:
    is_in, excluded, is_out = *first(inside(db, "A", 30), 2), *first(outside(db, "A", 30), 1)
    db.rows("select register_users(%s)", [is_in, excluded, is_out])
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 30)")
    clock.advance(hours=1)
    db.rows("select change_user_segments(%s, remove => '{A}')", excluded)
    db.rows("select change_user_segments(%s, '{A}')", is_out)
    clock.advance(hours=1)
    assert periods(db) == sorted(
        [
            (is_in, "rollout", NOON + 2 * HOUR, FOREVER),
            (excluded, "rollout", NOON + 2 * HOUR, NOON + 3 * HOUR),
            (is_out, "assignment", NOON + 3 * HOUR, FOREVER),
        ]
    )


def test_orders_are_counted_by_the_stay_they_fall_into(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('AVITO_DISCOUNT_30', 100)")
    db.rows("create temp table orders (user_id bigint, ordered_at timestamptz, amount numeric)")
    db.rows("select register_users('{1,2}')")
    clock.advance(hours=1)
    db.rows("select change_user_segments(2, remove => '{AVITO_DISCOUNT_30}')")
    for user_id, moment, amount in ((1, NOON, 5), (1, clock.now, 10), (2, clock.now, 20), (3, clock.now, 40)):
        db.rows("insert into orders values (%s, %s, %s)", user_id, moment, amount)
    assert db.rows(block("orders")) == [("rollout", 1, 10)]


def test_stays_of_all_segments_of_the_slug_are_told(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(1, '{A}')")
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.advance(hours=1)
    db.rows("select create_segment('A', 100)")
    clock.advance(hours=1)
    assert [row[1:] for row in periods(db)] == [
        ("assignment", NOON + HOUR, NOON + 2 * HOUR),
        ("rollout", NOON + 3 * HOUR, FOREVER),
    ]


def test_stays_are_the_history_of_each_user(db: Database, clock: Clock) -> None:
    for turn in range(40):
        clock.advance(minutes=7)
        db.rows("select set_rollout('A', %s)", turn * 13 % 101)
        db.rows("select change_user_segments(%s, '{A}', expires_at => clock() + '20 min')", turn % 5 + 1)
        db.rows("select change_user_segments(%s, remove => '{A}')", turn * 3 % 5 + 1)
    clock.advance(minutes=1)
    for user_id in range(1, 6):
        told = [(since, until) for row in periods(db) if row[0] == user_id for since, until in [row[2:]]]
        events = db.rows("select operation, at from user_history(%s)", user_id)
        adds = [at for operation, at in events if operation == "add"]
        removes = [at for operation, at in events if operation == "remove"]
        assert adds == [since for since, _ in told]
        assert removes == [until for _, until in told if until <= clock.now]


def test_a_window_to_come_tells_what_is_planned(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(1, '{A}', starts_at => clock() + interval '1 day')")
    assert periods(db) == []
    assert periods(db, NOON, NOON + timedelta(days=2)) == [(1, "assignment", NOON + 25 * HOUR, FOREVER)]


def test_what_cannot_be_asked_is_refused(db: Database, clock: Clock) -> None:
    with refuses(NoDataFound, segment="X"):
        db.rows("select * from segment_periods('X')")
    with refuses(InvalidParameterValue):
        periods(db, NOON, NOON - HOUR)
    db.rows("select drop_history_before('2026-11')")
    with refuses(InvalidParameterValue):
        periods(db, datetime(2026, 10, 1, tzinfo=UTC))
    assert periods(db) == []
