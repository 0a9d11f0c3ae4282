"""Migrations: applied once, in order, never edited; they roll back, and two runs at once do no harm."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import psycopg
import pytest
from yoyo import get_backend, read_migrations

from service.migrate import _yoyo_url, migrate
from tests.conftest import SERVER, Database, url_of

ROOT = Path(__file__).parents[2]
DIGESTS = Path(__file__).with_name("migrations.sha256")
NAMES = count(1)

SHAPE = """
    select 'function' as kind, oid::regprocedure::text as name,
      (case when prokind in ('f', 'p') then pg_get_functiondef(oid) end,
        proacl, obj_description(oid), proowner)::text as shape
    from pg_proc where pronamespace = 'segmentation'::regnamespace
    union all
    select 'relation', oid::regclass::text,
      (relkind, relacl, relowner, case relkind when 'v' then pg_get_viewdef(oid) end)::text
    from pg_class where relnamespace = 'segmentation'::regnamespace
    union all
    select 'column', attrelid::regclass || '.' || attname,
      (atttypid::regtype, attnotnull, attnum, atthasdef)::text
    from pg_attribute join pg_class on pg_class.oid = attrelid
    where relnamespace = 'segmentation'::regnamespace and attnum > 0
    union all
    select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    from pg_constraint where connamespace = 'segmentation'::regnamespace
    union all
    select 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    from pg_index join pg_class on pg_class.oid = indexrelid where relnamespace = 'segmentation'::regnamespace
    union all
    select 'trigger', tgrelid::regclass || '.' || tgname, (pg_get_triggerdef(pg_trigger.oid), tgenabled)::text
    from pg_trigger join pg_class on pg_class.oid = tgrelid
    where relnamespace = 'segmentation'::regnamespace and not tgisinternal
    union all
    select 'type', oid::regtype::text, (typtype, typowner)::text
    from pg_type where typnamespace = 'segmentation'::regnamespace
    union all
    select 'schema', nspname, (nspacl, nspowner, obj_description(oid))::text
    from pg_namespace where nspname = 'segmentation'
    union all
    select 'setting', setrole::text, setconfig::text
    from pg_db_role_setting
    where setdatabase = (select oid from pg_database where datname = current_database())
    union all
    select 'default privilege', defaclobjtype::text, defaclacl::text
    from pg_default_acl where defaclrole = 'segmentation_owner'::regrole
    union all
    select 'role', r.rolname, (r.rolcanlogin, r.rolinherit, array(
      select m.roleid::regrole::text from pg_auth_members as m where m.member = r.oid order by 1))::text
    from pg_roles as r where r.rolname ~ '^segmentation_'
    order by 1, 2
"""


@pytest.fixture
def empty_database() -> Iterator[Callable[[], str]]:
    """Make a database with nothing in it; its URL."""
    with psycopg.connect(url_of(str(SERVER["dbname"])), autocommit=True) as server, ExitStack() as made:

        def make() -> str:
            name = f"segmentation_test_empty_{next(NAMES)}"
            server.execute(f"drop database if exists {name}".encode())
            server.execute(f"create database {name}".encode())
            made.callback(server.execute, f"drop database {name} with (force)".encode())
            return url_of(name)

        yield make


def forward_migrations() -> list[Path]:
    """The migration files in order, without their rollbacks."""
    return [path for path in sorted((ROOT / "migrations").glob("*.sql")) if ".rollback" not in path.name]


def shape(url: str) -> list[tuple]:
    """Everything in the schema except the data."""
    with psycopg.connect(url) as connection:
        return connection.execute(SHAPE.encode()).fetchall()


def differences(before: list[tuple], after: list[tuple]) -> list[tuple]:
    """What only one of them has."""
    return sorted(set(before) ^ set(after))


def test_migrating_twice_changes_nothing(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    version = migrate(url)
    database = Database(url)
    database.rows("select create_segment('A', 50)")
    database.rows("select change_user_segments(1, '{A}')")
    history = database.rows("select * from user_history(1)")
    before = shape(url)
    assert migrate(url) == version
    assert differences(before, shape(url)) == []
    assert database.rows("select * from user_history(1)") == history
    database.connection.close()


def test_a_second_run_says_that_no_migration_was_missing(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    said: list[str] = []
    migrate(url, said.append)
    assert any(line.startswith("applied migrations/") for line in said)
    said.clear()
    migrate(url, said.append)
    assert not any(line.startswith("applied migrations/") for line in said)


def test_two_migrations_at_once_are_harmless(empty_database: Callable[[], str]) -> None:
    url, alone = empty_database(), empty_database()
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(migrate, [url, url])
    assert first == second == migrate(alone)
    assert differences(shape(url), shape(alone)) == []


def test_two_databases_of_one_server_share_the_roles(empty_database: Callable[[], str]) -> None:
    one, other = empty_database(), empty_database()
    with ThreadPoolExecutor(2) as threads:
        assert len(set(threads.map(migrate, [one, other]))) == 1
    assert differences(shape(one), shape(other)) == []


def roll_back(url: str) -> None:
    """Roll back all migrations, newest first, as an operator does with yoyo."""
    backend = get_backend(_yoyo_url(url))
    try:
        backend.rollback_migrations(backend.to_rollback(read_migrations(str(ROOT / "migrations"))))
    finally:
        backend.connection.close()


def test_migrations_roll_back_and_apply_again(empty_database: Callable[[], str]) -> None:
    url, untouched = empty_database(), empty_database()
    migrate(untouched)
    migrate(url)
    with Database(url).connection as connection:
        connection.execute("select create_segment('A', 50)")
        connection.execute("select change_user_segments(1, '{A}')")
        connection.execute("select change_user_segments(1, remove => '{A}')")
    before, neighbour = shape(url), shape(untouched)
    try:
        roll_back(url)
        with psycopg.connect(url) as connection:
            assert (
                connection.execute("select 1 from pg_namespace where nspname = 'segmentation'").fetchall()
                == []
            )
            path = connection.execute("show search_path").fetchall()
            assert "segmentation" not in path[0][0]
        assert differences(neighbour, shape(untouched)) == [], (
            "another database of the server goes on as before"
        )
        migrate(url)
        assert differences(before, shape(url)) == []
    finally:
        # Roles belong to the server, and the other tests need them, whatever went wrong here.
        migrate(empty_database())


def test_each_migration_has_a_rollback() -> None:
    back = {path.name.removesuffix(".rollback.sql") for path in (ROOT / "migrations").glob("*.rollback.sql")}
    assert {path.stem for path in forward_migrations()} == back != set()


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in forward_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_migrations_are_append_only() -> None:
    """yoyo knows an applied migration by its name alone: an edit would reach new databases only."""
    recorded = {name: digest for digest, name in map(str.split, DIGESTS.read_text().splitlines())}
    present = {
        f"migrations/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in forward_migrations()
    }
    edited = [name for name, digest in recorded.items() if present.get(name) != digest]
    assert edited == [], "migrations are append-only: undo these edits and write a new migration"
    missing = sorted(set(present) - set(recorded))
    assert missing == [], f"record them once they are final: sha256sum {' '.join(missing)} >> {DIGESTS}"
