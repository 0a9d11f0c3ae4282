"""explain_membership: whether a user is in a segment, and why."""

from datetime import UTC, datetime, timedelta

import pytest
from psycopg.errors import InvalidParameterValue, NoDataFound

from tests.bucket import bucket
from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, inside, outside, refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.fixture(autouse=True)
def half(db: Database, clock: Clock) -> None:
    """A segment A, half rolled out by ann."""
    db.rows("select create_segment('A', 50, actor => 'ann', reason => 'half')")


def explain(db: Database, user_id: int, at: datetime | None = None) -> tuple:
    """(member, source, since, until, actor, reason) of a user in A."""
    return tuple(db.row("select * from explain_membership(%s, 'A', %s)", user_id, at))[:6]


def test_in_by_rollout(db: Database, clock: Clock) -> None:
    user_id = next(inside(db, "A", 50))
    seen = clock.advance(hours=1)
    assert explain(db, user_id) == (True, "rollout", seen, FOREVER, "ann", "half")


def test_in_by_a_step_until_the_next_takes_the_user_out(db: Database, clock: Clock) -> None:
    user_id = next(inside(db, "A", 50))
    db.segments_of(user_id)
    db.rows("select set_rollout('A', 0, %s)", FRIDAY)
    assert explain(db, user_id) == (True, "rollout", NOON, FRIDAY, "ann", "half")


def test_in_by_the_step_that_took_the_user_in_not_by_the_one_in_force(db: Database, clock: Clock) -> None:
    user_id = next(inside(db, "A", 50))
    db.segments_of(user_id)
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 100, actor => 'bob', reason => 'all')")
    assert explain(db, user_id) == (True, "rollout", NOON, FOREVER, "ann", "half")


def test_in_by_hand(db: Database, clock: Clock) -> None:
    user_id = next(outside(db, "A", 50))
    added = clock.advance(hours=1)
    db.rows(
        "select change_user_segments(%s, '{A}', expires_at => %s, actor => 'cat', reason => 'ticket 17')",
        user_id,
        FRIDAY,
    )
    assert explain(db, user_id) == (True, "assignment", added, FRIDAY, "cat", "ticket 17")


def test_out_by_hand(db: Database, clock: Clock) -> None:
    user_id = next(inside(db, "A", 50))
    db.segments_of(user_id)
    removed = clock.advance(hours=1)
    db.rows("select change_user_segments(%s, remove => '{A}', actor => 'dan', reason => 'wish')", user_id)
    assert explain(db, user_id) == (False, "exclusion", removed, FOREVER, "dan", "wish")


def test_never_in(db: Database, clock: Clock) -> None:
    user_id = next(outside(db, "A", 50))
    member, source, _, until, actor, reason = explain(db, user_id)
    assert (member, source, until, actor, reason) == (False, "none", FOREVER, None, None)


def test_out_since_the_assignment_ended_by_whom_and_why(db: Database, clock: Clock) -> None:
    user_id = next(outside(db, "A", 50))
    db.rows(
        "select change_user_segments(%s, '{A}', expires_at => %s, actor => 'cat', reason => 'trial')",
        user_id,
        FRIDAY,
    )
    clock.set(MONDAY)
    assert explain(db, user_id) == (False, "none", FRIDAY, FOREVER, "cat", "trial")
    db.rows("call sweep()")
    assert explain(db, user_id) == (False, "none", FRIDAY, FOREVER, "cat", "trial")


def test_out_since_the_rollout_shrank(db: Database, clock: Clock) -> None:
    user_id = next(inside(db, "A", 50))
    db.segments_of(user_id)
    shrunk = clock.advance(hours=1)
    db.rows("select set_rollout('A', 0, actor => 'bob', reason => 'bug')")
    assert explain(db, user_id) == (False, "none", shrunk, FOREVER, "bob", "bug")


def test_planned(db: Database, clock: Clock) -> None:
    user_id = next(outside(db, "A", 50))
    db.rows("select change_user_segments(%s, '{A}', starts_at => %s, actor => 'cat')", user_id, FRIDAY)
    member, source, _, until, *_ = explain(db, user_id)
    assert (member, source, until) == (False, "none", FRIDAY)
    assert explain(db, user_id, FRIDAY) == (True, "assignment", FRIDAY, FOREVER, "cat", None)


def test_at_a_moment_of_the_past(db: Database, clock: Clock) -> None:
    user_id = next(inside(db, "A", 50))
    db.segments_of(user_id)
    removed = clock.advance(hours=1)
    db.rows("select change_user_segments(%s, remove => '{A}', actor => 'dan')", user_id)
    added = clock.advance(hours=1)
    db.rows("select change_user_segments(%s, '{A}', actor => 'eve')", user_id)
    clock.advance(days=400)
    assert explain(db, user_id, removed - INSTANT) == (True, "rollout", NOON, removed, "ann", "half")
    assert explain(db, user_id, removed) == (False, "exclusion", removed, added, "dan", None)
    assert explain(db, user_id, added) == (True, "assignment", added, FOREVER, "eve", None)


def test_the_bucket_and_the_percentage_decide(db: Database, clock: Clock) -> None:
    salt = db.value("select salt from get_segment('A')")
    for user_id in range(1, 200):
        answer = db.row("select * from explain_membership(%s, 'A')", user_id)
        assert answer.bucket_percent * 1000 == bucket(user_id, salt)
        assert answer.rollout_percent == 50
        assert answer.member == (answer.bucket_percent < answer.rollout_percent)


def test_the_percentage_is_that_of_the_moment_asked_for(db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('A', 75, %s)", FRIDAY)
    percents = [
        db.value("select rollout_percent from explain_membership(1, 'A', %s)", at)
        for at in (NOON - INSTANT, NOON, FRIDAY - INSTANT, FRIDAY)
    ]
    assert percents == [0, 50, 50, 75]


def test_a_deleted_segment_is_explained_for_as_long_as_it_lived(db: Database, clock: Clock) -> None:
    user_id = next(inside(db, "A", 50))
    db.segments_of(user_id)
    deleted = clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    assert explain(db, user_id, deleted - INSTANT) == (True, "rollout", NOON, deleted, "ann", "half")
    for at in (None, deleted):
        with refuses(NoDataFound, segment="A"):
            explain(db, user_id, at)


def test_of_a_slug_used_again_the_segment_that_lived_then_is_explained(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(7, '{A}', actor => 'old')")
    deleted = clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.advance(hours=1)
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(7, '{A}', actor => 'new')")
    assert explain(db, 7, deleted - INSTANT)[4] == "old"
    assert explain(db, 7)[4] == "new"


def test_it_agrees_with_the_hot_read_for_every_state(db: Database, clock: Clock) -> None:
    salt = db.value("select salt from get_segment('A')")
    users = {"in": next(inside(db, "A", 50)), "out": next(outside(db, "A", 50))}
    users |= {"assigned": users["out"] + 1_000_000, "excluded": users["in"] + 1_000_000}
    db.rows("select change_user_segments(%s, '{A}')", users["assigned"])
    db.rows("select change_user_segments(%s, remove => '{A}')", users["excluded"])
    assert bucket(users["in"], salt) < 50_000
    for user_id in users.values():
        assert explain(db, user_id)[0] == (db.segments_of(user_id) == ["A"])


def test_a_wrong_user_or_moment_is_refused(db: Database) -> None:
    with refuses(InvalidParameterValue, user_id=0):
        explain(db, 0)
    with refuses(InvalidParameterValue):
        db.rows("select * from explain_membership(1, 'A', 'infinity')")
