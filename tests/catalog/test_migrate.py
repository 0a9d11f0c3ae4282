"""The migration runner: repeatable, harmless twice at once, all of sql/ or nothing of it."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from service import __version__, versions
from service.migrate import MigrationError, migrate
from tests.catalog.conftest import edit
from tests.catalog.shape import differences, shape
from tests.conftest import Database
from tests.expect import wait_until
from tests.launcher import ROOT


def version(url: str) -> str:
    """The version that the database says it has."""
    return str(Database(url).value("select obj_description('segmentation'::regnamespace, 'pg_namespace')"))


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


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "migrations/9999_new.sql",
            b"-- depends: nothing\nselect 1;\n",
            "resolve dependencies in .*9999_new",
        ),
        ("migrations/9999_new.sql", b"-- caf\xe9\n", "9999_new.sql cannot be read: .*utf-8"),
        ("sql/61_new.sql", b"-- caf\xe9\n", "sql/61_new.sql cannot be read: .*utf-8"),
        ("migrations/9999_new.sql", b"select 1;\0select 2;\n", "9999_new.sql has a NUL character"),
        ("sql/61_new.sql", b"select 1;\0\n", "61_new.sql has a NUL character"),
        (
            "migrations/9999_new.sql",
            b"-- transactional: no\nselect 1;\n",
            "transactional: no, which is neither",
        ),
        ("migrations/9999_new.py", b"import nothing\n", "9999_new.py is no .*sql file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    name: str, content: bytes, told: str, migrated: str, checkout: Path
) -> None:
    (checkout / name).write_bytes(content)
    with pytest.raises(MigrationError, match=told):
        migrate(migrated)


@pytest.mark.parametrize("pattern", ["migrations/*.sql", "sql/*.sql", "sql/server/*.sql"])
def test_a_copy_without_its_files_is_told(pattern: str, migrated: str, checkout: Path) -> None:
    before = shape(migrated)
    for file in checkout.glob(pattern):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="is not whole"):
        migrate(migrated)
    assert differences(before, shape(migrated)) == []


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


def test_what_stands_in_the_body_of_a_function_ends_no_transaction(migrated: str, checkout: Path) -> None:
    (checkout / "sql" / "61_new.sql").write_text("""
        create or replace function segmentation.new (a int) returns int language sql begin atomic
          select case when a > 0 then case a when 1 then 1 end else 2 end;
          select 3;
        end;
        comment on function segmentation.new(int) is 'begin; commit; $$';
    """)
    migrate(migrated)
    assert Database(migrated).value("select segmentation.new(1)") == 3


@pytest.mark.parametrize("is_new", [True, False])
def test_settings_of_the_database_do_not_disturb(is_new: bool, migrated: str, empty: str, fresh: str) -> None:
    url = empty if is_new else migrated
    database = Database(url)
    alter = f"alter database {url.rpartition('/')[2]}"
    settings = {
        "quote_all_identifiers": "on",
        "standard_conforming_strings": "off",
        "client_encoding": "LATIN1",
        "statement_timeout": "20ms",
        "lock_timeout": "1ms",
        "default_transaction_isolation": "serializable",
    }
    for name, setting in settings.items():
        database.rows(f"{alter} set {name} = '{setting}'")
    migrate(url)
    for name in settings:
        database.rows(f"{alter} reset {name}")
    assert differences(shape(fresh), shape(url)) == []


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
