"""Brings a database up to date: the migrations that it lacks, then what differs from sql/.

sql/ is the truth about routines, views, triggers, comments and grants. What differs from it is found in a transaction
that is rolled back: there the schema gets another name, and all of migrations/ and sql/ make a new, empty one in its
place. The catalog describes both, and just the differences are executed, in one transaction. Nobody else ever sees
the new one, and what is as it should be is not touched.

A database is one by itself, or the router of several, or a shard behind it: segmentation.place says which. The last two
have folders of their own in migrations/ and in sql/, applied after the rest: migrations one by one as always, sql/ in its
one transaction.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from yoyo import read_migrations
from yoyo.exceptions import BadMigration

from service import versions
from service.migrate import bookkeeping, catalog
from service.migrate.attempts import LOCK_TIMEOUT, OWN_SETTINGS, Attempts, GaveUp, in_the_way
from service.migrate.bookkeeping import Bookkeeping
from service.migrate.catalog import AS_OWNER, Catalog, CatalogError
from service.urls import for_psycopg

Say = Callable[[str], None]

# Any number, as long as it stays: two runs at once take turns.
LOCK = 7_361_405_928
# A run that is killed while it waits would go on waiting, and hold up the next one.
NO_ORPHANS = "set client_connection_check_interval = '1s'"
# The first migration cannot append to a search path that was set to nothing; ours alone means the same.
EMPTY_PATH = """
    do $$
    begin
      if exists (
        select
        from pg_db_role_setting as s
        join pg_database as d on d.oid = s.setdatabase
        cross join lateral unnest(s.setconfig) as c (setting)
        where d.datname = current_database() and s.setrole = 0 and c.setting = 'search_path=""'
      ) then
        execute format('alter database %I set search_path = segmentation', current_database());
      end if;
    end
    $$
"""
# What is between quotes, a comment; and what may stand in the body of a function in standard SQL, and that body.
QUOTED = re.compile(r"\$(\w*)\$.*?\$\1\$|'[^']*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
CASE = re.compile(r"\bcase\b(?:(?!\bcase\b).)*?\bend\b", re.DOTALL | re.IGNORECASE)
BODY = re.compile(r"\bbegin\s+atomic\b.*?\bend\b", re.DOTALL | re.IGNORECASE)
# What yoyo reads in the first lines of a step.
TRANSACTIONAL = re.compile(r"^\s*--\s*transactional\s*:(.*)$", re.MULTILINE)
TRANSACTION = re.compile(
    r"(?:^|;)\s*(begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction)\b",
    re.IGNORECASE,
)
AS_MIGRATOR = "reset role"

WHAT_IS_THERE = """
    select
      current_database(),
      exists (
        select from pg_class as c
        where c.relnamespace = to_regnamespace('segmentation') and c.relkind in ('r', 'p')
      ),
      to_regclass(%(bookkeeping)s) is not null,
      (
        select array_agg(format('schema %%s belongs to %%s', n.nspname, r.rolname))
        from pg_namespace as n
        join pg_roles as r on r.oid = n.nspowner
        where n.nspname = 'segmentation' and r.rolname <> 'segmentation_owner'
          or n.nspname = 'segmentation_migrations' and r.rolname <> current_user and not r.rolsuper
            and r.oid <> (select d.datdba from pg_database as d where d.datname = current_database())
      )
"""
# A database becomes a router or a shard while it has nothing that would be in the wrong place, and stays one.
BECOME = """
    update segmentation.place as p set kind = %(kind)s
    where p.kind = 'single' and not exists (
      select from segmentation.users
      union all
      select from segmentation.segments where %(kind)s = 'shard'
    )
"""
# Who migrates and who owns may have been told to give rights to whatever they make: a new schema has none of these.
# PostgreSQL's own defaults are what anybody may do with functions and types.
NO_DEFAULT_PRIVILEGES = """
    do $$
    declare
      given record;
    begin
      for given in
        select
          d.defaclrole::regrole as giver,
          a.privilege_type as privilege,
          case d.defaclobjtype
            when 'f' then 'functions' when 'r' then 'tables' when 'S' then 'sequences' when 'T' then 'types'
            else 'schemas'
          end as objects,
          case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee
        from pg_default_acl as d
        cross join lateral aclexplode(d.defaclacl) as a
        where d.defaclrole in ('segmentation_owner'::regrole, current_user::regrole) and d.defaclnamespace = 0
          and a.grantee <> d.defaclrole and not (a.grantee = 0 and d.defaclobjtype in ('f', 'T'))
      loop
        execute format(
          'alter default privileges for role %s revoke %s on %s from %s',
          given.giver, given.privilege, given.objects, given.grantee);
      end loop;
    end
    $$
"""
# Each database has months of its own, so they are not compared: they follow their table.
GUARD_PARTITIONS = """
    select segmentation.guard_history_partition(h.partition) from segmentation.history_partitions() as h
"""


class MigrationError(Exception):
    """The database was not brought up to date; the message says where it stopped and why."""


def migrate(
    url: str,
    say: Say = lambda line: None,
    *,
    patience: float = 300,
    existing: bool = False,
    kind: str | None = None,
) -> str:
    """Apply what is missing, say each step, return the version; harmless when run again, or twice at once.

    Where somebody else is in the way of a step, it tries again for so many seconds. With existing, it makes no new schema: the
    database is to hold one, such as after a restore. With a kind, a new database becomes a router or a shard.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise MigrationError("what was given is no URL such as postgresql://user@host:5432/database")
    _check_files()
    try:
        # A standby cannot be migrated, whatever the URL prefers for serving.
        url = make_conninfo(for_psycopg(url), target_session_attrs="read-write")
        with psycopg.connect(url, autocommit=True, application_name="segmentation migrate") as connection:
            connection.execute(OWN_SETTINGS)
            connection.execute(NO_ORPHANS)
            attempts = Attempts(connection, url, say, patience)
            attempts.take_turns(LOCK)
            connection.execute(LOCK_TIMEOUT)
            is_new = attempts(bookkeeping.TABLE, lambda: _look(connection, existing, say))
            attempts("the search path", lambda: connection.execute(EMPTY_PATH))
            _apply_migrations(connection, attempts, say)
            is_a = attempts("its kind", lambda: _kind(connection, kind))
            if is_a != "single":
                _apply_migrations(connection, attempts, say, is_a)
            wanted = attempts("what sql/ says", lambda: _wanted(connection, is_a))
            done, told, outdated = attempts(
                "sql/", lambda: _apply_sql(connection, wanted, is_a, is_new, attempts)
            )
            for line in [*(["applied sql/"] if is_new else []), *done, *told]:
                say(line)
            attempts("the first upkeep", lambda: _first_upkeep(connection))
            _drop_outdated(connection, outdated, attempts, say)
    except (CatalogError, GaveUp, BadMigration) as error:
        raise MigrationError(str(error)) from error
    except psycopg.OperationalError as error:
        raise MigrationError(f"the database does not answer: {error}") from error
    except psycopg.Error as error:
        raise MigrationError(_told(error)) from error
    version = versions.version()
    say(f"the database is at version {version}")
    return version


def _look(connection: psycopg.Connection, existing: bool, say: Say) -> bool:
    """Whether there is nothing yet; half of something is refused."""
    found = connection.execute(WHAT_IS_THERE, {"bookkeeping": bookkeeping.TABLE}).fetchone()
    assert found
    database, has_tables, is_kept, strangers = found
    if strangers:
        raise MigrationError(f"{', '.join(strangers)}: it is not ours, or was restored with --no-owner")
    applied = {
        name
        for (name,) in (
            connection.execute(f"select migration_id from {bookkeeping.TABLE}") if is_kept else ()
        )
    }
    steps = [file.stem for file in versions.migration_files()]
    unknown = applied - {file.stem for kind in versions.KINDS for file in versions.migration_files(kind)}
    if unknown:
        raise MigrationError(
            f"the database has migrations that this version does not know: {', '.join(sorted(unknown))}. "
            "Migrate with the newer version, or roll them back with it first"
        )
    if has_tables and not applied:
        raise MigrationError(
            f"schema segmentation has tables, but {bookkeeping.TABLE} does not say by which migrations: restore both "
            "schemas from one dump"
        )
    # The first one makes roles and the schema alone: a run that was killed after it has left no tables.
    if not has_tables and applied - set(steps[:1]):
        raise MigrationError(
            f"{bookkeeping.TABLE} says that {len(applied)} migrations were applied, but schema segmentation has no tables: "
            f"restore it from the same dump; or, to begin with nothing, drop schema {bookkeeping.SCHEMA} cascade"
        )
    if not applied:
        if existing:
            raise MigrationError(
                f'database "{database}" holds no schema segmentation: nothing was restored into it'
            )
        say(f'database "{database}" holds no schema segmentation: a new, empty one is made')
    return not applied


def _kind(connection: psycopg.Connection, asked: str | None) -> str:
    """What the database is, or becomes."""
    ((kind,),) = connection.execute("select kind from segmentation.place").fetchall()
    if asked in (None, kind):
        return str(kind)
    if not connection.execute(BECOME, {"kind": asked}).rowcount:
        why = "has users or segments" if kind == "single" else f"is a {kind}, and stays one"
        raise MigrationError(f"the database cannot become a {asked}: it {why}. Take a new database")
    return str(asked)


def _apply_migrations(
    connection: psycopg.Connection, attempts: Attempts, say: Say, kind: str = "single"
) -> None:
    # yoyo notes who migrates; in a container the user may have no name.
    os.environ.setdefault("USER", "migrate")
    connection.execute(f"create schema if not exists {bookkeeping.SCHEMA}")
    kept = attempts(bookkeeping.TABLE, lambda: Bookkeeping(connection))
    steps = read_migrations(str(versions.migration_folder(kind)))
    for migration in attempts(bookkeeping.TABLE, lambda: kept.to_apply(steps)):
        name = versions.name_of(Path(migration.path))
        try:
            migration.load()
            attempts(
                name,
                lambda migration=migration: kept.apply(migration, attempts.left),  # type: ignore[misc]
                is_long=not migration.use_transactions,
            )
        except psycopg.Error as error:
            raise MigrationError(f"{name}: {_told(error)}") from error
        say(f"applied {name}")


def _wanted(connection: psycopg.Connection, kind: str) -> Catalog:
    """What a new database would hold."""
    with connection.transaction(force_rollback=True):
        connection.execute("set local client_min_messages = warning")
        connection.execute("alter schema segmentation rename to segmentation_as_it_is")
        connection.execute(NO_DEFAULT_PRIVILEGES)
        for file in versions.migration_files(kind):
            connection.execute(AS_MIGRATOR)
            # Here it is all one transaction, and the tables are empty.
            _run(connection, file, re.sub(r"(?i)\bconcurrently\b", "", file.read_text()))
        for file in versions.schema_files(kind):
            connection.execute(AS_OWNER)
            _run(connection, file, file.read_text())
        return catalog.read(connection)


def _apply_sql(
    connection: psycopg.Connection, wanted: Catalog, kind: str, is_new: bool, attempts: Attempts
) -> tuple[list[str], list[str], list[str]]:
    """All of it or nothing: what was done, what else is worth a word, and what is outdated now."""
    told: list[str] = []
    with connection.transaction():
        connection.execute(AS_OWNER)
        connection.execute("set local client_min_messages = warning")
        # They were checked when they were made for comparison, and may be made before what they need.
        connection.execute("set local check_function_bodies = off")
        if is_new:
            # Nobody calls it yet. One by one, as in a database that is in use, all these things take three times as long.
            for file in versions.schema_files(kind):
                _run(connection, file, file.read_text())
        done, alone = catalog.make_equal(
            connection,
            wanted,
            lambda: told.extend(_apply_server(connection, kind)),
            partial(attempts.between_calls, "sql/"),
        )
        connection.execute(GUARD_PARTITIONS)
        outdated = catalog.outdated(connection, wanted)
        # Who else depends on what is to go shall stop all of it.
        # A view that a call in progress reads cannot be tried; it is left until that has ended.
        with suppress(errors.LockNotAvailable), connection.transaction(force_rollback=True):
            catalog.drop(connection, outdated)
    if alone:
        told.append(f"left alone, as no migration made it: {', '.join(alone)}")
    return done, told, outdated


def _apply_server(connection: psycopg.Connection, kind: str) -> list[str]:
    """What stands around the schema, and the version: what these files have to say."""
    told: list[str] = []
    connection.execute("set local client_min_messages = notice")
    connection.add_notice_handler(note := lambda notice: told.append(str(notice.message_primary)))
    for file in versions.server_files(kind):
        connection.execute(AS_MIGRATOR)
        _run(connection, file, file.read_text())
    connection.remove_notice_handler(note)
    connection.execute(AS_OWNER)
    connection.execute("set local client_min_messages = warning")
    _sign(connection)
    return told


def _first_upkeep(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute(AS_OWNER)
        connection.execute("select segmentation.first_upkeep()")


def _drop_outdated(connection: psycopg.Connection, things: list[str], attempts: Attempts, say: Say) -> None:
    """Drop what is there for calls in progress only, once they have ended; or leave it for the next deploy."""
    if not things:
        return

    def drop() -> None:
        with connection.transaction():
            catalog.drop(connection, things)

    names = ", ".join(catalog.plain(thing) for thing in things)
    left = f"left for the next deploy to drop, as calls that began before this one may use it: {names}"
    if who := attempts.wait_for_calls("what is outdated"):
        say(f"{left}; in the way: {who}")
        return
    try:
        attempts("what is outdated", drop)
    except GaveUp as error:
        say(f"{left}; {error}")
    else:
        say(f"dropped {names}")


def _sign(connection: psycopg.Connection) -> None:
    """Leave the version: for people as a comment, for the service in deploys."""
    version, digest = versions.version(), versions.digest()
    comment = f"Dynamic user segmentation, version {version}"
    present = connection.execute("select obj_description('segmentation'::regnamespace, 'pg_namespace')")
    if present.fetchone() != (comment,):
        connection.execute(f"comment on schema segmentation is '{comment}'".encode())
    last = connection.execute(
        "select digest from segmentation.deploys order by deploy desc limit 1"
    ).fetchone()
    if last != (digest,):
        # Back at a version that it had: those after it are gone.
        connection.execute(
            "delete from segmentation.deploys as d using segmentation.deploys as e"
            " where e.digest = %s and d.deploy >= e.deploy",
            [digest],
        )
        connection.execute(
            "insert into segmentation.deploys (digest, version) values (%s, %s)", [digest, version]
        )


def _run(connection: psycopg.Connection, file: Path, text: str) -> None:
    try:
        connection.execute(text.encode())
    except psycopg.Error as error:
        if isinstance(error, psycopg.OperationalError) or in_the_way(error):
            raise
        position = error.diag.statement_position
        line = f", line {text.count(chr(10), 0, int(position)) + 1}" if position else ""
        name = versions.name_of(file)
        raise MigrationError(f"{name}{line}: {_told(error)}; nothing of sql/ was applied") from error


def _check_files() -> None:
    """Refuse, before anything is done, files that cannot be read, and those that would end the transaction they are part of.

    Half of such a file would be done. In the body of a procedure the words may stand. PostgreSQL has no way to forbid them.
    """
    for file in dict.fromkeys(versions.all_files()):
        name = versions.name_of(file)
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MigrationError(f"{name} cannot be read: {error}") from error
        if "\0" in text:
            raise MigrationError(f"{name} has a NUL character, at which it would end for PostgreSQL")
        if (found := TRANSACTIONAL.search(text)) and found[1].strip().lower() not in ("true", "false"):
            raise MigrationError(f"{name} says transactional:{found[1]}, which is neither true nor false")
        if found := TRANSACTION.search(_bare(text)):
            raise MigrationError(
                f"{name} says {found[1]}: take it out, as migrating decides where transactions begin and end"
            )
    for kind in versions.KINDS:
        for file in versions.migration_folder(kind).glob("*.py"):
            raise MigrationError(f"{versions.name_of(file)} is no *.sql file: only these are steps")


def _bare(text: str) -> str:
    """The statements of a file without what stands in them as a text, a comment or a body."""
    text, found = QUOTED.sub("", text), 1
    while found:  # the innermost first
        text, found = CASE.subn("", text)
    return BODY.sub("", text)


def _told(error: psycopg.Error) -> str:
    hint = error.diag.message_hint
    return (error.diag.message_primary or str(error)) + (f" ({hint})" if hint else "")
