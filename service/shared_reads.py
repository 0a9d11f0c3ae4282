"""The hot read: which segments a user is in right now, thousands of times a second."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from contextvars import Context

from prometheus_client import Counter

from service.database import Connection, Database, run
from service.http.problems import Problem

SHARED_READS = Counter("segmentation_shared_reads", "Hot reads answered")
SHARED_READ_CALLS = Counter("segmentation_shared_read_calls", "SQL calls that answered them, many at once")
# One JSON text for each user.
READ_USERS = "select segmentation.http_user_segments_each($1)"
MAX_USERS = 200
# If at least this many users wait, one more call begins beside those that run.
WORTH_A_CALL = 4
# Seconds after which a running call counts as late: then one more begins for fewer users too.
PATIENCE = 0.005

Waiting = dict[int, list[asyncio.Future[str]]]


class SharedReads:
    """All reads that wait at the same moment are one call, over a connection that is kept for this.

    Borrowing from a pool and crossing to the server cost more than the read itself, and the more reads share a
    call, the less. A read is only ever answered by a call that began after it was asked for. They
    run as reader, whatever the role of the key: every key may ask this. The call is in sql/45_reads.sql.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._most = database.settings.shared_reads
        self._waiting: Waiting = {}
        self._idle: list[Connection] = []
        self._running = 0
        # When the first of those who wait began to, and when the last call began.
        self._since = 0.0
        self._begun = 0.0
        self._watching = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many users are to be looked up by the next call."""
        return len(self._waiting)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close the connections in the end."""
        try:
            yield
        finally:
            while self._idle:
                await self._idle.pop().close(timeout=1)

    async def read(self, user_id: int) -> str:
        """The JSON text of a user's present segments."""
        if not 0 < user_id < 2**63:
            # PostgreSQL refuses such an id: in a call of its own, so that no other read fails.
            return await self._database.call("reader", "http_user_segments", user_id=user_id)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        if not self._waiting:
            self._since = loop.time()
        self._waiting.setdefault(user_id, []).append(future)
        if not self._running or (len(self._waiting) >= WORTH_A_CALL and self._running < self._most):
            self._begin()
            if not self._watching:
                self._watch()
        return await future

    def _watch(self) -> None:
        """Look now and then, while there are calls, whether somebody waits too long: a timer a call is dear."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._waiting and now > self._since + self._database.settings.acquire_timeout:
            asked, self._waiting = self._waiting, {}
            _fail(
                asked, Problem("database_unavailable", "No connection to the database became free in time.")
            )
        elif self._waiting and now > self._begun + PATIENCE and self._running < self._most:
            self._begin()
        self._watching = self._running > 0
        if self._watching:
            loop.call_later(PATIENCE, self._watch)

    def _begin(self) -> None:
        """Let one more connection take what waits."""
        self._running += 1
        # In an empty context, as it works for many requests. The set keeps the task from being collected as
        # garbage.
        task = asyncio.create_task(self._answer_all(), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                asked = self._take()
                try:
                    connection = await self._borrow()
                    try:
                        await _answer(connection, asked)
                    except TimeoutError:
                        # PostgreSQL has not even ended the call: whoever came next would wait for the same.
                        connection.terminate()
                        raise
                    finally:
                        self._idle.append(connection)
                except Exception as error:
                    _fail(asked, error)
        finally:
            self._running -= 1

    def _take(self) -> Waiting:
        asked, self._waiting = self._waiting, {}
        for user_id in list(asked)[MAX_USERS:]:
            self._waiting[user_id] = asked.pop(user_id)
        self._begun = asyncio.get_running_loop().time()
        return asked

    async def _borrow(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._database.connect("reader")


async def _answer(connection: Connection, asked: Waiting) -> None:
    # Sorted, so that two calls that register new users never wait for each other in a circle.
    user_ids = sorted(asked)
    ((texts,),) = await run(connection, READ_USERS, user_ids)
    SHARED_READ_CALLS.inc()
    SHARED_READS.inc(sum(map(len, asked.values())))
    for user_id, text in zip(user_ids, texts, strict=True):
        if text is None:
            # Only a router leaves an answer out: the user's shard is away, and the others are there.
            _fail(
                {user_id: asked[user_id]},
                Problem("database_unavailable", "This user's shard does not answer."),
            )
            continue
        for future in _unsettled([asked[user_id]]):
            future.set_result(text)


def _fail(asked: Waiting, error: Exception) -> None:
    for future in _unsettled(asked.values()):
        future.set_exception(error)


def _unsettled(futures: Iterable[list[asyncio.Future[str]]]) -> Iterator[asyncio.Future[str]]:
    """The futures whose clients have not gone away meanwhile."""
    return (future for alike in futures for future in alike if not future.done())
