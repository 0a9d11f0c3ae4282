"""Request bodies: read strictly by their schema, within limits of size and time."""

import asyncio
import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from functools import cache
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from service.http.metrics import TRANSFER_BYTES
from service.http.problems import Problem, late_body, malformed, malformed_body
from service.http.transfers import Limits, is_zipped, unzipped


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
        if self.content_type[1].get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
            raise Problem(
                "unsupported_media_type",
                f"The body has the charset {self.content_type[1]['charset']}.",
                hint="Send JSON in UTF-8.",
            )
        sent = b"".join([part async for part in self._plain(await self.body())])
        body = sent.removeprefix(codecs.BOM_UTF8)
        try:
            return _decoder(self.route_handler.parsed_data_field.annotation).decode(body)  # type: ignore[union-attr]
        except ValueError as error:
            raise malformed_body(error, body) from None
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
