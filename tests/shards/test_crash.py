"""kill -9 of a shard or of the router under writes: nothing acknowledged is lost, nothing is half done or done twice."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import psycopg
import pytest

from tests.conftest import Database
from tests.expect import wait_until
from tests.shards.conftest import Shards

ROUNDS = int(os.environ.get("TRUST_ROUNDS", "1"))
EACH = 6


class Writers:
    """Sessions that add lists of users of both shards, each with users of its own, until they are stopped."""

    def __init__(self, url: str) -> None:
        """Write to this router."""
        self.url = url
        self.numbers = count(1)
        self.asked: set[int] = set()
        self.acknowledged: set[int] = set()
        self.stopped = threading.Event()

    def write(self) -> None:
        """Add list after list; one that fails is left, as nobody knows whether it is done."""
        while not self.stopped.is_set():
            try:
                with psycopg.connect(self.url, autocommit=True) as session:
                    while not self.stopped.is_set():
                        number = next(self.numbers)
                        self.asked.add(number)
                        session.execute("select segmentation.change_segment_members('A', %s)", [ids(number)])
                        self.acknowledged.add(number)
            except psycopg.Error:
                self.stopped.wait(0.05)


def ids(number: int) -> list[int]:
    """The users of a list."""
    return list(range(number * EACH, number * EACH + EACH))


@pytest.mark.parametrize("killed", ["s1", "router"])
@pytest.mark.parametrize("repetition", range(ROUNDS))
def test_a_list_that_was_acknowledged_is_there_and_any_other_is_whole_or_not_there(
    killed: str, repetition: int, shards: Shards, session: Callable[[str], Database]
) -> None:
    Database(shards.urls["router"]).rows("select segmentation.create_segment('A')")
    writers = Writers(shards.urls["router"])
    with ThreadPoolExecutor() as threads:
        running = [threads.submit(writers.write) for _ in range(3)]
        wait_until(lambda: len(writers.acknowledged) > 20, 30)
        shards.kill(killed)
        shards.start(killed)
        before = len(writers.acknowledged)
        wait_until(lambda: len(writers.acknowledged) > before + 20, 60)
        writers.stopped.set()
        for each in running:
            each.result()
    router = session("router")
    # The job does this each minute, for what is older than half a minute.
    router.rows("select * from settle('0')")
    for name in ("s0", "s1"):
        assert session(name).value("select count(*) from pg_prepared_xacts") == 0
    members = set(router.column("select user_id from segment_members('A')"))
    there = {number: len(members & set(ids(number))) for number in writers.asked}
    assert {number for number in writers.acknowledged if there[number] < EACH} == set(), "lost"
    assert {number for number, users in there.items() if users not in (0, EACH)} == set(), "half done"
    report = router.column("select user_id from history_report(to_char(now() at time zone 'UTC', 'YYYY-MM'))")
    assert len(report) == len(set(report)) == len(members), "done twice"
