"""A router has all functions of a database by itself, and a list says what it does with each."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.migrate import MigrationError, migrate
from service.migrate.shards import add_shards
from tests.catalog.conftest import checkout, databases, empty_database  # noqa: F401
from tests.conftest import Database
from tests.expect import refuses
from tests.shards.conftest import Shards

PUBLIC = """
    select p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc'),
      (select array_agg(a::text order by a::text) from unnest(p.proacl) as a where a::text !~ '^segmentation_router=')
    from pg_proc as p
    where p.pronamespace = 'segmentation'::regnamespace
      and exists (select from aclexplode(p.proacl) as a
        where a.grantee <> p.proowner and a.grantee <> coalesce(to_regrole('segmentation_router')::oid, 0))
    order by 1
"""


def test_the_list_names_each_public_function_and_none_that_is_not_there(router: Database) -> None:
    """That none is missing, migrating itself sees to."""
    functions = router.column("select proname from pg_proc where pronamespace = 'segmentation'::regnamespace")
    listed = router.rows("select function, kind from segmentation.function_kinds()")
    assert {name for name, _ in listed} <= set(functions)
    assert {name for name, *_ in router.rows(PUBLIC)} <= {name for name, _ in listed}
    assert {kind for _, kind in listed} == {"routed", "split", "merged", "summed", "to_all", "here"}
    assert len(listed) == len({name for name, _ in listed})


def test_a_function_that_is_not_in_the_list_stops_the_migration_of_a_router(
    shards: Shards,
    checkout: Path,  # noqa: F811
) -> None:
    file = checkout / "sql" / "router" / "10_kinds.sql"
    file.write_text(file.read_text().replace("    ('ending_soon', 'merged'),\n", ""))
    with pytest.raises(MigrationError, match="does not say what a router does with: ending_soon"):
        migrate(shards.urls["router"])


def test_a_router_has_the_functions_grants_and_comments_of_a_database_by_itself(
    router: Database, db: Database
) -> None:
    single = db.rows(PUBLIC)
    assert [row for row in router.rows(PUBLIC) if row[0] != "settle"] == single


def test_a_prepared_transaction_in_the_way_is_named(shards: Shards) -> None:
    shard = Database(shards.urls["s0"])
    shard.rows("drop trigger memberships_after_insert on segmentation.memberships")
    shard.rows("begin; lock table segmentation.memberships in row exclusive mode; prepare transaction 'lost'")
    try:
        with pytest.raises(MigrationError, match=r'prepared: .* by its name, .*"lost"'):
            migrate(shards.urls["s0"], patience=1)
    finally:
        shard.rows("rollback prepared 'lost'")
    migrate(shards.urls["s0"])
    shards.take_clock("s0")


def test_migrating_a_router_or_a_shard_again_changes_nothing(shards: Shards) -> None:
    for name in ("router", "s0"):
        told: list[str] = []
        migrate(shards.urls[name], told.append)
        shards.take_clock(name)
        # The clock of the tests is not that of sql/.
        assert [line for line in told if "clock()" not in line and "transaction_start()" not in line] == told[
            -2:
        ]


def test_no_public_function_of_a_router_looks_for_users_where_there_are_none(router: Database) -> None:
    """Only the catalog is here: one that is listed as "here", or whose other form was forgotten, would find nobody."""
    found = router.column(
        "select p.proname from pg_proc as p join segmentation.function_kinds() as k on k.function = p.proname"
        " where p.pronamespace = 'segmentation'::regnamespace and p.prosrc ~ %s",
        r"segmentation\.(users|memberships|membership_history|overrides|assignments_elsewhere|current_segments"
        r"|membership_periods|membership_events|members_page|change_overrides|lock_users|ofrep_evaluations)\M",
    )
    # Its own partitions, which are empty.
    assert found == ["history_partitions"]


def test_a_database_by_itself_needs_neither_plproxy_nor_dblink(db: Database) -> None:
    assert db.value("select kind from segmentation.place") == "single"
    assert db.column("select extname from pg_extension where extname in ('plproxy', 'dblink')") == []


def test_what_has_users_does_not_become_a_router(empty_database: Callable[[], str]) -> None:  # noqa: F811
    url = empty_database()
    migrate(url)
    Database(url).rows("select segmentation.register_users('{1}')")
    with pytest.raises(MigrationError, match="cannot become a router"):
        migrate(url, kind="router")


def test_the_catalog_of_a_shard_is_changed_by_the_router_alone(session: Callable[[str], Database]) -> None:
    session("router").rows("select create_segment('A', 10)")
    shard = session("s0")
    for call in (
        "select create_segment('B')",
        "select create_layer('B')",
        "select set_rollout('A', 20)",
        "update segmentation.segments set description = 'x'",
        "delete from segmentation.rollouts",
        "update segmentation.catalog_version set version = 0",
        "delete from segmentation.catalog_version",
    ):
        with refuses(psycopg.errors.ObjectNotInPrerequisiteState):
            shard.rows(call)


def test_a_shard_refuses_users_of_another(session: Callable[[str], Database]) -> None:
    session("router").rows("select create_segment('A')")
    other = session("router").value(
        "select min(u) from generate_series(1, 100) as u, segmentation.slots as s"
        " where s.slot = segmentation.slot_of(u) and s.shard = 's1'"
    )
    for call in (
        "user_segments(%s)",
        "change_segment_members('A', array[%s])",
        "change_user_segments(%s, '{A}')",
        "register_users(array[%s])",
    ):
        with refuses(psycopg.errors.CheckViolation, user_id=other):
            session("s0").rows(f"select {call}", other)


def test_plpgsql_check_finds_no_error_in_what_only_a_router_or_a_shard_has(
    session: Callable[[str], Database],
) -> None:
    for name in ("router", "s0"):
        db = session(name)
        db.rows("create extension if not exists plpgsql_check schema public")
        db.rows("create temporary table import (user_id bigint)")
        found = db.rows(
            "select p.proname, c.lineno, c.message from pg_proc as p join pg_language as l on l.oid = p.prolang"
            " cross join lateral public.plpgsql_check_function_tb(p.oid) as c"
            " where p.pronamespace = 'segmentation'::regnamespace and l.lanname = 'plpgsql'"
            " and p.prorettype <> 'trigger'::regtype and c.level = 'error' and c.message !~ 'cron.job'"
        )
        db.rows("drop extension plpgsql_check")
        assert found == []


def test_shards_are_connected_again_at_each_deploy(shards: Shards, router: Database) -> None:
    dealt = "select * from segmentation.slots order by slot"
    before = router.rows(dealt)
    add_shards(shards.urls["router"], {name: url for name, url in shards.urls.items() if name != "router"})
    assert router.rows(dealt) == before
    assert [row.slots for row in router.rows("select * from segmentation.shards order by shard")] == [
        128,
        128,
    ]
    router.rows("select create_segment('A', 100)")
    assert router.segments_of(1) == router.segments_of(2) == ["A"]
