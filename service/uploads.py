"""User ids from a client into PostgreSQL by COPY, as a stream: never whole in memory."""

import asyncio
import codecs
import re
from collections.abc import AsyncIterator

import asyncpg

from service.database import AnyConnection
from service.http.problems import Problem
from service.http.transfers import Limits, Pace, unzipped

# Bytes. No id is as long: of a longer line, only a mark is kept that makes COPY refuse it.
LONGEST_LINE = 200
# To COPY, \. is the end of all lines; to PostgreSQL 16, 1_000 and 0x10 are numbers. Control characters are neither.
NO_DIGITS = b"\\_xXoObB"
HIDDEN = bytes(range(1, 1 + len(NO_DIGITS)))
HIDE = bytes.maketrans(NO_DIGITS, HIDDEN)
SHOW = str.maketrans(HIDDEN.decode(), NO_DIGITS.decode())
HEADER = re.compile(rb'"?(user_?)?id"?', re.IGNORECASE)
QUOTED = re.compile(rb'^"([0-9]+)"$', re.MULTILINE)


async def copy_in(
    connection: AnyConnection,
    parts: AsyncIterator[bytes],
    *,
    is_zipped: bool,
    limits: Limits,
) -> None:
    """Copy an upload, one user id per line, into the temporary table import."""
    lines = UserIdLines(parts, is_zipped, limits)
    now = asyncio.get_running_loop().time
    late = now() + limits.transfer
    try:
        # asyncpg's own time-out of this call is broken. This one is for a server that does not answer at all.
        async with asyncio.timeout(limits.transfer + 5):
            # As text: in CSV, an open quote would make the rest of the file one line.
            await connection.copy_to_table(
                "import",
                schema_name="pg_temp",
                columns=["user_id"],
                source=lines,
                format="text",
                delimiter=",",
                null="",
                encoding="utf-8",
                timeout=limits.transfer + 60,
            )
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        raise lines.bad_line(error) from None
    except TimeoutError:
        raise _too_late() from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError):
        # PostgreSQL's own time-out came while asyncpg was sending: asyncpg then gives the connection up.
        if now() < late:
            raise
        raise _too_late() from None


def _too_late() -> Problem:
    return Problem("statement_timeout", "The whole body did not come in time. Nothing was changed.")


class UserIdLines:
    """The lines of an upload, as COPY wants them: unzipped, without header, byte order mark and quotes."""

    def __init__(self, parts: AsyncIterator[bytes], is_zipped: bool, limits: Limits) -> None:
        self._source = parts
        self._zipped = is_zipped
        self._limits = limits
        self._rows = 0
        self._begun = False
        self._skipped = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield whole lines, as many at a time as came together."""
        rest = b""
        async for part in unzipped(self._parts()) if self._zipped else self._parts():
            whole = rest + part
            ended = whole[: whole.rfind(b"\n") + 1]
            # Blank lines are held back until it is known that they are not the end of the file; not more than a few.
            content = ended.rstrip()
            if len(ended) - len(content) > LONGEST_LINE:
                content = ended
            unfinished = whole[len(ended) :]
            if len(unfinished) > LONGEST_LINE:
                unfinished = b"?"
            rest = ended[len(content) :] + unfinished
            # A first line without its end may be half a header.
            if content and (self._begun or b"\n" in content):
                yield self._plain(content)
            else:
                rest = content + rest
        if rest.strip():
            yield self._plain(rest.rstrip(b"\r\n") + b"\n")

    def _plain(self, lines: bytes) -> bytes:
        if not self._begun:
            self._begun = True
            lines = lines.removeprefix(codecs.BOM_UTF8)
            first, _, others = lines.partition(b"\n")
            if HEADER.fullmatch(first.strip()):
                self._skipped = 1
                lines = others
        lines = lines.replace(b"\r\n", b"\n")
        if b'"' in lines:
            lines = QUOTED.sub(rb"\1", lines)
        self._rows += lines.count(b"\n")
        if self._rows > self._limits.rows:
            raise Problem(
                "payload_too_large",
                f"There are more than {self._limits.rows} lines. Nothing was changed.",
                hint="Send them in several imports.",
                at_most=self._limits.rows,
            )
        return lines.translate(HIDE)

    async def _parts(self) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        end = now() + self._limits.transfer
        pace = Pace(self._limits)
        while True:
            try:
                async with asyncio.timeout_at(end), pace.wait():
                    part = await anext(self._source, None)
            except TimeoutError:
                if now() >= end:
                    raise _too_late() from None
                raise Problem("malformed_request", f"The body comes too slowly. Send {pace}.") from None
            if part is None:
                return
            if now() >= end:
                raise _too_late()
            pace.moved(len(part))
            yield part

    def bad_line(self, error: asyncpg.PostgresError) -> Problem:
        """Say which line PostgreSQL could not take; it names it in the context of its error."""
        context = str(getattr(error, "context", "")).translate(SHOW)
        found = re.search(r', line (\d+)(?:(?:, column user_id)?: "(.+)")?', context)
        if not found:
            return Problem("invalid_value", f"The body is not one user id a line: {error.args[0]}.")
        line = int(found[1]) + self._skipped
        reason = _REASONS.get(error.sqlstate or "", str(error.args[0]))
        given = f': "{found[2]}"' if found[2] else ""
        return Problem(
            "invalid_value",
            f"Line {line} is not a user id: {reason}{given}. Nothing was changed.",
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
