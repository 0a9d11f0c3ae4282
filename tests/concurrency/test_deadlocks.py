"""Locks are taken in one order everywhere: writers wait for each other, and never in a circle."""

import random
from collections.abc import Callable
from threading import Barrier
from typing import Any

import pytest
from psycopg.errors import LockNotAvailable

from tests.concurrency.conftest import PATIENCE, Session
from tests.conftest import Database

Consistent = Callable[[], None]
Open = Callable[..., Session]
SLUGS = ["A", "B", "C", "D"]
ROUNDS = 25


@pytest.fixture(autouse=True)
def segments(db: Database) -> None:
    """Four segments, two of them half rolled out."""
    for slug, percent in zip(SLUGS, (0, 50, 0, 50), strict=True):
        db.rows("select create_segment(%s, %s)", slug, percent)


def at_once(sessions: list[Session], calls: list[tuple[Any, ...]]) -> None:
    """Start each call in its session at the same moment, and wait for all."""
    barrier = Barrier(len(calls), timeout=PATIENCE)

    def run(session: Session, query: str, args: tuple[Any, ...]) -> None:
        barrier.wait()
        session.rows(query, *args)

    running = [
        session.thread.submit(run, session, call[0], call[1:])
        for session, call in zip(sessions, calls, strict=True)
    ]
    for future in running:
        future.result(PATIENCE)


BULK = "select change_segment_members(%s, %s::bigint[], %s)"


def test_bulk_writers_with_the_same_users_in_opposite_order(
    db: Database, session: Open, consistent: Consistent
) -> None:
    sessions = [session(), session()]
    users = list(range(1, 101))
    for number in range(ROUNDS):
        operation = ("add", "remove")[number % 2]
        at_once(sessions, [(BULK, "A", users, operation), (BULK, "A", users[::-1], operation)])
    assert [slug for slug, *_ in db.events_of(1)].count("A") == ROUNDS
    consistent()


def test_bulk_writers_of_users_never_seen_in_opposite_order(
    db: Database, session: Open, consistent: Consistent
) -> None:
    sessions = [session() for _ in range(3)]
    for number in range(ROUNDS):
        # Some are known already, some not.
        users = [*range(1, 20), *range(1000 * (number + 1), 1000 * (number + 1) + 60)]
        at_once(
            sessions,
            [
                (BULK, "A", users, "add"),
                (BULK, "B", users[::-1], "add"),
                ("select users_segments(%s::bigint[])", random.Random(number).sample(users, len(users))),
            ],
        )
    assert db.value("select count(*) from segmentation.users") == 19 + 60 * ROUNDS
    assert db.value("select assigned from segment_stats('A')") == 19 + 60 * ROUNDS


def test_writers_of_one_user_with_the_same_segments_in_opposite_order(
    db: Database, session: Open, consistent: Consistent
) -> None:
    sessions = [session(), session()]
    call = "select change_user_segments(1, %s, %s)"
    for _ in range(ROUNDS):
        at_once(sessions, [(call, SLUGS[:2], SLUGS[2:]), (call, SLUGS[:1:-1], SLUGS[1::-1])])
    assert db.segments_of(1) in (["A", "B"], ["C", "D"])
    consistent()


@pytest.mark.parametrize(
    ("hold", "then", "free", "taken"),
    [
        (
            "select segmentation.register_users('{5}')",
            "select segmentation.register_users('{9,5,1}')",
            "select segmentation.register_users('{9}')",
            "select segmentation.register_users('{1}')",
        ),
        (
            "select from segmentation.users where user_id = 105 for update",
            "select segmentation.lock_users('{109,105,101}')",
            "select from segmentation.users where user_id = 109 for update",
            "select from segmentation.users where user_id = 101 for update",
        ),
        (
            "select from segmentation.memberships where user_id = 105 for update",
            "select change_segment_members('A', '{109,105,101}', 'remove')",
            "select from segmentation.memberships where user_id = 109 for update",
            "select from segmentation.memberships where user_id = 101 for update",
        ),
    ],
    ids=["registering", "locking users", "locking overrides"],
)
def test_locks_are_taken_in_ascending_order_whatever_order_is_asked_for(
    db: Database,
    session: Open,
    waits: Callable[..., None],
    hold: str,
    then: str,
    free: str,
    taken: str,
) -> None:
    """A session that waits for 5 holds 1 already, and not yet 9."""
    db.rows("select change_segment_members('A', '{109,105,101}')")
    holder, writer, prober = session(), session(), session(lock_timeout="200ms")
    holder.rows("begin")
    holder.rows(hold)
    running = writer.start(then)
    waits(writer, running)
    with prober.connection.transaction(force_rollback=True):
        prober.rows(free)
    with pytest.raises(LockNotAvailable):
        prober.rows(taken)
    holder.rows("rollback")
    running.result(PATIENCE)


def test_a_writer_that_begins_anew_after_a_forgetting_holds_nothing_meanwhile(
    db: Database, session: Open, waits: Callable[..., None]
) -> None:
    """The user it waited for is gone: it is registered again before any lock is taken, as at the first try."""
    many = list(range(1, 30_001))
    db.rows("select register_users(%s::bigint[])", many)
    for _ in range(3):
        eraser, bulk, single = session(), session(), session()
        eraser.rows("begin")
        eraser.rows("select forget_user(2)")
        running = bulk.start(BULK, "A", many, "add")
        waits(bulk, running)
        eraser.rows("commit")
        single.start(BULK, "B", [1, 2], "add").result(PATIENCE)
        running.result(PATIENCE)


def test_everything_at_once(db: Database, session: Open, consistent: Consistent) -> None:
    """Six sessions call whatever the interface offers; each answer is one that a caller expects."""
    sessions = [session() for _ in range(6)]
    dice = random.Random(4711)
    expected = {"22023", "23503", "23505", "P0002"}

    def calls() -> list[tuple[Any, ...]]:
        users = dice.sample(range(1, 31), 20)
        slugs = dice.sample(SLUGS, 2)
        return dice.sample(
            [
                (BULK, slugs[0], users, "add"),
                (BULK, slugs[1], users[::-1], "remove"),
                (BULK, slugs[0], users[5:], "remove"),
                ("select change_user_segments(%s, %s, %s)", users[0], slugs[:1], slugs[1:]),
                ("select change_user_segments(%s, %s, %s)", users[0], slugs[1:], slugs[:1]),
                ("select users_segments(%s::bigint[])", users),
                ("select forget_user(%s)", users[0]),
                ("select set_rollout(%s, %s)", slugs[0], dice.randrange(101)),
                ("select set_rollout(%s, %s)", slugs[0], dice.randrange(101)),
                ("select delete_segment(%s)", slugs[1]),
                ("select create_segment(%s, 50)", slugs[1]),
                ("select expire_memberships(10)",),
                (
                    "select change_segment_members(%s, %s::bigint[], 'add', clock() + interval '20 ms')",
                    slugs[0],
                    users,
                ),
            ],
            len(sessions),
        )

    for _ in range(2 * ROUNDS):
        barrier = Barrier(len(sessions), timeout=PATIENCE)

        def run(one: Session, query: str, args: tuple[Any, ...], barrier: Barrier = barrier) -> None:
            barrier.wait()
            try:
                one.rows(query, *args)
            except Exception as error:
                if getattr(error, "sqlstate", None) not in expected:
                    raise

        running = [
            one.thread.submit(run, one, call[0], call[1:])
            for one, call in zip(sessions, calls(), strict=True)
        ]
        for future in running:
            future.result(PATIENCE)
    db.rows("call sweep()")
    consistent()
