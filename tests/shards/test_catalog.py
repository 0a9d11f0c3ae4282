"""Segments, rollouts and layers are changed on the router, and are the same on every shard when that is answered."""

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from tests.conftest import Database
from tests.expect import wait_until
from tests.shards.conftest import CATALOG, Shards


def test_the_catalog_is_the_same_on_all(session: Callable[[str], Database], router: Database) -> None:
    router.rows("select create_layer('L')")
    router.rows("select create_segment('A', 20, layer => 'L')")
    router.rows("select create_segment('B', 50, 'said', layer => 'L')")
    router.rows("select create_segment('C', 33.3)")
    router.rows("select set_rollout('B', 30)")
    router.rows("select set_rollout('C', 60, now() + interval '1 day')")
    router.rows("select update_segment('C', 'more')")
    router.rows("select delete_segment('A')")
    assert len(router.rows(CATALOG)) > 12
    for name in ("s0", "s1"):
        assert session(name).rows(CATALOG) == router.rows(CATALOG)


def test_no_read_after_the_answer_is_stale(router: Database) -> None:
    router.rows("select create_segment('A')")
    for percent in (100, 0) * 20:
        router.rows("select set_rollout('A', %s)", percent)
        wanted = ["A"] if percent else []
        assert (
            router.column("select segments from users_segments(array(select generate_series(1, 20)))")
            == [wanted] * 20
        )


def test_a_shard_that_does_not_have_the_catalog_yet_is_named_and_holds_up_what_is_settled(
    shards: Shards, session: Callable[[str], Database], router: Database
) -> None:
    router.rows("select create_segment('A')")
    shard = session("s1")
    shard.rows("alter subscription segmentation_s1 disable")
    try:
        slot = "select active from pg_replication_slots where slot_name = 'segmentation_s1'"
        wait_until(lambda: not router.value(slot))
        settled = router.value("select settled_until()")
        router.rows("select set_rollout('A', 100)")
        assert router.value("select settled_until()") == settled
        behind = [
            row for row in router.rows("select * from service_status()") if row.item == "shard s1: catalog"
        ]
        assert [row.value for row in behind] == ["1 changes behind"]
    finally:
        shard.rows("alter subscription segmentation_s1 enable")
        shards.wait_for_catalog()
    wait_until(lambda: router.value("select settled_until()") > settled)


def test_each_change_of_the_catalog_is_counted_once(router: Database) -> None:
    version = "select version from segmentation.catalog_version"
    before = router.value(version)
    router.rows("select create_segment('A', 10)")
    assert router.value(version) == before + 1
    router.rows("select change_user_segments(1, '{A}')")
    router.rows("call sweep()")
    assert router.value(version) == before + 1
    router.rows("select delete_segment('A')")
    assert router.value(version) == before + 2


@pytest.mark.parametrize("dies", [False, True])
def test_a_change_waits_for_a_late_shard_for_three_seconds(
    dies: bool, shards: Shards, session: Callable[[str], Database], router: Database
) -> None:
    router.rows("select create_segment('A')")
    # Else the limit of the service ends it.
    router.rows("set statement_timeout = '60s'")
    settled = router.value("select settled_until()")
    told: list[str] = []
    router.connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    # Not in a with: there is no server to say good-bye to.
    locking = psycopg.connect(shards.urls["s1"])
    locking.execute("lock table segmentation.rollouts in share mode")
    dying = threading.Timer(1, shards.kill, ["s1"])
    if dies:
        dying.start()
    began = time.monotonic()
    router.rows("select set_rollout('A', 100)")
    waited = time.monotonic() - began
    router.rows("select set_rollout('A', 99)")
    wrong = [row.item for row in router.rows("select * from service_status()") if not row.ok]
    locking.close()
    assert "canceling wait for synchronous replication" in " ".join(told)
    assert 3 < waited < 6
    assert any(item.startswith("shard s1") for item in wrong)
    if dies:
        dying.join()
        shards.start("s1")
    shards.wait_for_catalog()
    # As whoever looks after the shards does, every few seconds.
    router.rows("select * from service_status()")
    assert router.value("select settled_until()") > settled
    assert session("s1").value("select percent from get_segment('A')") == 99
