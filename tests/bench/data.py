"""The data: databases in the bench cluster, made once for their sizes, and copies of them to work on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.sql import SQL, Identifier

from service.migrate import MigrationError, migrate
from tests.bench.outcome import progress
from tests.bench.sizes import Sizes

SERVER = os.environ.get("BENCH_DATABASE_URL", "")

RELEASES = Path(__file__).parents[1] / "catalog" / "dumps"

# Users and segments of long ago; the rollouts began in the month before this one, which the report is about.
# Their percentages are 25 on average.
CATALOG = """
    set local session_replication_role = replica;
    set local search_path = segmentation;
    insert into segments (slug, salt, created_at)
    select
      'SEGMENT_' || to_char(number, 'FM0000'), hashtextextended('salt', number),
      date_trunc('month', now()) - interval '1 year'
    from generate_series(1, %(segments)s) as number;
    insert into rollouts (segment_id, {slug}salt, percent, starts_at)
    select
      s.segment_id, {slug}s.salt, round((s.segment_id - 0.5) * 50 / %(rolling)s, 3),
      date_trunc('month', now()) - interval '1 month' + s.segment_id %% 25 * interval '25 hours'
    from segments as s
    where s.segment_id <= %(rolling)s;
"""
# A shard has a part of the users.
USERS = """
    set local session_replication_role = replica;
    set local search_path = segmentation;
    insert into users (user_id, registered_at)
    select user_id, date_trunc('month', now()) - interval '1 year'
    from generate_series(1, %(users)s) as user_id
    where {is_here};
    insert into memberships (user_id, segment_id, starts_at, ends_at)
    select
      user_id, 1 + (user_id / 5 * 7 + number * 11) %% %(segments)s,
      date_trunc('month', now()) - case when number = 0 then interval '9 days' else interval '90 days' end,
      case when number < 2 then now() + interval '10 years' else 'infinity' end
    from generate_series(5, %(users)s, 5) as user_id
    cross join generate_series(0, 4) as number
    where {is_here};
"""


def url_of(database: str) -> str:
    """The superuser's URL of a database of the bench cluster; of one elsewhere, it is the name."""
    return database if "://" in database else urlunsplit(urlsplit(SERVER)._replace(path=f"/{database}"))


def connect(database: str, **kwargs: Any) -> psycopg.Connection:
    """A superuser's session, in autocommit mode."""
    return psycopg.connect(
        url_of(database),
        autocommit=True,
        options="-c search_path=public,segmentation -c timezone=UTC",
        **kwargs,
    )


def value(connection: psycopg.Connection, query: str, *args: Any) -> Any:
    """The only value of a query."""
    row = connection.execute(query, args or None).fetchone()
    assert row is not None
    return row[0]


def data_set(sizes: Sizes, users: int, wide: bool = False) -> str:
    """The name of a loaded and migrated database with so many users; it is made if it is not there."""
    segments, rolling = (sizes.wide_segments, sizes.wide_rolling) if wide else (sizes.segments, sizes.rolling)
    name = f"set_{users}_{segments}_{rolling}"
    if exists(name):
        try:
            migrate(url_of(name))
            return name
        except MigrationError as error:
            progress(f"{name} cannot be brought up to date: {error}")
            remove(name)
    remove("loading")
    create("loading")
    migrate(url_of("loading"))
    _load(name, users, segments, rolling, slug="slug, ")
    return name


def data_set_of_release(sizes: Sizes, version: str) -> str:
    """The same in a database of a released version, from its dump."""
    name = f"set_{sizes.users}_{sizes.segments}_{sizes.rolling}_of_{version.replace('.', '_')}"
    if not exists(name):
        data_set(sizes, sizes.users)  # The roles belong to the server.
        remove("loading")
        create("loading")
        with psycopg.connect(url_of("loading"), autocommit=True) as opened:
            opened.execute((RELEASES / f"{version}.sql").read_bytes())
        with connect("loading") as opened, opened.transaction():
            opened.execute("set local session_replication_role = replica")
            opened.execute("truncate users, memberships, rollouts, segments restart identity cascade")
        _load(name, sizes.users, sizes.segments, sizes.rolling, slug="")
    return name


def _load(name: str, users: int, segments: int, rolling: int, slug: str) -> None:
    """Fill the database that is being made, and give it its name."""
    progress(f"loading {users:,} users, {segments} segments of which {rolling} are rolling out: {name}")
    with connect("loading") as opened:
        fill(opened, CATALOG.format(slug=slug), segments=segments, rolling=rolling)
        fill(opened, USERS.format(is_here="true"), users=users, segments=segments)
    with connect("postgres") as server:
        server.execute(SQL("alter database loading rename to {}").format(Identifier(name)))


def fill(dba: psycopg.Connection, query: str, **numbers: int) -> None:
    """Insert one of the parts of the data."""
    with dba.transaction(), psycopg.ClientCursor(dba) as cursor:
        cursor.execute(query, numbers)
    dba.execute("vacuum (analyze, freeze)")


def add_layers(dba: psycopg.Connection, layers: int = 20, segments: int = 5) -> None:
    """Make layers whose segments share all users; each call in a transaction of its own, as people do it."""
    for layer in range(1, layers + 1):
        dba.execute("select create_layer(%s)", [f"LAYER_{layer:02}"])
        for number in range(1, segments + 1):
            dba.execute(
                "select create_segment(%s, 100 / %s::numeric, layer => %s)",
                [f"LAYER_{layer:02}_{number}", segments, f"LAYER_{layer:02}"],
            )
    for table in ("segments", "rollouts", "layer_cells"):
        dba.execute(SQL("vacuum (analyze) {}").format(Identifier(table)))


@contextmanager
def copy_of(name: str, number: int = 1) -> Iterator[str]:
    """A copy of a data set, to be changed at will, and deleted in the end."""
    copy = f"work_{number}"
    remove(copy)
    create(copy, name)
    try:
        # A copy does not take over the settings of its template, and is not yet in memory.
        with connect(copy) as opened:
            opened.execute(f"alter database {copy} set search_path = public, segmentation")
            for table in ("users", "memberships", "segments", "rollouts"):
                opened.execute(f"select count(*) from {table}")
        yield copy
    finally:
        remove(copy)


def month_of_report(dba: psycopg.Connection) -> str:
    """The month in which the rollouts began."""
    return str(value(dba, "select to_char(max(starts_at), 'YYYY-MM') from rollouts where starts_at < now()"))


def exists(name: str) -> bool:
    """Whether there is such a database."""
    with connect("postgres") as server:
        return bool(value(server, "select exists (select from pg_database where datname = %s)", name))


def create(name: str, template: str = "template0") -> None:
    """Make a database."""
    with connect("postgres") as server:
        server.execute(
            SQL("create database {} template {} strategy file_copy").format(
                Identifier(name), Identifier(template)
            )
        )


def remove(name: str) -> None:
    """Delete a database, if it is there."""
    with connect("postgres") as server:
        server.execute(SQL("drop database if exists {} with (force)").format(Identifier(name)))


def server_version() -> str:
    """The version of PostgreSQL."""
    with connect("postgres") as server:
        return str(value(server, "show server_version"))
