"""user_history: exactly when and why a user got in or out, whoever wrote and whether or not it was swept."""

from datetime import UTC, datetime, timedelta

from psycopg.errors import InvalidParameterValue

from tests.conftest import NOON, Clock, Database
from tests.expect import inside, outside, refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


def history(db: Database, user_id: int) -> list[tuple]:
    """(segment, operation, at, cause, actor, reason): the same before and after a sweep."""
    before = [tuple(event) for event in db.rows("select * from user_history(%s)", user_id)]
    db.rows("call sweep()")
    after = [tuple(event) for event in db.rows("select * from user_history(%s)", user_id)]
    assert before == after, "a sweep is housekeeping: it changes no answer"
    return after


def test_by_hand_in_and_out(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    added = clock.advance(hours=1)
    db.rows("select change_user_segments(1000, '{A}', actor => 'ann', reason => 'ticket 17')")
    removed = clock.advance(hours=1)
    db.rows("select change_user_segments(1000, remove => '{A}', actor => 'bob', reason => 'ticket 18')")
    assert history(db, 1000) == [
        ("A", "add", added, "assigned", "ann", "ticket 17"),
        ("A", "remove", removed, "removed", "bob", "ticket 18"),
    ]


def test_an_expiry_is_told_once_with_its_exact_end_and_who_set_it(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows(
        "select change_user_segments(1000, '{A}', expires_at => %s, actor => 'ann', reason => 'trial')",
        FRIDAY,
    )
    clock.set(FRIDAY - INSTANT)
    assert len(history(db, 1000)) == 1
    clock.set(FRIDAY + timedelta(days=200))
    for _ in range(2):
        assert history(db, 1000) == [
            ("A", "add", NOON, "assigned", "ann", "trial"),
            ("A", "remove", FRIDAY, "expired", "ann", "trial"),
        ]


def test_a_rollout_step_in_and_out(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select register_users('{1000}')")
    started = clock.advance(hours=1)
    db.rows("select set_rollout('A', 100, actor => 'ann', reason => 'go')")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 99.999, actor => 'eve', reason => 'stays in')")
    stopped = clock.advance(hours=1)
    db.rows("select set_rollout('A', 0, actor => 'bob', reason => 'stop')")
    assert history(db, 1000) == [
        ("A", "add", started, "rollout", "ann", "go"),
        ("A", "remove", stopped, "rollout", "bob", "stop"),
    ]


def test_a_step_to_come_is_told_when_it_came_not_when_it_was_set(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select register_users('{1000}')")
    db.rows("select set_rollout('A', 100, %s, 'ann', 'launch')", FRIDAY)
    assert history(db, 1000) == []
    clock.set(FRIDAY)
    assert history(db, 1000) == [("A", "add", FRIDAY, "rollout", "ann", "launch")]


def test_a_user_seen_late_got_in_when_first_seen(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100, actor => 'ann', reason => 'go')")
    seen = clock.advance(days=3)
    db.segments_of(1000)
    clock.advance(days=3)
    assert history(db, 1000) == [("A", "add", seen, "rollout", "ann", "go")]


def test_the_steps_before_a_user_was_seen_are_none_of_its_history(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100)")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 0)")
    clock.advance(hours=1)
    assert history(db, 1000) == []


def test_an_exclusion_in_a_rollout(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100, actor => 'ann')")
    db.segments_of(1000)
    out = clock.advance(hours=1)
    db.rows("select change_user_segments(1000, remove => '{A}', actor => 'bob', reason => 'wish')")
    back = clock.advance(hours=1)
    db.rows("select change_user_segments(1000, '{A}', actor => 'cat', reason => 'regret')")
    assert history(db, 1000) == [
        ("A", "add", NOON, "rollout", "ann", None),
        ("A", "remove", out, "removed", "bob", "wish"),
        ("A", "add", back, "assigned", "cat", "regret"),
    ]


def test_an_exclusion_lifted_lets_the_rollout_hold_the_user_again(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100, actor => 'ann')")
    db.segments_of(1000)
    out = clock.advance(hours=1)
    db.rows("select change_user_segments(1000, remove => '{A}', actor => 'bob')")
    lifted = clock.advance(hours=1)
    db.rows("set segmentation.reason = 'cleaned up'")
    db.rows("delete from segmentation.memberships where user_id = 1000")
    assert history(db, 1000)[1:] == [
        ("A", "remove", out, "removed", "bob", None),
        ("A", "add", lifted, "rollout", "postgres", "cleaned up"),
    ]


def test_steps_that_come_while_a_user_is_excluded_or_assigned_make_no_event(
    db: Database, clock: Clock
) -> None:
    db.rows("select create_segment('A', 50)")
    held, free = next(inside(db, "A", 50)), next(outside(db, "A", 50))
    db.rows("select register_users(array[%s, %s]::bigint[])", held, free)
    clock.advance(hours=1)
    db.rows("select change_user_segments(%s, remove => '{A}')", held)
    db.rows("select change_user_segments(%s, '{A}')", free)
    for percent in (0, 100, 50):
        clock.advance(hours=1)
        db.rows("select set_rollout('A', %s)", percent)
    assert [event[1] for event in history(db, held)] == ["add", "remove"]
    assert [event[1] for event in history(db, free)] == ["add"]


def test_an_assignment_that_outlives_a_rollout_and_then_ends(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100, actor => 'ann')")
    db.segments_of(1000)
    clock.advance(hours=1)
    db.rows("select change_user_segments(1000, '{A}', expires_at => %s, actor => 'bob')", FRIDAY)
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 0, actor => 'cat')")
    clock.set(MONDAY)
    assert history(db, 1000) == [
        ("A", "add", NOON, "rollout", "ann", None),
        ("A", "remove", FRIDAY, "expired", "bob", None),
    ]


def test_adding_again_after_an_expiry_unswept_and_swept(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    expected = []
    for round_number in range(4):
        began = clock.advance(days=1)
        ended = began + timedelta(days=20)
        db.rows("select change_user_segments(1000, '{A}', expires_at => %s, actor => 'ann')", ended)
        expected += [
            ("A", "add", began, "assigned", "ann", None),
            ("A", "remove", ended, "expired", "ann", None),
        ]
        clock.advance(days=30)
        if round_number % 2:
            db.rows("call sweep()")
    assert history(db, 1000) == expected


def test_a_deleted_segment_ends_every_membership_at_its_deletion(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100, actor => 'ann')")
    db.rows("select register_users('{1}')")
    db.rows("select change_user_segments(2, '{A}', actor => 'bob')")
    db.rows("select change_user_segments(3, '{A}', expires_at => %s, actor => 'bob')", MONDAY)
    deleted = clock.advance(hours=1)
    db.rows("select delete_segment('A', 'cat', 'over')")
    clock.set(MONDAY + timedelta(days=100))
    for user_id in (1, 2, 3):
        events = history(db, user_id)
        assert [event[1] for event in events] == ["add", "remove"]
        assert events[1] == ("A", "remove", deleted, "segment_deleted", "cat", "over")


def test_what_a_deletion_cut_short_never_expires_or_begins(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1, '{A}', starts_at => %s)", FRIDAY)
    db.rows("select change_user_segments(2, '{A}', expires_at => %s)", NOON + timedelta(minutes=30))
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.set(MONDAY)
    assert history(db, 1) == []
    assert [(event[1], event[3]) for event in history(db, 2)] == [("add", "assigned"), ("remove", "expired")]


def test_a_slug_used_again_has_one_history_of_two_segments(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}', actor => 'ann')")
    deleted = clock.advance(hours=1)
    db.rows("select delete_segment('A', 'bob')")
    again = clock.advance(hours=1)
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}', actor => 'cat')")
    assert history(db, 1000) == [
        ("A", "add", NOON, "assigned", "ann", None),
        ("A", "remove", deleted, "segment_deleted", "bob", None),
        ("A", "add", again, "assigned", "cat", None),
    ]


def test_a_slug_deleted_and_used_again_at_once_keeps_both_events(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100)")
    db.segments_of(1000)
    now = clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    db.rows("select create_segment('A', 100)")
    assert [event[:3] for event in history(db, 1000)][1:] == [("A", "remove", now), ("A", "add", now)]


def test_events_come_in_order_of_time_then_segment(db: Database, clock: Clock) -> None:
    for slug in ("b", "a", "B"):
        db.rows("select create_segment(%s)", slug)
    db.rows("select change_user_segments(1000, '{b,a,B}')")
    clock.advance(hours=1)
    db.rows("select change_user_segments(1000, remove => '{b,a,B}')")
    assert [event[:2] for event in history(db, 1000)] == [
        (slug, operation) for operation in ("add", "remove") for slug in ("B", "a", "b")
    ]


def test_a_part_of_the_history_is_from_a_moment_on_up_to_but_not_at_another(
    db: Database, clock: Clock
) -> None:
    db.rows("select create_segment('A')")
    moments = []
    for list_name in ("add", "remove", "add"):
        moments.append(clock.advance(hours=1))
        db.rows(f"select change_user_segments(1000, {list_name} => '{{A}}')")

    def told(from_time: datetime | None, to_time: datetime | None) -> list[datetime]:
        return db.column("select at from user_history(1000, %s, %s)", from_time, to_time)

    assert told(None, None) == moments
    assert told(moments[1], None) == moments[1:]
    assert told(moments[1] + INSTANT, None) == moments[2:]
    assert told(moments[0], moments[2]) == moments[:2]
    assert told(None, moments[2] + INSTANT) == moments
    assert db.column("select at from user_history(1000, from_time => %s)", moments[2]) == moments[2:]


def test_a_part_that_ends_before_it_begins_is_refused(db: Database) -> None:
    for to_time in (FRIDAY, NOON):
        with refuses(InvalidParameterValue):
            db.rows("select * from user_history(1000, %s, %s)", FRIDAY, to_time)


def test_the_future_is_no_history(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}', expires_at => %s)", FRIDAY)
    db.rows("select set_rollout('A', 100, %s)", MONDAY)
    assert [event[1] for event in history(db, 1000)] == ["add"]
    clock.set(FRIDAY - INSTANT)
    assert [event[1] for event in history(db, 1000)] == ["add"]
    clock.set(FRIDAY)
    assert [event[1] for event in history(db, 1000)] == ["add", "remove"]


def test_every_removal_follows_an_addition(db: Database, clock: Clock) -> None:
    """Whatever happened to a user: additions to one segment and removals from it alternate."""
    db.rows("select create_segment('A', 30)")
    user_id = next(u for u in inside(db, "A", 60) if u > next(inside(db, "A", 30)))
    for change in (
        "select set_rollout('A', 60)",
        "select change_user_segments(%(u)s, '{A}', expires_at => clock() + interval '90 minutes')",
        "select set_rollout('A', 10)",
        "select change_user_segments(%(u)s, remove => '{A}')",
        "select set_rollout('A', 100)",
        "select change_user_segments(%(u)s, '{A}')",
        "select change_user_segments(%(u)s, remove => '{A}')",
        "select set_rollout('A', 0)",
        "select delete_segment('A')",
    ):
        db.rows(change % {"u": user_id})
        clock.advance(hours=1)
    operations = [event[1] for event in history(db, user_id)]
    assert operations == ["add", "remove"] * (len(operations) // 2)
