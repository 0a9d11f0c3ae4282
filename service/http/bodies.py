"""Request bodies: read strictly by their schema, within limits of size and time."""

import asyncio
import codecs
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from service.http.metrics import TRANSFER_BYTES
from service.http.problems import Problem, late_body, malformed, malformed_body


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


class ApiRequest(Request[str, Any, State]):
    """A request whose body is decoded by the very type of its handler's data, with no conversions."""

    # If set, it is updated with all parts that are read.
    digest: Any = None

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes; fail if the client goes away before its end."""
        try:
            async for part in super().stream():
                if self.digest:
                    self.digest.update(part)
                yield part
        except InternalServerException:
            raise Problem("malformed_request", "The client went away before the body's end.") from None

    async def upload(self) -> AsyncGenerator[bytes, None]:
        """Yield a body of any length as it comes, and count it."""
        counter = TRANSFER_BYTES.labels(self.scope["path_template"], "in")
        async for part in self.stream():
            counter.inc(len(part))
            yield part

    async def body(self) -> bytes:
        """The whole body, if it comes within the time limit."""
        limits: Limits = self.app.state.limits
        try:
            async with asyncio.timeout(limits.patience):
                return await super().body()
        except TimeoutError:
            raise late_body(limits.patience) from None

    async def json(self) -> Any:
        """Decode the body, or say which place of it is wrong."""
        if self.content_type[0] not in ("application/json", ""):
            raise Problem(
                "unsupported_media_type",
                f"The body has the type {self.content_type[0]}.",
                hint="Send JSON and say Content-Type: application/json.",
            )
        body = b"".join([part async for part in self._plain(await self.body())])
        try:
            return _decoder(self.route_handler.parsed_data_field.annotation).decode(  # type: ignore[union-attr]
                body.removeprefix(codecs.BOM_UTF8)
            )
        except ValueError as error:
            raise malformed_body(error) from None
        except RecursionError:
            raise malformed("It is nested too deeply", pointer="#") from None

    async def _plain(self, body: bytes) -> AsyncIterator[bytes]:
        """The body, unzipped if it was sent so, within the limit of its length."""
        if not is_zipped(self.headers.get("content-encoding", "")):
            yield body
            return
        left = self.route_handler.resolve_request_max_body_size() or len(body)

        async def whole() -> AsyncIterator[bytes]:
            yield body

        async for part in unzipped(whole()):
            left -= len(part)
            if left < 0:
                raise RequestEntityTooLarge
            yield part


@cache
def _decoder(schema: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(schema)


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
