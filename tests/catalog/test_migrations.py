"""Migrations: applied once, in order, never edited; they roll back, and two runs at once do no harm."""

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from yoyo import get_backend, read_migrations

from service import versions
from service.migrate import migrate
from tests.catalog.shape import differences, shape
from tests.conftest import Database

ROOT = Path(__file__).parents[2]
DIGESTS = Path(__file__).with_name("migrations.sha256")


def forward_migrations() -> list[Path]:
    """The migration files in order, without their rollbacks."""
    return [path for path in sorted((ROOT / "migrations").glob("*.sql")) if ".rollback" not in path.name]


def test_a_step_locks_one_table_that_is_in_use() -> None:
    """With two, it would hold the one and wait for the other while calls do the reverse: nobody would get on."""
    for path in forward_migrations()[5:]:
        text = path.read_text()
        if "transactional: false" in text:
            continue  # each statement is a transaction of its own
        made = set(re.findall(r"create table segmentation\.(\w+)", text))
        locked = set(re.findall(r"(?:alter table|index .* on) segmentation\.(\w+)", text))
        assert len(locked - made) <= 1, path.name


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
    backend = get_backend(url.replace("://", "+psycopg://", 1) + "?schema=segmentation_migrations")
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
    back = {path.name.removesuffix(".rollback.sql") for path in (ROOT / "migrations").rglob("*.rollback.sql")}
    forward = {path.stem for kind in versions.KINDS for path in versions.migration_files(kind)}
    assert forward == back != set()


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in forward_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_migrations_are_append_only() -> None:
    """yoyo knows an applied migration by its name alone: an edit would reach new databases only."""
    recorded = {name: digest for digest, name in map(str.split, DIGESTS.read_text().splitlines())}
    present = {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in versions.KINDS
        for path in versions.migration_files(kind)
    }
    edited = [name for name, digest in recorded.items() if present.get(name) != digest]
    assert edited == [], "migrations are append-only: undo these edits and write a new migration"
    missing = sorted(set(present) - set(recorded))
    assert missing == [], f"record them once they are final: sha256sum {' '.join(missing)} >> {DIGESTS}"
