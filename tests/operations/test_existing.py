"""Beside another application in one database: it notices nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.migrate import migrate
from tests.conftest import SERVER, Database, url_of
from tests.operations.conftest import query, shell
from tests.readmes import ROOT, block

NAME = "segmentation_test_existing"
OTHERS = """
    select 'relation', oid::regclass::text, relacl::text, relowner::text from pg_class
    where relnamespace in ('app'::regnamespace, 'public'::regnamespace)
    union all
    select 'function', oid::regprocedure::text, proacl::text, md5(prosrc) from pg_proc
    where pronamespace in ('app'::regnamespace, 'public'::regnamespace)
    union all
    select 'schema', nspname, nspacl::text, nspowner::text from pg_namespace
    where nspname !~ '^(segmentation|pg_)'
    order by 1, 2
"""


@pytest.fixture
def existing(db: Database) -> Iterator[str]:
    """The URL of a database that an application lives in, with names like ours and a search path of its own."""
    server = url_of(str(SERVER["dbname"]))
    query(server, f"drop database if exists {NAME} with (force)")
    query(server, f"create database {NAME}")
    query(server, f'alter database {NAME} set search_path = "$user", app, public')
    url = url_of(NAME)
    for statement in (
        "create schema app",
        "create table app.users (user_id text)",
        "create table app.segments (name text)",
        "create function app.user_segments(user_id bigint) returns text language sql as $$ select 'theirs' $$",
    ):
        query(url, statement)
    yield url
    query(server, f"drop database {NAME} with (force)")


def test_names_search_path_and_rights_of_the_application_stay(existing: str, tmp_path: Path) -> None:
    before = query(existing, OTHERS)
    path = query(existing, "show search_path")
    migrate(existing)
    assert query(existing, OTHERS) == before
    assert query(existing, "show search_path") == [('"$user", app, public, segmentation',)]
    query(existing, "insert into users values ('theirs')")
    assert query(existing, "select * from app.users") == [("theirs",)]
    assert query(existing, "select user_segments(1)") == [("theirs",)]
    assert query(existing, "select count(*) from segmentation.user_segments(1)") == [(0,)]
    query(existing, "create function app.new() returns int language sql as 'select 1'")
    assert query(existing, "select has_function_privilege('public', 'app.new()', 'execute')") == [(True,)]
    query(existing, "drop function app.new()")
    migrate(existing)
    assert query(existing, "show search_path") == [('"$user", app, public, segmentation',)]
    shell(block("uninstall"), ROOT, DATABASE_URL=existing)
    assert query(existing, OTHERS) == before
    assert query(existing, "show search_path") == path


@pytest.mark.parametrize(
    ("path", "appended"),
    [("''", "segmentation"), ('"segmentation-old", public', '"segmentation-old", public, segmentation')],
    ids=["nothing", "a name like ours"],
)
def test_a_search_path_of_any_kind_is_appended_to_and_given_back(
    path: str, appended: str, existing: str
) -> None:
    query(existing, f"alter database {NAME} set search_path = {path}")
    before = query(existing, "show search_path")
    for _ in range(2):
        migrate(existing)
        assert query(existing, "show search_path") == [(appended,)]
    shell(block("uninstall"), ROOT, DATABASE_URL=existing)
    assert query(existing, "show search_path") == before
