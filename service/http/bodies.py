"""Request bodies, read strictly by their schema."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException

from service.errors import MALFORMED_REQUEST, UNSUPPORTED_MEDIA_TYPE, Problem, late_body, malformed_body
from service.http.auth import Caller

T = TypeVar("T")


class ApiRequest(Request[str, Caller, State]):
    """A request whose body is decoded by the very type of its handler's data, with no conversions."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes, or say that it will not come."""
        try:
            async for part in super().stream():
                yield part
        except InternalServerException:
            raise Problem(MALFORMED_REQUEST, "The client went away before the body's end.") from None

    async def body(self) -> bytes:
        """Wait for the body, but not for ever."""
        patience = self.app.state.database.settings.stall_timeout
        try:
            async with asyncio.timeout(patience):
                return await super().body()
        except TimeoutError:
            raise late_body(patience) from None

    async def while_client_waits(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what takes long once the body is there, and cancel it if the client goes away meanwhile."""
        working, going = asyncio.create_task(work), asyncio.create_task(self._gone())
        try:
            await asyncio.wait({working, going}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise Problem(MALFORMED_REQUEST, "The client went away before the answer.")
        finally:
            for task in (working, going):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def json(self) -> Any:
        """Decode the body, or say which place of it is wrong."""
        if self.content_type[0] not in ("application/json", ""):
            raise Problem(
                UNSUPPORTED_MEDIA_TYPE,
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
