"""The migration runner: repeatable, harmless twice at once, all of sql/ or nothing of it, and felt by nobody."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from service import __version__, versions
from service.migrate import MigrationError, migrate
from service.migrate.attempts import Attempts
from tests.catalog.shape import differences, shape
from tests.conftest import Database
from tests.expect import wait_until
from tests.launcher import ROOT

IDLE = "begin; select * from segmentation.user_history(7); select * from segmentation.list_segments()"


def version(url: str) -> str:
    """The version that the database says it has."""
    return str(Database(url).value("select obj_description('segmentation'::regnamespace, 'pg_namespace')"))


def edit(file: Path, old: str, new: str) -> None:
    """Change a file, which has to be as this test thinks it is."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_an_empty_database_gets_everything_and_each_step_is_told(empty: str) -> None:
    told: list[str] = []
    migrated = migrate(empty, told.append)
    assert "holds no schema segmentation: a new, empty one is made" in told[0]
    assert told[1] == "applied migrations/0001_roles_and_schema.sql"
    assert told[-1] == f"the database is at version {migrated}"
    assert version(empty).endswith(f"version {migrated}")
    assert migrated.startswith(f"{__version__} (")
    assert Database(empty).value("select count(*) from user_segments(1000)") == 0


def test_a_second_run_applies_no_migration_again_and_keeps_the_data(migrated: str) -> None:
    Database(migrated).rows("select create_segment('A', 100)")
    told: list[str] = []
    migrate(migrated, told.append)
    assert not [line for line in told if "migrations/" in line]
    assert Database(migrated).segments_of(1000) == ["A"]


TOUCHED = """
    select 'pg_proc', oid::regprocedure::text from pg_proc where xmin::text::bigint >= %(xid)s
    union all
    select 'pg_class', oid::regclass::text from pg_class where relkind <> 'i' and xmin::text::bigint >= %(xid)s
    union all
    select 'pg_rewrite', ev_class::regclass::text from pg_rewrite where xmin::text::bigint >= %(xid)s
    union all
    select 'pg_trigger', tgname::text from pg_trigger where xmin::text::bigint >= %(xid)s
    union all
    select 'pg_description', description from pg_description where xmin::text::bigint >= %(xid)s
    union all
    select 'pg_namespace', nspname::text from pg_namespace where xmin::text::bigint >= %(xid)s
    union all
    select 'pg_default_acl', defaclacl::text from pg_default_acl where xmin::text::bigint >= %(xid)s
    union all
    select 'pg_db_role_setting', setconfig::text from pg_db_role_setting where xmin::text::bigint >= %(xid)s
    union all
    select 'pg_auth_members', member::regrole::text from pg_auth_members where xmin::text::bigint >= %(xid)s
"""


def touched(url: str, since: int) -> list[tuple]:
    """The rows of the catalog that were written since a transaction."""
    with psycopg.connect(url) as connection:
        return connection.execute(TOUCHED, {"xid": since}).fetchall()


def next_transaction(url: str) -> int:
    """The number of the next one."""
    return int(Database(url).value("select pg_snapshot_xmax(pg_current_snapshot())::text"))


def test_what_is_as_it_should_be_is_not_touched(migrated: str, checkout: Path) -> None:
    migrate(migrated)
    since = next_transaction(migrated)
    migrate(migrated)
    assert touched(migrated, since) == []
    edit(checkout / "sql" / "10_clock.sql", "pg_catalog.transaction_timestamp()", "pg_catalog.now()")
    migrate(migrated)
    assert [name for name, _ in touched(migrated, since)] == ["pg_proc", "pg_description"]
    assert ("pg_proc", "transaction_start()") in touched(migrated, since)


def test_two_runs_at_once_do_no_harm(empty: str) -> None:
    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(migrate, [empty] * 4))) == 1


def test_its_bookkeeping_is_in_a_schema_of_its_own(fresh: str) -> None:
    schemas = Database(fresh).column(
        "select distinct table_schema from information_schema.tables where table_name like '%yoyo%'"
    )
    assert schemas == ["segmentation_migrations"]


def test_an_error_in_sql_is_told_with_its_file_and_line_and_nothing_is_applied(
    migrated: str, checkout: Path
) -> None:
    before = shape(migrated)
    (checkout / "sql" / "11_new.sql").write_text("create table segmentation.new ();\n\nselekt 1;\n")
    with pytest.raises(MigrationError, match=r"sql/11_new\.sql, line 3: .*syntax error"):
        migrate(migrated)
    assert differences(shape(migrated), before) == []


def test_an_error_in_a_migration_is_told_and_stops_everything(migrated: str, checkout: Path) -> None:
    (checkout / "migrations" / "9999_new.sql").write_text("create table segmentation.new ();\nselekt 1;\n")
    with pytest.raises(MigrationError, match=r"migrations/9999_new\.sql.*syntax error"):
        migrate(migrated)
    assert Database(migrated).value("select to_regclass('segmentation.new')") is None


def test_a_migration_without_a_transaction_is_applied_too(migrated: str, checkout: Path) -> None:
    (checkout / "migrations" / "9999_new.sql").write_text(
        "-- transactional: false\ncreate index concurrently new_idx on segmentation.users (registered_at);\n"
    )
    migrate(migrated)
    told: list[str] = []
    migrate(migrated, told.append)
    assert not [line for line in told if "new_idx" in line or "9999" in line]
    assert Database(migrated).value("select to_regclass('segmentation.new_idx') is not null")


def test_the_version_tells_every_change_of_a_file(migrated: str, checkout: Path) -> None:
    before = migrate(migrated)
    with (checkout / "sql" / "10_clock.sql").open("a") as file:
        file.write("-- changed\n")
    assert migrate(migrated) != before


def test_the_database_knows_the_versions_it_has_had_and_forgets_those_it_left(
    migrated: str, checkout: Path
) -> None:
    file = checkout / "sql" / "10_clock.sql"
    text = file.read_text()
    first = migrate(migrated)
    file.write_text(f"{text}-- second\n")
    second = migrate(migrated)
    assert Database(migrated).column("select version from segmentation.deploys order by deploy") == [
        first,
        second,
    ]
    file.write_text(text)
    migrate(migrated)
    assert Database(migrated).column("select version from segmentation.deploys order by deploy") == [first]


def test_a_database_that_is_away_is_told() -> None:
    with pytest.raises(MigrationError, match="does not answer"):
        migrate("postgresql://nobody@127.0.0.1:1/none")


def test_what_is_no_url_is_told_without_showing_it() -> None:
    with pytest.raises(MigrationError, match="no URL") as caught:
        migrate("host=db password=secret")
    assert "secret" not in str(caught.value)


# Half of a database ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("drop schema segmentation_migrations cascade", "does not say by which migrations"),
        (
            "drop schema segmentation cascade; create schema segmentation authorization segmentation_owner",
            "no tables",
        ),
        (
            "insert into segmentation_migrations._yoyo_migration values ('x', '9999_newer', now())",
            "9999_newer",
        ),
        (
            "create role stranger; alter schema segmentation owner to stranger",
            "segmentation belongs to stranger",
        ),
        (
            "create role other_stranger; alter schema segmentation_migrations owner to other_stranger",
            "segmentation_migrations belongs to other_stranger",
        ),
    ],
)
def test_half_of_a_database_is_refused(fault: str, told: str, migrated: str) -> None:
    Database(migrated).rows(fault)
    with pytest.raises(MigrationError, match=told):
        migrate(migrated)
    database = Database(migrated)
    for role in ("stranger", "other_stranger"):
        if database.rows("select from pg_roles where rolname = %s", role):
            database.rows(f"reassign owned by {role} to postgres; drop role {role}")


def test_a_restore_that_brought_nothing_is_refused_when_a_schema_is_to_be_there(
    empty: str, migrated: str
) -> None:
    with pytest.raises(MigrationError, match="nothing was restored"):
        migrate(empty, existing=True)
    assert Database(empty).value("select to_regnamespace('segmentation') is null")
    migrate(migrated, existing=True)


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.8, 1.0, 1.2, 1.5])
def test_a_run_that_was_killed_does_not_block_the_next(seconds: float, empty: str, fresh: str) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "service.migrate"], env={"DATABASE_URL": empty}, stdout=subprocess.DEVNULL
    )
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()
    migrate(empty)
    assert differences(shape(empty), shape(fresh)) == []


def test_a_run_that_was_killed_after_its_first_migration_does_not_block_the_next(
    empty: str, fresh: str
) -> None:
    migrate(empty)
    database = Database(empty)
    database.rows("drop schema segmentation cascade")
    database.rows(versions.migration_files()[0].read_text())
    database.rows(
        "delete from segmentation_migrations._yoyo_migration where migration_id <> '0001_roles_and_schema'"
    )
    migrate(empty)
    assert differences(shape(empty), shape(fresh)) == []


def test_a_lock_row_that_a_killed_run_left_does_not_block_the_next(empty: str) -> None:
    Database(empty).rows(
        "create schema segmentation_migrations; "
        "create table segmentation_migrations.yoyo_lock (locked int default 1 primary key, ctime timestamp, pid int); "
        "insert into segmentation_migrations.yoyo_lock values (1, now(), 1)"
    )
    migrate(empty)


@pytest.mark.parametrize(
    "file", ["sql/85_manual.sql", "sql/server/20_database.sql", "migrations/9999_new.sql"]
)
@pytest.mark.parametrize("said", ["begin", "commit", "rollback", "end"])
def test_a_file_that_ends_its_transaction_is_refused_before_anything_is_done(
    file: str, said: str, migrated: str, checkout: Path
) -> None:
    before = shape(migrated)
    path = checkout / file
    text = path.read_text() if path.exists() else "comment on schema segmentation is 'new';"
    path.write_text(f"{text}\n{said};\n")
    with pytest.raises(MigrationError, match=rf"{file} says {said}: take it out"):
        migrate(migrated)
    assert differences(before, shape(migrated)) == []


def test_a_right_that_the_owner_lost_is_given_back(migrated: str) -> None:
    before = shape(migrated)
    owner = "from segmentation_owner"
    Database(migrated).rows(
        f"revoke insert on segmentation.memberships {owner}; "
        f"revoke execute on function segmentation.segment_stats(text) {owner}"
    )
    migrate(migrated)
    assert differences(before, shape(migrated)) == []
    assert Database(migrated).value(
        "select has_table_privilege('segmentation_owner', 'segmentation.memberships', 'insert')"
        " and has_function_privilege('segmentation_owner', 'segmentation.segment_stats(text)', 'execute')"
    )


def test_a_run_that_is_killed_while_it_waits_ends_in_postgresql_as_well(
    migrated: str, checkout: Path
) -> None:
    (checkout / "migrations" / "9999_new.sql").write_text(
        "-- transactional: false\nset lock_timeout = '5min';\n"
        "create index concurrently new_one on segmentation.users (registered_at);\n"
    )
    holder, watcher = Database(migrated), Database(migrated)
    holder.rows("begin isolation level repeatable read; select count(*) from pg_class")
    waits = "select count(*) from pg_stat_activity where query ~ '^create index concurrently' and wait_event_type = 'Lock'"
    migrates = (
        "from pathlib import Path; from service import versions; from service.migrate import migrate; "
        f"versions.project_path = lambda name: Path({str(checkout)!r}) / name; migrate({migrated!r})"
    )
    run = subprocess.Popen([sys.executable, "-c", migrates], cwd=ROOT)
    wait_until(lambda: watcher.value(waits) == 1, seconds=30)
    run.kill()
    run.wait()
    wait_until(lambda: watcher.value(waits) == 0, seconds=30)


# Who is in the way -------------------------------------------------------------------------------


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
    file = checkout / "sql" / "61_new.sql"
    file.write_text(f"{VIEW.format(1)}\n{before}")
    migrate(migrated)
    file.write_text(f"{VIEW.format(1) if before != VIEW.format(1) else ''}\n{after}")
    untouched = shape(migrated)
    holder = Database(migrated)
    holder.rows("set application_name = 'forgotten psql'")
    holder.rows(f"begin; {held}")
    stop = threading.Event()
    # Longer than what the deploy asks for a lock: to wait for it is to fail here.
    others = Database(migrated, "-c search_path=segmentation -c lock_timeout=450ms")

    def go_on() -> int:
        calls = 0
        while not stop.is_set():
            others.rows("select * from new")
            others.rows(
                "insert into memberships (user_id, segment_id) select 1, segment_id from segments where false"
            )
            calls += 1
        return calls

    with ThreadPoolExecutor() as pool:
        calls = pool.submit(go_on)
        try:
            with pytest.raises(MigrationError) as caught:
                migrate(migrated, patience=1)
        finally:
            stop.set()
        assert calls.result() > 0
    told = str(caught.value)
    assert "nothing of it was applied" in told
    assert (
        f"pid {holder.connection.info.backend_pid}, login postgres, forgotten psql, idle in transaction"
        in told
    )
    assert held in told
    assert differences(untouched, shape(migrated)) == []


def test_a_deploy_waits_with_nothing_held_until_the_way_is_free(migrated: str, checkout: Path) -> None:
    file = checkout / "sql" / "61_new.sql"
    file.write_text(VIEW.format(1))
    migrate(migrated)
    file.write_text(VIEW.format(2))
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


def test_a_moment_between_two_long_calls_is_enough(migrated: str, checkout: Path) -> None:
    file = checkout / "sql" / "61_new.sql"
    file.write_text(VIEW.format(1))
    migrate(migrated)
    file.write_text(VIEW.format(2))
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


def test_calls_of_a_function_whose_head_changes_do_not_fail(migrated: str, checkout: Path) -> None:
    """A call that has found the old one still finds it, and the next finds the new."""
    file = checkout / "sql" / "61_new.sql"
    texts = [
        f"create or replace function segmentation.new ({head}) returns int language plpgsql as $$ begin return 1; end $$;"
        for head in ("a int", "a int, b int default 2")
    ]
    file.write_text(texts[0])
    migrate(migrated)
    stop = threading.Event()

    def call() -> int:
        calls = 0
        with psycopg.connect(migrated, autocommit=True, prepare_threshold=0) as connection:
            while not stop.is_set():
                connection.execute("select segmentation.new(a => 1)")
                calls += 1
        return calls

    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(call) for _ in range(2)]
        try:
            for text in [*reversed(texts)] * 2:
                file.write_text(text)
                migrate(migrated)
        finally:
            stop.set()
        assert all(each.result() for each in calls)
    assert Database(migrated).column("select proname::text from pg_proc where proname ~ 'outdated'") == []


@pytest.mark.parametrize("language", ["plpgsql", "sql"])
def test_a_query_in_progress_goes_on_with_the_function_that_it_began_with(
    language: str, migrated: str, checkout: Path
) -> None:
    """Its body calls a parameter by the function's name."""
    file = checkout / "sql" / "61_new.sql"
    body = {"plpgsql": "begin return new.a; end", "sql": "select new.a"}[language]
    texts = [
        f"create or replace function segmentation.new ({head}) returns int language {language} as $$ {body} $$;"
        for head in ("a int", "a int, b int default 2")
    ]
    file.write_text(texts[0])
    migrate(migrated)
    reader = Database(migrated)
    reader.rows("begin; declare ten cursor for select segmentation.new(i) from generate_series(1, 10) as i")
    numbers = reader.column("fetch 2 from ten")
    file.write_text(texts[1])
    migrate(migrated)
    # Whoever locks a table hears of what has changed.
    reader.rows("select from segmentation.users")
    assert numbers + reader.column("fetch all from ten") == [*range(1, 11)]
    reader.rows("commit")
    migrate(migrated)
    assert reader.column("select proname::text from pg_proc where proname ~ 'outdated'") == []


INNER = """
    create or replace function segmentation.inner_{} returns {} language plpgsql as $$ begin return {}; end $$;
    grant execute on function segmentation.inner_{} to segmentation_reader;
"""
OUTER = """
    create or replace function segmentation.outer_one () returns text language plpgsql as $$
    begin
      perform pg_advisory_xact_lock_shared(1);
      return {};
    end $$;
    grant execute on function segmentation.outer_one to segmentation_reader;
"""
VIEW_OF_ONE = """
    create or replace view segmentation.inner_view as select 1 as a;
    grant select on segmentation.inner_view to segmentation_reader;
"""
# What a version may do to the functions that its own functions call: one goes, one gets a parameter with a default, one
# loses it, one gets a parameter without, one gets another result.
BEFORE = (
    ("gone ()", "text", "'gone'"),
    ("more (a int)", "text", "'more'"),
    ("fewer (a int, b int default 1)", "text", "'fewer'"),
    ("needs (a int)", "text", "'needs'"),
    ("other (a int)", "int", "1"),
)
AFTER = (
    ("more (a int, b int default 2)", "text", "'more now'"),
    ("fewer (a int)", "text", "'fewer now'"),
    ("needs (a int, b int)", "text", "'needs now'"),
    ("other (a int)", "text", "'other now'"),
)


def inner(*functions: tuple[str, str, str]) -> str:
    """The SQL that makes functions for others to call."""
    return "".join(INNER.format(*each, each[0].partition(" ")[0]) for each in functions)


def wait_until_it_waits(session: Database, watcher: Database) -> None:
    """Until a session waits for a lock."""
    waits = "select exists (select from pg_locks where pid = %s and not granted)"
    while not watcher.value(waits, session.connection.info.backend_pid):
        pass


def test_a_call_in_progress_still_finds_what_its_body_asks_for_after_the_deploy(
    migrated: str, checkout: Path
) -> None:
    """PL/pgSQL looks for a name only when it comes to it, and the deploy may have come first."""
    file = checkout / "sql" / "61_new.sql"
    asks = (
        "concat_ws(', ', segmentation.inner_gone(), segmentation.inner_more(1), segmentation.inner_fewer(1), "
        "segmentation.inner_needs(1), segmentation.inner_other(1), (select a from segmentation.inner_view))"
    )
    file.write_text(inner(*BEFORE) + VIEW_OF_ONE + OUTER.format(asks))
    migrate(migrated)
    holder, caller = Database(migrated), Database(migrated)
    holder.rows("select pg_advisory_lock(1)")
    caller.rows("set role segmentation_reader")
    told: list[str] = []
    with ThreadPoolExecutor() as pool:
        call = pool.submit(caller.value, "select segmentation.outer_one()")
        wait_until_it_waits(caller, holder)
        file.write_text(inner(*AFTER) + OUTER.format("segmentation.inner_more(1)"))
        try:
            migrate(migrated, told.append, patience=0)
            # Whoever begins now finds one of each name.
            assert holder.value("select segmentation.inner_more(1)") == "more now"
        finally:
            holder.rows("select pg_advisory_unlock(1)")
        assert call.result() == "gone, more now, fewer now, needs, other now, 1"
    # The deploy does not wait for ever, and leaves what that call may need.
    (left,) = (line for line in told if "left for the next deploy" in line)
    assert f"pid {caller.connection.info.backend_pid}" in left
    for name in (
        "inner_gone()",
        "inner_more(integer)",
        "inner_other(integer)",
        "view segmentation.inner_view",
    ):
        assert name in left
    migrate(migrated)
    names = "select oid::regprocedure::text from pg_proc where proname ~ '^(inner|outdated)_' order by 1"
    assert Database(migrated).column(names) == [
        "inner_fewer(integer)",
        "inner_more(integer,integer)",
        "inner_needs(integer,integer)",
        "inner_other(integer)",
    ]
    assert Database(migrated).value("select to_regclass('segmentation.inner_view')") is None


def test_a_statement_in_progress_calls_to_its_end_what_it_has_found(migrated: str, checkout: Path) -> None:
    file = checkout / "sql" / "61_new.sql"
    file.write_text(inner(BEFORE[1]))
    migrate(migrated)
    holder, caller, cursor = Database(migrated), Database(migrated), Database(migrated)
    holder.rows("select pg_advisory_lock(1)")
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        if "waits for calls in progress" in line:
            holder.rows("select pg_advisory_unlock(1)")

    each_row = (
        "select concat(segmentation.inner_more(i), case i when 1 then pg_advisory_xact_lock_shared(1) end) "
        "from generate_series(1, 2) as i"
    )
    with ThreadPoolExecutor() as pool:
        call = pool.submit(caller.column, each_row)
        wait_until_it_waits(caller, holder)
        file.write_text(inner(AFTER[0]))
        migrate(migrated, say)
        assert call.result() == ["more", "more"]
    waits = f"what is outdated waits for calls in progress: pid {caller.connection.info.backend_pid}"
    assert [line for line in told if line.startswith(waits)]
    assert Database(migrated).column("select proname::text from pg_proc where proname ~ '^outdated_'") == []
    # Nobody waits for a transaction in which nothing runs; but it may have a cursor open.
    cursor.rows(f"begin; declare page cursor for {each_row}")
    cursor.rows("fetch page")
    file.write_text("")
    migrate(migrated, told.append)
    assert "left for the next deploy" in told[-2] and "idle in transaction" in told[-2]
    assert cursor.column("fetch page") == ["more now"]
    cursor.rows("commit")
    migrate(migrated, told.append)
    assert "dropped routine segmentation.inner_more(integer,integer)" in told


# Who may create functions beside ours -------------------------------------------------------------


def test_functions_of_others_in_public_are_never_called(
    empty: str, checkout: Path, empty_database: Callable[[], str]
) -> None:
    """In a database that comes from PostgreSQL 14 anybody may create there, and migrating is a superuser's work."""
    database = Database(empty)
    database.rows("create table public.called (who text); grant insert on public.called to public")
    database.rows("grant create on schema public to public")
    for arguments in ("text, name", "text, text", "text, name, text", "text, text, text"):
        database.rows(
            f"create function public.format({arguments}) returns text language plpgsql as "
            "$$ begin insert into public.called values (current_user); return 'select 1'; end $$"
        )
    database.rows(
        "create function public.note(name, text) returns boolean language plpgsql as "
        "$$ begin insert into public.called values (current_user); return true; end $$; "
        "create operator public.~ (function = public.note, leftarg = name, rightarg = text); "
        "create operator public.|| (function = public.format, leftarg = text, rightarg = name)"
    )
    told: list[str] = []
    migrate(empty, told.append)
    migrate(empty)
    assert database.rows("select * from public.called") == []
    assert [line for line in told if "revoke create on schema public from public" in line]


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
