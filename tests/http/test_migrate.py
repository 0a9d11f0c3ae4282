"""The migration runner: repeatable, harmless twice at once, all of sql/ or nothing of it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service import migrate as runner
from service import project_path
from service.migrate import MigrationError, migrate
from tests.conftest import Database


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the SQL files, for a test to break."""
    for folder in ("migrations", "sql"):
        shutil.copytree(project_path(folder), tmp_path / folder)
    monkeypatch.setattr(runner, "project_path", lambda name: tmp_path / name)
    return tmp_path


def version(url: str) -> str:
    """The version that the database says it has."""
    return str(Database(url).value("select obj_description('segmentation'::regnamespace, 'pg_namespace')"))


def test_an_empty_database_gets_everything_and_each_step_is_told(empty: str) -> None:
    told: list[str] = []
    migrated = migrate(empty, told.append)
    assert told[0] == "applied migrations/0001_roles_and_schema.sql"
    assert "applied sql/10_clock.sql" in told
    assert told[-1] == f"the database is at version {migrated}"
    assert version(empty).endswith(f"version {migrated}")
    assert Database(empty).value("select count(*) from user_segments(1000)") == 0


def test_a_second_run_applies_no_migration_again_and_keeps_the_data(empty: str) -> None:
    first = migrate(empty)
    Database(empty).rows("select create_segment('A', 100)")
    told: list[str] = []
    assert migrate(empty, told.append) == first
    assert not [line for line in told if "migrations/" in line]
    assert Database(empty).segments_of(1000) == ["A"]


def test_two_runs_at_once_do_no_harm(empty: str) -> None:
    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(migrate, [empty] * 4))) == 1


def test_its_bookkeeping_is_in_a_schema_of_its_own(empty: str) -> None:
    migrate(empty)
    schemas = Database(empty).column(
        "select distinct table_schema from information_schema.tables where table_name like '%yoyo%'"
    )
    assert schemas == ["segmentation_migrations"]


def test_an_error_in_sql_is_told_with_its_file_and_line_and_nothing_is_applied(
    empty: str, checkout: Path
) -> None:
    migrate(empty)
    before = version(empty)
    (checkout / "sql" / "11_new.sql").write_text("create table segmentation.new ();\n\nselekt 1;\n")
    with pytest.raises(MigrationError, match=r"sql/11_new\.sql, line 3: .*syntax error"):
        migrate(empty)
    assert version(empty) == before
    assert Database(empty).value("select to_regclass('segmentation.new')") is None


def test_an_error_in_a_migration_is_told_and_stops_everything(empty: str, checkout: Path) -> None:
    (checkout / "migrations" / "9999_new.sql").write_text("create table segmentation.new ();\nselekt 1;\n")
    with pytest.raises(MigrationError, match=r"migrations/9999_new\.sql.*syntax error"):
        migrate(empty)
    assert Database(empty).value("select to_regclass('segmentation.new')") is None


def test_the_version_tells_every_change_of_a_file(empty: str, checkout: Path) -> None:
    before = migrate(empty)
    with (checkout / "sql" / "10_clock.sql").open("a") as file:
        file.write("-- changed\n")
    assert migrate(empty) != before


def test_a_database_that_is_away_is_told() -> None:
    with pytest.raises(MigrationError, match="does not answer"):
        migrate("postgresql://nobody@127.0.0.1:1/none")


def test_what_is_no_url_is_told_without_showing_it() -> None:
    with pytest.raises(MigrationError, match="no URL") as caught:
        migrate("host=db password=secret")
    assert "secret" not in str(caught.value)
