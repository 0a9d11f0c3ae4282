"""A database that is given for a shard and is not it is refused in a sentence, and the router stays as it was."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest

from service.migrate import migrate
from service.migrate.shards import (
    ShardsError,
    add_shards,
    connect,
    hold_slots,
    leave,
    of_slots,
    slot_expression,
)
from tests.conftest import Database
from tests.launcher import ROOT
from tests.shards.conftest import CATALOG, Shards, users_of

STATE = """
    select srvname::text as what, srvoptions::text as said from pg_foreign_server
    union all
    select slot_name::text, active::text from pg_replication_slots
    union all
    select name, setting from pg_settings where name = 'synchronous_standby_names'
    order by 1, 2
"""
DISABLED = "create subscription {} connection '' publication none with (connect = false, slot_name = none)"


@pytest.fixture
def new_database(shards: Shards) -> Iterator[Callable[[str], str]]:
    """Make an empty shard on the server of s0."""
    made: list[str] = []

    def make(name: str) -> str:
        with psycopg.connect(shards.urls["s0"], autocommit=True) as opened:
            opened.execute(f"drop database if exists {name} with (force)".encode())
            opened.execute(f"create database {name} template template0".encode())
        made.append(name)
        url = shards.urls["s0"].rpartition("/")[0] + f"/{name}"
        migrate(url, kind="shard")
        return url

    yield make
    for name in made:
        url = shards.urls["s0"].rpartition("/")[0] + f"/{name}"
        with psycopg.connect(url, autocommit=True) as opened:
            for (subscription,) in opened.execute(
                "select subname from pg_subscription as s join pg_database as d on d.oid = s.subdbid"
                " where d.datname = current_database()"
            ).fetchall():
                opened.execute(f"alter subscription {subscription} disable".encode())
                opened.execute(f"alter subscription {subscription} set (slot_name = none)".encode())
                opened.execute(f"drop subscription {subscription}".encode())
        with psycopg.connect(shards.urls["s0"], autocommit=True) as opened:
            opened.execute(f"drop database {name} with (force)".encode())


def as_restored(shards: Shards, url: str, name: str) -> None:
    """Let a database be what a restored dump of a shard is."""
    with connect(shards.urls["router"], "router") as router, connect(url, "shard") as copy:
        slots = router.execute(
            "select string_agg((shard = %s)::int::text, '' order by slot) from segmentation.slots", [name]
        ).fetchone()
        assert slots
        hold_slots(copy, of_slots(slots[0], slot_expression(router)))
        copy.execute(DISABLED.format(f"segmentation_{name}").encode())


def test_a_database_that_is_not_the_shard_is_refused_and_nothing_changes(
    shards: Shards, router: Database, new_database: Callable[[str], str]
) -> None:
    empty, copy, old = (new_database(name) for name in ("empty", "copy", "old"))
    as_restored(shards, copy, "s1")
    with psycopg.connect(old) as opened:
        opened.execute("select segmentation.register_users(array[1::bigint])")
    router.rows("select create_segment('A')")
    before = router.rows(STATE)
    for name, url, why in (
        ("s1", empty, "holds no slots"),
        ("s1", shards.urls["s0"], "holds other slots"),
        ("s1", copy, "its subscription is disabled"),
        ("s1", shards.urls["router"], "is no shard"),
        ("s1", shards.urls["s1"].rpartition("/")[0] + "/postgres", "is no shard"),
        ("s1", "postgresql://127.0.0.1:1/nowhere", "does not answer"),
        # As the command of the deploy before a move says.
        ("s9", old, "has users"),
    ):
        with pytest.raises(ShardsError, match=why):
            add_shards(shards.urls["router"], {"s0": shards.urls["s0"], name: url})
        assert router.rows(STATE) == before, why
    user = users_of(router, "s1", 1)
    router.rows("select change_segment_members('A', %s)", user)
    assert router.column("select segments from users_segments(%s)", user) == [["A"]]


def test_a_copy_that_does_not_get_the_catalog_is_not_called(
    shards: Shards, router: Database, new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a copy of the files is: only one of the two can follow."""
    copy = new_database("copy")
    as_restored(shards, copy, "s1")
    with psycopg.connect(copy, autocommit=True) as opened:
        opened.execute("alter subscription segmentation_s1 set (slot_name = segmentation_s1)")
        opened.execute("alter subscription segmentation_s1 enable")
    before = router.rows(STATE)
    monkeypatch.setattr("service.migrate.shards.ARRIVES_WITHIN", 2)
    with pytest.raises(ShardsError):
        add_shards(shards.urls["router"], {"s1": copy})
    assert router.rows(STATE) == before
    with psycopg.connect(copy, autocommit=True) as opened:
        opened.execute("alter subscription segmentation_s1 disable")
    shards.wait_for_catalog()


def test_a_new_shard_may_share_its_name_with_one_of_another_database_of_its_server(
    shards: Shards, router: Database, new_database: Callable[[str], str]
) -> None:
    others, new = new_database("others"), new_database("new")
    with psycopg.connect(others, autocommit=True) as opened:
        opened.execute(DISABLED.format("segmentation_s9").encode())
    before = router.rows(STATE)
    add_shards(shards.urls["router"], {"s9": new})
    with connect(shards.urls["router"], "router") as opened, connect(new, "shard") as shard:
        leave(opened, shard, "s9")
    assert router.rows(STATE) == before


def test_the_command_tells_in_a_sentence_why_it_failed(
    shards: Shards, new_database: Callable[[str], str]
) -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "service.migrate",
            "--kind",
            "router",
            "--shard",
            f"s1={new_database('empty')}",
        ],
        env={"DATABASE_URL": shards.urls["router"]},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert told.stderr.startswith("error: the database given for shard s1 (empty on port "), told.stderr
    assert told.stderr.count("\n") == 1


def test_a_router_of_before_gets_its_cluster_for_reads(shards: Shards, router: Database) -> None:
    options = """
        select o, m.umoptions from pg_foreign_server as s cross join unnest(s.srvoptions) as o
        join pg_user_mappings as m on m.srvname = s.srvname
        where s.srvname = 'segmentation_reads' order by 1
    """
    before = router.rows(options)
    assert len(before) > 256
    step = ROOT / "migrations" / "router" / "router_0004_cluster_for_reads.sql"
    for text in (step.with_suffix(".rollback.sql").read_text(), step.read_text()):
        router.rows(text)
    assert router.rows(options) == before


def test_a_shard_or_router_that_was_restored_is_named_until_the_catalog_is_copied(
    shards: Shards, session: Callable[[str], Database], router: Database
) -> None:
    """What a backup lacks is taken away here."""

    def said() -> list[str]:
        rows = router.rows("select * from service_status()")
        return [row.value for row in rows if row.item == "shard s1: catalog"]

    shard = session("s1")
    for by, told in ((-2, "2 changes behind"), (5, "out of step")):
        router.rows("select create_segment('LOST', 100)")
        assert said() == []
        shard.rows("begin")
        shard.rows("set local session_replication_role = replica")
        shard.rows("delete from segmentation.segments where slug = 'LOST'")
        shard.rows(
            "update segmentation.catalog_version"
            " set version = version + %s, after = change, change = gen_random_uuid()",
            by,
        )
        shard.rows("commit")
        assert said() == [told]
        # Soon the numbers are the same again.
        router.rows("select create_segment('LATER')")
        shards.wait_for_catalog()
        assert said() == ["out of step"]
        add_shards(shards.urls["router"], {"s1": shards.urls["s1"]}, copy_catalog=True)
        assert said() == []
        assert shard.rows(CATALOG) == router.rows(CATALOG)
        router.rows("select delete_segment('LOST')")
        router.rows("select delete_segment('LATER')")
        assert shard.rows(CATALOG) == router.rows(CATALOG)
        assert said() == []
