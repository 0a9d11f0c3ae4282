"""A router with its shards: two of them with servers of their own, as one that is away is a server that is away."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from service.migrate import migrate
from service.migrate.shards import add_shards
from tests.conftest import Database
from tests.expect import wait_until
from tests.launcher import ROOT

# The server of each database.
THREE_SERVERS = {"router": "router", "s0": "s0", "s1": "s1"}
ONE_SERVER = dict.fromkeys(("router", "s0", "s1", "s2", "s3"), "all")
# Guards are triggers, which do not fire for a replica.
CLEAR = """
    set local session_replication_role = replica;
    truncate segmentation.users, segmentation.memberships, segmentation.membership_history,
      segmentation.idempotency_keys, segmentation.report_links, segmentation.api_keys;
    update segmentation.retention set kept_since = '-infinity';
    select setval('segmentation.told_until', 0);
"""
CLEAR_ROUTER = """
    truncate segmentation.segments, segmentation.rollouts, segmentation.layers, segmentation.layer_cells,
      segmentation.segment_history restart identity;
    delete from segmentation.decisions;
    select setval('segmentation.told_everywhere', 0);
    update segmentation.catalog_version
      set version = version + 1, after = change, change = gen_random_uuid();
"""
CATALOG = """
    select 'segment' as what, to_jsonb(s) - 'swept' as said from segmentation.segments as s
    union all
    select 'layer', to_jsonb(l) from segmentation.layers as l
    union all
    select 'rollout', to_jsonb(r) from segmentation.rollouts as r
    union all
    select 'cells', to_jsonb(c) from segmentation.layer_cells as c
    union all
    select 'history', to_jsonb(h) from segmentation.segment_history as h
    order by 1, 2
"""
VERSION = "select max(version) from segmentation.catalog_version"


class Shards:
    """The servers, and the clocks of their databases, which a test stops together."""

    def __init__(self, directory: Path, servers: dict[str, str] = THREE_SERVERS) -> None:
        """Start them, migrate each database as what it is, and put the shards behind the router."""
        self.directory = directory
        self.servers = servers
        self.sessions: dict[str, psycopg.Connection] = {}
        with ThreadPoolExecutor() as threads:
            list(threads.map(self.start, set(servers.values())))
            urls = threads.map(self._make, servers)
            self.urls = dict(zip(servers, urls, strict=True))
        add_shards(self.urls["router"], {name: self.urls[name] for name in self.shards})

    @property
    def shards(self) -> list[str]:
        """Their names."""
        return [name for name in self.servers if name != "router"]

    def _make(self, name: str) -> str:
        url = self._does("url", self.servers[name])
        if name != self.servers[name]:
            with psycopg.connect(url, autocommit=True) as opened:
                opened.execute(f"create database {name}".encode())
            url = url.rpartition("/")[0] + f"/{name}"
        migrate(url, kind="router" if name == "router" else "shard")
        with psycopg.connect(url) as opened:
            opened.execute((ROOT / "tests" / "clock.sql").read_text())
        with psycopg.connect(url, autocommit=True) as opened:
            # So that a killed server has what it has confirmed.
            opened.execute("alter system set synchronous_commit = local")
            opened.execute("select pg_reload_conf()")
        return url

    def take_clock(self, name: str) -> None:
        """Put the settable clock in the place of the real one again, after migrating."""
        made, function, rest = (
            (ROOT / "tests" / "clock.sql").read_text().partition("create or replace function")
        )
        assert made
        with psycopg.connect(self.urls[name]) as opened:
            opened.execute((function + rest).encode())

    def clear(self) -> None:
        """Let nothing be left of what other tests did."""
        for name, url in self.urls.items():
            with psycopg.connect(url) as opened:
                opened.execute((CLEAR + (CLEAR_ROUTER if name == "router" else "")).encode())
        self.wait_for_catalog()

    def wait_for_catalog(self) -> None:
        """Return when the shards have all changes of the catalog."""
        router = Database(self.urls["router"])
        shards = [Database(self.urls[name]) for name in self.shards]
        wait_until(lambda: {shard.value(VERSION) for shard in shards} == {router.value(VERSION)}, 30)
        for opened in (router, *shards):
            opened.connection.close()

    def _does(self, action: str, name: str, *options: str) -> str:
        command = [str(ROOT / ".dev" / "cluster"), action, str(self.directory / name), *options]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def start(self, name: str) -> None:
        """Start one of the servers."""
        self._does("start", name, "--fast", "--shards")

    def kill(self, name: str) -> None:
        """End a server without warning."""
        os.kill(int(self._does("pid", name)), signal.SIGKILL)
        self.sessions.pop(name, None)

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Stop a server for a while; in the end it has all changes of the catalog again."""
        self._does("stop", name)
        self.sessions.pop(name, None)
        try:
            yield
        finally:
            self.start(name)
            self.wait_for_catalog()
            # As whoever looks after it does, every few seconds.
            Database(self.urls["router"]).rows("select * from segmentation.service_status()")

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Let a server neither answer nor refuse for a while."""
        postmaster = self._does("pid", name)
        told = subprocess.run(["pgrep", "-P", postmaster], check=True, stdout=subprocess.PIPE, text=True)
        processes = [int(postmaster), *map(int, told.stdout.split())]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def set_clock(self, moment: datetime | None) -> None:
        """Stop the clocks of all at a moment, or let them run again."""
        for name, url in self.urls.items():
            if name not in self.sessions:
                self.sessions[name] = psycopg.connect(url, autocommit=True)
            self.sessions[name].execute("update segmentation_test.clock set moment = %s", [moment])

    def remove(self) -> None:
        """Stop and delete them."""
        for opened in self.sessions.values():
            opened.close()
        for server in set(self.servers.values()):
            self._does("remove", server)


def users_of(router: Database, shard: str, number: int = 3) -> list[int]:
    """Some users whose slots a shard has."""
    return router.column(
        "select u from generate_series(1, 1000) as u, segmentation.slots as s"
        " where s.slot = segmentation.slot_of(u) and s.shard = %s order by u limit %s",
        shard,
        number,
    )


@contextmanager
def servers_in(directory: Path, servers: dict[str, str] = THREE_SERVERS) -> Iterator[Shards]:
    """Servers, deleted in the end."""
    for folder in (directory, *directory.parents):
        # PostgreSQL's user goes through them.
        if folder.owner() == directory.owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    shards = Shards(directory, servers)
    yield shards
    shards.remove()


@pytest.fixture(scope="session")
def three_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    """The servers, for all tests but those that leave them otherwise than they were."""
    with servers_in(tmp_path_factory.mktemp("shards")) as shards:
        yield shards


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    """A router with four shards, all of them databases of one server."""
    with servers_in(tmp_path_factory.mktemp("one_server"), ONE_SERVER) as shards:
        yield shards


@pytest.fixture
def shards(request: pytest.FixtureRequest) -> Iterator[Shards]:
    """The servers with nothing in them, whose clocks run in the end: three, if the test names no others."""
    shards: Shards = request.getfixturevalue(getattr(request, "param", "three_servers"))
    shards.clear()
    yield shards
    shards.set_clock(None)


@pytest.fixture
def session(shards: Shards) -> Iterator[Callable[[str], Database]]:
    """Open a DBA's session on one of them, by its name."""
    opened: list[Database] = []

    def open_session(name: str) -> Database:
        opened.append(Database(shards.urls[name]))
        return opened[-1]

    yield open_session
    for each in opened:
        each.connection.close()


@pytest.fixture
def router(session: Callable[[str], Database]) -> Database:
    """A DBA's session on the router."""
    return session("router")


def claimed(router: Database, *, key: str, change: str) -> object:
    """A change under an Idempotency-Key, as the service makes it, whose router dies before it is committed."""
    with router.connection.transaction(force_rollback=True):
        router.rows("select * from claim_idempotency_key('web', %s)", key)
        return router.rows(change)
