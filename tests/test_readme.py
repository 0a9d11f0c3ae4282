"""What the READMEs list is what there is; RENEW_README=1 make test ARGS=tests/test_readme.py writes the tables anew."""

import ast
import inspect
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from litestar import Litestar

from service.app import create_app
from service.errors import KINDS
from service.settings import Settings
from tests.bucket import bucket
from tests.conftest import Database
from tests.readmes import FENCE, PAGES, ROOT, text


def table(*rows: tuple[str, ...]) -> str:
    """A table in Markdown; the first row is its head."""
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def errors() -> str:
    """All errors, each with the SQLSTATEs behind it."""
    head = ("status", "code", "SQLSTATE", "what it means, what to do")
    return table(
        head,
        *(
            (str(k.status), f"`{k.code}`", ", ".join(f"`{state}`" for state in k.sqlstates.split()), k.advice)
            for k in KINDS
        ),
    )


def settings() -> str:
    """All settings with their defaults."""
    rows = []
    # What stands below each field.
    body: list[Any] = ast.parse(inspect.getsource(Settings)).body[0].body  # type: ignore[attr-defined]
    said = {
        ast.unparse(field.target): text.value.value
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
    }
    for field in msgspec.structs.fields(Settings):
        default = "required" if field.required else f"`{shown(field.default)}`"
        rows.append((f"`{field.name.upper()}`", default, said[field.name]))
    return table(("variable", "default", "what"), *rows)


def shown(value: Any) -> str:
    """A default as it is written in the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def functions(db: Database) -> str:
    """All functions that people call, from their own comments."""
    rows = [
        (f"`{function.call}`", function.role, function.what)
        for function in db.rows("select role, call, what from segmentation.functions_for_people()")
    ]
    return table(("function", "role", "what"), *rows)


@pytest.fixture
def listings(db: Database) -> list[str]:
    """Every table and program that a page shows as the code has it, each with a first line of its own."""
    return [errors(), settings(), functions(db), inspect.getsource(bucket).strip()]


def test_the_tables_and_programs_are_those_of_the_code(listings: list[str]) -> None:
    if os.environ.get("RENEW_README"):
        for path in PAGES:
            page = path.read_text()
            for listing in listings:
                first, *_ = listing.splitlines()
                # A table ends where its lines do, a program where its block does.
                rest = r"(\n\|.*)*" if first.startswith("|") else r"(\n(?!```).*)*"
                page = re.sub(f"^{re.escape(first)}{rest}", lambda _, new=listing: str(new), page, flags=re.M)  # type: ignore[misc]
            path.write_text(page)
    assert [listing for listing in listings if listing not in text()] == []


@pytest.fixture(scope="module")
def app() -> Litestar:
    """The app, not connected to anything."""
    return create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))


def documented(app: Litestar) -> Iterator[tuple[str, str]]:
    """Each call that the app describes, as "GET /path", with the least role that may make it."""
    for path, calls in app.openapi_schema.to_schema()["paths"].items():
        for method, call in calls.items():
            _, named, role = call["description"].rstrip(".").rpartition("Role: ")
            # A link to a report ends in a file's name, which the framework takes as one parameter.
            yield f"{method.upper()} {path}".replace("{file_name}", "{id}.csv"), role if named else ""


def listed() -> Iterator[tuple[str, str]]:
    """Each call in the table of the front page, with its role: `PUT` · `DELETE /path` | editor · admin."""
    (rows,) = re.findall(r"^\| call \| role \| what \|\n\|[-|]+\n((?:\|.*\n)+)", PAGES[0].read_text(), re.M)
    for row in rows.splitlines():
        calls, roles = (cell.strip() for cell in row.split("|")[1:3])
        names = re.findall(r"`([^`]+)`", calls)
        each = roles.split(" · ")
        for number, name in enumerate(names):
            method, _, path = name.partition(" ")
            # Those that share a path name it once, after the last of them.
            path = path or next(other.partition(" ")[2] for other in names[number:] if " " in other)
            yield f"{method} {path}", each[number] if len(each) > 1 else each[0]


def test_the_calls_listed_are_those_of_the_app_each_with_its_role(app: Litestar) -> None:
    told, true = dict(listed()), dict(documented(app))
    routes = {
        f"{method} {route.path_format}" for route in app.routes for method in getattr(route, "methods", ())
    }
    assert set(true) <= set(told)
    assert set(told) - set(true) - {re.sub(r"\{(\w+):\w+\}", r"{\1}", route) for route in routes} == set()
    assert {call: role for call, role in true.items() if role and told[call] != role} == {}


def test_every_file_of_sql_is_in_the_map_of_its_room() -> None:
    files = {str(file.relative_to(ROOT / "sql")) for file in (ROOT / "sql").rglob("*.sql")}
    page = FENCE.sub("", (ROOT / "sql" / "README.md").read_text())
    assert {file for file in files if f"({file})" not in page} == set()


def test_the_front_page_is_one_that_people_read() -> None:
    assert len(PAGES[0].read_text().splitlines()) <= 200
