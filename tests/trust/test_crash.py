"""Killed, restarted, cut off: what was confirmed is there exactly once, and the service recovers by itself.

TRUST_ROUNDS=100 repeats every fault a hundred times.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest

from service.migrate import migrate
from tests.conftest import Database
from tests.expect import periods_never_overlap, replayed, slug_held, wait_until, waiting
from tests.http.conftest import Service
from tests.launcher import Server
from tests.trust.cluster import Cluster, Standby

ROUNDS = int(os.environ.get("TRUST_ROUNDS", "1"))
SLUGS = ["A", "B", "C"]
# Of one layer, to which users are assigned; and of one that rolls out to all known users.
MOVES = ["MOVE_A", "MOVE_B"]
SHARES = ["SHARE_A", "SHARE_B"]
USERS_OF_A_WRITER = 5
IMPORTED = 300
WRITERS = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A migrated cluster with fsync: what it has confirmed survives a crash."""
    cluster = Cluster(tmp_path_factory.mktemp("durable"))
    try:
        migrate(cluster.url)
        yield cluster
    finally:
        cluster.remove()


class Load:
    """Writers and a reader that go on through every fault, and remember what was confirmed to them."""

    def __init__(self, server: Server, database_url: str, key: str, admin_key: str) -> None:
        """Write with these keys."""
        self.server = server
        self.database_url = database_url
        self.headers = {"Authorization": f"Bearer {key}"}
        self.admin = {"Authorization": f"Bearer {admin_key}"}
        self.stopping = threading.Event()
        # Each change has a reason of its own, by which the number of segments it changed is found.
        self.confirmed: dict[str, int] = {}
        self.unconfirmed: set[str] = set()
        self.refused: list[httpx.Response] = []
        self.broken = 0
        self.answered = 0
        self.wrong: list[str] = []
        self.numbers = count()
        # Each round has users of its own: checking a history of all rounds would take longer each time.
        self.round = 0
        # Who follows the changes: from when on, what it was told, and where it goes on.
        self.followed_since = datetime.now(UTC)
        self.told: list[str] = []
        self.next = f"/v1/changes?from={self.followed_since.isoformat().replace('+00:00', 'Z')}"

    def send(self, client: httpx.Client, method: str, path: str, **kwargs: Any) -> httpx.Response | None:
        """Send once; None if no answer came."""
        try:
            response = client.request(method, path, **kwargs)
        except httpx.TransportError:
            self.broken += 1
            time.sleep(0.05)
            return None
        if response.is_success:
            self.answered += 1
            return response
        self.refused.append(response)
        time.sleep(0.02)
        return None

    def write(self, client: httpx.Client, path: str, whole: int, with_key: bool, **change: Any) -> bool:
        """Make one change; with an Idempotency-Key it is sent until it is confirmed."""
        reason = f"change-{next(self.numbers)}"
        headers: dict[str, str] = {"Idempotency-Key": reason} if with_key else {}
        self.unconfirmed.add(reason)
        while True:
            if "add" in change:
                response = self.send(
                    client, "PATCH", path, json={**change, "reason": reason}, headers=headers
                )
            else:
                response = self.send(
                    client,
                    "POST",
                    path,
                    params={**change["params"], "reason": reason},
                    content=change["content"],
                    headers={**headers, "Content-Type": "text/csv"},
                )
            if response is not None:
                break
            if not with_key or self.stopping.is_set():
                return False
        told = response.json()
        changed = told["changed"] if "changed" in told else len(told["added"] + told["removed"])
        if changed not in (0, whole) or (with_key and changed == 0):
            self.wrong.append(f"{reason}: {response.text}")
        self.confirmed[reason] = changed
        self.unconfirmed.discard(reason)
        return True

    def change_users(self, writer: int) -> None:
        """Put users into all segments and out again; every other writer with an Idempotency-Key."""
        first = 1_000_000 * self.round + writer * 100
        wanted = dict.fromkeys(range(first, first + USERS_OF_A_WRITER), True)
        with httpx.Client(base_url=self.server.url, headers=self.headers, timeout=30) as client:
            while not self.stopping.is_set():
                for user_id, is_in in wanted.items():
                    lists = {"add": SLUGS if is_in else [], "remove": [] if is_in else SLUGS}
                    path = f"/v1/users/{user_id}/segments"
                    if self.write(client, path, len(SLUGS), writer % 2 == 0, **lists):
                        wanted[user_id] = not is_in

    def change_many(self) -> None:
        """Import users into a segment and out of it."""
        lines = "".join(f"{user_id}\n" for user_id in self.imported()).encode()
        operation = "add"
        with httpx.Client(base_url=self.server.url, headers=self.headers, timeout=30) as client:
            while not self.stopping.is_set():
                params = {"operation": operation}
                path = "/v1/segments/MANY/members"
                if self.write(client, path, IMPORTED, False, params=params, content=lines):
                    operation = "remove" if operation == "add" else "add"

    def move(self) -> None:
        """Move users of a layer from one of its segments into the other; every other one with an Idempotency-Key."""
        held = dict.fromkeys(self.moved(), 0)
        with httpx.Client(base_url=self.server.url, headers=self.headers, timeout=30) as client:
            while not self.stopping.is_set():
                for user_id, place in held.items():
                    lists = {"add": [MOVES[1 - place]], "remove": [MOVES[place]]}
                    if self.write(client, f"/v1/users/{user_id}/segments", 2, user_id % 2 == 0, **lists):
                        held[user_id] = 1 - place

    def share(self) -> None:
        """Raise one segment of a layer by what another is lowered."""
        with httpx.Client(base_url=self.server.url, headers=self.admin, timeout=30) as client:
            for number in count():
                if self.stopping.is_set():
                    return
                lowered, raised = SHARES if number % 2 else SHARES[::-1]
                for slug, percent in ((lowered, 10), (raised, 90)):
                    while not self.send(
                        client, "PUT", f"/v1/segments/{slug}/rollout", json={"percent": percent}
                    ):
                        if self.stopping.is_set():
                            return

    def follow(self) -> None:
        """Ask for the changes, one stretch after the other."""
        with httpx.Client(base_url=self.server.url, headers=self.headers, timeout=30) as client:
            while not self.stopping.is_set():
                self.follow_once(client)

    def follow_once(self, client: httpx.Client) -> None:
        """Ask for the next stretch; again if no answer came, or one that was cut off."""
        try:
            response = client.get(self.next)
        except httpx.TransportError:
            time.sleep(0.05)
            return
        if response.is_success:
            self.told += response.text.splitlines()
            self.next = response.headers["link"].split(">")[0].removeprefix("<")
        else:
            self.refused.append(response)

    def read(self) -> None:
        """Ask."""
        with httpx.Client(base_url=self.server.url, headers=self.headers, timeout=30) as client:
            for number in count():
                if self.stopping.is_set():
                    return
                self.send(client, "GET", f"/v1/users/{number % 50 + 1}/segments")

    def imported(self) -> range:
        """The users of this round's imports."""
        return range(1_000_000 * self.round + 10_000, 1_000_000 * self.round + 10_000 + IMPORTED)

    def moved(self) -> range:
        """The users of this round that move within a layer."""
        return range(1_000_000 * self.round + 20_000, 1_000_000 * self.round + 20_010)

    def begin_round(self) -> None:
        """Users of its own, of whom some are in a layer."""
        self.round += 1
        db = Database(self.database_url)
        db.rows("select change_segment_members(%s, %s)", MOVES[0], list(self.moved()))
        db.connection.close()

    def during(self, seconds: float, fault: Callable[[], Any]) -> None:
        """Run for some seconds before a fault and as long after it."""
        self.stopping.clear()
        self.begin_round()
        with ThreadPoolExecutor(WRITERS + 5) as pool:
            running = [pool.submit(self.change_users, writer) for writer in range(1, WRITERS + 1)]
            running += [
                pool.submit(each)
                for each in (self.change_many, self.move, self.share, self.follow, self.read)
            ]
            try:
                time.sleep(seconds)
                fault()
                # Back again: all calls are served within moments, and nobody restarted the service.
                before, deadline = self.answered, time.monotonic() + 15
                while self.answered < before + 50 and time.monotonic() < deadline:
                    time.sleep(0.05)
                came_back = self.answered >= before + 50
                time.sleep(seconds)
            finally:
                self.stopping.set()
            for each in running:
                each.result(timeout=60)
        assert came_back, "the service did not come back"


@pytest.fixture(scope="module")
def load(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """A service under load on the cluster."""
    db = Database(cluster.url)
    for slug in (*SLUGS, "MANY"):
        db.rows("select create_segment(%s)", slug)
    for layer, slugs, percent in (("MOVES", MOVES, 0), ("SHARES", SHARES, 10)):
        db.rows("select create_layer(%s)", layer)
        for slug in slugs:
            db.rows("select create_segment(%s, %s, layer => %s)", slug, percent, layer)
    keys = [db.value("select create_api_key(%s, %s)", role, role) for role in ("editor", "admin")]
    db.connection.close()
    server = Server(cluster.url)
    try:
        yield Load(server, cluster.url, *keys)
    finally:
        server.kill()


def check(cluster: Cluster, load: Load) -> None:
    """Hold the database to what was confirmed."""
    with ExitStack() as opened:
        db = Database(cluster.url)
        opened.callback(db.connection.close)
        made: dict[str, int] = dict.fromkeys(load.confirmed, 0)
        for reason, number in db.rows(
            "select reason, count(*) from segmentation.overrides where included group by 1"
            " union all select end_reason, count(*) from segmentation.membership_history group by 1"
        ):
            made[reason] = made.get(reason, 0) + number
        made.pop(None, None)  # type: ignore[call-overload]
        assert load.wrong == []
        # Each confirmed change is there, exactly once.
        assert {reason: made[reason] for reason in load.confirmed} == load.confirmed
        # Each change that nobody confirmed is there as a whole, or not at all.
        others = {reason: number for reason, number in made.items() if reason not in load.confirmed}
        assert others.keys() <= load.unconfirmed
        assert set(others.values()) <= {0, len(MOVES), len(SLUGS), IMPORTED}
        periods_never_overlap(db)
        state = dict(
            db.rows(
                "select user_id, segments from users_segments(array(select user_id from segmentation.users))"
            )
        )
        assert set(load.moved()) <= state.keys()
        for user_id, segments in state.items():
            if user_id // 1_000_000 != load.round or (user_id in load.imported() and user_id % 50):
                continue
            algebra = db.column("select segment from user_segments(%s)", user_id)
            assert segments == algebra == replayed(db, user_id)
            assert len(set(segments) & set(SHARES)) <= 1
            by_hand = [slug for slug in segments if slug not in SHARES]
            if user_id in load.moved():
                assert len(by_hand) == 1 and by_hand[0] in MOVES, "no half move"
            else:
                assert by_hand in ([], SLUGS, ["MANY"]), "no half change"
        assert len({"MANY" in state.get(user_id, []) for user_id in load.imported()}) == 1
        shared = db.row(
            "select sum(segmentation.bucket_count(buckets))::int as held, segmentation.bucket_count(range_agg(buckets)) as apart"
            " from segmentation.rollouts where ends_at = 'infinity' and layer_id is not null"
        )
        assert shared.held == shared.apart
        followed_all(db, load)


def followed_all(db: Database, load: Load) -> None:
    """Who followed the changes got each once, as the reports have it."""
    now = db.value("select clock()")
    with httpx.Client(base_url=load.server.url, headers=load.headers, timeout=30) as client:
        deadline = time.monotonic() + 15
        while db.value("select %s::timestamptz", load.next.partition("from=")[2]) <= now:
            assert time.monotonic() < deadline
            load.follow_once(client)
    since, until = (
        moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for moment in (load.followed_since, now.astimezone(UTC))
    )
    reported = [
        ";".join(map(str, line))
        for month in sorted({since[:7], until[:7]})
        for line in db.rows("select * from history_report(%s)", month)
        if line.at >= since
    ]
    in_time = [line for line in load.told if line.rpartition(";")[2] <= until]
    assert len(in_time) > 100
    assert sorted(in_time) == sorted(line for line in reported if line.rpartition(";")[2] <= until)
    assert [line.rpartition(";")[2] for line in load.told] == sorted(
        line.rpartition(";")[2] for line in load.told
    )


def only_unavailable(load: Load) -> None:
    """Assert that no other error was seen, and forget these."""
    for response in load.refused:
        problem = response.json()
        # A request whose connection broke may still be running when it is sent again.
        expected = [(503, "database_unavailable"), (409, "in_progress")]
        assert (response.status_code, problem["code"]) in expected, response.text
        assert response.headers["retry-after"] == "1"
    load.refused.clear()


@pytest.mark.slow
@pytest.mark.parametrize("round_number", range(ROUNDS))
@pytest.mark.parametrize(
    "fault", ["server_killed", "postmaster_killed", "backend_killed", "restarted", "connections_cut"]
)
def test_what_was_confirmed_survives(cluster: Cluster, load: Load, fault: str, round_number: int) -> None:
    def server_killed() -> None:
        load.server.kill()
        load.server.start()

    def postmaster_killed() -> None:
        cluster.kill()
        time.sleep(0.3)
        cluster.start()

    def restarted() -> None:
        cluster.stop()
        time.sleep(0.3)
        cluster.start()

    def connections_cut() -> None:
        for _ in range(5):
            cluster.cut_connections()
            time.sleep(0.1)

    faults: dict[str, Callable[[], None]] = {
        "server_killed": server_killed,
        "postmaster_killed": postmaster_killed,
        "backend_killed": cluster.kill_one_backend,
        "restarted": restarted,
        "connections_cut": connections_cut,
    }
    confirmed, load.broken = len(load.confirmed), 0
    load.during(0.7, faults[fault])
    assert len(load.confirmed) > confirmed + 10
    # Only a server that is killed leaves a request without an answer.
    assert (load.broken > 0) is (fault == "server_killed")
    only_unavailable(load)
    check(cluster, load)
    print(f"{fault}: {len(load.confirmed) - confirmed} confirmed, {len(load.unconfirmed)} open")


@pytest.mark.slow
def test_a_prepared_transaction_is_waited_for_over_a_restart(cluster: Cluster) -> None:
    with ExitStack() as opened:
        db = Database(cluster.url)
        db.rows("select create_segment('PREPARED')")
        since = db.value("select settled_until()")
        db.rows("alter system set max_prepared_transactions = 2")
        for crash in (False, True):
            cluster.kill() if crash else cluster.stop()
            cluster.start()
            db = Database(cluster.url)
            opened.callback(db.connection.close)
            if not crash:
                db.rows("begin")
                db.rows("select change_user_segments(77, '{PREPARED}')")
                db.rows("prepare transaction 'change'")
                held = db.value("select settled_until()")
            assert db.value("select settled_until()") == held
            assert db.rows("select from membership_changes(%s) where segment = 'PREPARED'", since) == []
            # Others go on meanwhile.
            db.rows("select change_user_segments(78, '{PREPARED}')")
        first = db.rows("select * from membership_changes(%s, %s)", since, held)
        db.rows("commit prepared 'change'")
        wait_until(lambda: db.value("select settled_until() > clock() - interval '1 second'"))
        rest = db.rows("select * from membership_changes(%s)", held)
        told = [row.user_id for row in (*first, *rest) if row.segment == "PREPARED"]
        assert told == [77, 78]
        db.rows("alter system reset max_prepared_transactions")
    # A standby needs as many as its primary has.
    cluster.stop()
    cluster.start()


@pytest.mark.slow
def test_a_standby_answers_and_refuses_changes_until_later(cluster: Cluster, load: Load) -> None:
    db = Database(cluster.url)
    db.rows("select create_segment('EVERYBODY', 100)")
    # Whom they hold is another each time.
    for slug in SHARES:
        db.rows("select set_rollout(%s, 0)", slug)
    db.rows("select change_user_segments(1, '{A}')")
    key = db.value("select create_api_key('standby', 'admin')")
    db.connection.close()
    with ExitStack() as opened:
        standby = Standby(cluster)
        opened.callback(standby.remove)
        server = Server(standby.url)
        opened.callback(server.kill)
        client = opened.enter_context(
            httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=30)
        )
        is_read_only(client)
        primary = Database(cluster.url)
        opened.callback(primary.connection.close)
        link = follows_what_the_primary_told(primary, standby, cluster, client)
        # The primary is lost and the standby takes its place; no service is restarted.
        addresses = [url.rpartition("@")[2].partition("/")[0] for url in (cluster.url, standby.url)]
        both = cluster.url.replace(addresses[0], ",".join(addresses)) + "?target_session_attrs=primary"
        moving = Server(both)
        opened.callback(moving.kill)
        writer = opened.enter_context(
            httpx.Client(base_url=moving.url, headers={"Authorization": f"Bearer {key}"}, timeout=30)
        )
        assert writer.patch("/v1/users/2/segments", json={"add": ["A"]}).status_code == 200
        standby.has_all_of(cluster)
        # What is written meanwhile takes a moment to be replayed.
        wait_until(lambda: lag(client) == 0)
        replay = Database(standby.url)
        replay.rows("select pg_wal_replay_pause()")
        assert writer.patch("/v1/users/2/segments", json={"add": ["B"], "remove": ["A"]}).status_code == 200
        wait_until(lambda: lag(client) > 0)
        replay.rows("select pg_wal_replay_resume()")
        replay.connection.close()
        assert writer.patch("/v1/users/2/segments", json={"add": ["A"], "remove": ["B"]}).status_code == 200
        standby.has_all_of(cluster)
        cluster.kill()
        # Its connections break when they are used next.
        wait_until(lambda: writer.put("/v1/users/3").status_code != 204)
        for _ in range(3):
            response = writer.patch("/v1/users/2/segments", json={"add": ["B"]})
            assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            assert response.headers["retry-after"] == "1"
        standby.promote()
        for each in (writer, client):
            wait_until(lambda each=each: each.put("/v1/users/3").status_code == 204)  # type: ignore[misc]
            added = each.patch("/v1/users/2/segments", json={"add": ["B"]})
            assert added.status_code == 200
            assert each.get("/v1/users/2/segments").json()["segments"] == ["A", "B", "EVERYBODY"]
        # Now it tells by itself, from where it stopped.
        later: list[str] = []

        def told_all() -> bool:
            nonlocal link
            response = client.get(link)
            later.extend(line for line in response.text.splitlines() if line.startswith("2;B;"))
            link = response.headers["link"].split(">")[0].removeprefix("<")
            return len(later) >= 3

        wait_until(told_all)
        assert [line.split(";")[2] for line in later] == ["add", "remove", "add"]
    cluster.start()


def follows_what_the_primary_told(
    primary: Database, standby: Standby, cluster: Cluster, client: httpx.Client
) -> str:
    """On a standby changes are settled up to what the primary told last; the link from there on."""
    since = primary.value("select settled_until()")
    primary.rows("select change_user_segments(11, '{A}')")
    wait_until(lambda: primary.value("select settled_until() > max(since) from user_overrides(11)"))
    told = primary.value("select segmentation.told_until()")
    primary.rows("select change_user_segments(12, '{A}')")
    standby.has_all_of(cluster)
    here = Database(standby.url)
    assert here.value("select settled_until()") == told
    here.connection.close()
    path = f"/v1/changes?from={since.astimezone(UTC).isoformat().replace('+00:00', 'Z')}"
    for _ in range(2):
        response = client.get(path)
        assert [line.split(";")[0] for line in response.text.splitlines() if ";A;" in line] == ["11"]
    return response.headers["link"].split(">")[0].removeprefix("<")


def lag(client: httpx.Client) -> float:
    """How many seconds the standby is behind, as ready and the metrics say."""
    (metric,) = re.findall(
        r"^segmentation_standby_lag_seconds (\S+)", client.get("/metrics").text, re.MULTILINE
    )
    (part,) = (p for p in client.get("/health/ready").json()["parts"] if p["item"] == "behind the primary")
    assert part["ok"]
    assert float(part["value"].removesuffix(" s")) < 60
    return float(metric)


def is_read_only(client: httpx.Client) -> None:
    """Assert that every question is answered, and every change refused as read-only."""
    answers = [
        client.get("/v1/users/1/segments").json()["segments"],
        # Never seen before.
        client.get("/v1/users/987654321/segments").json()["segments"],
        client.post("/v1/users/segments", json={"user_ids": [987654322]}).json()["users"][0]["segments"],
    ]
    assert answers == [["A", "EVERYBODY"], ["EVERYBODY"], ["EVERYBODY"]]
    for path in (
        "/v1/users/1/history",
        "/v1/users/987654323/history",
        "/v1/users/1/segments/A",
        "/v1/users/987654324/segments/EVERYBODY",
        "/v1/users/987654325/segments?at=2099-01-01T00:00:00Z",
        "/v1/segments",
        "/v1/segments/A",
        "/v1/segments/A/stats",
        "/v1/segments/A/history",
        "/v1/segments/A/members",
    ):
        response = client.get(path)
        assert response.status_code == 200, (path, response.text)
    export = client.get("/v1/segments/A/members", headers={"Accept": "text/csv"})
    assert export.text.splitlines()[:2] == ["user_id", "1"]
    keyed = {"Idempotency-Key": "a"}
    for method, path, rest in (
        ("PATCH", "/v1/users/1/segments", {"json": {"add": ["B"]}}),
        ("PATCH", "/v1/users/1/segments", {"json": {"add": ["B"]}, "headers": keyed}),
        ("PUT", "/v1/users/987654326", {}),
        ("DELETE", "/v1/users/1", {}),
        ("POST", "/v1/segments", {"json": {"slug": "NEW"}}),
        ("DELETE", "/v1/segments/A", {}),
        ("PATCH", "/v1/segments/A", {"json": {"description": "x"}}),
        ("PUT", "/v1/segments/A/rollout", {"json": {"percent": 1}}),
        ("POST", "/v1/reports", {"json": {"period": time.strftime("%Y-%m", time.gmtime())}}),
        ("POST", "/v1/segments/A/members", {"content": b"5\n", "headers": {"Content-Type": "text/csv"}}),
    ):
        response = client.request(method, path, **rest)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (503, "read_only"), (method, path, response.text)
        assert response.headers["retry-after"] == "1"


def test_a_database_set_read_only_is_like_a_standby(
    run_server: Callable[..., Server], db: Database, database_url: str
) -> None:
    for slug, percent in (("EVERYBODY", 100), ("A", 0), ("B", 0)):
        db.rows("select create_segment(%s, %s)", slug, percent)
    db.rows("select change_user_segments(1, '{A}')")
    key = db.value("select create_api_key('standby', 'admin')")
    name = db.value("select current_database()")
    db.rows(f'alter database "{name}" set default_transaction_read_only = on')
    server = run_server()
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        is_read_only(client)


def test_a_full_pool_is_waited_for_only_so_long(serve: Callable[..., Service], db: Database) -> None:
    service = serve(editor_pool_size=1, bulk_pool_size=1, acquire_timeout=0.3, api_key_cache_seconds=60)
    editor = service.as_role("editor")
    db.rows("select create_segment('A')")
    csv = {"content": b"1\n", "headers": {"Content-Type": "text/csv"}}
    editor.send("POST", "/v1/segments/A/members", **csv)
    with ThreadPoolExecutor() as pool:
        with slug_held(db, "A"):
            held = [
                pool.submit(editor.send, "PATCH", "/v1/users/1/segments", json={"add": ["A"]}),
                pool.submit(editor.send, "POST", "/v1/segments/A/members", **csv),
            ]
            wait_until(lambda: waiting(db) >= 1)
            # A change that waits for a lock gives its connection back in between: others get theirs.
            editor.does_silently("PUT", "/v1/users/2")
            for method, path, rest in (
                ("POST", "/v1/segments/A/members", csv),
                ("GET", "/v1/segments/A/members", {"headers": {"Accept": "text/csv"}}),
            ):
                begun = time.monotonic()
                response = editor.send(method, path, **rest)
                assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
                assert response.headers["retry-after"] == "1"
                assert 0.2 < time.monotonic() - begun < 1.5
        assert [each.result().status_code for each in held] == [200, 200]
    editor.does_silently("PUT", "/v1/users/2")
