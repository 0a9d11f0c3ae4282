"""Bodies of any length: how slowly one may come or go, and gzip."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from service.http.problems import Problem


class Limits(NamedTuple):
    """How long a client may keep the service waiting, and a transfer may take; how much an upload may hold."""

    patience: float
    # In seconds, as patience is.
    transfer: float
    bytes_per_second: float
    rows: int


class Pace:
    """Patience that runs out while a client is waited for; whatever is moved gives some back, up to all of it.

    So a transfer ends where nothing moves for that many seconds, and also where in the long run less moves than so
    many bytes per second: a connection to the database is held meanwhile.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.patience

    def __str__(self) -> str:
        """What is wanted of the client."""
        return (
            f"at least {self._limits.bytes_per_second:g} bytes per second,"
            f" and no pause of {self._limits.patience:g} seconds"
        )

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Wait for the client, or raise TimeoutError when patience runs out."""
        now = asyncio.get_running_loop().time
        began = now()
        async with asyncio.timeout(self._left):
            yield
        self._left -= now() - began

    def moved(self, number: int) -> None:
        """Tell that this many bytes were moved."""
        self._left = min(self._limits.patience, self._left + number / self._limits.bytes_per_second)


def is_zipped(encoding: str) -> bool:
    """Whether a body with this Content-Encoding is gzip; other encodings are refused."""
    match encoding.strip().lower():
        case "identity" | "":
            return False
        case "gzip" | "x-gzip":
            return True
        case other:
            raise Problem(
                "unsupported_media_type",
                f"The body has the encoding {other}.",
                hint="Send it plain or as gzip.",
                headers={"Accept-Encoding": "gzip"},
            )


async def unzipped(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The content of a gzip file. It may be several files in a row, with zeros at the end."""
    unzip = zlib.decompressobj(wbits=31)
    async for part in parts:
        left = part
        while left:
            if unzip.eof:
                left = left.lstrip(b"\0")
                if not left:
                    break
                unzip = zlib.decompressobj(wbits=31)
            try:
                # A small part may unzip to a huge one: so a megabyte at a time, in a thread.
                content = await asyncio.to_thread(unzip.decompress, left, 2**20)
            except zlib.error:
                raise Problem(
                    "malformed_request", "The body is not gzip, as Content-Encoding says."
                ) from None
            yield content
            left = unzip.unused_data if unzip.eof else unzip.unconsumed_tail
    if not unzip.eof:
        raise Problem("malformed_request", "The body ends before its gzip stream does.")
