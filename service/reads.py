"""The hot read: which segments a user is in right now, thousands of times a second."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

from service.database import Connection, Database, run
from service.metrics import SHARED_READ_CALLS, SHARED_READS

# One JSON text for each user.
READ_USERS = "select segmentation.http_user_segments_each($1)"
MAX_USERS = 200

Waiting = dict[int, list[asyncio.Future[str]]]


class SharedReads:
    """All reads that wait at the same moment are one call, over a connection that is kept for this.

    Borrowing from a pool and crossing to the server cost more than the read itself. A read is only ever
    answered by a call that began after it was asked for.
    """

    def __init__(self, database: Database) -> None:
        """Read from this database."""
        self._database = database
        self._most = database.settings.shared_reads
        self._waiting: Waiting = {}
        self._idle: list[Connection] = []
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

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
            # PostgreSQL refuses it; nobody else is to share that.
            return await self._database.call("reader", "http_user_segments", user_id=user_id)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, []).append(future)
        if self._running < self._most:
            self._running += 1
            # The set keeps the task from being collected as garbage.
            task = asyncio.create_task(self._answer_all())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                asked = self._take()
                try:
                    connection = await self._borrow()
                    try:
                        await _answer(connection, asked)
                    finally:
                        self._idle.append(connection)
                except Exception as error:
                    for future in _unsettled(asked.values()):
                        future.set_exception(error)
        finally:
            self._running -= 1

    def _take(self) -> Waiting:
        asked, self._waiting = self._waiting, {}
        for user_id in list(asked)[MAX_USERS:]:
            self._waiting[user_id] = asked.pop(user_id)
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
        for future in _unsettled([asked[user_id]]):
            future.set_result(text)


def _unsettled(futures: Iterable[list[asyncio.Future[str]]]) -> Iterator[asyncio.Future[str]]:
    """All but those whose client has gone away meanwhile."""
    return (future for alike in futures for future in alike if not future.done())
