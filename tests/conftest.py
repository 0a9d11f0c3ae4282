"""Fixtures of all tests: a database cloned from a migrated template, plain calls to it, a clock to set."""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor

from service.migrate import migrate
from tests.launcher import Server

# Each worker of pytest-xdist has a server of its own.
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
SERVER = conninfo_to_dict(
    os.environ.get(f"TEST_DATABASE_URL_{WORKER}" if WORKER else "TEST_DATABASE_URL", "")
)
# A clone does not take over the settings of its template: the search path is given at connect.
OPTIONS = "-c search_path=public,segmentation -c timezone=UTC"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

# Seconds after which a test hangs; none of those that can be told to repeat themselves.
LONGEST = 0 if {"TRUST_ROUNDS", "FUZZ_EXAMPLES"} & os.environ.keys() else 300


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that hangs fail, so that the others go on."""

    def fail(*_: object) -> None:
        pytest.fail(f"{item.nodeid} takes longer than {LONGEST} seconds")

    signal.signal(signal.SIGALRM, fail)
    # Again and again: what it was in may have to wait for something before it ends.
    signal.setitimer(signal.ITIMER_REAL, LONGEST, 10)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def url_of(dbname: str) -> str:
    """The superuser's URL of a database on the test server."""
    return "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(
        **{"password": "", **SERVER, "dbname": dbname}
    )


def load_schema(**connection: Any) -> None:
    """Migrate the template and put the settable clock in the place of the real one."""
    migrate(url_of(connection["dbname"]))
    with psycopg.connect(url_of(connection["dbname"])) as opened:
        opened.execute((Path(__file__).parent / "clock.sql").read_text())


postgresql_noproc = factories.postgresql_noproc(
    host=str(SERVER.get("host", "")),
    port=SERVER.get("port"),
    user=str(SERVER.get("user", "")),
    password=str(SERVER.get("password", "")) or None,
    dbname="segmentation_test",
    options=OPTIONS,
    load=[load_schema],
)


def drop_database(server: psycopg.Connection, name: str) -> None:
    """Drop a database as soon as its sessions have ended: PostgreSQL itself looks again only after 0.1 s."""
    for _ in range(100):
        if not server.execute("select from pg_stat_activity where datname = %s", [name]).rowcount:
            break
    server.execute(f"drop database if exists {name} with (force)".encode())


@contextmanager
def clone(maintenance: psycopg.Connection, template: str, name: str) -> Iterator[str]:
    """The URL of a database like the template, for a while."""
    drop_database(maintenance, name)
    maintenance.execute(f"create database {name} template {template} strategy file_copy".encode())
    try:
        yield url_of(name)
    finally:
        drop_database(maintenance, name)


class Database:
    """A connection in autocommit mode that reads like the psql session of a DBA."""

    def __init__(self, url: str, options: str = OPTIONS) -> None:
        """Connect to url."""
        self.url = url
        self.connection = psycopg.connect(url, options=options, autocommit=True, row_factory=namedtuple_row)

    def rows(self, query: str, *args: Any) -> list[Any]:
        """All rows of a query whose parameters are %s."""
        cursor = self.connection.execute(query, args or None)
        return cursor.fetchall() if cursor.description else []

    def row(self, query: str, *args: Any) -> Any:
        """The only row of a query."""
        (row,) = self.rows(query, *args)
        return row

    def value(self, query: str, *args: Any) -> Any:
        """The only value of a query."""
        (value,) = self.row(query, *args)
        return value

    def column(self, query: str, *args: Any) -> list[Any]:
        """The only column of a query."""
        return [value for (value,) in self.rows(query, *args)]

    def segments_of(self, user_id: int) -> list[str]:
        """The hot read for one user."""
        return list(self.value("select segments from users_segments(array[%s::bigint])", user_id))

    def events_of(self, user_id: int) -> list[tuple[str, str, str]]:
        """The user's history without times: (segment, operation, cause)."""
        return [
            (e.segment, e.operation, e.cause) for e in self.rows("select * from user_history(%s)", user_id)
        ]


@pytest.fixture(scope="session")
def maintenance(postgresql_noproc: NoopExecutor) -> Iterator[psycopg.Connection]:
    """A connection that makes and drops databases."""
    with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(postgresql_noproc: NoopExecutor) -> str:
    """The migrated database whose clones the tests get; a module may have one of its own, with data."""
    return postgresql_noproc.template_dbname


# The plugin's own fixture would connect five times for each test.
@pytest.fixture
def database_url(maintenance: psycopg.Connection, template: str) -> Iterator[str]:
    """The superuser's URL of this test's own database."""
    with clone(maintenance, template, "segmentation_test") as url:
        yield url


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[..., Database]]:
    """Open one more connection to this test's database: connect(options=…)."""
    with ExitStack() as opened:

        def connect_(**kwargs: Any) -> Database:
            database = Database(database_url, **kwargs)
            opened.callback(database.connection.close)
            return database

        yield connect_


@pytest.fixture
def db(connect: Callable[..., Database]) -> Database:
    """A DBA's session in this test's database."""
    return connect()


class Clock:
    """The moment that every function of the schema sees, in every session; real time until it is set."""

    def __init__(self, db: Database) -> None:
        """Use this session to set it."""
        self.db = db
        self.now: datetime | None = None

    def set(self, moment: datetime | None) -> datetime | None:
        """Stop the clock at a moment, or let it run again (None)."""
        self.now = moment
        self.db.rows("update segmentation_test.clock set moment = %s", moment)
        return moment

    def advance(self, **delta: float) -> datetime:
        """Move a stopped clock on: advance(hours=1)."""
        assert self.now is not None
        moment = self.now + timedelta(**delta)
        self.set(moment)
        return moment


@pytest.fixture
def clock(db: Database) -> Clock:
    """The clock, stopped at noon of 20 November 2026."""
    stopped = Clock(db)
    stopped.set(NOON)
    return stopped


@pytest.fixture
def set_clock(db: Database) -> Callable[[datetime | None], datetime | None]:
    """Stop the clock at a moment, or let it run again (None); it runs until this is called."""
    return Clock(db).set


@pytest.fixture
def server_log(db: Database) -> Callable[[], str]:
    """What PostgreSQL has logged since the test began."""
    log = Path(f"/proc/{db.value('select pg_backend_pid()')}/fd/2")
    if "%a" not in db.value("show log_line_prefix") or not log.is_file():
        pytest.skip("this server's log is not at hand")
    begin = len(log.read_bytes())
    return lambda: log.read_bytes()[begin:].decode()


@pytest.fixture
def run_server(database_url: str) -> Iterator[Callable[..., Server]]:
    """Run the service on this test's database, as a process of its own: run_server(WORKERS="2", …)."""
    with ExitStack() as running:

        def run(**given: Any) -> Server:
            server = Server(given.pop("DATABASE_URL", database_url), **given)
            running.callback(server.kill)
            return server

        yield run


@pytest.fixture
def empty(maintenance: psycopg.Connection) -> Iterator[str]:
    """The URL of an empty database."""
    with clone(maintenance, "template1", "segmentation_test_empty") as url:
        yield url
