"""The jobs under a real pg_cron, in a cluster of its own."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from service.migrate import migrate
from tests.conftest import Database
from tests.expect import wait_until

CLUSTER = Path(__file__).parents[2] / ".dev" / "cluster"
OPTIONS = "-c search_path=public,segmentation -c timezone=UTC"
JOBS = ["segmentation-job-log", "segmentation-partitions", "segmentation-purge", "segmentation-sweep"]


@pytest.fixture(scope="module")
def cron_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database with pg_cron at work in it; the clock is the real one."""
    directory = tmp_path_factory.mktemp("cron") / "cluster"
    subprocess.run([CLUSTER, "start", directory, "--cron", "--fast"], check=True)
    try:
        url = subprocess.run([CLUSTER, "url", directory], check=True, capture_output=True, text=True).stdout
        migrate(url.strip())
        yield url.strip()
    finally:
        subprocess.run([CLUSTER, "remove", directory], check=True)


@pytest.fixture
def db(cron_url: str) -> Iterator[Database]:
    """A DBA's session."""
    database = Database(cron_url, options=OPTIONS)
    yield database
    database.connection.close()


def test_pg_cron_moves_expired_rows_within_two_minutes_with_their_true_end(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}', expires_at => clock() + interval '1 second')")
    (end,) = db.column("select ends_at from segmentation.memberships")
    # pg_cron's minutes cannot be set.
    wait_until(lambda: db.value("select count(*) from segmentation.membership_history") == 1, 125)
    assert db.rows("select * from segmentation.memberships") == []
    assert db.row("select ends_at, end_cause from segmentation.membership_history") == (end, "expired")
    events = [(e.operation, e.cause) for e in db.rows("select * from user_history(1000)")]
    assert events == [("add", "assigned"), ("remove", "expired")]
    assert db.value("select ok from service_status() where item = 'last sweep'")
    failed = "select * from cron.job_run_details where status = 'failed'"
    assert db.rows(failed) == []


def test_all_jobs_are_scheduled_by_a_role_that_is_no_superuser(db: Database) -> None:
    jobs = db.rows("select jobname::text, username::text, active from cron.job order by 1")
    assert jobs == [(name, "segmentation_jobs", True) for name in JOBS]
    assert not db.value("select rolsuper from pg_roles where rolname = 'segmentation_jobs'")


def test_scheduling_twice_changes_nothing(db: Database) -> None:
    before = db.rows("select * from cron.job order by jobid")
    db.rows("select schedule_jobs()")
    assert db.rows("select * from cron.job order by jobid") == before


def test_every_job_runs_as_its_role(cron_url: str) -> None:
    """The commands as pg_cron gives them, one transaction each, by the role they run as."""
    with psycopg.connect(cron_url, autocommit=True) as connection:
        commands = connection.execute("select command from cron.job").fetchall()
        connection.execute("set session authorization segmentation_jobs")
        for (command,) in commands:
            connection.execute(command)
