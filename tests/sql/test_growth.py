"""segment_growth: a segment's counts at many moments, each as segment_members and segment_stats tell it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.errors import InvalidParameterValue, NoDataFound

from tests.conftest import NOON, Clock, Database
from tests.expect import refuses, salts_from_slugs

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


def growth(db: Database, *args: Any) -> list[Any]:
    """segment_growth of A: growth(db, from_time, to_time, step)."""
    return db.rows(f"select * from segment_growth('A'{', %s' * len(args)})", *args)


def as_the_others_tell(db: Database, moment: datetime) -> dict[str, Any]:
    """The same counts of A at one moment, from the member list, the tables and the plan."""
    sources = (
        []
        if not db.value(
            "select count(*) from segmentation.segments where slug = 'A' and created_at <= %s and %s < deleted_at",
            moment,
            moment,
        )
        else db.column("select source from segment_members('A', %s)", moment)
    )
    excluded = db.value(
        "select count(*) from segmentation.overrides as o join segmentation.segments as s using (segment_id)"
        " where s.slug = 'A' and not o.included and s.created_at <= %(at)s and %(at)s < s.deleted_at"
        " and o.starts_at <= %(at)s and %(at)s < o.ends_at".replace("%(at)s", f"'{moment.isoformat()}'")
    )
    return {
        "users": db.value("select count(*) from segmentation.users where registered_at <= %s", moment),
        "members": len(sources),
        "assigned": sources.count("assignment"),
        "rolled_out": sources.count("rollout"),
        "excluded": excluded,
    }


def counts(row: Any) -> dict[str, Any]:
    """The counts of a row, without its moment and percentages."""
    return {name: getattr(row, name) for name in ("users", "members", "assigned", "rolled_out", "excluded")}


@pytest.fixture
def eventful(db: Database, clock: Clock) -> None:
    """Three days of A: users come, it ramps up and down, people are put in and taken out, now and later."""
    db.rows("select register_users(array(select generate_series(1, 300)))")
    clock.advance(hours=5)
    db.rows("select create_segment('A', 10)")
    db.rows("select create_segment('B', 100)")
    for hour in range(60):
        clock.advance(hours=1)
        first = 1000 + 20 * hour
        db.rows("select register_users(array(select generate_series(%s::bigint, %s)))", first, first + 9)
        if hour % 7 == 3:
            db.rows(
                "select set_rollout('A', %s::numeric)", [40, 5.5, 100, 60, 0, 33.333, 80, 20, 100][hour // 7]
            )
        if hour % 5 == 2:
            db.rows(
                "select change_segment_members('A', array(select generate_series(%s::bigint, %s)), 'add', %s)",
                first - 5,
                first + 15,
                clock.now + (hour % 9 + 1) * HOUR,  # type: ignore[operator]
            )
        if hour % 5 == 4:
            db.rows(
                "select change_segment_members('A', array(select generate_series(%s::bigint, %s)), 'remove')",
                first - 30,
                first + 3,
            )
        if hour == 20:
            db.rows("call sweep()")
    db.rows("select set_rollout('A', 45, %s)", clock.now + 30 * HOUR)  # type: ignore[operator]
    db.rows(
        "select change_segment_members('A', array(select generate_series(1, 40)), starts_at => %s)",
        clock.now + 50 * HOUR,  # type: ignore[operator]
    )


def test_each_row_is_what_the_member_list_tells(db: Database, clock: Clock, eventful: None) -> None:
    rows = growth(db, NOON - HOUR, NOON + 130 * HOUR, timedelta(minutes=90))
    assert [row.at for row in rows] == [NOON - HOUR + k * timedelta(minutes=90) for k in range(88)]
    assert [counts(row) for row in rows] == [as_the_others_tell(db, row.at) for row in rows]
    assert len({row.members for row in rows}) > 20


def test_right_at_an_event_and_an_instant_before_it(db: Database, clock: Clock, eventful: None) -> None:
    for moment in (NOON + 5 * HOUR, NOON + 8 * HOUR, NOON + 9 * HOUR, NOON + 95 * HOUR):
        rows = growth(db, moment - INSTANT, moment + INSTANT, INSTANT)
        assert [counts(row) for row in rows] == [as_the_others_tell(db, row.at) for row in rows]
        assert len(rows) == 3


def test_months_from_the_31st_on_do_not_drift(db: Database, clock: Clock) -> None:
    clock.set(datetime(2027, 1, 31, 12, tzinfo=UTC))
    db.rows("select create_segment('A')")
    months = [row.at for row in growth(db, clock.now, datetime(2027, 6, 1, tzinfo=UTC), "1 month")]
    assert [(moment.month, moment.day) for moment in months] == [(1, 31), (2, 28), (3, 31), (4, 30), (5, 31)]


@pytest.mark.parametrize("step", ["200000 years", "178000000 years"])
def test_a_step_beyond_the_calendar_leaves_the_first_moment(db: Database, clock: Clock, step: str) -> None:
    db.rows("select create_segment('A')")
    assert [row.at for row in growth(db, NOON, NOON + DAY, step)] == [NOON]


def test_now_it_is_what_the_statistics_tell(db: Database, clock: Clock, eventful: None) -> None:
    for _ in range(3):
        (row,) = growth(db, clock.now, clock.now)
        stats = db.row("select * from segment_stats('A')")
        assert (row.assigned, row.excluded, row.rolled_out, row.members) == tuple(stats)[:4]
        db.rows("call sweep()")
        assert growth(db, clock.now, clock.now) == [row]
        clock.advance(hours=31)


def test_the_plan_stands_beside_what_came_of_it(db: Database, clock: Clock) -> None:
    salts_from_slugs(db)
    db.rows("select create_segment('A', 10)")
    db.rows("select register_users(array(select generate_series(1, 20000)))")
    db.rows("select set_rollout('A', 50, %s)", NOON + DAY)
    db.rows("select set_rollout('A', 100, %s)", NOON + 2 * DAY)
    rows = growth(db, NOON - DAY, NOON + 3 * DAY, "1 day")
    assert [row.planned_percent for row in rows] == [None, 10, 50, 100, 100]
    assert rows[0].actual_percent is None
    for row in rows[1:]:
        assert abs(float(row.actual_percent) - float(row.planned_percent)) < 1
        assert float(row.actual_percent) == round(100 * row.members / 20000, 3)
    assert rows[-1].members == rows[-1].rolled_out == 20000


def test_a_segment_with_no_rollout_is_planned_at_nothing(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    assert [tuple(row) for row in growth(db)] == [(NOON, 0, 0, 0, 0, 0, 0, None)]
    db.rows("select change_user_segments(1, '{A}')")
    db.rows("select register_users('{2}')")
    assert [tuple(row) for row in growth(db)] == [(NOON, 2, 1, 1, 0, 0, 0, 50)]


def test_left_out_it_is_each_day_from_the_creation_to_now(db: Database, clock: Clock) -> None:
    clock.advance(days=-3, hours=2)
    db.rows("select create_segment('A')")
    created = clock.now
    clock.set(NOON + 5 * HOUR)
    assert created is not None
    assert [row.at for row in growth(db)] == [created, created + DAY, created + 2 * DAY, created + 3 * DAY]


def test_days_and_months_are_those_of_utc(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("set timezone = 'Europe/Berlin'")
    # In this night clocks are set back in Berlin.
    before = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert growth(db, before, before + DAY, "1 day")[1].at == before + DAY
    months = growth(db, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC), "1 month")
    assert [(row.at.astimezone(UTC).month, row.at.astimezone(UTC).day) for row in months] == [
        (month, 1) for month in range(1, 13)
    ]


def test_segments_that_had_the_slug_follow_one_another(db: Database, clock: Clock) -> None:
    db.rows("select register_users(array(select generate_series(1, 100)))")
    db.rows("select create_segment('A', 100)")
    db.rows("select change_user_segments(1, '{}', '{A}')")
    clock.advance(hours=2)
    db.rows("select delete_segment('A')")
    clock.advance(hours=2)
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(7, '{A}')")
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    rows = growth(db, NOON - HOUR, clock.now, "1 hour")
    told = [(0, 0), (99, 1), (99, 1), (0, 0), (0, 0), (1, 0), (0, 0)]
    assert [(row.members, row.excluded) for row in rows] == told
    assert [row.planned_percent for row in rows] == [None, 100, 100, None, None, 0, None]
    db.rows("call sweep()")
    assert growth(db, NOON - HOUR, clock.now, "1 hour") == rows
    # Without a time: of the last one.
    assert [row.at for row in growth(db, None, None, "1 hour")] == [NOON + 4 * HOUR, NOON + 5 * HOUR]


def test_users_who_are_forgotten_never_were(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100)")
    db.rows("select change_segment_members('A', '{1,2,3}')")
    clock.advance(hours=1)
    db.rows("select forget_user(2)")
    assert [row.members for row in growth(db, NOON, clock.now, "1 hour")] == [2, 2]


def test_an_override_of_a_user_never_registered_counts_once_it_is(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100)")
    db.rows(
        "insert into segmentation.memberships (user_id, segment_id, included)"
        " select 5, segment_id, false from segmentation.segments"
    )
    # As it may be in a database that is older than the trigger.
    db.rows("set role segmentation_owner")
    db.rows("delete from segmentation.users")
    db.rows("reset role")
    assert [(row.users, row.excluded, row.rolled_out) for row in growth(db)] == [(0, 1, 0)]
    clock.advance(hours=1)
    db.rows("select register_users('{5, 6}')")
    rows = growth(db, NOON, clock.now, "1 hour")
    assert [(row.excluded, row.rolled_out) for row in rows] == [(1, 0), (1, 1)]


def test_unknown_segments_and_impossible_steps_are_refused(db: Database, clock: Clock) -> None:
    with refuses(NoDataFound, segment="A"):
        growth(db)
    db.rows("select create_segment('A')")
    for step in ("0", "-1 day", "1 month -1 day", "1 day -01:00", None):
        with refuses(InvalidParameterValue):
            growth(db, NOON, NOON + DAY, step)
    with refuses(InvalidParameterValue, at_most=10000):
        growth(db, NOON, NOON + 10000 * HOUR, "1 hour")
    with refuses(InvalidParameterValue, at_most=10000):
        growth(db, NOON, NOON + 3650 * DAY, "1 microsecond")
    assert len(growth(db, NOON, NOON + 9999 * HOUR, "1 hour")) == 10000
    for moment in ("infinity", "-infinity"):
        with refuses(InvalidParameterValue, **{"from": moment}):
            growth(db, moment, NOON)
        with refuses(InvalidParameterValue, to=moment):
            growth(db, NOON, moment)
    with refuses(InvalidParameterValue):
        growth(db, NOON + INSTANT, NOON)


def test_what_retention_dropped_is_not_guessed_at(db: Database, clock: Clock) -> None:
    clock.advance(days=-40)
    db.rows("select create_segment('A')")
    clock.set(NOON)
    db.rows("select drop_history_before('2026-11')")
    with refuses(InvalidParameterValue):
        growth(db, NOON - 30 * DAY, NOON)
    assert growth(db)[0].at == datetime(2026, 11, 1, tzinfo=UTC)


def test_a_reader_may_ask(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("set role segmentation_reader")
    assert len(growth(db)) == 1
