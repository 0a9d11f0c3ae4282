"""Sessions that race on purpose: each has a thread, and a test knows when one waits for another."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from tests.conftest import OPTIONS, Database
from tests.expect import histories_add_up

Waits = Callable[..., None]

PATIENCE = 20.0


class Session(Database):
    """A connection of its own whose statements run in a thread of their own."""

    def __init__(self, url: str, options: str = OPTIONS) -> None:
        """Connect to url."""
        super().__init__(url, options)
        self.pid = self.connection.info.backend_pid
        self.thread = ThreadPoolExecutor(1)

    def start(self, query: str, *args: Any) -> Future[list[Any]]:
        """Run a query in the background; its result() are the rows."""
        return self.thread.submit(self.rows, query, *args)

    def close(self) -> None:
        """Roll back what is open and go."""
        self.connection.cancel()
        self.thread.shutdown()
        self.connection.close()


@pytest.fixture
def session(database_url: str, db: Database) -> Iterator[Callable[..., Session]]:
    """Open a session: session() waits for locks, session(lock_timeout="1s") fails if it has to."""
    with ExitStack() as opened:

        def open_session(lock_timeout: str = "0") -> Session:
            new = Session(database_url, f"{OPTIONS} -c lock_timeout={lock_timeout} -c deadlock_timeout=50ms")
            opened.callback(new.close)
            return new

        yield open_session


@pytest.fixture
def waits(db: Database) -> Callable[[Session, Future[list[Any]]], None]:
    """Return as soon as a session waits for a lock; fail if it ends without waiting."""

    def wait_until_blocked(waiting: Session, running: Future[list[Any]]) -> None:
        deadline = monotonic() + PATIENCE
        while db.value("select cardinality(pg_blocking_pids(%s))", waiting.pid) == 0:
            assert not running.done(), f"it did not wait: {running.exception() or running.result()}"
            assert monotonic() < deadline, "it neither waits nor ends"

    return wait_until_blocked


def race(
    first: Session, then: Session, waits: Waits, do: str, meanwhile: str, commit: bool = True
) -> list[Any]:
    """Run one query in an open transaction and another one meanwhile; return the rows of the second."""
    first.rows("begin")
    first.rows(do)
    running = then.start(meanwhile)
    waits(then, running)
    first.rows("commit" if commit else "rollback")
    return running.result()


@pytest.fixture
def consistent(db: Database) -> Callable[[], None]:
    """Assert what no race may break: state and history agree, and a user's periods in a segment never overlap."""

    def check() -> None:
        # One moment for all that is asked.
        db.rows("update segmentation_test.clock set moment = clock()")
        assert (
            db.rows(
                "select a.user_id, a.segment_id from segmentation.overrides as a"
                " join segmentation.overrides as b using (user_id, segment_id)"
                " where (a.starts_at, a.ends_at) < (b.starts_at, b.ends_at)"
                " and tstzrange(a.starts_at, a.ends_at) && tstzrange(b.starts_at, b.ends_at)"
            )
            == []
        )
        assert (
            db.rows(
                "select user_id, segment_id, ends_at from segmentation.overrides"
                " group by 1, 2, 3 having count(*) > 1"
            )
            == []
        )
        histories_add_up(db)

    return check
