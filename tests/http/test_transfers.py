"""Long transfers through a real server: flat in memory, at the client's pace, complete or visibly broken."""

import gzip
import json
import re
import signal
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import expect
from tests.conftest import Database, clone
from tests.launcher import Server

USERS = 500_000
MEGABYTE = 2**20
# What a transfer may add to the memory of the service: buffers, and what Python keeps for later.
ROOM = 20 * MEGABYTE
PATIENCE = 30
wait_until = partial(expect.wait_until, seconds=PATIENCE)
CSV = {"Content-Type": "text/csv"}
MEMBERS = "/v1/segments/EVERYBODY/members"
# Long before it ends, every buffer between PostgreSQL and the client is full.
ENDLESS = """
    select n, 'AVITO_VOICE_MESSAGES', 'add', '2026-11-20T12:00:00.000000Z'
    from (select generate_series(1, 1000000000)::bigint as n) as numbers"""
ENDING = "AVITO_VOICE_MESSAGES;add;2026-11-20T12:00:00.000000Z"

# ------------------------------------------------------------------------------- database and server


@pytest.fixture(scope="module")
def database_url(maintenance: psycopg.Connection, template: str) -> Iterator[str]:
    """One database for all tests of this file: half a million users, and a segment that all of them are in."""
    with clone(maintenance, template, "segmentation_test_transfers") as url:
        filled = Database(url)
        filled.rows("select create_segment('EVERYBODY', 100)")
        filled.rows("select register_users(array(select generate_series(1, %s)))", USERS)
        filled.rows("analyze segmentation.users")
        filled.connection.close()
        yield url


class Client:
    """Plain clients of a server."""

    def __init__(self, server: Server, key: str) -> None:
        """Use this server and key."""
        self.server = server
        self.port = server.port
        self.key = key

    def connect(self) -> HTTPConnection:
        """A client's connection."""
        return HTTPConnection("127.0.0.1", self.port, timeout=10 * PATIENCE)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> HTTPResponse:
        """Send a request on a connection of its own, and return the response before its body is read."""
        connection = self.connect()
        given = {"Authorization": f"Bearer {self.key}"} | headers
        connection.request(method, path, body, given, encode_chunked=False)
        return connection.getresponse()

    def reads(self, user_id: int = 1000) -> float:
        """Do the hot read, and return how long it took."""
        start = time.monotonic()
        response = self.send("GET", f"/v1/users/{user_id}/segments")
        assert "EVERYBODY" in json.load(response)["segments"]
        return time.monotonic() - start

    def link(self) -> str:
        """Order the report of this month, and return the path of its link."""
        body = json.dumps({"period": time.strftime("%Y-%m", time.gmtime())})
        response = self.send("POST", "/v1/reports", body)
        assert response.status == 201, response.read()
        return "/v1/reports/" + str(json.load(response)["url"]).rpartition("/")[2]

    def imports(self, slug: str, body: Any, query: str = "", **headers: str) -> dict[str, Any]:
        """Send an import that succeeds."""
        response = self.send("POST", f"/v1/segments/{slug}/members{query}", body, **(CSV | headers))
        answer: dict[str, Any] = json.load(response)
        assert response.status == 200, answer
        return answer

    def begin_upload(self, *header: str, slug: str = "EVERYBODY", query: str = "") -> socket.socket:
        """Send the head of an import, and nothing of its body."""
        upload = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        lines = [
            f"POST /v1/segments/{slug}/members{query} HTTP/1.1",
            "Host: service",
            f"Authorization: Bearer {self.key}",
            "Content-Type: text/csv",
            *header,
        ]
        upload.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        return upload

    @contextmanager
    def flat(self) -> Iterator[None]:
        """Meanwhile, the memory of the service does not grow beyond ROOM."""
        process = Path(f"/proc/{self.server.process.pid}")
        (process / "clear_refs").write_text("5")
        before = self._peak()
        yield
        grown = self._peak() - before
        print(f"memory grew by {grown / MEGABYTE:.1f} MB from {before / MEGABYTE:.1f} MB")
        assert grown < ROOM, f"by {grown / MEGABYTE:.1f} MB"

    def _peak(self) -> int:
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(kilobytes) * 1024


@pytest.fixture(scope="module")
def start(database_url: str) -> Iterator[Callable[..., Client]]:
    """Start the service: start(STALL_TIMEOUT="1", …)."""
    with ExitStack() as running:
        keys = Database(database_url)
        running.callback(keys.connection.close)

        def start_(**settings: Any) -> Client:
            server = Server(database_url, **settings)
            running.callback(server.kill)
            return Client(server, keys.value("select create_api_key(%s, 'editor')", f"port-{server.port}"))

        yield start_


@pytest.fixture(scope="module")
def server(start: Callable[..., Client]) -> Client:
    """A server that lets three transfers run at once, two of them of one key or link, and gives slow clients time."""
    return start(BULK_POOL_SIZE="3", ACQUIRE_TIMEOUT="1")


@pytest.fixture(scope="module")
def impatient(start: Callable[..., Client]) -> Client:
    """A server that lets one transfer run at once, and waits for nobody for more than a second."""
    return start(BULK_POOL_SIZE="1", ACQUIRE_TIMEOUT="10", STALL_TIMEOUT="1")


@pytest.fixture
def report_is(db: Database) -> Iterator[Callable[[str], None]]:
    """Let every link give the rows of another query: report_is("select …")."""
    original = db.value("select pg_get_functiondef('segmentation.report_page'::regproc)")
    head = (
        "create or replace function segmentation.report_page"
        " (from_time timestamptz, to_time timestamptz, after_id bigint, up_to_id bigint,"
        " now timestamptz default 'infinity')"
        " returns setof segmentation.report_line"
    )

    def replace(query: str) -> None:
        # A plain query is streamed as it is found; what plpgsql finds is collected first.
        if query.lstrip().startswith("select"):
            first_page = f"select rows.* from ({query}) as rows where after_id = 0"
            db.rows(f"{head} language sql stable as $$ {first_page} $$")
        else:
            db.rows(f"{head} language plpgsql stable as $$ {query} $$")

    yield replace
    db.rows(original)


@pytest.fixture
def endless(report_is: Callable[[str], None]) -> None:
    """Let every link give rows without end."""
    report_is(ENDLESS)


def transfers(db: Database, extra: str = "true") -> int:
    """How many sessions of the service are busy with a transfer."""
    return int(
        db.value(
            "select count(*) from pg_stat_activity where datname = current_database()"
            f" and application_name ~ '^segmentation service [^(]' and state <> 'idle' and {extra}"
        )
    )


def cut_off_transfers(db: Database) -> None:
    """End the sessions of all transfers."""
    db.rows(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database()"
        " and application_name ~ '^segmentation service [^(]' and state <> 'idle'"
    )


@pytest.fixture(autouse=True)
def nothing_goes_on(db: Database) -> Iterator[None]:
    """After each test every transfer has ended, whatever ended it; one that has not concerns no other test."""
    yield
    try:
        wait_until(lambda: transfers(db) == 0)
    finally:
        cut_off_transfers(db)


def is_cut_off(response: HTTPResponse) -> bool:
    """Whether the rest of the body ends before its end."""
    try:
        while response.read(MEGABYTE):
            pass
    except (IncompleteRead, ConnectionError):
        return True
    return False


def checked(chunks: Iterator[bytes], first: int = 1) -> int:
    """Read ENDLESS rows, none of which is missing; return the number of the last."""
    rest = b""
    number = first - 1
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            assert line == b"%d;%s" % (number, ENDING.encode())
    return number


def in_parts(response: HTTPResponse, megabytes: int) -> Iterator[bytes]:
    """Parts of a body, of this length together."""
    for _ in range(megabytes * 16):
        yield response.read(MEGABYTE // 16)


# -------------------------------------------------------------------------------------------- memory


@pytest.mark.slow
def test_an_export_of_half_a_million_members_is_whole_and_the_service_stays_flat(server: Client) -> None:
    with server.flat():
        response = server.send("GET", MEMBERS, Accept="text/csv")
        assert response.status == 200
        assert response.readline() == b"user_id\n"
        assert response.read() == b"".join(b"%d\n" % user_id for user_id in range(1, USERS + 1))


@pytest.mark.slow
def test_a_report_of_half_a_million_events_is_whole_and_the_service_stays_flat(server: Client) -> None:
    link = server.link()
    with server.flat():
        # The client has to ask for gzip.
        response = server.send("GET", link, **{"Accept-Encoding": "gzip"})
        assert response.headers["Content-Encoding"] == "gzip"
        with gzip.open(response) as lines:
            for user_id, line in enumerate(lines, 1):
                assert line.startswith(b"%d;EVERYBODY;add;" % user_id)
        assert user_id == USERS


@pytest.mark.slow
def test_an_import_of_half_a_million_users_is_whole_and_the_service_stays_flat_and_answers_reads(
    server: Client, db: Database
) -> None:
    db.rows("select create_segment('IMPORTED')")
    # With leading zeros it is some megabytes long, and a hundred when unzipped.
    file = gzip.compress(b"".join(b"%0190d\n" % user_id for user_id in range(1, USERS + 1)), 1)
    times: list[float] = []
    with server.flat(), ThreadPoolExecutor() as pool:
        done = pool.submit(server.imports, "IMPORTED", file, **{"Content-Encoding": "gzip"})
        while not done.done():
            times.append(server.reads(len(times) + 1))
            time.sleep(0.02)
        assert done.result() == {
            "received": USERS,
            "changed": USERS,
            "unchanged": 0,
            "added": USERS,
            "removed": 0,
            "rescheduled": 0,
        }
    assert len(times) > 20
    assert max(times) < 5
    assert db.value("select assigned from segment_stats('IMPORTED')") == USERS


def test_an_upload_is_passed_on_as_it_comes(server: Client) -> None:
    part = b"%0127d\n" % 1 * 8192
    body = (part if number < 100 else b"not a number\n" for number in range(101))
    with server.flat():
        response = server.send("POST", MEMBERS, body, **CSV, **{"Content-Length": str(100 * MEGABYTE + 13)})
        problem = json.load(response)
    assert (response.status, problem["line"]) == (422, 819201)


# ------------------------------------------------------------------------------------- back-pressure


@pytest.mark.usefixtures("endless")
def test_a_client_that_stops_reading_stops_postgresql_and_misses_nothing(
    server: Client, db: Database
) -> None:
    link = server.link()
    with server.flat():
        response = server.send("GET", link)
        wait_until(lambda: transfers(db, "wait_event = 'ClientWrite'") == 1)
        # It reads on: every row is there, in order.
        last = checked(in_parts(response, 40))
        wait_until(lambda: transfers(db, "wait_event = 'ClientWrite'") == 1)
    assert last > 500_000
    response.close()


@pytest.mark.usefixtures("endless")
def test_a_slow_client_that_asked_for_gzip_stops_postgresql_too(server: Client, db: Database) -> None:
    with server.flat():
        response = server.send("GET", server.link(), **{"Accept-Encoding": "gzip"})
        wait_until(lambda: transfers(db, "wait_event = 'ClientWrite'") == 1)
        unzip = zlib.decompressobj(wbits=31)
        assert checked(unzip.decompress(part) for part in in_parts(response, 2)) > 100_000
    response.close()


# ------------------------------------------------------------------------------- clients that go away


@pytest.mark.usefixtures("endless")
def test_a_client_that_goes_away_ends_the_copy_and_gives_its_connection_back(
    server: Client, db: Database
) -> None:
    # More often than there are connections.
    for _ in range(5):
        response = server.send("GET", server.link())
        assert response.status == 200
        response.read(1000)
        assert transfers(db) == 1
        response.close()
        wait_until(lambda: transfers(db) == 0)


def test_a_client_that_goes_away_before_the_first_row_ends_the_query_too(
    server: Client, db: Database, report_is: Callable[[str], None]
) -> None:
    report_is("begin perform pg_advisory_xact_lock(4711); end")
    db.rows("select pg_advisory_lock(4711)")
    link = server.link()
    for _ in range(3):
        connection = server.connect()
        connection.request("GET", link)
        wait_until(lambda: transfers(db, "wait_event = 'advisory'") == 1)
        connection.close()
        wait_until(lambda: transfers(db) == 0)
    db.rows("select pg_advisory_unlock(4711)")


@pytest.mark.usefixtures("endless")
def test_a_client_that_takes_nothing_for_too_long_is_cut_off(impatient: Client, db: Database) -> None:
    link = impatient.link()
    slow = impatient.send("GET", link)
    assert slow.status == 200
    wait_until(lambda: transfers(db) == 0)
    # The next transfer gets its connection.
    response = impatient.send("GET", link)
    assert checked(in_parts(response, 1)) > 1000
    response.close()
    assert is_cut_off(slow)


@pytest.mark.parametrize("head", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_an_upload_that_only_drips_is_cut_off(impatient: Client, db: Database, head: str) -> None:
    db.rows(
        "select create_segment('DRIPS') where not exists (select from segmentation.segments where slug = 'DRIPS')"
    )
    upload = impatient.begin_upload(head, slug="DRIPS")
    upload.settimeout(0.1)
    begun = time.monotonic()
    answer = b""
    while not answer:
        assert time.monotonic() < begun + 10
        upload.sendall(b"1\n" if "Length" in head else b"2\r\n1\n\r\n")
        with suppress(TimeoutError):
            answer = upload.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"10000 bytes per second" in answer
    upload.close()
    assert db.value("select assigned from segment_stats('DRIPS')") == 0


def test_an_upload_may_hold_so_many_lines_and_is_told_while_it_comes(
    start: Callable[..., Client], db: Database
) -> None:
    db.rows("select create_segment('LONG')")
    client = start(MAX_UPLOAD_ROWS="1000")
    thousand = b"".join(b"%d\n" % user_id for user_id in range(1, 1001))
    assert client.imports("LONG", b"user_id\n" + thousand)["received"] == 1000
    upload = client.begin_upload("Content-Length: 1000000000", slug="LONG")
    upload.sendall(thousand + thousand)
    response = HTTPResponse(upload)
    response.begin()
    problem = json.load(response)
    assert (response.status, problem["code"], problem["at_most"]) == (413, "payload_too_large", 1000)
    upload.close()
    client.server.kill()


@pytest.mark.usefixtures("endless")
def test_a_client_that_is_slow_but_goes_on_is_not_cut_off(impatient: Client) -> None:
    response = impatient.send("GET", impatient.link())
    last = 0
    start = time.monotonic()
    # A megabyte at a time, for twice as long as a client may take nothing.
    while time.monotonic() < start + 2.5:
        part = response.read(MEGABYTE) + response.readline()
        last = checked(iter([part]), last + 1)
        time.sleep(0.05)
    assert last > 100_000
    response.close()


@pytest.mark.usefixtures("endless")
def test_a_client_that_takes_too_little_in_the_long_run_is_cut_off(start: Callable[..., Client]) -> None:
    client = start(STALL_TIMEOUT="1", MIN_BYTES_PER_SECOND="100000000")
    response = client.send("GET", client.link())
    begun = time.monotonic()
    # Some megabytes a second: it never pauses.
    with pytest.raises((IncompleteRead, ConnectionError)):
        while time.monotonic() < begun + PATIENCE:
            assert response.read(100_000)
            time.sleep(0.02)
    client.server.kill()


def test_an_upload_that_breaks_off_leaves_nothing(server: Client, db: Database) -> None:
    db.rows("select create_segment('BROKEN')")
    lines = b"".join(b"%d\n" % user_id for user_id in range(10 * USERS, 10 * USERS + 20_000))
    before = db.rows("select count(*) from segmentation.users")
    for head, body in [
        ("Content-Length: 1000000", lines),
        ("Content-Length: 1000000\r\nIdempotency-Key: broken", lines),
        ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(lines), lines)),
        ("Transfer-Encoding: chunked", b""),
    ]:
        upload = server.begin_upload(head, slug="BROKEN")
        upload.sendall(body)
        wait_until(lambda: transfers(db, "query like 'COPY%'") == 1)
        upload.close()
        wait_until(lambda: transfers(db) == 0)
    assert db.rows("select count(*) from segmentation.users") == before
    assert db.value("select assigned from segment_stats('BROKEN')") == 0
    assert server.imports("BROKEN", "1\n2\n", **{"Idempotency-Key": "broken"})["changed"] == 2


def test_an_import_ends_with_its_client_also_when_all_of_it_has_come(server: Client, db: Database) -> None:
    db.rows("select create_segment('LEFT')")
    with db.connection.transaction():
        db.rows("lock table segmentation.memberships in share mode")
        upload = server.begin_upload("Content-Length: 2", slug="LEFT")
        upload.sendall(b"1\n")
        waits = "wait_event_type = 'Lock' and query like '%%http_finish_import%%'"
        wait_until(lambda: db.rows("select pg_stat_clear_snapshot()") and transfers(db, waits) == 1)
        upload.close()
        wait_until(lambda: db.rows("select pg_stat_clear_snapshot()") and transfers(db) == 0)
    assert db.value("select assigned from segment_stats('LEFT')") == 0


def test_an_upload_of_which_nothing_comes_for_too_long_is_cut_off(impatient: Client, db: Database) -> None:
    db.rows("select create_segment('STALLED')")
    upload = impatient.begin_upload("Content-Length: 1000000", slug="STALLED")
    upload.sendall(b"1000\n1002\n")
    response = HTTPResponse(upload)
    response.begin()
    problem = json.load(response)
    assert (response.status, problem["code"]) == (400, "malformed_request")
    assert "1 seconds" in problem["detail"]
    upload.close()
    assert impatient.imports("STALLED", "1000\n")["changed"] == 1


def test_what_is_refused_anyway_is_refused_before_the_body_comes(server: Client) -> None:
    for more in ([], ["Expect: 100-continue"]):
        upload = server.begin_upload("Content-Length: 1000000000", *more, slug="NOPE")
        response = HTTPResponse(upload)
        response.begin()
        assert (response.status, json.load(response)["code"]) == (404, "not_found")
        upload.close()
    for query, status in [
        ("operation=ADD", 422),
        ("operation=remove&ttl_seconds=60", 422),
        ("expires_at=2020-01-01T00:00:00Z", 422),
        ("starts_at=2020-01-01T00:00:00Z", 422),
        ("expires_at=2099-01-01T00:00:00Z&ttl_seconds=60", 422),
        ("starts_at=2098-01-01T00:00:00Z&expires_at=2097-01-01T00:00:00Z", 422),
        (f"reason={'x' * 2001}", 422),
        ("all_actors=true", 422),
        ("op=add", 400),
    ]:
        upload = server.begin_upload("Content-Length: 1000000000", slug="EVERYBODY", query=f"?{query}")
        response = HTTPResponse(upload)
        response.begin()
        assert (response.status, query) == (status, query)
        upload.close()


# -------------------------------------------------------------------------------------------- errors


@pytest.mark.usefixtures("endless")
def test_an_error_after_the_first_row_breaks_the_transfer_off(server: Client, db: Database) -> None:
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        response = server.send("GET", server.link(), **headers)
        assert response.status == 200
        response.read(1000)
        cut_off_transfers(db)
        assert is_cut_off(response)
    # What follows gets a connection that works.
    response = server.send("GET", server.link())
    assert checked(in_parts(response, 1)) > 1000
    response.close()


def test_an_error_in_the_middle_of_the_rows_never_looks_like_their_end(
    server: Client, report_is: Callable[[str], None]
) -> None:
    report_is(
        "select n, 'A', 'add', (1 / (100000 - n))::text"
        " from (select generate_series(1, 200000)::bigint as n) as numbers"
    )
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        response = server.send("GET", server.link(), **headers)
        assert response.status == 200
        assert is_cut_off(response)


def test_an_error_before_the_first_row_is_an_answer(server: Client, report_is: Callable[[str], None]) -> None:
    link = server.link()
    for sqlstate, status, code in [
        ("55P03", 503, "busy"),
        ("57014", 504, "statement_timeout"),
        ("22023", 422, "invalid_value"),
        ("XX000", 500, "internal_error"),
    ]:
        report_is(f"begin raise exception 'x' using errcode = '{sqlstate}'; end")
        for headers in ({}, {"Accept-Encoding": "gzip"}):
            response = server.send("GET", link, **headers)
            assert response.headers["Content-Type"] == "application/problem+json"
            assert (response.status, json.load(response)["code"]) == (status, code)


def test_an_upload_whose_connection_to_postgresql_is_lost_changes_nothing_and_says_so(
    server: Client, db: Database
) -> None:
    db.rows("select create_segment('LOST')")
    upload = server.begin_upload("Content-Length: 1000000", slug="LOST")
    upload.sendall(b"1000\n" * 1000)
    wait_until(lambda: transfers(db, "query like 'COPY%'") == 1)
    cut_off_transfers(db)
    upload.sendall(b"1000\n" * 199_000)
    response = HTTPResponse(upload)
    response.begin()
    assert (response.status, json.load(response)["code"]) == (503, "database_unavailable")
    upload.close()
    assert server.imports("LOST", "1000\n")["changed"] == 1


# --------------------------------------------------------------------------------------- many at once


@pytest.mark.usefixtures("endless")
def test_transfers_beyond_the_pool_are_told_to_come_again_while_reads_go_on(server: Client) -> None:
    link, other = server.link(), server.link()
    running = [server.send("GET", link) for _ in range(2)] + [server.send("GET", other)]
    start = time.monotonic()
    with ThreadPoolExecutor() as pool:
        for refused in [
            pool.submit(server.send, "GET", other),
            pool.submit(server.send, "GET", MEMBERS, Accept="text/csv"),
            pool.submit(server.send, "POST", MEMBERS, "1000\n", **CSV),
        ]:
            server.reads()
            response = refused.result()
            problem = json.load(response)
            assert (response.status, problem["code"]) == (503, "database_unavailable")
            assert int(response.headers["Retry-After"]) > 0
            assert response.headers["Content-Type"] == "application/problem+json"
    assert time.monotonic() - start < 10
    for response in running:
        assert checked(in_parts(response, 1)) > 1000
        response.close()

    def succeeds() -> bool:
        response = server.send("GET", link)
        response.close()
        return response.status == 200

    wait_until(succeeds)


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("who", ["a link", "a key"])
def test_nobodys_transfers_take_all_connections(start: Callable[..., Client], who: str) -> None:
    # A share above the pool still leaves one to others.
    for settings in ({"BULK_POOL_SIZE": "3"}, {"BULK_POOL_SIZE": "3", "BULK_PER_KEY": "9"}):
        client = start(ACQUIRE_TIMEOUT="0.3", **settings)
        greedy = client.link() if who == "a link" else ""
        uploads: list[socket.socket] = []
        running: list[HTTPResponse] = []
        for _ in range(2):
            if greedy:
                running.append(client.send("GET", greedy))
            else:
                uploads.append(client.begin_upload("Content-Length: 1000"))
        if greedy:
            refused = client.send("GET", greedy)
        else:
            # Their heads may still be on their way.
            wait_until(lambda: client.send("POST", MEMBERS, "1\n", **CSV).status == 503)  # noqa: B023
            refused = client.send("POST", MEMBERS, "1\n", **CSV)
        problem = json.load(refused)
        assert (refused.status, problem["code"], problem["at_most"]) == (503, "database_unavailable", 2)
        with client.send("GET", client.link()) as given:
            assert given.status == 200
        for upload in uploads:
            upload.close()
        for response in running:
            response.close()
        client.server.kill()


def test_two_imports_of_the_same_users_at_once_both_succeed(server: Client, db: Database) -> None:
    db.rows("select create_segment('SHARED')")
    upwards = "".join(f"{user_id}\n" for user_id in range(1, 40_001))
    downwards = "".join(f"{user_id}\n" for user_id in range(60_000, 20_000, -1))
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(server.imports, "SHARED", file) for file in (upwards, downwards)]
        done = [answer.result() for answer in answers]
    assert [answer["received"] for answer in done] == [40_000, 40_000]
    assert sum(answer["changed"] for answer in done) == 60_000
    assert sum(answer["unchanged"] for answer in done) == 20_000
    assert db.value("select assigned from segment_stats('SHARED')") == 60_000
    # A user of both files has one override and one event.
    assert (
        db.value(
            "select count(*) from segmentation.overrides as o join segmentation.segments using (segment_id)"
            " where slug = 'SHARED'"
        )
        == 60_000
    )
    for user_id in (1, 20_001, 30_000, 40_000, 60_000):
        assert db.events_of(user_id).count(("SHARED", "add", "assigned")) == 1


# ------------------------------------------------------------------------------------------ shutdown


def test_transfers_that_run_when_the_service_stops_get_some_time_and_then_end(
    start: Callable[..., Client], db: Database, endless: None
) -> None:
    stopping = start(SHUTDOWN_TIMEOUT="1")
    db.rows("select create_segment('STOPPED')")
    link = stopping.link()
    reading = stopping.send("GET", link)
    stuck = stopping.send("GET", link)
    upload = stopping.begin_upload("Content-Length: 1000000", slug="STOPPED")
    upload.sendall(b"1000\n")
    wait_until(lambda: transfers(db) == 3)
    with ThreadPoolExecutor() as pool:
        cut_off = pool.submit(is_cut_off, reading)
        begin = time.monotonic()
        stopping.server.stop()
        assert time.monotonic() - begin < 10
        assert cut_off.result()
    assert is_cut_off(stuck)
    upload.close()
    wait_until(lambda: transfers(db) == 0)
    assert db.value("select assigned from segment_stats('STOPPED')") == 0


def test_a_transfer_that_ends_in_time_is_whole_though_the_service_stops(
    start: Callable[..., Client], db: Database, report_is: Callable[[str], None]
) -> None:
    stopping = start()
    report_is(ENDLESS.replace("1000000000", "800000"))
    response = stopping.send("GET", stopping.link())
    wait_until(lambda: transfers(db, "wait_event = 'ClientWrite'") == 1)
    stopping.server.process.send_signal(signal.SIGTERM)
    # New clients are refused already.
    wait_until(lambda: not accepts(stopping))
    rows = checked(iter(lambda: response.read(MEGABYTE), b""))
    assert rows == 800_000
    assert "Traceback" not in stopping.server.ended()


def accepts(server: Client) -> bool:
    """Whether the service takes new connections."""
    try:
        server.send("GET", "/health/live").read()
    except (OSError, HTTPException):
        return False
    return True
