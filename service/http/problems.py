"""Problem is an error for the client: what is wrong with this request. errors.py turns it into an answer."""

import re
from contextlib import suppress
from typing import Any

import msgspec


class Problem(Exception):
    """An error with a code that clients branch on."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        """Say what is wrong with this request; the members become members of the answer."""
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers = headers or {}
        self.members = members


def malformed(detail: str, **place: str) -> Problem:
    """A request that is malformed at one place: parameter="limit" or pointer="#/add/0"."""
    return malformed_at([{"detail": detail, **place}])


def malformed_at(errors: list[dict[str, str]]) -> Problem:
    """A request that is malformed at these places."""
    detail = "; ".join(
        f"{error.get('parameter') or error.get('pointer', '')}: {error['detail']}".removeprefix(": ")
        for error in errors
    )
    return Problem("malformed_request", detail, errors=errors)


def malformed_body(error: Exception, body: bytes) -> Problem:
    """A body that does not fit its schema; the place that msgspec names becomes a JSON pointer, with what stands there."""
    if isinstance(error, UnicodeDecodeError):
        return malformed(f"It is not UTF-8 text, from byte {error.start} on", pointer="#")
    message, _, path = str(error).partition(" - at `$")
    pointer = re.sub(r"\.(\w+)|\[(\d+)\]", r"/\1\2", path.rstrip("`"))
    # Behind that place the body may be no JSON at all, or nested too deeply.
    with suppress(ValueError, RecursionError):
        value = msgspec.json.decode(body)
        for part in pointer.split("/")[1:]:
            value = value[int(part)] if isinstance(value, list) else value[part]
        if pointer:
            message += f": {msgspec.json.encode(value).decode()[:100]}"
    return malformed(message, pointer=f"#{pointer}")


def late_body(seconds: float) -> Problem:
    """A body that the client began and did not finish."""
    return malformed(f"The body did not come within {seconds:g} seconds", pointer="#")
