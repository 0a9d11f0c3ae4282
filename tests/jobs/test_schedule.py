"""What migrating says where pg_cron is not at hand."""

from tests.conftest import Database


def test_without_pg_cron_scheduling_says_plainly_what_is_missing(db: Database) -> None:
    said = db.value("select schedule_jobs()")
    assert said.startswith("pg_cron is not in database")
    assert "call segmentation.sweep()" in said


def test_without_pg_cron_all_but_housekeeping_works(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}')")
    assert db.segments_of(1000) == ["A"]
