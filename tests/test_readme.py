"""The tables and listings of the READMEs are those of the code; python -m tests.test_readme writes them anew."""

import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.errors import BY_SQLSTATE, KINDS
from service.settings import Settings
from tests.bucket import bucket
from tests.readmes import PAGES, text


def errors() -> str:
    """The table of all errors, each with the SQLSTATEs behind it."""
    lines = ["| status | code | SQLSTATE | what it means, what to do |", "|---|---|---|---|"]
    for kind in KINDS:
        states = ", ".join(f"`{state}`" for state, other in BY_SQLSTATE.items() if other is kind)
        lines.append(f"| {kind.status} | `{kind.code}` | {states} | {kind.advice} |")
    return "\n".join(lines)


def settings() -> str:
    """The table of all settings with their defaults."""
    lines = ["| variable | default | what |", "|---|---|---|"]
    for field in msgspec.structs.fields(Settings):
        default: Any = "required" if field.required else f"`{shown(field.default)}`"
        lines.append(f"| `{field.name.upper()}` | {default} | {described(field.type)} |")
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A default as it is written in the environment."""
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def described(kind: Any) -> str:
    """The description of a setting, which is the outermost annotation."""
    return " ".join(meta.description for meta in kind.__metadata__ if meta.description)


@pytest.mark.parametrize("listing", [errors(), settings(), inspect.getsource(bucket).strip()])
def test_the_readme_lists_what_the_code_has(listing: str) -> None:
    assert listing in text()


def test_every_public_function_is_named_in_the_readme() -> None:
    grants = (Path(__file__).parents[1] / "sql" / "99_grants.sql").read_text()
    granted = {
        line.split("segmentation.")[1].split("(")[0]
        for line in grants.splitlines()
        if "segmentation." in line and "(" in line
    }
    internal = {
        "assert_bucket_vectors",
        "authenticate_api_key",
        "clock",
        "expiry",
        "history_partitions",
        "linked_pages",
        "report_page",
    }
    internal |= {
        "claim_idempotency_key",
        "keep_answer",
        "note_upkeep",
        "require_at_most",
        "rfc3339",
        "rollout_json",
    }
    page = text()
    missing = {name for name in granted - internal if not name.startswith("http_") and name not in page}
    assert missing == set()


def renewed(page: str) -> str:
    """A page with the tables and listings as the code has them now."""
    for table in (errors(), settings()):
        head = re.escape(table.splitlines()[0])
        page = re.sub(rf"^{head}(\n\|.*)*", lambda _, new=table: str(new), page, flags=re.MULTILINE)  # type: ignore[misc]
    source = inspect.getsource(bucket).strip()
    return re.sub(r"(?<=```python\n)def bucket\(.*?(?=\n```)", lambda _: source, page, flags=re.DOTALL)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(renewed(path.read_text()))
