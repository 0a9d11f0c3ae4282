"""A shard that is away concerns its own users and nobody else; what is about all users is refused as a whole."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from tests.conftest import Database
from tests.expect import refuses, wait_until
from tests.launcher import Server
from tests.shards.conftest import Shards, users_of

# The last is for reads that are caught: they end five seconds later.
SETTINGS = {"SHARED_READS": "1", "STATEMENT_TIMEOUT": "5"}
CAUGHT = """
    select count(*) from pg_stat_activity where state = 'active' and query ~ 'http_user_segments_each' and pid <> pg_backend_pid()
"""


@pytest.fixture
def http(shards: Shards, router: Database, run_server: Callable[..., Server]) -> Iterator[httpx.Client]:
    """A client of a service on the router, with an admin's key."""
    server = run_server(DATABASE_URL=shards.urls["router"], **SETTINGS)
    key = router.value("select create_api_key('admin-of-shards', 'admin')")
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
        yield client


def test_a_shard_that_is_away_concerns_its_own_users_only(
    shards: Shards, router: Database, http: httpx.Client
) -> None:
    there, away = users_of(router, "s0"), users_of(router, "s1")
    router.rows("select create_segment('A', 100)")
    router.rows("select * from users_segments(%s)", there + away)
    with shards.away("s1"):
        for user in there:
            assert http.get(f"/v1/users/{user}/segments").json()["segments"] == ["A"]
            assert http.get(f"/v1/users/{user}/history").status_code == 200
            assert http.patch(f"/v1/users/{user}/segments", json={"remove": ["A"]}).json()["removed"] == ["A"]
        for user in away:
            for answer in (
                http.get(f"/v1/users/{user}/segments"),
                http.get(f"/v1/users/{user}/history"),
                http.patch(f"/v1/users/{user}/segments", json={"remove": ["A"]}),
            ):
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), (
                    answer.text
                )
                assert answer.headers["retry-after"] == "1"
        for path in (
            "/v1/segments/A/stats",
            "/v1/segments/A/members",
            "/v1/segments/A/growth?step=P1D",
            "/v1/ending-soon?within=P1D",
        ):
            assert http.get(path).status_code == 503, path
        assert http.post("/v1/users/segments", json={"user_ids": there + away}).status_code == 503
        assert http.post("/v1/users/segments", json={"user_ids": there}).status_code == 200
        # Segments go on, and the shard follows when it is back.
        assert http.put("/v1/segments/A/rollout", json={"percent": 0}).status_code == 200
    assert http.get(f"/v1/users/{away[0]}/segments").json()["segments"] == []


def test_nobody_waits_for_a_shard_that_is_known_to_be_away(shards: Shards, router: Database) -> None:
    there, away = users_of(router, "s0", 1), users_of(router, "s1", 1)
    known = "select segmentation.shards_known_to_be_away()"
    read = "select cardinality(array_remove(http_user_segments_each(%s), null))"
    with shards.away("s1"):
        assert router.value(read, there) == 1
        assert router.value(known) == []
        assert router.value(read, there + away) == 1
        assert router.value(known) == ["s1"]
    assert router.value(known) == []
    assert router.value(read, there + away) == 2
    # One that is known to be away is not even asked.
    router.rows("insert into segmentation.shards_away values ('s1')")
    assert router.value(read, there + away) == 1
    for call in ("user_history(%s)", "change_user_segments(%s, '{A}')", "forget_user(%s)"):
        with refuses(psycopg.errors.ConnectionFailure):
            router.rows(f"select {call}", away[0])
    router.rows("select user_history(%s)", there[0])
    router.rows("select * from service_metrics()")
    assert router.value(known) == []


def test_health_is_degraded_and_names_the_shard(shards: Shards, router: Database, http: httpx.Client) -> None:
    router.rows("call sweep()")
    for name in ("s0", "s1"):
        Database(shards.urls[name]).rows("call sweep()")
    ready = http.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready"), ready.text
    with shards.away("s1"):
        degraded = http.get("/health/ready")
        assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded"), degraded.text
        wrong = [part for part in degraded.json()["parts"] if not part["ok"]]
        assert [(part["item"], part["value"]) for part in wrong] == [("shard s1", "does not answer")]
        assert "segmentation_shards_away 1.0" in http.get("/metrics").text
        # A service that starts now serves the others.
        Server(shards.urls["router"]).kill()
    assert http.get("/health/ready").json()["status"] == "ready"


def test_a_shard_that_is_frozen_is_named_and_then_holds_up_nobody(
    shards: Shards, router: Database, http: httpx.Client
) -> None:
    if router.value("show server_version_num")[:2] > "15":
        pytest.skip("dblink knows no connect_timeout any more")
    there, away = users_of(router, "s0"), users_of(router, "s1")
    router.rows("call sweep()")
    router.rows("select create_segment('A', 100)")
    for user in there + away:
        assert http.get(f"/v1/users/{user}/segments").json()["segments"] == ["A"]
    with ThreadPoolExecutor() as threads, shards.frozen("s1"):
        caught = threads.submit(http.get, f"/v1/users/{away[0]}/segments")
        wait_until(lambda: router.value(CAUGHT) == 1)
        began = time.monotonic()
        degraded = http.get("/health/ready")
        assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded"), degraded.text
        assert "segmentation_shards_away 1.0" in http.get("/metrics").text
        assert caught.result().status_code == 503, caught.result().text
        assert time.monotonic() - began < 15
        began = time.monotonic()
        for user in there:
            assert http.get(f"/v1/users/{user}/segments").json()["segments"] == ["A"]
            assert http.patch(f"/v1/users/{user}/segments", json={"remove": ["A"]}).json()["removed"] == ["A"]
        for user in away:
            assert http.get(f"/v1/users/{user}/segments").status_code == 503
            assert http.get(f"/v1/users/{user}/history").status_code == 503
        assert http.put("/v1/segments/A/rollout", json={"percent": 0}).status_code == 200
        assert time.monotonic() - began < 2
    shards.wait_for_catalog()
    router.rows("select * from segmentation.service_status()")
    assert http.get(f"/v1/users/{away[0]}/segments").json()["segments"] == []


def test_a_shard_that_is_late_does_not_hold_up_reads_of_the_others(
    shards: Shards, router: Database, http: httpx.Client
) -> None:
    """Its tables are locked, say: it takes calls, and does not answer."""
    there, away = users_of(router, "s0"), users_of(router, "s1")
    router.rows("call sweep()")
    router.rows("select create_segment('A', 100)")
    for user in there + away:
        assert http.get(f"/v1/users/{user}/segments").json()["segments"] == ["A"]
    with ThreadPoolExecutor() as threads, psycopg.connect(shards.urls["s1"]) as locking:
        locking.execute("lock table segmentation.users, segmentation.memberships in access exclusive mode")
        began = time.monotonic()
        caught = [threads.submit(http.get, f"/v1/users/{user}/segments") for user in there + away]
        assert [each.result().status_code for each in caught] == [200] * 3 + [503] * 3
        assert time.monotonic() - began < 4
        for look in (False, True):
            began = time.monotonic()
            if look:
                degraded = http.get("/health/ready")
                assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded"), degraded.text
                wrong = [part for part in degraded.json()["parts"] if not part["ok"]]
                assert ("shard s1", "does not answer") in [(part["item"], part["value"]) for part in wrong]
                assert time.monotonic() - began < 4
            began = time.monotonic()
            for user in there:
                assert http.get(f"/v1/users/{user}/segments").json()["segments"] == ["A"]
            for user in away:
                assert http.get(f"/v1/users/{user}/segments").status_code == 503
            assert time.monotonic() - began < 1
    assert http.get("/health/ready").json()["status"] == "ready"
    for user in away:
        assert http.get(f"/v1/users/{user}/segments").json()["segments"] == ["A"]


def test_upkeep_leaves_out_a_shard_that_is_away(shards: Shards, router: Database) -> None:
    with shards.away("s1"):
        router.rows("select expire_memberships()")
        router.rows("select ensure_history_partitions()")
        router.rows("call sweep()")
        with pytest.raises(psycopg.errors.ConnectionFailure):
            router.rows("select drop_history_before('2020-01')")


def test_nobody_is_told_of_what_some_shards_have_dropped_and_others_have_not(
    shards: Shards, router: Database
) -> None:
    router.rows("select create_segment('A')")
    with shards.away("s1"), pytest.raises(psycopg.errors.ConnectionFailure):
        router.rows("select drop_history_before('2026-10')")
    for call in (
        "history_report('2026-08')",
        "create_report_link('2026-08')",
        "membership_changes('2026-08-01Z')",
        "segment_growth('A', '2026-08-01Z')",
        "segment_members('A', '2026-08-01Z')",
        "segment_periods('A', '2026-08-01Z', '2026-09-01Z')",
    ):
        with refuses(psycopg.errors.InvalidParameterValue):
            router.rows(f"select {call}")
    for period in ("2026-09", "2026-10"):
        with router.connection.transaction():
            router.rows("select drop_history_before(%s)", period)
            router.rows("select drop_history_before(%s)", period)
