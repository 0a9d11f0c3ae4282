"""One write a response: uvicorn hands head and body over apart, and uvloop would send each by a system call."""

import asyncio
from typing import Any

# What is larger is no answer but a part of a transfer, and goes out at once.
SMALL = 16384


class Corked:
    """A transport that sends what was written to it in one turn of the loop together."""

    def __init__(self, transport: asyncio.Transport) -> None:
        """Write to this transport."""
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """All else is as it was."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep it until the end of this turn."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        if len(data) > SMALL:
            self._flush()

    def close(self) -> None:
        """Send what is left, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(b"".join(parts))
