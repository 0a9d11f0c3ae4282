"""begin_import, COPY, finish_import: a file of any length, all or nothing, and no way around the grants."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.errors import (
    CheckViolation,
    InsufficientPrivilege,
    InvalidParameterValue,
    InvalidTextRepresentation,
    NoDataFound,
    NotNullViolation,
    ObjectNotInPrerequisiteState,
)

from tests.conftest import Clock, Database
from tests.expect import refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture
def editor(db: Database, clock: Clock, connect: Callable[..., Database]) -> Database:
    """A session with the rights of an editor and segment A to fill."""
    db.rows("select create_segment('A')")
    session = connect()
    session.rows("set session authorization segmentation_service")
    session.rows("set role segmentation_editor")
    return session


def fill(session: Database, lines: str) -> None:
    """Copy lines into the table that begin_import made."""
    with session.connection.cursor().copy("copy pg_temp.import from stdin csv") as copy:
        copy.write(lines)


def imported(session: Database, lines: str, arguments: str = "", *values: Any) -> tuple:
    """One whole import into A: (received, changed, unchanged)."""
    with session.connection.transaction():
        session.rows("select begin_import('A')")
        fill(session, lines)
        return tuple(
            session.row(f"select received, changed, unchanged from finish_import('A'{arguments})", *values)
        )


def test_an_import_adds_every_user_of_the_file(editor: Database, clock: Clock) -> None:
    assert imported(editor, "1000\n1002\n") == (2, 2, 0)
    assert editor.column("select user_id from segment_members('A')") == [1000, 1002]


def test_what_was_so_already_and_duplicates_count_as_unchanged(editor: Database, clock: Clock) -> None:
    imported(editor, "1000\n")
    assert imported(editor, "1000\n1002\n1002\n") == (3, 1, 2)


def test_an_import_takes_all_that_change_segment_members_takes(editor: Database, clock: Clock) -> None:
    imported(editor, "1\n2\n", ", 'add', %s, reason => 'list', actor => 'ann'", FRIDAY)
    assert editor.row("select until from user_segments(1)") == (FRIDAY,)
    assert editor.row("select actor, reason from user_history(1)") == ("ann", "list")
    assert imported(editor, "2\n3\n", ", operation => 'remove'") == (2, 1, 1)
    assert editor.column("select user_id from segment_members('A')") == [1]


def test_a_bad_line_is_told_by_its_number_and_changes_nothing(editor: Database, db: Database) -> None:
    for lines, error in (
        ("1\nx\n", InvalidTextRepresentation),
        ("1\n0\n", CheckViolation),
        ("1\n-5\n", CheckViolation),
        ('1\n""\n', InvalidTextRepresentation),
        ("1\n\n", NotNullViolation),
    ):
        with pytest.raises(error) as caught:
            imported(editor, lines)
        assert "line 2" in (caught.value.diag.context or "")
    assert db.rows("select * from segmentation.users") == []


def test_an_import_into_no_segment_is_refused_before_anything_is_sent(editor: Database) -> None:
    with refuses(NoDataFound, segment="X"):
        editor.rows("select begin_import('X')")


def test_an_empty_import_is_refused(editor: Database) -> None:
    with refuses(InvalidParameterValue):
        imported(editor, "")


def test_an_import_that_has_not_begun_cannot_be_finished(editor: Database) -> None:
    with refuses(ObjectNotInPrerequisiteState):
        editor.rows("select * from finish_import('A')")


def test_nothing_of_an_import_outlives_its_transaction(editor: Database) -> None:
    for _ in range(2):
        imported(editor, "1\n")
    assert editor.value("select to_regclass('pg_temp.import')") is None


def test_the_caller_may_fill_the_table_and_nothing_else(editor: Database) -> None:
    for statement in (
        "select * from pg_temp.import",
        "delete from pg_temp.import",
        "alter table pg_temp.import add column x integer",
        "create trigger t before insert on pg_temp.import execute function pg_notify('', '')",
        "create rule r as on insert to pg_temp.import do also select 1",
    ):
        with pytest.raises(InsufficientPrivilege), editor.connection.transaction():
            editor.rows("select begin_import('A')")
            editor.rows(statement)


def attack(editor: Database, relation: str) -> None:
    """Replace the table by something of the caller's own, then let the owner read it."""
    editor.rows(
        "create function pg_temp.as_owner() returns bigint language plpgsql as"
        " $$ begin insert into segmentation.users values (666); return 667; end $$"
    )
    editor.rows("grant execute on function pg_temp.as_owner() to public")
    editor.rows(relation)
    editor.rows("grant all on pg_temp.import to public")
    editor.rows("select * from finish_import('A')")


@pytest.mark.parametrize(
    "relation",
    [
        "create temporary view import as select pg_temp.as_owner() as user_id",
        "create temporary table import as select 1::bigint as user_id",
    ],
)
def test_nothing_but_the_table_of_begin_import_is_read(editor: Database, db: Database, relation: str) -> None:
    """A view in its place would run its functions with the owner's rights."""
    with refuses(ObjectNotInPrerequisiteState):
        attack(editor, relation)
    assert db.rows("select * from segmentation.users") == []
