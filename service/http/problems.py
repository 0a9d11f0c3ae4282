"""Problem is an error for the client: what is wrong with this request. errors.py turns it into an answer."""

import re
from typing import Any


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


def malformed_body(error: Exception) -> Problem:
    """A body that does not fit its schema; the place that msgspec names becomes a JSON pointer."""
    message, _, path = str(error).partition(" - at `$")
    pointer = re.sub(r"\.(\w+)|\[(\d+)\]", r"/\1\2", path.rstrip("`"))
    return malformed(message, pointer=f"#{pointer}")


def late_body(seconds: float) -> Problem:
    """A body that the client began and did not finish."""
    return malformed(f"The body did not come within {seconds:g} seconds", pointer="#")
