"""service_status and the jobs: how a DBA sees that all is well, and what to do if not."""

from datetime import UTC, datetime, timedelta

from tests.conftest import NOON, Clock, Database
from tests.expect import LATE, MOCK_CRON

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)


def status(db: Database) -> dict[str, bool]:
    """Which item is well."""
    return {row.item: row.ok for row in db.rows("select * from service_status()")}


def test_all_is_well_after_a_migration_and_a_sweep(db: Database, clock: Clock) -> None:
    db.rows("call sweep()")
    db.rows("select ensure_history_partitions(3)")
    assert [tuple(row)[:2] for row in db.rows("select * from service_status()")] == [
        ("schema version", True),
        ("bucket vectors", True),
        ("last sweep", True),
        ("oldest end not yet swept", True),
        ("history partitions ahead", True),
    ]


def test_what_is_well_has_a_value_and_what_is_not_has_a_hint(db: Database, clock: Clock) -> None:
    for row in db.rows("select * from service_status()"):
        assert row.value
        assert (row.hint is None) == row.ok


def test_a_sweep_that_never_ran_or_long_ago_is_told(db: Database, clock: Clock) -> None:
    db.rows("delete from segmentation.upkeep")
    assert not status(db)["last sweep"]
    db.rows("call sweep()")
    clock.advance(minutes=9)
    assert status(db)["last sweep"]
    clock.advance(minutes=2)
    assert not status(db)["last sweep"]


def test_ends_that_wait_for_a_sweep_are_told(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1, '{A}', expires_at => %s)", FRIDAY)
    clock.set(FRIDAY + timedelta(minutes=9))
    assert status(db)["oldest end not yet swept"]
    clock.advance(minutes=2)
    assert not status(db)["oldest end not yet swept"]
    db.rows("call sweep()")
    assert status(db)["oldest end not yet swept"]


def test_deleted_segments_that_wait_for_a_sweep_are_told(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select delete_segment('A')")
    clock.advance(minutes=11)
    assert not status(db)["oldest end not yet swept"]
    db.rows("call sweep()")
    assert status(db)["oldest end not yet swept"]


def test_missing_partitions_are_told(db: Database, clock: Clock) -> None:
    clock.set(NOON + timedelta(days=1000))
    assert not status(db)["history partitions ahead"]
    db.rows("select ensure_history_partitions(1)")
    assert status(db)["history partitions ahead"]


def test_a_standby_that_is_far_behind_is_told(db: Database, clock: Clock) -> None:
    assert "behind the primary" not in status(db)
    for lag, is_well in (("9 minutes", True), ("11 minutes", False)):
        db.rows(LATE.format(lag))
        assert status(db)["behind the primary"] is is_well


def test_without_a_version_the_migrations_are_to_be_applied(db: Database) -> None:
    db.rows("comment on schema segmentation is null")
    assert not status(db)["schema version"]


def test_buckets_that_differ_are_told(db: Database) -> None:
    db.rows(
        "create or replace function segmentation.bucket(user_id bigint, salt bigint) returns integer"
        " language sql immutable parallel safe as 'select 0'"
    )
    assert not status(db)["bucket vectors"]


def test_without_pg_cron_scheduling_says_what_another_scheduler_has_to_run(db: Database) -> None:
    answer = db.value("select schedule_jobs()")
    for command in ("call segmentation.sweep()", "segmentation.ensure_history_partitions()"):
        assert command in answer


def test_one_function_schedules_all_jobs_and_again_changes_nothing(db: Database) -> None:
    db.rows(MOCK_CRON)
    db.rows("select schedule_jobs()")
    jobs = db.rows("select * from cron.job order by jobname")
    assert [job.jobname for job in jobs] == [
        "segmentation-job-log",
        "segmentation-partitions",
        "segmentation-purge",
        "segmentation-sweep",
    ]
    assert {job.username for job in jobs} == {"segmentation_jobs"}
    assert all(len(job.schedule.split()) == 5 for job in jobs), "pg_cron 1.4 knows five fields only"
    db.rows("select schedule_jobs()")
    assert db.rows("select * from cron.job order by jobname") == jobs
    assert db.value("select current_user::text") == db.value("select session_user::text")


def test_every_job_runs_as_the_role_of_the_jobs(db: Database) -> None:
    db.rows(MOCK_CRON)
    db.rows("select schedule_jobs()")
    commands = db.column("select command from cron.job where command not like '%%job_run_details%%'")
    assert len(commands) == 3
    db.rows("set role segmentation_jobs")
    for command in commands:
        db.rows(command)
