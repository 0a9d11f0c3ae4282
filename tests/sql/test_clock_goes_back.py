"""A clock that goes back: what was acknowledged stays visible, in order, and in the history."""

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from psycopg.errors import ObjectNotInPrerequisiteState

from tests.conftest import NOON, Clock, Database
from tests.expect import first, histories_add_up, inside, periods_never_overlap, replayed

USER = 1000
STEPS = [timedelta(microseconds=1), timedelta(seconds=0.5), timedelta(seconds=2), timedelta(seconds=600)]


@pytest.fixture(params=STEPS, ids=str)
def go_back(request: pytest.FixtureRequest, clock: Clock) -> Callable[[], None]:
    """Set the clock back by 1 µs, 0.5 s, 2 s and 600 s, as NTP or a failover does."""

    def go_back_() -> None:
        assert clock.now is not None
        clock.set(clock.now - request.param)

    return go_back_


def answers(db: Database, user_id: int, slug: str) -> list[bool]:
    """What each way to ask says: whether this user is in this segment right now."""
    hot = db.value("select segmentation.http_user_segments(%s)", user_id)
    return [
        f'"{slug}"' in hot,
        slug in db.segments_of(user_id),
        slug in db.column("select segment from user_segments(%s)", user_id),
        db.value("select member from explain_membership(%s, %s)", user_id, slug),
        db.value("select ofrep_flag(%s, %s)", user_id, slug)["value"],
        user_id in db.column("select user_id from segment_members(%s)", slug),
        slug in replayed(db, user_id),
    ]


def is_in(db: Database, user_id: int = USER, slug: str = "A") -> bool:
    """The answer, which is the same however it is asked for."""
    (answer,) = set(answers(db, user_id, slug))
    stats = db.row("select members, assigned + rolled_out as sum from segment_stats(%s)", slug)
    assert stats.members == stats.sum == len(db.rows("select * from segment_members(%s)", slug))
    return answer


def change(db: Database, **arguments: Any) -> str:
    """Change USER's segments; what became of A."""
    named = ", ".join(f"{name} => %s" for name in arguments)
    return str(
        db.value(
            f"select change from change_user_segments({USER}, {named}) where segment = 'A'",
            *arguments.values(),
        )
    )


def in_order(db: Database, user_id: int = USER) -> None:
    """Assert that the history runs forward and adds up to the present."""
    times = db.column("select at from user_history(%s)", user_id)
    assert times == sorted(set(times))
    assert db.column("select at from history_report('2026-11', %s)", user_id) == db.column(
        "select rfc3339(at) from user_history(%s)", user_id
    )
    periods_never_overlap(db)
    histories_add_up(db)


def test_what_was_added_stays_added(db: Database, clock: Clock, go_back: Callable[[], None]) -> None:
    db.rows("select create_segment('A')")
    added = clock.advance(hours=1)
    assert change(db, add=["A"]) == "added"
    go_back()
    assert is_in(db)
    assert db.row("select since, source from user_segments(%s)", USER) == (added, "assignment")
    assert db.value("select source from explain_membership(%s, 'A')", USER) == "assignment"
    in_order(db)


def test_what_was_removed_stays_removed(db: Database, clock: Clock, go_back: Callable[[], None]) -> None:
    db.rows("select create_segment('A')")
    change(db, add=["A"])
    clock.advance(hours=1)
    assert change(db, remove=["A"]) == "removed"
    go_back()
    assert not is_in(db)
    assert [event[1] for event in db.events_of(USER)] == ["add", "remove"]
    in_order(db)


@pytest.mark.parametrize("percent", [0, 100])
def test_every_change_after_it_is_seen_and_follows_the_one_before(
    db: Database, clock: Clock, go_back: Callable[[], None], percent: int
) -> None:
    db.rows("select create_segment('A', %s)", percent)
    clock.advance(hours=1)
    change(db, remove=["A"])
    for _ in range(3):
        assert change(db, add=["A"]) == "added"
        go_back()
        assert is_in(db)
        assert change(db, remove=["A"]) == "removed"
        go_back()
        assert not is_in(db)
    operations = [event[1] for event in db.events_of(USER)]
    assert operations == ["add", "remove"] * (len(operations) // 2)
    assert len(operations) >= 6
    in_order(db)


def test_another_end_is_seen_and_the_old_one_forgotten(
    db: Database, clock: Clock, go_back: Callable[[], None]
) -> None:
    db.rows("select create_segment('A')")
    began = clock.now
    change(db, add=["A"])
    clock.advance(hours=1)
    change(db, add=["A"], expires_at=NOON + timedelta(days=1))
    go_back()
    assert change(db, add=["A"], expires_at=NOON + timedelta(days=2)) == "rescheduled"
    assert is_in(db)
    assert db.row("select since, until from user_segments(%s)", USER) == (began, NOON + timedelta(days=2))
    clock.set(NOON + timedelta(days=2))
    assert not is_in(db)
    in_order(db)


def test_a_plan_made_before_begins_when_the_clock_says_so(
    db: Database, clock: Clock, go_back: Callable[[], None]
) -> None:
    db.rows("select create_segment('A')")
    clock.advance(hours=1)
    change(db, add=["A"], starts_at=NOON + timedelta(days=1))
    go_back()
    assert not is_in(db)
    clock.set(NOON + timedelta(days=1))
    assert is_in(db)
    in_order(db)


def test_many_users_changed_at_once_stay_changed(
    db: Database, clock: Clock, go_back: Callable[[], None]
) -> None:
    db.rows("select create_segment('A', 50)")
    users = [*range(1, 30)]
    clock.advance(hours=1)
    db.rows("select change_segment_members('A', %s)", users)
    go_back()
    assert all(is_in(db, user_id) for user_id in users)
    db.rows("select change_segment_members('A', %s, 'remove')", users)
    go_back()
    assert not any(is_in(db, user_id) for user_id in users)
    for user_id in users:
        assert [event[1] for event in db.events_of(user_id)] == ["add", "remove"], user_id
    in_order(db)


def test_a_user_seen_for_the_first_time_stays_known(
    db: Database, clock: Clock, go_back: Callable[[], None]
) -> None:
    db.rows("select create_segment('A', 50)")
    user_id = first(inside(db, "A", 50), 1)[0]
    clock.advance(hours=1)
    assert db.segments_of(user_id) == ["A"]
    go_back()
    assert is_in(db, user_id)
    db.rows("select change_user_segments(%s, remove => '{A}')", user_id)
    assert not is_in(db, user_id)
    assert [event[1] for event in db.events_of(user_id)] == ["add", "remove"]
    in_order(db, user_id)


def test_a_plain_delete_after_it_is_recorded(db: Database, clock: Clock, go_back: Callable[[], None]) -> None:
    db.rows("select create_segment('A')")
    clock.advance(hours=1)
    change(db, add=["A"])
    go_back()
    db.rows("delete from segmentation.memberships")
    assert not is_in(db)
    assert [event[1] for event in db.events_of(USER)] == ["add", "remove"]
    in_order(db)


def percent(db: Database, user_id: int = USER) -> int:
    """The percentage of A, the same however it is asked for; of 0 or 100, the user agrees."""
    told = {
        db.value("select percent from get_segment('A')"),
        db.value("select percent from list_segments()"),
        db.value("select rollout_percent from explain_membership(%s, 'A')", user_id),
    }
    (answer,) = told
    if answer in (0, 100):
        assert is_in(db, user_id) == (answer == 100)
    return int(answer)


def test_a_rollout_stays_as_it_was_set(db: Database, clock: Clock, go_back: Callable[[], None]) -> None:
    db.rows("select create_segment('A')")
    db.segments_of(USER)
    clock.advance(hours=1)
    for wanted in (100, 0, 30, 100, 0):
        db.rows("select set_rollout('A', %s)", wanted)
        assert percent(db) == wanted
        go_back()
        assert percent(db) == wanted
    assert db.column("select percent from rollout_steps('A')") == [100, 0, 30, 100, 0]
    assert [event[1] for event in db.events_of(USER) if event[0] == "A"][:2] == ["add", "remove"]
    at = db.column("select at from segment_history('A')")
    assert at == sorted(at)
    in_order(db)


def test_a_planned_step_comes_when_the_clock_says_so_and_can_be_cancelled(
    db: Database, clock: Clock, go_back: Callable[[], None]
) -> None:
    db.rows("select create_segment('A')")
    db.segments_of(USER)
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 100)")
    for day in (1, 2):
        db.rows("select set_rollout('A', %s, %s)", 10 * day, NOON + timedelta(days=day))
    go_back()
    assert percent(db) == 100
    db.rows("select cancel_rollout_step('A', %s)", NOON + timedelta(days=1))
    with pytest.raises(ObjectNotInPrerequisiteState):
        db.rows(
            "select cancel_rollout_step('A', (select max(starts_at) from rollout_steps('A') where percent = 100))"
        )
    go_back()
    assert percent(db) == 100
    clock.set(NOON + timedelta(days=2))
    assert percent(db) == 20
    in_order(db)


def test_a_step_that_was_set_cannot_be_typed_away(
    db: Database, clock: Clock, go_back: Callable[[], None]
) -> None:
    db.rows("select create_segment('A', 10)")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 100)")
    go_back()
    for statement in (
        "delete from segmentation.rollouts where percent = 100",
        "update segmentation.rollouts set percent = 50 where percent = 100",
        "insert into segmentation.rollouts (segment_id, salt, percent)"
        " select segment_id, salt, 50 from segmentation.segments",
    ):
        with pytest.raises(ObjectNotInPrerequisiteState):
            db.rows(statement)
    assert percent(db) == 100


def test_a_segment_created_and_deleted_again_and_again(
    db: Database, clock: Clock, go_back: Callable[[], None]
) -> None:
    for _ in range(3):
        db.rows("select create_segment('A', 100)")
        assert percent(db) == 100
        go_back()
        assert percent(db) == 100
        db.rows("select update_segment('A', 'described')")
        go_back()
        db.rows("select delete_segment('A')")
        assert db.segments_of(USER) == []
        go_back()
        assert db.segments_of(USER) == []
        assert db.rows("select * from list_segments()") == []
    lives = db.rows("select created_at, deleted_at from segmentation.segments order by segment_id")
    assert all(life.created_at < life.deleted_at for life in lives)
    assert all(before.deleted_at <= after.created_at for before, after in pairwise(lives))
    at = db.column("select at from segment_history('A')")
    assert at == sorted(at) and len(at) == 12
    in_order(db)
