"""user_segments and users_segments: who is in what, now, in the past and in the planned future."""

from datetime import UTC, datetime, timedelta

from psycopg.errors import InvalidParameterValue

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, first, inside, outside, refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


def segments_at(db: Database, user_id: int, at: datetime | None = None) -> list[str]:
    """user_segments without its details."""
    return db.column("select segment from user_segments(%s, at => %s)", user_id, at)


def test_a_user_in_nothing_has_no_segments(db: Database) -> None:
    db.rows("select create_segment('A')")
    assert db.segments_of(1000) == segments_at(db, 1000) == []


def test_assignments_and_rollouts_come_together_bytewise_sorted(db: Database, clock: Clock) -> None:
    for slug, percent in (("b", 100), ("B", 0), ("a_", 100), ("A1", 0), ("a-", 0), ("C", 0)):
        db.rows("select create_segment(%s, %s)", slug, percent)
    db.rows("select change_user_segments(1000, '{B,A1,a-}')")
    expected = ["A1", "B", "a-", "a_", "b"]
    assert db.segments_of(1000) == segments_at(db, 1000) == expected


def test_each_segment_says_by_what_since_when_and_until_when(db: Database, clock: Clock) -> None:
    for slug, percent in (("ALL", 100), ("HAND", 0), ("TRIAL", 0)):
        db.rows("select create_segment(%s, %s)", slug, percent)
    db.rows("select set_rollout('ALL', 0, %s)", MONDAY)
    seen = clock.advance(hours=1)
    db.segments_of(1000)
    added = clock.advance(hours=1)
    db.rows("select change_user_segments(1000, '{HAND}')")
    db.rows("select change_user_segments(1000, '{TRIAL}', expires_at => %s)", FRIDAY)
    assert [tuple(row) for row in db.rows("select * from user_segments(1000)")] == [
        ("ALL", "rollout", seen, MONDAY),
        ("HAND", "assignment", added, FOREVER),
        ("TRIAL", "assignment", added, FRIDAY),
    ]


def test_the_past_is_as_it_was(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    added = clock.advance(hours=1)
    db.rows("select change_user_segments(1000, '{A}')")
    removed = clock.advance(hours=1)
    db.rows("select change_user_segments(1000, remove => '{A}')")
    clock.advance(days=400)
    db.rows("call sweep()")
    for at, expected in (
        (added - INSTANT, []),
        (added, ["A"]),
        (removed - INSTANT, ["A"]),
        (removed, []),
        (datetime(1970, 1, 1, tzinfo=UTC), []),
    ):
        assert segments_at(db, 1000, at) == expected


def test_the_past_of_a_deleted_segment_stays(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100)")
    db.rows("select change_user_segments(1000, '{A}')")
    db.rows("select register_users('{1002}')")
    deleted = clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.advance(hours=1)
    db.rows("select create_segment('A')")
    for swept in (False, True):
        if swept:
            db.rows("call sweep()")
        for user_id in (1000, 1002):
            assert segments_at(db, user_id, deleted - INSTANT) == ["A"]
            assert segments_at(db, user_id, deleted) == []
            assert segments_at(db, user_id) == db.segments_of(user_id) == []


def test_the_past_of_a_rollout_is_what_its_steps_were(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 50)")
    (user_id,) = first(inside(db, "A", 50), 1)
    db.rows("select register_users(array[%s::bigint])", user_id)
    stopped = clock.advance(days=1)
    db.rows("select set_rollout('A', 0)")
    again = clock.advance(days=1)
    db.rows("select set_rollout('A', 50)")
    clock.advance(days=1)
    for at, expected in (
        (NOON - INSTANT, []),
        (NOON, ["A"]),
        (stopped, []),
        (again - INSTANT, []),
        (again, ["A"]),
    ):
        assert segments_at(db, user_id, at) == expected


def test_before_a_user_was_registered_no_rollout_held_it(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100)")
    seen = clock.advance(days=1)
    db.rows("select register_users('{1000}')")
    assert segments_at(db, 1000, seen - INSTANT) == []
    assert segments_at(db, 1000, seen) == ["A"]


def test_the_planned_future_can_be_asked_for(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('PLAN')")
    db.rows("select create_segment('RAMP')")
    db.rows("select set_rollout('RAMP', 100, %s)", MONDAY)
    db.rows("select change_user_segments(1000, '{PLAN}', starts_at => %s, expires_at => %s)", FRIDAY, MONDAY)
    for at, expected in (
        (None, []),
        (FRIDAY - INSTANT, []),
        (FRIDAY, ["PLAN"]),
        (MONDAY, ["RAMP"]),
        (MONDAY + timedelta(days=3650), ["RAMP"]),
    ):
        assert segments_at(db, 1000, at) == expected


def test_a_moment_is_finite(db: Database) -> None:
    for at in ("infinity", "-infinity"):
        with refuses(InvalidParameterValue, at=at):
            db.rows("select * from user_segments(1000, %s::timestamptz)", at)


def test_many_users_come_in_the_order_asked_for_duplicates_included(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_segment_members('A', '{5,7}')")
    asked = [7, 3, 5, 7, 2**63 - 1, 3]
    answer = db.rows("select user_id, segments from users_segments(%s::bigint[])", asked)
    assert [row.user_id for row in answer] == asked
    assert [row.segments for row in answer] == [["A"], [], ["A"], ["A"], [], []]


def test_nobody_asked_for_is_nobody_answered(db: Database) -> None:
    assert db.rows("select * from users_segments('{}')") == []


def test_a_user_id_is_above_zero(db: Database) -> None:
    for call in ("users_segments(array[5, %s::bigint])", "user_segments(%s)", "user_history(%s)"):
        for user_id in (0, -1, None):
            with refuses(InvalidParameterValue):
                db.rows(f"select * from {call}", user_id)
    assert db.rows("select * from segmentation.users") == []


def test_an_exclusion_outweighs_any_rollout(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 50)")
    (user_id,) = first(inside(db, "A", 50), 1)
    db.rows("select change_user_segments(%s, remove => '{A}')", user_id)
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 100)")
    assert db.segments_of(user_id) == segments_at(db, user_id) == []


def test_an_assignment_needs_no_rollout(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 50)")
    (user_id,) = first(outside(db, "A", 50), 1)
    db.rows("select change_user_segments(%s, '{A}')", user_id)
    assert db.segments_of(user_id) == segments_at(db, user_id) == ["A"]


def test_the_path_of_the_session_does_not_matter(db: Database) -> None:
    db.rows("select create_segment('A', 100)")
    db.rows("set search_path = pg_temp")
    assert db.value("select segments from segmentation.users_segments('{1000}')") == ["A"]
    assert db.value("select segment from segmentation.user_segments(1000)") == "A"
