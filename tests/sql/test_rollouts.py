"""Rollouts: a percentage of all users, one row per step, sticky and monotone; future steps included."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from psycopg.errors import InvalidParameterValue, NoDataFound, ObjectNotInPrerequisiteState

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, first, inside, outside, physically, refuses, salts_from_slugs

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)


def steps(db: Database) -> list[tuple]:
    """The steps of A as (percent, starts_at, ends_at)."""
    return [tuple(step) for step in db.rows("select percent, starts_at, ends_at from rollout_steps('A')")]


def members(db: Database) -> set[int]:
    """All known members of A."""
    return set(db.column("select user_id from segment_members('A')"))


def test_a_rollout_is_one_row_however_many_users_there_are(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows("select register_users(array(select generate_series(1, 1000)))")
    tables = ("users", "memberships", "membership_history")
    before = physically(db, *tables)
    db.rows("select set_rollout('A', 30)")
    assert physically(db, *tables) == before
    assert db.value("select count(*) from segmentation.rollouts") == 1


def test_a_rollout_is_visible_at_once_also_to_users_never_seen(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select set_rollout('A', 30)")
    for user_id in first(inside(db, "A", 30), 5):
        assert db.segments_of(user_id) == ["A"]
    for user_id in first(outside(db, "A", 30), 5):
        assert db.segments_of(user_id) == []


def test_ten_percent_of_100000_users_are_about_10000(db: Database) -> None:
    salts_from_slugs(db)
    db.rows("select create_segment('A', 10)")
    db.rows("select register_users(array(select generate_series(1, 100000)))")
    assert 9_700 <= db.value("select members from segment_stats('A')") <= 10_300


def test_two_segments_at_half_share_a_quarter(db: Database) -> None:
    db.rows("select create_segment(slug, 50) from unnest(array['A', 'B']) as slug")
    both = db.value(
        "select count(*) from users_segments(array(select generate_series(1, 100000)))"
        " where segments = '{A,B}'"
    )
    assert 24_000 <= both <= 26_000


def test_zero_holds_nobody_and_a_hundred_everybody(db: Database) -> None:
    db.rows("select create_segment('NOBODY', 0)")
    db.rows("select create_segment('ALL', 100)")
    assert db.column(
        "select distinct segments from users_segments(array(select generate_series(1, 100000)))"
    ) == [["ALL"]]
    assert db.rows("select * from rollout_steps('NOBODY')") == []


def test_a_thousandth_percent_is_a_step(db: Database) -> None:
    db.rows("select create_segment('A', 0.001)")
    (user_id,) = first(inside(db, "A", 0.001), 1)
    assert db.segments_of(user_id) == ["A"]
    assert db.value("select bucket_percent from explain_membership(%s, 'A')", user_id) == 0


def test_a_user_stays_in_for_as_long_as_the_percentage_holds(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 50)")
    db.rows("select register_users(array(select generate_series(1, 1000)))")
    before = members(db)
    clock.advance(days=400)
    db.rows("call sweep()")
    assert members(db) == before


def test_raising_only_adds_and_lowering_removes_the_last_added(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select register_users(array(select generate_series(1, 2000)))")
    rising: list[set[int]] = []
    falling: list[set[int]] = []
    for percent in (0, 5, 10, 33.333, 50, 95.5, 100):
        clock.advance(hours=1)
        db.rows("select set_rollout('A', %s::numeric)", percent)
        rising.append(members(db))
    for percent in (95.5, 50, 33.333, 10, 5, 0):
        clock.advance(hours=1)
        db.rows("select set_rollout('A', %s::numeric)", percent)
        falling.append(members(db))
    assert all(fewer < more for fewer, more in pairwise(rising))
    assert falling == rising[-2::-1]
    assert rising[0] == set() and len(rising[-1]) == 2000


def test_a_step_holds_from_now_on_until_the_next_begins(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    later = clock.advance(hours=1)
    db.rows("select set_rollout('A', 30)")
    assert steps(db) == [(10, NOON, later), (30, later, FOREVER)]


def test_all_steps_are_returned_with_who_and_why(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10, actor => 'ann', reason => 'trial')")
    clock.advance(hours=1)
    returned = db.rows(
        "select * from set_rollout(slug => 'A', percent => 30, actor => 'bob', reason => 'fine')"
    )
    assert returned == db.rows("select * from rollout_steps('A')")
    assert [(step.percent, step.actor, step.reason) for step in returned] == [
        (10, "ann", "trial"),
        (30, "bob", "fine"),
    ]


def test_a_ramp_is_several_steps_and_comes_by_itself(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    db.rows("select set_rollout('A', 100, %s)", MONDAY)
    db.rows("select set_rollout('A', 50, %s)", FRIDAY)
    assert steps(db) == [
        (10, NOON, FRIDAY),
        (50, FRIDAY, MONDAY),
        (100, MONDAY, FOREVER),
    ]
    early = next(inside(db, "A", 10))
    late = next(outside(db, "A", 50))
    middle = next(iter(set(first(inside(db, "A", 50), 100)) - set(first(inside(db, "A", 10), 100))))
    instant = timedelta(microseconds=1)
    for moment, percent, held in (
        (NOON, 10, [early]),
        (FRIDAY - instant, 10, [early]),
        (FRIDAY, 50, [early, middle]),
        (MONDAY - instant, 50, [early, middle]),
        (MONDAY, 100, [early, middle, late]),
    ):
        clock.set(moment)
        assert [user_id for user_id in (early, middle, late) if db.segments_of(user_id) == ["A"]] == held
        assert db.value("select percent from get_segment('A')") == percent


def test_a_change_now_leaves_later_steps_as_they_are(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    db.rows("select set_rollout('A', 50, %s)", FRIDAY)
    now = clock.advance(hours=1)
    db.rows("select set_rollout('A', 20)")
    assert steps(db) == [
        (10, NOON, now),
        (20, now, FRIDAY),
        (50, FRIDAY, FOREVER),
    ]


def test_a_step_at_the_same_time_is_replaced(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    db.rows("select set_rollout('A', 50, %s, 'ann', 'half')", FRIDAY)
    db.rows("select set_rollout('A', 60, %s, 'bob', 'more')", FRIDAY)
    assert steps(db) == [(10, NOON, FRIDAY), (60, FRIDAY, FOREVER)]
    assert db.row("select actor, reason from rollout_steps('A') where percent = 60") == ("bob", "more")


def test_a_step_to_come_can_be_cancelled(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    db.rows("select set_rollout('A', 50, %s)", FRIDAY)
    db.rows("select set_rollout('A', 100, %s)", MONDAY)
    left = db.rows("select * from cancel_rollout_step(slug => 'A', starts_at => %s, reason => 'no')", FRIDAY)
    assert left == db.rows("select * from rollout_steps('A')")
    assert steps(db) == [(10, NOON, MONDAY), (100, MONDAY, FOREVER)]
    db.rows("select cancel_rollout_step('A', %s)", MONDAY)
    assert steps(db) == [(10, NOON, FOREVER)]


def test_a_step_that_has_begun_cannot_be_cancelled(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    db.rows("select set_rollout('A', 50, %s)", FRIDAY)
    clock.set(FRIDAY)
    for starts_at in (NOON, FRIDAY):
        with refuses(ObjectNotInPrerequisiteState):
            db.rows("select cancel_rollout_step('A', %s)", starts_at)
    assert len(steps(db)) == 2


def test_a_step_that_is_not_there_cannot_be_cancelled(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    for starts_at in (MONDAY, "infinity", None):
        with refuses(NoDataFound, segment="A"):
            db.rows("select cancel_rollout_step('A', %s::timestamptz)", starts_at)


def test_the_past_refuses_a_step(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    clock.advance(hours=1)
    for starts_at in (NOON, "-infinity", "infinity"):
        with refuses(InvalidParameterValue):
            db.rows("select set_rollout('A', 20, %s::timestamptz)", starts_at)
    assert steps(db) == [(10, NOON, FOREVER)]


def test_a_wrong_percentage_is_refused(db: Database) -> None:
    db.rows("select create_segment('A', 10)")
    for percent in ("-1", "100.1", "0.0001", "NaN", None):
        with refuses(InvalidParameterValue, percent=percent):
            db.rows("select set_rollout('A', %s::numeric)", percent)


def test_the_percentage_that_holds_now_set_again_writes_nothing(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    before = physically(db, "rollouts", "segment_history")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 10)")
    db.rows("select set_rollout('A', 10.0, %s)", clock.now)
    assert physically(db, "rollouts", "segment_history") == before


def test_a_planned_step_is_kept_even_if_it_repeats_what_is_planned_before_it(
    db: Database, clock: Clock
) -> None:
    db.rows("select create_segment('A')")
    db.rows("select set_rollout('A', 0, %s, 'ann', 'the end')", MONDAY)
    db.rows("select set_rollout('A', 100, %s)", FRIDAY)
    assert steps(db) == [(100, FRIDAY, MONDAY), (0, MONDAY, FOREVER)]
    assert db.column("select reason from rollout_steps('A')") == [None, "the end"]
    db.rows("select set_rollout('A', 0.000, %s, 'ann', 'the very end')", MONDAY)
    assert db.column("select reason from rollout_steps('A')") == [None, "the very end"]


def test_a_step_to_come_can_be_set_to_what_holds_before_it(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 10)")
    db.rows("select set_rollout('A', 50, %s)", FRIDAY)
    db.rows("select set_rollout('A', 10, %s)", FRIDAY)
    clock.set(FRIDAY)
    assert db.value("select percent from get_segment('A')") == 10


def test_stopping_a_rollout_is_setting_it_to_zero(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100)")
    assert db.segments_of(1) == ["A"]
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 0)")
    assert db.segments_of(1) == []
    assert db.events_of(1) == [("A", "add", "rollout"), ("A", "remove", "rollout")]


def test_deleting_a_segment_ends_its_step_and_drops_those_to_come(db: Database, clock: Clock) -> None:
    for slug in ("A", "B"):
        db.rows("select create_segment(%s, 10)", slug)
    db.rows("select set_rollout('A', 50, %s)", FRIDAY)
    deleted = clock.advance(hours=1)
    for slug in ("A", "B"):
        db.rows("select delete_segment(%s)", slug)
    left = db.rows("select percent, starts_at, ends_at from segmentation.rollouts")
    assert [tuple(step) for step in left] == [(10, NOON, deleted)] * 2
