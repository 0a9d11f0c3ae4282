"""Who is in the way of a deploy: nobody waits long for it, it takes the first moment that there is, or says who it was."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from psycopg import errors

from service.migrate import MigrationError, migrate
from service.migrate.attempts import Attempts
from tests.catalog.conftest import deployed, edit, going_on
from tests.catalog.shape import differences, shape
from tests.conftest import Database
from tests.expect import wait_until

NEW = "sql/61_new.sql"
IDLE = "begin; select * from segmentation.user_history(7); select * from segmentation.list_segments()"


def test_a_deploy_of_functions_goes_by_whatever_others_hold(migrated: str, checkout: Path) -> None:
    others = Database(migrated)
    others.rows(IDLE)
    others.rows("lock table segmentation.users, segmentation.memberships in row exclusive mode")
    for name in ("45_reads.sql", "51_membership_triggers.sql"):
        edit(checkout / "sql" / name, "\ndeclare\n", "\ndeclare -- changed\n")
    migrate(migrated, patience=0)


VIEW = "create or replace view segmentation.new as select {} as a;"
TRIGGER = """
    create or replace trigger new before {} on segmentation.memberships
    for each statement execute function segmentation.refuse_truncate();
"""


@pytest.mark.parametrize(
    ("before", "after", "held"),
    [
        (VIEW.format(1), VIEW.format(2), "select * from segmentation.new"),
        (
            TRIGGER.format("truncate"),
            TRIGGER.format("truncate or delete"),
            "lock table segmentation.memberships in row exclusive mode",
        ),
    ],
    ids=["view", "trigger"],
)
def test_who_is_in_the_way_is_told_and_nothing_is_applied_while_others_go_on(
    before: str, after: str, held: str, migrated: str, checkout: Path
) -> None:
    kept = VIEW.format(1) if before != VIEW.format(1) else ""
    deployed(migrated, checkout / NEW, f"{VIEW.format(1)}\n{before}", f"{kept}\n{after}")
    untouched = shape(migrated)
    holder = Database(migrated)
    holder.rows("set application_name = 'forgotten psql'")
    holder.rows(f"begin; {held}")
    # Longer than what the deploy asks for a lock: to wait for it is to fail here.
    others = Database(migrated, "-c search_path=segmentation -c lock_timeout=450ms")

    def read_and_write() -> None:
        others.rows("select * from new")
        others.rows(
            "insert into memberships (user_id, segment_id) select 1, segment_id from segments where false"
        )

    with going_on(read_and_write), pytest.raises(MigrationError) as caught:
        migrate(migrated, patience=1)
    told = str(caught.value)
    assert "nothing of it was applied" in told
    assert (
        f"pid {holder.connection.info.backend_pid}, login postgres, forgotten psql, idle in transaction"
        in told
    )
    assert held in told
    assert differences(untouched, shape(migrated)) == []


def test_a_deploy_waits_with_nothing_held_until_the_way_is_free(migrated: str, checkout: Path) -> None:
    deployed(migrated, checkout / NEW, VIEW.format(1), VIEW.format(2))
    holder = Database(migrated)
    holder.rows("begin; select * from segmentation.new")
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        if "waits for a lock" in line:
            holder.rows("commit")

    migrate(migrated, say)
    assert [line for line in told if line.startswith("sql/ waits for a lock; in the way: pid ")]
    assert "changed view segmentation.new" in told


@pytest.mark.parametrize("folder", ["sql", "migrations"])
def test_a_moment_between_two_long_calls_is_enough(folder: str, migrated: str, checkout: Path) -> None:
    deployed(migrated, checkout / NEW, VIEW.format(1), VIEW.format(2))
    if folder == "migrations":
        (checkout / "migrations" / "9999_new.sql").write_text(
            f"set local role segmentation_owner; {VIEW.format(2)}"
        )
    holders = [Database(migrated), Database(migrated)]
    read = "begin; select * from segmentation.new"
    holders[0].rows(read)
    next_one = threading.Timer(0.3, holders[1].rows, [read])

    def say(line: str) -> None:
        if "waits for a lock" in line and next_one.ident is None:
            holders[0].rows("commit")
            next_one.start()

    migrate(migrated, say, patience=5)
    next_one.join()
    assert holders[1].value("select * from segmentation.new") == 2


def test_calls_that_write_one_table_after_the_other_leave_a_way_through(
    migrated: str, checkout: Path
) -> None:
    """The deploy locks them in the same order, so that no call waits for it while it waits for the call."""
    triggers = [
        TRIGGER.format(events).replace("segmentation.memberships", f"segmentation.{table}")
        for events in ("truncate", "truncate or delete")
        for table in ("membership_history", "memberships")
    ]
    deployed(migrated, checkout / NEW, "".join(triggers[:2]), "".join(triggers[2:]))

    def write(database: Database) -> None:
        database.rows("begin")
        for table in ("memberships", "membership_history"):
            database.rows(f"lock table segmentation.{table} in row exclusive mode")
        database.rows("commit")

    with going_on(*(partial(write, Database(migrated)) for _ in range(6))):
        migrate(migrated, patience=20)


def test_a_deploy_that_waits_keeps_no_writer_waiting(migrated: str, checkout: Path) -> None:
    """What the first sweep moves to the history is for others to change until then."""
    deployed(migrated, checkout / NEW, VIEW.format(1), VIEW.format(2))
    database = Database(migrated)
    database.rows("select segmentation.create_segment('A')")
    soon = "segmentation.clock() + interval '300 ms'"
    database.rows(f"select segmentation.change_user_segments(7, '{{A}}', expires_at => {soon})")
    wait_until(lambda: database.segments_of(7) == [])
    database.rows("delete from segmentation.upkeep")
    holder = Database(migrated)
    holder.rows("begin; select * from segmentation.new")
    database.rows("set lock_timeout = '100ms'")
    changed: list[str] = []

    def say(line: str) -> None:
        if "waits for a lock" in line and not changed:
            try:
                changed.append(
                    database.value("select change from segmentation.change_user_segments(7, '{A}')")
                )
            except errors.LockNotAvailable:
                changed.append("waits for the deploy")
            holder.rows("commit")

    migrate(migrated, say)
    assert changed == ["added"]


def test_a_view_that_is_to_go_and_is_read_is_left_for_the_next_deploy(migrated: str) -> None:
    before = shape(migrated)
    reader = Database(migrated)
    reader.rows(f"{VIEW.format(1)} grant select on segmentation.new to public")
    reader.rows("begin; select * from segmentation.new")
    told: list[str] = []
    migrate(migrated, told.append, patience=2)
    assert [
        line
        for line in told
        if line.startswith("left for the next deploy to drop") and "view segmentation.new" in line
    ]
    reader.rows("commit")
    migrate(migrated)
    assert differences(before, shape(migrated)) == []


def test_a_migration_waits_in_the_same_way(migrated: str, checkout: Path) -> None:
    (checkout / "migrations" / "9999_new.sql").write_text(
        "alter table segmentation.users add column new int;\n"
    )
    holder = Database(migrated)
    holder.rows("begin; select from segmentation.users")
    with pytest.raises(MigrationError, match=r"migrations/9999_new\.sql: waited .* pid"):
        migrate(migrated, patience=0)
    holder.rows("commit")
    migrate(migrated)


def test_what_is_made_concurrently_waits_no_longer_than_it_may_and_tells_for_whom(
    migrated: str, checkout: Path
) -> None:
    (checkout / "migrations" / "9999_new.sql").write_text(
        "-- transactional: false\n"
        "set role segmentation_owner;\n"
        "drop index if exists segmentation.new_one;\n"
        "set lock_timeout = '5min';\n"
        "create index concurrently new_one on segmentation.users (registered_at);\n"
        "set lock_timeout = '50ms';\n"
        "reset role;\n"
    )
    holder = Database(migrated)
    # Older than the index, and might look into the table without it.
    holder.rows("begin isolation level repeatable read; select count(*) from pg_class")
    pid = holder.connection.info.backend_pid
    told: list[str] = []
    with pytest.raises(MigrationError, match=rf"9999_new\.sql: waited 2 seconds for a lock.*pid {pid}"):
        migrate(migrated, told.append, patience=2)
    assert [line for line in told if f"9999_new.sql waits for a lock; in the way: pid {pid}" in line]
    holder.rows("rollback")

    def say(line: str) -> None:
        if "waits for a lock" in line:
            holder.rows("rollback")

    holder.rows("begin isolation level repeatable read; select count(*) from pg_class")
    migrate(migrated, say)
    assert holder.value("select indisvalid from pg_index where indexrelid = 'segmentation.new_one'::regclass")


def test_its_bookkeeping_is_waited_for_too(migrated: str) -> None:
    holder = Database(migrated)
    holder.rows("begin; lock table segmentation_migrations._yoyo_migration")
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        if f"pid {holder.connection.info.backend_pid}" in line:
            holder.rows("commit")

    migrate(migrated, say)
    assert "waits for a lock; in the way: pid" in told[0]


def test_no_time_limit_for_calls_ends_a_deploy(migrated: str, checkout: Path) -> None:
    (checkout / "migrations" / "9999_new.sql").write_text("select pg_sleep(0.5);\n")
    migrate(f"{migrated}?options=-c%20statement_timeout%3D400ms%20-c%20idle_session_timeout%3D400ms")


def test_what_was_done_outside_of_a_transaction_stays_when_the_rest_must_wait(
    migrated: str, checkout: Path
) -> None:
    """Undone, with a lock on the whole table, it would make everybody wait."""
    step = checkout / "migrations" / "9999_new.sql"
    step.write_text(
        "-- transactional: false\n"
        "create index concurrently if not exists new_one on segmentation.users (registered_at);\n"
        "alter table segmentation.segments add column new int;\n"
    )
    step.with_suffix(".rollback.sql").write_text("drop index segmentation.new_one;\n")
    holder = Database(migrated)
    holder.rows("begin; select from segmentation.segments")
    with pytest.raises(MigrationError, match="waited"):
        migrate(migrated, patience=0)
    holder.rows("commit")
    made = holder.value("select 'segmentation.new_one'::regclass::oid")
    migrate(migrated)
    assert holder.value("select 'segmentation.new_one'::regclass::oid") == made


def test_another_run_that_lasts_too_long_is_named(migrated: str) -> None:
    other = Database(migrated)
    other.rows("select pg_advisory_lock(7361405928)")
    with pytest.raises(MigrationError, match=f"another migrate.*pid {other.connection.info.backend_pid}"):
        migrate(migrated, patience=0)


def test_what_databases_of_one_server_share_may_be_written_by_both_at_once(migrated: str) -> None:
    """The second to write the settings of a role meets a duplicate key; tried again, it finds them as it wants them."""
    one, other = Database(migrated), Database(migrated)
    one.rows("create role written_by_both")
    try:
        one.rows("begin")
        one.rows("alter role written_by_both set log_error_verbosity = 'terse'")
        write = "alter role written_by_both set log_error_verbosity = 'terse'"
        attempts = Attempts(other.connection, migrated, print, patience=30)
        with ThreadPoolExecutor() as threads:
            written = threads.submit(attempts, "sql/", lambda: other.rows(write) or True)
            wait_until(lambda: one.value("select count(*) from pg_locks where not granted") == 1)
            one.rows("commit")
            assert written.result()
    finally:
        one.rows("drop role written_by_both")
