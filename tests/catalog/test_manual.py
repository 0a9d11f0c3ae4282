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
    listed = {row.function: row for row in db.rows("select * from manual()")}
    for function, role in (("user_segments", "reader"), ("begin_import", "editor"), ("sweep", "admin")):
        assert listed[function].role == role
    assert listed["user_segments"].manual.splitlines()[0] == "user_segments(user_id [, at])"
    assert listed["sweep"].manual.splitlines()[0] == "sweep([batch_rows, max_seconds])"
    assert listed["finish_import"].manual.splitlines()[-2:] == [
        "select * from finish_import('AVITO_DISCOUNT_30', reason => 'november campaign');",
        "commit",
    ]
    assert not [name for name in listed if name.startswith(("http_", "require_"))]
    assert db.column("select function from manual('IMPORT')") == ["begin_import", "finish_import"]
    assert db.rows("select * from manual('no such word')") == []


def test_the_manual_fits_on_a_page(db: Database) -> None:
    lines = [line for (text,) in db.rows("select manual from manual()") for line in text.splitlines()]
    assert max(len(line) for line in lines if line.startswith("    ")) <= 94
    assert max(map(len, lines)) < 180


def test_every_function_says_what_it_is_or_that_it_is_internal(db: Database) -> None:
    comments = dict(
        db.rows(
            "select oid::regprocedure::text, obj_description(oid, 'pg_proc') from pg_proc"
            " where pronamespace = 'segmentation'::regnamespace"
        )
    )
    assert [function for function, comment in comments.items() if not comment] == []
    internal = {function for function, comment in comments.items() if comment.startswith("Internal: ")}
    assert "members_page(integer,timestamp with time zone,bigint,integer)" in internal
    callable_ = set(
        db.column(
            "select oid::regprocedure::text from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " and has_function_privilege('segmentation_admin', oid, 'execute')"
        )
    )
    assert internal & callable_ == set()
