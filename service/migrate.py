"""Brings a database up to date: the migrations in their order, then all of sql/ in one transaction."""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from yoyo import get_backend, read_migrations

from service import project_path
from service.settings import SettingsError, read_settings

BOOKKEEPING = "segmentation_migrations"
# Any number, as long as it stays: two runs at once take turns.
LOCK = 7_361_405_928
# From here on, files are run as the role that migrates; all before as the owner of the schema.
FIRST_AS_MIGRATOR = "90"


class MigrationError(Exception):
    """The database was not brought up to date; the message says where it stopped and why."""


def migrate(url: str, say: Callable[[str], None] = lambda line: None) -> str:
    """Apply what is missing, say each step, return the version; harmless when run again, or twice at once."""
    if urlsplit(url).scheme not in ("postgresql", "postgres"):
        raise MigrationError("DATABASE_URL is no URL such as postgresql://user@host:5432/database")
    try:
        with psycopg.connect(url, autocommit=True, application_name="segmentation migrate") as connection:
            # What the files say themselves; "exists, skipping" has another code.
            connection.add_notice_handler(
                lambda notice: say(str(notice.message_primary)) if notice.sqlstate == "00000" else None
            )
            connection.execute("select pg_advisory_lock(%s)", [LOCK])
            connection.execute(f"create schema if not exists {BOOKKEEPING}")
            _apply_migrations(url, say)
            return _apply_sql(connection, say)
    except psycopg.OperationalError as error:
        raise MigrationError(f"the database does not answer: {error}") from error
    except psycopg.Error as error:
        raise MigrationError(_told(error)) from error


def _apply_migrations(url: str, say: Callable[[str], None]) -> None:
    # yoyo notes who migrates; in a container the user may have no name.
    os.environ.setdefault("USER", "migrate")
    backend = get_backend(_yoyo_url(url))
    try:
        for migration in backend.to_apply(read_migrations(str(project_path("migrations")))):
            try:
                backend.apply_one(migration)
            except psycopg.Error as error:
                raise MigrationError(f"migrations/{migration.id}.sql: {_told(error)}") from error
            say(f"applied migrations/{migration.id}.sql")
    finally:
        backend.connection.close()


def _yoyo_url(url: str) -> str:
    """Spell the URL as yoyo wants it, with the schema of its own tables."""
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query), ("schema", BOOKKEEPING)])
    return urlunsplit(parts._replace(scheme="postgresql+psycopg", query=query))


def _apply_sql(connection: psycopg.Connection, say: Callable[[str], None]) -> str:
    files = sorted(project_path("sql").glob("*.sql"))
    if not files:
        raise MigrationError("sql holds no *.sql file")
    with connection.transaction():
        # A deploy that waits for a lock makes others wait behind it: rather give up.
        connection.execute("set local lock_timeout = '10s'")
        for file in files:
            as_owner = file.name < FIRST_AS_MIGRATOR
            connection.execute("set local role segmentation_owner" if as_owner else "reset role")
            text = file.read_text()
            try:
                connection.execute(text.encode())
            except psycopg.Error as error:
                line = _line(text, error)
                raise MigrationError(
                    f"sql/{file.name}{line}: {_told(error)}; nothing of sql/ was applied"
                ) from error
            say(f"applied sql/{file.name}")
        version = _version([*sorted(project_path("migrations").glob("*.sql")), *files])
        connection.execute("set local role segmentation_owner")
        connection.execute(
            f"comment on schema segmentation is 'Dynamic user segmentation, version {version}'"
        )
    say(f"the database is at version {version}")
    return version


def _told(error: psycopg.Error) -> str:
    hint = error.diag.message_hint
    return (error.diag.message_primary or str(error)) + (f" ({hint})" if hint else "")


def _line(text: str, error: psycopg.Error) -> str:
    position = error.diag.statement_position
    return f", line {text.count(chr(10), 0, int(position)) + 1}" if position else ""


def _version(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    try:
        migrate(read_settings().database_url, print)
    except (SettingsError, MigrationError) as failure:
        sys.exit(f"error: {failure}")
