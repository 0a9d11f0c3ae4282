"""Request bodies: read strictly by their schema, within limits of size and time."""

import asyncio
from collections.abc import AsyncGenerator
from functools import cache
from typing import Any, NamedTuple

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException

from service.http.metrics import TRANSFER_BYTES
from service.http.problems import Problem, late_body, malformed_body


class Limits(NamedTuple):
    """How many seconds a client may keep the service waiting, and how many a whole transfer may take."""

    patience: float
    transfer: float


class ApiRequest(Request[str, Any, State]):
    """A request whose body is decoded by the very type of its handler's data, with no conversions."""

    # Of all that was read, where somebody wants to know.
    digest: Any = None

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes, or say that it will not come."""
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
        """Wait for the body, but not for ever."""
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
        body = await self.body()
        try:
            return _decoder(self.route_handler.parsed_data_field.annotation).decode(body)  # type: ignore[union-attr]
        except ValueError as error:
            raise malformed_body(error) from None


@cache
def _decoder(schema: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(schema)
