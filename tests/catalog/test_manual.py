"""What a DBA is told: the greeting of make psql, and the manual."""

import os
import re
import subprocess
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from tests.conftest import OPTIONS, Database

PSQLRC = Path(__file__).parents[2] / ".dev" / "psqlrc"


def psql(db: Database, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type this into psql, greeted as make psql greets."""
    given = {f"PG{name.upper()}": str(value) for name, value in conninfo_to_dict(db.url).items()}
    given["PGDATABASE"] = given.pop("PGDBNAME")
    return subprocess.run(
        ["psql", "-v", "ON_ERROR_STOP=1"],
        input=script,
        env={**os.environ, **given, "PGOPTIONS": OPTIONS, "PSQLRC": str(PSQLRC)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_line_of_psqls_greeting_can_be_typed_as_it_stands(db: Database, tmp_path: Path) -> None:
    greeting = psql(db, "", tmp_path).stdout
    typed = [
        call
        for line in greeting.splitlines()
        for call in re.split(r"(?<=;) {2,}", re.sub(r"^\S* +", "", line))
        if call.strip()
    ]
    assert len(typed) > 12
    # What exists is used by its name; the segment comes first.
    typed.sort(key=lambda call: "create_segment" not in call)
    (tmp_path / "ids.csv").write_text("1\n2\n")
    # A report of the future is refused.
    db.rows("update segmentation_test.clock set moment = '2026-11-20 12:00Z'")
    done = psql(db, "\n".join(typed).replace("create_api_key('name'", "create_api_key('n'"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "november.csv").exists()
    assert db.segments_of(2) == ["A"]


def test_the_manual_lists_what_people_call_with_role_and_example(db: Database) -> None:
    listed = {text.split("(")[0]: text for text in db.column("select manual from manual()")}
    for function, role in (("user_segments", "reader"), ("begin_import", "editor"), ("sweep", "admin")):
        assert f"Role: {role}." in " ".join(listed[function].split())
    assert listed["user_segments"].splitlines()[0] == "user_segments(user_id [, at])"
    assert listed["sweep"].splitlines()[0] == "sweep([batch_rows, max_seconds])"
    assert listed["finish_import"].splitlines()[-3:] == [
        "select * from finish_import('AVITO_DISCOUNT_30',",
        "  reason => 'november campaign');",
        "commit",
    ]
    assert not [name for name in listed if name.startswith(("http_", "require_"))]
    found = db.column("select split_part(manual, '(', 1) from manual('IMPORT')")
    assert found == ["begin_import", "finish_import"]
    assert db.rows("select * from manual('no such word')") == []


def test_the_manual_fits_into_a_terminal_of_80_columns(db: Database, tmp_path: Path) -> None:
    greeting, _, printed = psql(db, "\\echo ===\nselect * from manual();", tmp_path).stdout.partition("===")
    assert len(greeting) > 0
    assert len(printed.splitlines()) > 150
    assert max(map(len, printed.splitlines())) <= 80


def test_every_example_is_one_that_psql_takes_as_it_is_printed(db: Database) -> None:
    examples = db.column("select unnest(examples) from segmentation.functions_for_people()")
    for example in examples:
        quoted = re.findall(r"'[^']*'", example)
        assert not [text for text in quoted if ", " in text], "a line break would come into a text"


def test_every_function_says_what_it_is_or_that_it_is_internal(db: Database) -> None:
    comments = dict(
        db.rows(
            "select oid::regprocedure::text, obj_description(oid, 'pg_proc') from pg_proc"
            " where pronamespace = 'segmentation'::regnamespace"
        )
    )
    assert [function for function, comment in comments.items() if not comment] == []
    internal = {function for function, comment in comments.items() if comment.startswith("Internal: ")}
    assert "lock_users(bigint[])" in internal
    callable_ = set(
        db.column(
            "select oid::regprocedure::text from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " and has_function_privilege('segmentation_admin', oid, 'execute')"
        )
    )
    assert internal & callable_ == set()
