"""Rows as a stream: COPY from PostgreSQL to the client and from the client to PostgreSQL, never whole in memory."""

import asyncio
import codecs
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import anyio
import asyncpg
from litestar import Response
from litestar.types import Receive, Scope, Send

from service.database import Database, PooledConnection
from service.errors import INVALID_VALUE, MALFORMED_REQUEST, UNSUPPORTED_MEDIA_TYPE, Problem
from service.wire import ApiRequest

# Buffers between PostgreSQL and a client: when they are full, PostgreSQL waits.
BUFFERS = 4
LONGEST_LINE = 200


class CopyOut:
    """One COPY … TO STDOUT under way: a task that owns the connection, and the buffers it fills."""

    def __init__(self, database: Database, role: str, query: str, *arguments: Any, **options: Any) -> None:
        """Start it; options are those of COPY."""
        self._patience = database.settings.stall_timeout
        self._filled, self._buffers = anyio.create_memory_object_stream[bytes](BUFFERS)
        self._task = asyncio.create_task(self._copy(database, role, query, arguments, options))
        self.first = b""

    async def _copy(
        self, database: Database, role: str, query: str, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        with self._filled:
            async with database.bulk(role) as connection:
                await connection.copy_from_query(
                    query,
                    *arguments,
                    output=self._fill,
                    format="csv",
                    timeout=database.settings.transfer_timeout,
                    **options,
                )

    async def _fill(self, buffer: bytes) -> None:
        # A client that takes nothing for so long gives the connection back.
        async with asyncio.timeout(self._patience):
            await self._filled.send(bytes(buffer))

    async def begin(self) -> "CopyOut":
        """Wait for the first rows, so that what fails before them is an answer of its own."""
        try:
            self.first = await self._buffers.receive()
        except anyio.EndOfStream:
            await self._task
        except BaseException:
            await self.end()
            raise
        return self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the buffers; what fails from now on can only break the transfer off."""
        yield self.first
        async for buffer in self._buffers:
            yield buffer
        await self._task

    async def end(self) -> None:
        """Cancel the COPY if it still runs, and wait until its connection is back."""
        self._task.cancel()
        self._buffers.close()
        with suppress(asyncio.CancelledError, Exception):
            await self._task


class Csv(Response[bytes]):
    """An answer that is copied to the client as it comes from PostgreSQL."""

    def __init__(self, rows: CopyOut, file_name: str) -> None:
        """Send these rows, to be saved under this name."""
        self.rows = rows
        self.start: Any = {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/csv; charset=utf-8"),
                (b"content-disposition", f'attachment; filename="{file_name}"'.encode()),
                (b"cache-control", b"no-store"),
            ],
        }

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Be sent as it is."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the rows end or the client goes away; either way the connection is given back."""
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                # Raised after the first byte, it closes the connection without the last chunk.
                sending.result()
        finally:
            for task in (sending, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            await self.rows.end()

    async def _send(self, send: Send) -> None:
        await send(self.start)
        async for buffer in self.rows:
            await send({"type": "http.response.body", "body": buffer, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def copy_in(connection: PooledConnection, database: Database, request: ApiRequest) -> None:
    """Copy a request's body, one user id a line, into the temporary table import."""
    body = UserIdLines(request, database.settings.stall_timeout)
    try:
        await connection.copy_to_table(
            "import",
            schema_name="pg_temp",
            columns=["user_id"],
            source=body,
            format="csv",
            encoding="utf-8",
            timeout=database.settings.transfer_timeout,
        )
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        raise body.bad_line(error) from None


class UserIdLines:
    """The lines of an upload, as COPY wants them: unzipped, without a header or byte order mark."""

    def __init__(self, request: ApiRequest, patience: float) -> None:
        """Read the body of this request, waiting so many seconds for each part."""
        self._request = request
        self._patience = patience
        self._unzip = _unzip(request.headers.get("content-encoding", "identity"))
        self._skipped = 0
        self._lines = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the lines in parts of any length."""
        head: bytes | None = b""
        async for part in self._parts():
            # COPY would take \. as the end and drop what follows; no id has a backslash.
            if b"\\" in part:
                line = self._lines + part[: part.index(b"\\")].count(b"\n") + 1
                raise _bad_line(line, "it holds a backslash")
            self._lines += part.count(b"\n")
            if head is not None:
                head += part
                if b"\n" not in head and len(head) < LONGEST_LINE:
                    continue
                part, head = self._without_header(head), None
            yield part
        if head is not None:
            yield self._without_header(head)

    def _without_header(self, head: bytes) -> bytes:
        first, newline, rest = head.removeprefix(codecs.BOM_UTF8).partition(b"\n")
        if first.strip().strip(b'"') == b"user_id":
            self._skipped = 1
            return rest
        return first + newline + rest

    async def _parts(self) -> AsyncIterator[bytes]:
        stream = aiter(self._request.stream())
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    part = await anext(stream)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise Problem(
                    MALFORMED_REQUEST, f"No part of the body came for {self._patience:g} seconds."
                ) from None
            for piece in self._unzipped(part):
                yield piece
        if self._unzip and not self._unzip.eof:
            raise Problem(MALFORMED_REQUEST, "The body ends before its gzip stream does.")

    def _unzipped(self, part: bytes) -> Iterator[bytes]:
        if not self._unzip:
            yield part
            return
        try:
            while part:
                # A small part may unzip to a huge one: a megabyte at a time.
                yield self._unzip.decompress(part, 2**20)
                part = self._unzip.unconsumed_tail
        except zlib.error:
            raise Problem(MALFORMED_REQUEST, "The body is not gzip, as Content-Encoding says.") from None
        if self._unzip.unused_data:
            raise Problem(MALFORMED_REQUEST, "Something follows the gzip stream in the body.")

    def bad_line(self, error: asyncpg.PostgresError) -> Problem:
        """Say which line PostgreSQL could not take; it names it in the context of its error."""
        place = str(getattr(error, "context", "") or "")
        digits = place.partition(", line ")[2].split(",")[0].split(":")[0]
        if not digits.isdecimal():
            return Problem(INVALID_VALUE, f"The body is not one user id a line: {error.args[0]}.")
        return _bad_line(int(digits) + self._skipped, _REASONS.get(error.sqlstate or "", str(error.args[0])))


_REASONS = {
    "23502": "it is empty",
    "23514": "a user id is above 0",
    "22P02": "it is not a whole number",
    "22003": "it is above 9223372036854775807",
    "22P04": "it has more than one column, or an open quote",
    "22021": "it is not UTF-8 text",
}


def _bad_line(line: int, reason: str) -> Problem:
    return Problem(
        INVALID_VALUE,
        f"Line {line} is not a user id: {reason}. Nothing was changed.",
        hint="Send one user id a line, from 1 to 9223372036854775807.",
        line=line,
    )


def _unzip(encoding: str) -> Any:
    match encoding.strip().lower():
        case "identity" | "":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(wbits=31)
        case other:
            raise Problem(
                UNSUPPORTED_MEDIA_TYPE,
                f"The body has the encoding {other}.",
                hint="Send it plain or as gzip.",
            )
