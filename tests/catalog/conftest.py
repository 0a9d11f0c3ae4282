"""Databases to migrate: empty ones, new ones, and a copy of the files that a test may spoil."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from service import project_path, versions
from service.migrate import migrate
from tests.conftest import SERVER, drop_database, url_of

NAMES = count(1)


@contextmanager
def databases() -> Iterator[Callable[..., str]]:
    """Make databases, or copies of one, that go away at the end."""
    with psycopg.connect(url_of(str(SERVER["dbname"])), autocommit=True) as server, ExitStack() as made:

        def make(template: str = "template1") -> str:
            name = f"segmentation_test_{os.getpid()}_{next(NAMES)}"
            server.execute(f"create database {name} template {template}".encode())
            made.callback(drop_database, server, name)
            return url_of(name)

        yield make


@pytest.fixture
def empty_database() -> Iterator[Callable[[], str]]:
    """Make a database with nothing in it; its URL."""
    with databases() as make:
        yield make


@pytest.fixture(scope="session")
def fresh() -> Iterator[str]:
    """The URL of a database that was just made: what all others are to be like. It stays as it is."""
    with databases() as make:
        url = make()
        migrate(url)
        yield url


@pytest.fixture
def migrated(fresh: str) -> Iterator[str]:
    """The URL of a migrated database that a test may spoil."""
    with databases() as make:
        url = make(template=fresh.rpartition("/")[2])
        migrate(url)  # what is set for a database is in no copy of it
        yield url


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the SQL files that a test may spoil."""
    for folder in ("migrations", "sql"):
        shutil.copytree(project_path(folder), tmp_path / folder)
    monkeypatch.setattr(versions, "project_path", lambda name: tmp_path / name)
    return tmp_path


def deployed(url: str, file: Path, before: str, after: str) -> None:
    """A file of sql/ that was deployed as it was before, and that the next deploy finds as it is after."""
    file.write_text(before)
    migrate(url)
    file.write_text(after)


@contextmanager
def going_on(*clients: Callable[[], object]) -> Iterator[None]:
    """Meanwhile each client calls, again and again, and none of its calls fails."""
    stop = threading.Event()

    def go_on(call: Callable[[], object]) -> int:
        calls = 0
        while not stop.is_set():
            call()
            calls += 1
        return calls

    with ThreadPoolExecutor(len(clients)) as pool:
        calls = [pool.submit(go_on, client) for client in clients]
        try:
            yield
        finally:
            stop.set()
        assert all(each.result() for each in calls)


def edit(file: Path, old: str, new: str) -> None:
    """Change a file, which has to be as this test thinks it is."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
