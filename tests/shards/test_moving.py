"""Users move to other shards while all is in use: nobody is missed, nothing is lost, and no past changes."""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import psycopg
import pytest

from service.migrate import migrate
from service.migrate.move import Move, move, undo
from service.migrate.shards import ShardsError
from tests.conftest import Database
from tests.expect import wait_until
from tests.launcher import Server
from tests.shards.conftest import Shards, claimed, servers_in, users_of

STILL = list(range(1, 301))
CHANGED = list(range(301, 321))
LISTED = list(range(321, 381))
USERS = len(STILL) + len(CHANGED) + len(LISTED)
PAST = """
    select u, e.* from generate_series(1, 300) as u cross join lateral user_history(u) as e
    order by u, e.at, e.segment, e.operation
"""
OVERRIDES = """
    select u, o.* from generate_series(1, 300) as u cross join lateral user_overrides(u) as o order by 1, o.segment
"""
REPORT = """
    select l.user_id, l.segment, l.operation, l.at
    from history_report(to_char(now(), 'YYYY-MM')) as l where l.user_id <= 300
"""
EVENTS = {"add": "assigned", "remove": "removed"}
SUBSCRIPTIONS = "select count(*) from pg_subscription where subname ~ '_s2$|_move_'"
SHARDS = "select shard, count(*) from segmentation.slots group by shard order by shard"
QUEUED = """
    select exists (
      select from pg_locks where relation = 'segmentation.idempotency_keys'::regclass and not granted)
"""
CLAIMED = {
    "key": "bought-1",
    "change": "select segment, change from change_user_segments(1, '{BOUGHT}', actor => 'web')",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    """Three servers for this file, whose shards are others in the end."""
    with servers_in(tmp_path_factory.mktemp("moving")) as shards:
        yield shards


@pytest.fixture(scope="module")
def router(servers: Shards) -> Iterator[Database]:
    """A DBA's session on the router, with users who have a past."""
    router = Database(servers.urls["router"])
    chance = random.Random(1)
    for slug in ("A", "B", "C", "D", "ALL", "BOUGHT", "LISTED", "BUSY"):
        router.rows("select create_segment(%s, %s)", slug, 30 if slug in "AB" else 0)
    router.rows("select register_users(array(select generate_series(1, %s)))", USERS)
    router.rows("select set_rollout('B', 60)")
    router.rows("select change_segment_members('ALL', %s)", STILL)
    for number in range(15):
        users = chance.sample(STILL, 30)
        slug = chance.choice("ABCD")
        operation = chance.choice(["add", "add", "remove"])
        end = "now() + interval '1 hour'" if operation == "add" and number % 3 == 0 else "null"
        router.rows(
            f"select * from change_segment_members(%s, %s, %s, expires_at => {end})", slug, users, operation
        )
    yield router
    router.connection.close()


def new_shard(servers: Shards, server: str, name: str) -> str:
    """An empty database on one of the servers, migrated."""
    url = servers.urls[server].rpartition("/")[0] + f"/{name}"
    with psycopg.connect(servers.urls[server], autocommit=True) as opened:
        opened.execute(f"drop database if exists {name} with (force)".encode())
        opened.execute(f"create database {name} template template0".encode())
    migrate(url, kind="shard")
    return url


class Traffic:
    """Reads and writes over HTTP that go on until they are told to end; each must succeed."""

    def __init__(self, url: str, key: str) -> None:
        """Begin."""
        self.url, self.headers = url, {"Authorization": f"Bearer {key}"}
        self.ended = threading.Event()
        self.longest_write = 0.0
        self.reads = self.lists = 0
        self.done: dict[int, list[str]] = {user: [] for user in CHANGED}
        self.locks = {user: threading.Lock() for user in CHANGED}
        self.threads = ThreadPoolExecutor()
        work = (self._read, self._read, self._count, self._write, self._write, self._list)
        self.running = [self.threads.submit(self._repeat, each) for each in work]

    def _repeat(self, work: Callable[[httpx.Client, random.Random], None]) -> None:
        chance = random.Random(work.__name__)
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=20) as client:
            while not self.ended.is_set():
                work(client, chance)

    def _read(self, client: httpx.Client, chance: random.Random) -> None:
        user = chance.randint(1, USERS)
        for path in (f"/v1/users/{user}/segments", f"/v1/users/{user}/history"):
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
        answer = client.post("/v1/users/segments", json={"user_ids": chance.sample(STILL, 20)})
        assert answer.status_code == 200, answer.text
        self.reads += 3

    def _count(self, client: httpx.Client, chance: random.Random) -> None:
        """Each user is on one shard: never on none, never on two."""
        answer = client.get("/v1/segments/ALL/stats")
        assert (answer.status_code, answer.json()["assigned"]) == (200, len(STILL)), answer.text
        answer = client.get("/v1/segments/ALL/members", headers={"Accept": "text/csv"})
        assert answer.status_code == 200, answer.text
        assert list(map(int, answer.text.split()[1:])) == STILL
        self.reads += 1

    def _write(self, client: httpx.Client, chance: random.Random) -> None:
        user = chance.choice(CHANGED)
        with self.locks[user]:
            done = self.done[user]
            operation = "remove" if done and done[-1] == "add" else "add"
            began = time.monotonic()
            answer = client.patch(
                f"/v1/users/{user}/segments",
                json={operation: ["BUSY"]},
                headers={"Idempotency-Key": f"{user}-{len(done)}"},
            )
            self.longest_write = max(self.longest_write, time.monotonic() - began)
            assert answer.status_code == 200, answer.text
            assert answer.json()["added"] + answer.json()["removed"] == ["BUSY"], answer.text
            done.append(operation)

    def _list(self, client: httpx.Client, chance: random.Random) -> None:
        operation = "remove" if self.lists % 2 else "add"
        answer = client.post(
            f"/v1/segments/LISTED/members?operation={operation}",
            content="".join(f"{user}\n" for user in LISTED),
            headers={"Content-Type": "text/csv"},
        )
        assert (answer.status_code, answer.json().get("changed")) == (200, len(LISTED)), answer.text
        self.lists += 1

    def wait_for_all(self, users: set[int]) -> None:
        """Until each of these is changed once more."""
        before = {user: len(done) for user, done in self.done.items() if user in users}
        assert before
        wait_until(lambda: all(len(self.done[user]) > number for user, number in before.items()), 20)

    def end(self) -> None:
        """End, and fail if anything did."""
        self.ended.set()
        for each in self.running:
            each.result()
        self.threads.shutdown()


@pytest.fixture(scope="module")
def new(servers: Shards) -> dict[str, str]:
    """Databases of new shards, on servers that have others already."""
    places = {"s2": "s0", "s3": "s0", "s4": "router"}
    with ThreadPoolExecutor() as threads:
        urls = threads.map(lambda name: new_shard(servers, places[name], f"database_of_{name}"), places)
        return dict(zip(places, urls, strict=True))


def moved(servers: Shards, old: dict[str, str], new: dict[str, str]) -> float:
    """Move, and tell how many seconds writes waited."""
    told: list[str] = []
    move(servers.urls["router"], old, new, told.append)
    (waited,) = re.findall(r"writes waited ([\d.]+) s", " ".join(told))
    return float(waited)


def test_what_fails_is_taken_back(
    servers: Shards, router: Database, new: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [router.rows(query) for query in (PAST, OVERRIDES, SHARDS)]

    def fail(self: Move) -> None:
        """In the last moment: all is copied, and the old shard has prepared its part."""
        with psycopg.connect(servers.urls["s0"]) as old:
            assert old.execute("select count(*) from pg_prepared_xacts").fetchone() == (1,)
        raise RuntimeError("pulled")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="pulled"):
        patched.setattr(Move, "_open_targets", fail)
        moved(servers, {"s0": servers.urls["s0"]}, {"s2": new["s2"]})
    nothing_is_left(servers, new["s2"])
    assert [router.rows(query) for query in (PAST, OVERRIDES, SHARDS)] == before
    # One that is killed takes nothing back.
    old, to = {"s0": servers.urls["s0"]}, {"s2": new["s2"]}
    with ExitStack() as sessions:
        killed = Move(servers.urls["router"], old, to, print, sessions)
        killed.check()
        killed.fill()
        with pytest.raises(ShardsError, match="somebody migrates or moves"):
            undo(servers.urls["router"], old, to)
        killed.prepare("segmentation-move-1")
        settled = router.rows("select shard, gid, outcome from settle('0')")
        assert [tuple(row) for row in settled] == [("s0", "segmentation-move-1-s0", "rolled back")]
        assert router.rows("select * from change_user_segments(%s, '{D}')", users_of(router, "s0", 1000)[-1])
        killed.prepare("segmentation-move-2")
    undo(servers.urls["router"], old, to)
    nothing_is_left(servers, new["s2"])
    assert [router.rows(query) for query in (PAST, OVERRIDES, SHARDS)] == before
    # Writes and changes of the catalog go on as if nothing had been.
    router.rows("select set_rollout('C', 1)")
    router.rows("select set_rollout('C', 0)")
    assert router.rows("select * from change_user_segments(1, '{D}')")


def nothing_is_left(servers: Shards, new: str) -> None:
    """Neither on the old shard nor in the database that was to be a new one."""
    with psycopg.connect(servers.urls["s0"]) as old:
        for left in ("pg_prepared_xacts", "pg_replication_slots", "pg_publication"):
            assert old.execute(f"select count(*) from {left}".encode()).fetchone() == (0,), left
    with psycopg.connect(new) as empty:
        assert empty.execute("select count(*) from segmentation.users").fetchone() == (0,)
        assert empty.execute(SUBSCRIPTIONS).fetchone() == (0,)


def test_copying_that_fails_again_and_again_is_given_up(
    servers: Shards, router: Database, new: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = f"select segment from change_user_segments({users_of(router, 's0', 1)[0]}, '{{D}}')"
    claimed(router, key="taken", change=change)
    with psycopg.connect(new["s2"]) as taken:
        taken.execute(
            "insert into segmentation.idempotency_keys (api_key, idempotency_key, fingerprint, path, status, answer)"
            " values ('web', 'taken', sha256(''), '', 200, '')"
        )
    # A run that was killed may have left one.
    router.rows("select pg_create_logical_replication_slot('segmentation_s2', 'pgoutput')")
    monkeypatch.setattr("service.migrate.move.MAX_ERRORS", 1)
    with pytest.raises(ShardsError, match="copying fails again and again"):
        moved(servers, {"s0": servers.urls["s0"]}, {"s2": new["s2"]})
    nothing_is_left(servers, new["s2"])
    monkeypatch.setattr("service.migrate.move.MINUTES", 0)
    monkeypatch.setattr("service.migrate.move.COPIED", "select 1")
    monkeypatch.setattr("service.migrate.move.CONFIRMED", "select 1")
    with pytest.raises(ShardsError, match="nothing was copied"):
        moved(servers, {"s0": servers.urls["s0"]}, {"s2": new["s2"]})
    nothing_is_left(servers, new["s2"])


def test_what_cannot_be_meant_is_refused(servers: Shards, router: Database, new: dict[str, str]) -> None:
    for old, to, why in (
        ({"s9": servers.urls["s0"]}, {"s2": new["s2"]}, "the router has no shard s9"),
        ({"s0": servers.urls["s1"]}, {"s2": new["s2"]}, "the database given for s0 is another one"),
        ({"s0": servers.urls["s0"]}, {"s1": new["s2"]}, "s1 has users already"),
        ({"s0": servers.urls["s0"]}, {"s2": servers.urls["s1"]}, "there are users in the database of s2"),
        ({"s0": servers.urls["s0"]}, {"s2": servers.urls["router"]}, "is no shard"),
    ):
        with pytest.raises(ShardsError, match=why):
            move(servers.urls["router"], old, to)
    live = {name: servers.urls[name] for name in ("s0", "s1")}
    for to, why in (
        ({"s1": live["s1"]}, "not the shards of one move"),
        ({"s2": live["s1"]}, "are of no move"),
    ):
        with pytest.raises(ShardsError, match=why):
            undo(servers.urls["router"], {"s0": live["s0"]}, to)
    assert [tuple(row) for row in router.rows(SHARDS)] == [("s0", 128), ("s1", 128)]


def test_users_move_to_other_shards_while_all_is_in_use(
    servers: Shards, router: Database, new: dict[str, str], run_server: Callable[..., Server]
) -> None:
    assert claimed(router, **CLAIMED) == [("BOUGHT", "added")]
    before = [router.rows(query) for query in (PAST, OVERRIDES, REPORT)]
    server = run_server(DATABASE_URL=servers.urls["router"])
    traffic = Traffic(server.url, router.value("select create_api_key('traffic', 'admin')"))
    try:
        wait_until(lambda: traffic.lists > 1)
        with ThreadPoolExecutor() as threads, psycopg.connect(servers.urls["s0"], autocommit=True) as dump:
            # As pg_dump does: whoever asks for more queues behind it, and all others behind that one.
            with dump.transaction():
                dump.execute("lock table segmentation.idempotency_keys in access share mode")
                new_shards = {name: new[name] for name in ("s2", "s3")}
                moving = threads.submit(moved, servers, {"s0": servers.urls["s0"]}, new_shards)
                wait_until(lambda: dump.execute(QUEUED).fetchone() == (True,), 30)
                traffic.wait_for_all(set(users_of(router, "s0", 1000)))
            to_two = moving.result()
        assert [tuple(row) for row in router.rows(SHARDS)] == [("s1", 128), ("s2", 64), ("s3", 64)]
        seen = traffic.lists
        wait_until(lambda: traffic.lists > seen + 1)
        # And two into one.
        to_one = moved(servers, {name: new[name] for name in ("s2", "s3")}, {"s4": new["s4"]})
        assert [tuple(row) for row in router.rows(SHARDS)] == [("s1", 128), ("s4", 128)]
        seen = traffic.lists
        wait_until(lambda: traffic.lists > seen + 1)
    finally:
        traffic.end()
    assert max(to_two, to_one) < 1
    assert traffic.longest_write < 3
    assert [router.rows(query) for query in (PAST, OVERRIDES, REPORT)] == before
    # What was answered was done once, and nothing else was done.
    for user, done in traffic.done.items():
        events = [event for event in router.events_of(user) if event[0] == "BUSY"]
        assert events == [("BUSY", each, EVENTS[each]) for each in done]
    for user in LISTED:
        assert sum(event[0] == "LISTED" for event in router.events_of(user)) == traffic.lists
    # The old shard had kept an answer.
    assert claimed(router, **CLAIMED) == [("BOUGHT", "added")]
    # Nobody is to write to it any more.
    with psycopg.connect(servers.urls["s0"]) as old, pytest.raises(psycopg.errors.LockNotAvailable):
        old.execute("select segmentation.change_user_segments(1, '{A}')")
