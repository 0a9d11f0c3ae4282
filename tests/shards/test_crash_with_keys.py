"""Shards and the router are killed under writes with a key: what was answered is done once, and nothing is left prepared.

TRUST_ROUNDS=20 does it twenty times.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.conftest import Database
from tests.expect import wait_until
from tests.launcher import Server
from tests.shards.conftest import Shards, users_of

ROUNDS = int(os.environ.get("TRUST_ROUNDS", "2"))
WRITERS = 3
EVENTS = {"add": "assigned", "remove": "removed"}


class Writers:
    """Users are changed one by one, and by lists; each change is sent with a key until it is answered."""

    def __init__(self, server: Server, key: str, users: list[int], listed: list[int]) -> None:
        """Begin."""
        self.server = server
        self.headers = {"Authorization": f"Bearer {key}"}
        self.ended = threading.Event()
        self.done: dict[int, list[str]] = {user: [] for user in users}
        self.listed = listed
        self.lists = 0
        self.refused: set[tuple[int, str]] = set()
        threads = ThreadPoolExecutor(WRITERS + 1)
        self.running = [threads.submit(self._change, users[n::WRITERS]) for n in range(WRITERS)]
        self.running.append(threads.submit(self._list))
        threads.shutdown(wait=False)

    def changes(self) -> int:
        """How many single ones were answered."""
        return sum(map(len, self.done.values()))

    def end(self) -> None:
        """Go on until what was begun is answered, and fail if anything else came."""
        self.ended.set()
        for each in self.running:
            each.result()

    def _change(self, users: list[int]) -> None:
        with httpx.Client(base_url=self.server.url, headers=self.headers, timeout=30) as client:
            while not self.ended.is_set():
                for user in users:
                    done = self.done[user]
                    operation = "remove" if done[-1:] == ["add"] else "add"
                    told = self._send(
                        client,
                        "PATCH",
                        f"/v1/users/{user}/segments",
                        f"{user}-{len(done)}",
                        json={operation: ["A"]},
                    )
                    assert told["added"] + told["removed"] == ["A"], told
                    done.append(operation)

    def _list(self) -> None:
        lines = "".join(f"{user}\n" for user in self.listed)
        with httpx.Client(base_url=self.server.url, headers=self.headers, timeout=30) as client:
            while not self.ended.is_set():
                operation = "remove" if self.lists % 2 else "add"
                told = self._send(
                    client,
                    "POST",
                    f"/v1/segments/B/members?operation={operation}",
                    f"list-{self.lists}",
                    content=lines,
                )
                assert told["changed"] == len(self.listed), told
                self.lists += 1

    def _send(self, client: httpx.Client, method: str, path: str, key: str, **body: Any) -> dict[str, Any]:
        headers = {"Idempotency-Key": key} | ({"Content-Type": "text/csv"} if "content" in body else {})
        while True:
            try:
                answer = client.request(method, path, headers=headers, **body)
            except httpx.TransportError:
                continue
            if answer.is_success:
                return dict(answer.json())
            self.refused.add((answer.status_code, answer.json()["code"]))
            time.sleep(0.05)


def test_what_was_answered_is_done_once_whoever_is_killed(
    shards: Shards, router: Database, run_server: Callable[..., Server]
) -> None:
    router.rows("select create_segment('A')")
    router.rows("select create_segment('B')")
    users = users_of(router, "s0", 9) + users_of(router, "s1", 9)
    listed = [user for shard in ("s0", "s1") for user in users_of(router, shard, 60)[10:]]
    key = router.value("select create_api_key('writer', 'editor')")
    writers = Writers(run_server(DATABASE_URL=shards.urls["router"]), key, users, listed)
    try:
        for number in range(ROUNDS):
            killed = ("s0", "router", "s1")[number % 3]
            go_on(writers)
            time.sleep(0.05 * (number % 7))
            shards.kill(killed)
            shards.start(killed)
            settle(shards)
            go_on(writers)
    finally:
        writers.end()
    settle(shards)
    assert writers.refused <= {(503, "database_unavailable"), (503, "busy"), (409, "in_progress")}
    router = Database(shards.urls["router"])
    for user, done in writers.done.items():
        assert router.events_of(user) == [("A", each, EVENTS[each]) for each in done]
    expected = [("B", each, EVENTS[each]) for each in ("add", "remove") * writers.lists][: writers.lists]
    for user in listed:
        assert router.events_of(user) == expected
    router.connection.close()


def go_on(writers: Writers) -> None:
    """Until some more are answered."""
    changes, lists = writers.changes(), writers.lists
    wait_until(lambda: writers.changes() > changes + 20 and writers.lists > lists + 1, 60)


def settle(shards: Shards) -> None:
    """Until nothing that was prepared before this is left, as the job of pg_cron does in a minute or two."""
    router = Database(shards.urls["router"])
    for each in ("s0", "s1"):
        shard = Database(shards.urls[each])
        gids = shard.column("select gid from pg_prepared_xacts")
        while True:
            router.rows("select * from settle('1 second')")
            if not shard.column("select gid from pg_prepared_xacts where gid = any (%s)", gids):
                break
            time.sleep(0.2)
        shard.connection.close()
    router.connection.close()
