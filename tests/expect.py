"""Words the tests share: an expected refusal, a user inside or outside a rollout, a table as it stands."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any

import psycopg
import pytest
from psycopg.types.datetime import TimestamptzLoader

from tests.bucket import bucket
from tests.conftest import Database

FOREVER = datetime.max.replace(tzinfo=UTC)

# As much of pg_cron as scheduling needs, for databases that it is not in.
MOCK_CRON = """
    create schema cron;
    create table cron.job (
      jobname text, schedule text, command text, username text, database text default current_database(),
      unique (jobname, username));
    create function cron.schedule (job_name text, schedule text, command text) returns bigint
    language sql as $$
      insert into cron.job values (job_name, schedule, command, current_user)
      on conflict (jobname, username) do update set schedule = excluded.schedule, command = excluded.command
      returning 1
    $$;
    create function cron.unschedule (job_name text) returns boolean
    language sql as $$ delete from cron.job where jobname = job_name and username = current_user returning true $$;
    grant usage on schema cron to segmentation_jobs;
    grant all on cron.job to segmentation_jobs;
"""

# Makes a database look like a standby that is behind.
LATE = """
    create or replace function segmentation.standby_lag() returns interval language sql stable
      as $$ select interval '{}' $$
"""


class OpenEndLoader(TimestamptzLoader):
    """Read infinity, which no datetime can hold, as FOREVER."""

    def load(self, data: Any) -> datetime:
        """Read one value."""
        return FOREVER if bytes(data) == b"infinity" else super().load(data)


psycopg.adapters.register_loader("timestamptz", OpenEndLoader)


@contextmanager
def refuses(condition: type[psycopg.Error], **detail: Any) -> Iterator[None]:
    """Expect this error with a message, a hint, and these members in the DETAIL object."""
    with pytest.raises(condition) as caught:
        yield
    diagnosis = caught.value.diag
    assert diagnosis.message_primary
    assert diagnosis.message_hint, "a refusal says what to do next"
    given = json.loads(diagnosis.message_detail) if diagnosis.message_detail else {}
    assert {name: given.get(name) for name in detail} == detail


def inside(db: Database, slug: str, percent: float, start: int = 1) -> Iterator[int]:
    """User ids, ascending, whose bucket a rollout of percent % of this segment holds."""
    salt = db.value("select salt from get_segment(%s)", slug)
    return (user_id for user_id in count(start) if bucket(user_id, salt) < percent * 1000)


def outside(db: Database, slug: str, percent: float, start: int = 1) -> Iterator[int]:
    """User ids, ascending, whose bucket a rollout of percent % of this segment does not hold."""
    salt = db.value("select salt from get_segment(%s)", slug)
    return (user_id for user_id in count(start) if bucket(user_id, salt) >= percent * 1000)


def first(user_ids: Iterator[int], number: int) -> list[int]:
    """So many of these ids."""
    return list(islice(user_ids, number))


def physically(db: Database, *tables: str) -> list[Any]:
    """Every row version of these tables: equal before and after means that nothing was written."""
    return [
        row
        for table in tables
        for row in db.rows(
            f"select tableoid, ctid, xmin::text, t::text from segmentation.{table} as t order by 1, 2"
        )
    ]


def periods_never_overlap(db: Database) -> None:
    """Assert that a user has one override per segment at a time, and that none is empty."""
    assert (
        db.rows(
            "select user_id, segment_id from (select *, lead(starts_at) over"
            " (partition by user_id, segment_id order by starts_at, ends_at) as next"
            " from segmentation.overrides) as o where next < ends_at or ends_at <= starts_at"
        )
        == []
    ), "no two periods of a user and a segment overlap"


def replayed(db: Database, user_id: int) -> list[str]:
    """The segments that a user's history leads to, in which ins and outs alternate."""
    told: dict[str, str] = {}
    for segment, operation, _ in db.events_of(user_id):
        assert told.get(segment, "remove") != operation, (user_id, segment)
        told[segment] = operation
    return sorted(slug for slug, operation in told.items() if operation == "add")


def histories_add_up(db: Database) -> None:
    """Assert that everybody's history leads to the segments of now."""
    for user_id, segments in db.rows(
        "select user_id, segments from users_segments(array(select user_id from segmentation.users))"
    ):
        assert segments == replayed(db, user_id)


def wait_until(holds: Callable[[], object], seconds: float = 10, pause: float = 0.01) -> None:
    """Ask again and again until this holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come true in {seconds} seconds"
        time.sleep(pause)


def where_mentioned(db: Database, text: str) -> set[str]:
    """The tables of all schemas that hold this text anywhere."""
    tables = db.column(
        "select oid::regclass::text from pg_class"
        " where relkind in ('r', 'm') and relnamespace not in ('pg_catalog'::regnamespace,"
        " 'information_schema'::regnamespace, 'pg_toast'::regnamespace)"
    )
    return {
        table
        for table in tables
        if db.value(f"select count(*) from {table} as t where strpos(to_json(t)::text, %s) > 0", text)
    }


def salts_from_slugs(db: Database) -> None:
    """Make the salts of new segments and layers from their slugs: so the same users are in, test after test."""
    db.rows(
        "create function segmentation_test.salt() returns trigger language plpgsql"
        " as 'begin new.salt := pg_catalog.hashtextextended(new.slug, 0); return new; end'"
    )
    for table in ("segments", "layers"):
        db.rows(
            f"create trigger test before insert on segmentation.{table}"
            " for each row execute function segmentation_test.salt()"
        )


@contextmanager
def slug_held(db: Database, slug: str) -> Iterator[None]:
    """Hold a slug: everybody who changes its members waits."""
    with psycopg.connect(db.url) as holder:
        holder.execute(
            "select from segmentation.segments where slug = %s and deleted_at = 'infinity' for update", [slug]
        )
        yield
        holder.rollback()


# The advisory lock that a replaced call waits for.
LOCK = 4711


def replace_list(db: Database, body: str) -> None:
    """Replace what GET /v1/segments calls by this plpgsql."""
    db.rows(
        f"""create or replace function segmentation.http_list_segments(after text default null, max_rows integer default 100, search text default null) returns json
        language plpgsql as $$ begin {body} return '{{"segments":[],"next_after":null}}'; end $$"""
    )


@contextmanager
def held(db: Database) -> Iterator[None]:
    """Hold the lock that the replaced call waits for."""
    db.rows("select pg_advisory_lock(%s)", LOCK)
    try:
        yield
    finally:
        db.rows("select pg_advisory_unlock(%s)", LOCK)


def waiting(db: Database) -> int:
    """How many calls wait for a lock."""
    return int(
        db.value(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
    )
