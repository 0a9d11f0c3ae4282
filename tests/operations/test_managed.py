"""On a server that somebody else runs: by a login that is no superuser, with pg_cron where it is."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.migrate import migrate
from tests.operations.conftest import JOBS, query, shell
from tests.readmes import ROOT, block, in_a_sentence

SEGMENTATION_ROLES = "select rolname::text from pg_roles where rolname ~ '^segmentation_(?!dba)'"


@pytest.fixture
def admin(cluster: Callable[[], str]) -> str:
    """The server's administrator: the URL of the database that has pg_cron."""
    url = cluster()
    query(url, "create extension pg_cron")
    return url


def dba_of(admin: str, database: str) -> str:
    """Make a login as the README says, owner of a database; its URL there."""
    statements = [each.strip() for each in block("a managed login").split(";") if each.strip()]
    assert "createrole" in statements[0]
    query(admin, statements[0])
    if database == "segmentation":
        query(admin, "alter database segmentation owner to segmentation_dba")
    else:
        query(admin, statements[1].replace("database segmentation", f"database {database}"))
    at = admin.partition("@")[2].rpartition("/")[0]
    return f"postgresql://segmentation_dba:secret@{at}/{database}"


def works(dba: str, tmp_path: Path) -> None:
    """Assert that the login that migrated may look after the service, which serves."""
    assert "segmentation" in query(dba, "show search_path")[0][0]
    key = shell("python -m service keys create web-shop reader 2>/dev/null", tmp_path, DATABASE_URL=dba)
    assert key.startswith("seg_")
    query(dba, "select create_segment('A', 100)")
    assert "received: 2" in shell(
        "printf '1\\n2\\n' | python -m service members import A", tmp_path, DATABASE_URL=dba
    )
    assert "true" in shell("python -m service status", tmp_path, DATABASE_URL=dba)
    assert query(dba, "select segments from users_segments('{3}')") == [(["A"],)]


def test_pg_cron_in_this_database_is_used(admin: str, tmp_path: Path) -> None:
    dba = dba_of(admin, "segmentation")
    said: list[str] = []
    migrate(dba, said.append)
    assert any("nothing is scheduled: have its owner run" in line for line in said)
    query(admin, in_a_sentence("grant usage on"))
    said.clear()
    migrate(dba, said.append)
    assert any(line.startswith("pg_cron runs 4 jobs") for line in said)
    jobs = query(admin, "select jobname::text, username::text from cron.job order by 1")
    assert jobs == [(name, "segmentation_jobs") for name in JOBS]
    works(dba, tmp_path)


def test_pg_cron_in_another_database_reaches_over(admin: str, tmp_path: Path) -> None:
    dba = dba_of(admin, "elsewhere")
    said: list[str] = []
    migrate(dba, said.append)
    assert any("cron.schedule_in_database" in line for line in said)
    works(dba, tmp_path)
    for statement in block("jobs from elsewhere").split(";\n"):
        if statement.strip():
            query(admin, statement)
    scheduled = query(admin, "select command, database::text from cron.job order by jobid")
    assert {database for _, database in scheduled} == {"elsewhere"}
    with psycopg.connect(f"{admin.rpartition('/')[0]}/elsewhere", autocommit=True) as connection:
        for command, _ in scheduled:
            connection.execute(command.encode())
    upkeep = query(f"{admin.rpartition('/')[0]}/elsewhere", "select task from segmentation.upkeep")
    assert {task for (task,) in upkeep} == {"sweep", "purge"}


def test_uninstalling_leaves_nothing(admin: str) -> None:
    dba = dba_of(admin, "segmentation")
    migrate(dba)
    query(admin, "grant usage on schema cron to segmentation_jobs")
    migrate(dba)
    query(dba, "select create_segment('A', 100)")
    shell(block("uninstall"), ROOT, DATABASE_URL=dba)
    assert query(admin, "select * from cron.job") == []
    assert query(admin, "select count(*) from pg_namespace where nspname ~ '^segmentation'") == [(0,)]
    assert query(admin, "show search_path") == [('"$user", public',)]
    # Somebody else granted it a right, and has to take it back.
    assert query(admin, SEGMENTATION_ROLES) == [("segmentation_jobs",)]
    query(admin, block("uninstall beside pg_cron"))
    assert query(admin, SEGMENTATION_ROLES) == []
    migrate(dba)
    assert query(dba, "select * from segmentation.list_segments()") == []
