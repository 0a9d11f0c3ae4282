"""The service while PostgreSQL is stopped: alive, not ready, and ready again by itself."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from service.migrate import migrate
from tests.launcher import Server
from tests.trust.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A migrated cluster that is swept."""
    cluster = Cluster(tmp_path / "cluster")
    try:
        migrate(cluster.url)
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            connection.execute("call segmentation.sweep()")
        yield cluster
    finally:
        cluster.remove()


def test_it_lives_says_what_is_missing_and_is_ready_again(cluster: Cluster) -> None:
    server = Server(cluster.url)
    try:

        def ask(path: str) -> tuple[int, dict[str, Any]]:
            response = httpx.get(f"{server.url}{path}", timeout=10)
            return response.status_code, response.json()

        assert ask("/health/ready")[0] == 200
        cluster.stop()
        assert ask("/health/live") == (200, {"status": "live"})
        status, problem = ask("/health/ready")
        assert (status, problem["code"], problem["detail"]) == (503, "not_ready", "Not in order: database.")
        assert [(part["item"], part["ok"]) for part in problem["parts"]] == [("database", False)]
        cluster.start()
        deadline = time.monotonic() + 20
        while ask("/health/ready")[0] != 200:
            assert time.monotonic() < deadline
    finally:
        server.stop()
