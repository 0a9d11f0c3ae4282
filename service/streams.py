"""Rows as a stream: COPY from PostgreSQL to the client and from the client to PostgreSQL, never whole in memory."""

import asyncio
import codecs
import logging
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio
import asyncpg
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from litestar import Response
from litestar.exceptions import InternalServerException
from litestar.types import HTTPScope, Receive, Send

from service.database import Database, PooledConnection
from service.errors import (
    INVALID_VALUE,
    MALFORMED_REQUEST,
    STATEMENT_TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
)
from service.wire import NO_STORE, ApiRequest

log = logging.getLogger(__name__)

# Buffers between PostgreSQL and a client: when they are full, PostgreSQL waits.
BUFFERS = 4
# No id is as long as this, in bytes: what is longer is no longer kept.
LONGEST_LINE = 200
# To COPY, \. is the end of all lines; to PostgreSQL 16, 1_000 and 0x10 are numbers. A question mark is neither.
NO_DIGITS = bytes.maketrans(b"\\_xXoObB", b"????????")
QUOTED = re.compile(rb'^"([0-9]+)"$', re.MULTILINE)


class Csv(Response[bytes]):
    """The rows of a query, copied to the client as they come from PostgreSQL."""

    def __init__(
        self, database: Database, role: str, query: str, *arguments: Any, file_name: str, **options: Any
    ) -> None:
        """Send what this query finds as this role, to be saved under this name; options are those of COPY."""
        self.database = database
        self.role = role
        self.query = query
        self.arguments = arguments
        self.options = options
        self.started = False
        self.start: Any = {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/csv; charset=utf-8"),
                (b"content-disposition", f'attachment; filename="{file_name}"'.encode()),
                NO_STORE,
            ],
        }

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Be sent as it is."""
        return self

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Send until the rows end or the client goes away; either way the connection is given back."""
        filled, buffers = anyio.create_memory_object_stream[bytes](BUFFERS)
        copying = asyncio.create_task(self._copy(filled))
        sending = asyncio.create_task(self._send(send, buffers, copying))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except Exception as error:
            # Before the first byte it is an answer of its own. After it, all that is left is to end without
            # the last chunk: the server closes the connection, and the client sees that rows are missing.
            if not self.started:
                raise
            log.warning("%s %s was broken off: %r", scope["method"], scope["path_template"], error)
        finally:
            for task in (gone, sending, copying):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            filled.close()
            buffers.close()

    async def _copy(self, filled: MemoryObjectSendStream[bytes]) -> None:
        with filled:
            async with self.database.bulk(self.role) as connection:
                await connection.copy_from_query(
                    self.query, *self.arguments, output=filled.send, format="csv", **self.options
                )

    async def _send(
        self, send: Send, buffers: MemoryObjectReceiveStream[bytes], copying: asyncio.Task[None]
    ) -> None:
        patience = self.database.settings.stall_timeout
        async for buffer in buffers:
            await self._start(send)
            try:
                async with asyncio.timeout(patience):
                    await send({"type": "http.response.body", "body": buffer, "more_body": True})
            except TimeoutError:
                raise TimeoutError(f"the client took nothing for {patience:g} seconds") from None
        # Raises whatever ended the rows too early.
        await copying
        await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        if not self.started:
            self.started = True
            await send(self.start)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def copy_in(connection: PooledConnection, database: Database, request: ApiRequest) -> None:
    """Copy a request's body, one user id a line, into the temporary table import."""
    settings = database.settings
    body = UserIdLines(request, settings.stall_timeout, settings.transfer_timeout)
    try:
        # asyncpg's own time-out of this call fails in itself. This one is for a server that falls silent.
        async with asyncio.timeout(settings.transfer_timeout + 5):
            # Not as CSV, where an open quote would make the rest of the file one line.
            await connection.copy_to_table(
                "import",
                schema_name="pg_temp",
                columns=["user_id"],
                source=body,
                format="text",
                delimiter=",",
                null="",
                encoding="utf-8",
                timeout=settings.transfer_timeout + 60,
            )
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        raise body.bad_line(error) from None
    except TimeoutError:
        raise _too_late() from None


def _too_late() -> Problem:
    return Problem(STATEMENT_TIMEOUT, "The whole body did not come in time. Nothing was changed.")


class UserIdLines:
    """The lines of an upload, as COPY wants them: unzipped, without header, byte order mark and quotes."""

    def __init__(self, request: ApiRequest, patience: float, longest: float) -> None:
        """Read the body of this request, waiting so many seconds for each part, and so many for all."""
        self._request = request
        self._patience = patience
        self._longest = longest
        self._zipped = _is_zipped(request.headers.get("content-encoding", "identity"))
        self._begun = False
        self._skipped = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield whole lines, as many at a time as came together."""
        rest = b""
        async for part in self._unzipped() if self._zipped else self._parts():
            lines, newline, rest = (rest + part).rpartition(b"\n")
            if newline:
                yield self._plain(lines + newline)
            if len(rest) > LONGEST_LINE:
                rest = b"?"
        if rest:
            yield self._plain(rest + b"\n")

    def _plain(self, lines: bytes) -> bytes:
        if not self._begun:
            self._begun = True
            lines = lines.removeprefix(codecs.BOM_UTF8)
            first, _, others = lines.partition(b"\n")
            if first.strip().strip(b'"') == b"user_id":
                self._skipped = 1
                lines = others
        lines = lines.replace(b"\r\n", b"\n")
        if b'"' in lines:
            lines = QUOTED.sub(rb"\1", lines)
        return lines.translate(NO_DIGITS)

    async def _parts(self) -> AsyncIterator[bytes]:
        parts = self._request.stream()
        now = asyncio.get_running_loop().time
        end = now() + self._longest
        while True:
            try:
                async with asyncio.timeout_at(min(now() + self._patience, end)):
                    part = await anext(parts, None)
            except TimeoutError:
                if now() >= end:
                    raise _too_late() from None
                raise Problem(
                    MALFORMED_REQUEST, f"No part of the body came for {self._patience:g} seconds."
                ) from None
            except InternalServerException:
                raise Problem(MALFORMED_REQUEST, "The client went away before the body's end.") from None
            if part is None:
                return
            if now() >= end:
                raise _too_late()
            yield part

    async def _unzipped(self) -> AsyncIterator[bytes]:
        # A gzip file may be several, one after the other.
        unzip = zlib.decompressobj(wbits=31)
        async for part in self._parts():
            left = part
            while left:
                if unzip.eof:
                    unzip = zlib.decompressobj(wbits=31)
                try:
                    # A small part may unzip to a huge one: a megabyte at a time.
                    lines = unzip.decompress(left, 2**20)
                except zlib.error:
                    raise Problem(
                        MALFORMED_REQUEST, "The body is not gzip, as Content-Encoding says."
                    ) from None
                yield lines
                left = unzip.unused_data if unzip.eof else unzip.unconsumed_tail
        if not unzip.eof:
            raise Problem(MALFORMED_REQUEST, "The body ends before its gzip stream does.")

    def bad_line(self, error: asyncpg.PostgresError) -> Problem:
        """Say which line PostgreSQL could not take; it names it in the context of its error."""
        found = re.search(r", line (\d+)", str(getattr(error, "context", "")))
        if not found:
            return Problem(INVALID_VALUE, f"The body is not one user id a line: {error.args[0]}.")
        line = int(found[1]) + self._skipped
        reason = _REASONS.get(error.sqlstate or "", str(error.args[0]))
        return Problem(
            INVALID_VALUE,
            f"Line {line} is not a user id: {reason}. Nothing was changed.",
            hint="Send one user id a line, from 1 to 9223372036854775807.",
            line=line,
        )


_REASONS = {
    "23502": "it is empty",
    "23514": "it is not above 0",
    "22P02": "it is not a whole number",
    "22003": "it is not between 1 and 9223372036854775807",
    "22P04": "it has more than one column, or a carriage return inside",
    "22021": "it is not UTF-8 text",
}


def _is_zipped(encoding: str) -> bool:
    match encoding.strip().lower():
        case "identity" | "":
            return False
        case "gzip" | "x-gzip":
            return True
        case other:
            raise Problem(
                UNSUPPORTED_MEDIA_TYPE,
                f"The body has the encoding {other}.",
                hint="Send it plain or as gzip.",
            )
