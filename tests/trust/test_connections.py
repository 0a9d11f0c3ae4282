"""What clients and proxies do with a connection, by accident or on purpose: the right answer, and nothing without end."""

import json
import re
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pytest

from tests.conftest import Database, clone
from tests.launcher import Server

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
ADD = b'{"add": ["A"]}'


def connect(server: Server) -> socket.socket:
    """A plain connection, on which nobody waits for ever."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def answer(connection: socket.socket) -> tuple[int, Any, HTTPResponse]:
    """What comes back: status, body, and the response with its headers."""
    response = HTTPResponse(connection)
    response.begin()
    body = response.read()
    return response.status, json.loads(body) if body else None, response


def ask(server: Server, request: bytes) -> tuple[int, Any, HTTPResponse]:
    """What comes back on a connection of its own."""
    with connect(server) as connection:
        connection.sendall(request)
        return answer(connection)


def memory(server: Server) -> int:
    """Kilobytes that the process holds."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.fixture(scope="module")
def database_url(maintenance: psycopg.Connection, template: str) -> Iterator[str]:
    """One database for all tests of this file."""
    with clone(maintenance, template, "segmentation_test_connections") as url:
        yield url


@pytest.fixture(scope="module")
def editor(database_url: str) -> str:
    """The key of somebody who may change the segment A."""
    db = Database(database_url)
    db.rows("select create_segment('A')")
    key = str(db.value("select create_api_key('shop', 'editor')"))
    db.connection.close()
    return key


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[Server]:
    """A server with its ordinary settings."""
    server = Server(database_url)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def strict(database_url: str) -> Iterator[Server]:
    """A server that takes short heads, and waits for nobody for more than a moment."""
    server = Server(database_url, MAX_HEAD_BYTES="8192", KEEP_ALIVE_TIMEOUT="0.5")
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def nobody_is_in_a(db: Database) -> None:
    """User 7 is in no segment yet."""
    db.rows("delete from segmentation.memberships")


def patch(key: str, *lines: str, body: bytes = ADD) -> bytes:
    """A request that adds user 7 to the segment A, with more lines in its head."""
    head = [
        "PATCH /v1/users/7/segments HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        *lines,
        "",
        "",
    ]
    return "\r\n".join(head).encode() + body


LENGTH = f"Content-Length: {len(ADD)}"

# ------------------------------------------------------------------------------ offers, versions, forms


@pytest.mark.parametrize(
    "offer",
    [
        # curl --http2, and Java's HttpClient.
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
        # Apache HttpClient 5.4.
        ["Connection: Upgrade", "Upgrade: TLS/1.2"],
        # A proxy that offers every request to a websocket.
        ["Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="],
        ["Connection: Upgrade"],
        ["Expect: 100-continue"],
    ],
)
@pytest.mark.parametrize("second_packet", [False, True])
def test_a_body_arrives_whatever_else_the_request_offers(
    server: Server, db: Database, editor: str, offer: list[str], second_packet: bool
) -> None:
    request = patch(editor, *offer, LENGTH)
    with connect(server) as client:
        if second_packet:
            client.sendall(request.removesuffix(ADD))
            if "Expect: 100-continue" in offer:
                assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            else:
                time.sleep(0.05)
            client.sendall(ADD)
        else:
            client.sendall(request)
        status, body, _ = answer(client)
        assert (status, body["added"]) == (200, ["A"])
        # The next request is understood as well.
        client.sendall(LIVE)
        assert answer(client)[0] == 200
    assert db.segments_of(7) == ["A"]


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"])
def test_clients_of_every_version_are_served(server: Server, db: Database, editor: str, version: str) -> None:
    def curl(path: str, *arguments: str) -> str:
        command = ["curl", "-sS", "--fail-with-body", "--noproxy", "*", version, *arguments]
        command += ["-H", f"Authorization: Bearer {editor}", f"{server.url}{path}"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    changed = curl(
        "/v1/users/7/segments", "-X", "PATCH", "-H", "Content-Type: application/json", "-d", ADD.decode()
    )
    assert json.loads(changed)["added"] == ["A"]
    assert json.loads(curl("/v1/users/7/segments")) == {"user_id": 7, "segments": ["A"]}
    assert curl("/v1/segments/A/members", "-H", "Accept: text/csv") == "user_id\n7\n"


def test_http_1_0_gets_no_chunks_and_keeps_its_connection_only_if_it_asks_to(
    server: Server, editor: str
) -> None:
    export = f"GET /v1/segments/A/members HTTP/1.0\r\nAuthorization: Bearer {editor}\r\nAccept: text/csv\r\n"
    with connect(server) as client:
        client.sendall(export.encode() + b"\r\n")
        response = HTTPResponse(client)
        response.begin()
        assert (response.version, response.headers["transfer-encoding"]) == (10, None)
        assert response.read() == b"user_id\n"
        assert client.recv(1) == b""
    with connect(server) as client:
        for _ in range(2):
            client.sendall(b"GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert answer(client)[0] == 200


@pytest.mark.parametrize(
    "hosts",
    [[], ["a", "b"], ["x:99999"], ["x:abc"], ["x y"], ["x/y"], ["user@x"], ["[::1"], ["x:1:2"], ["\xff"]],
)
def test_a_request_names_one_host(server: Server, editor: str, hosts: list[str]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    for path in ("GET /health/live", "GET /nowhere", "POST /v1/reports"):
        head = f"{path} HTTP/1.1\r\n{lines}Authorization: Bearer {editor}\r\nContent-Length: 0\r\n\r\n"
        status, problem, response = ask(server, head.encode("latin-1"))
        assert (status, problem["code"]) == (400, "malformed_request")
        assert problem["detail"].startswith("Host: ")
        assert response.headers["content-type"] == "application/problem+json"
        assert len(response.headers["x-request-id"]) == 32


def test_a_request_has_one_key(server: Server, editor: str) -> None:
    keys = "".join(f"Authorization: Bearer {key}\r\n" for key in (editor, "another"))
    head = f"GET /v1/segments HTTP/1.1\r\nHost: x\r\n{keys}\r\n"
    status, problem, _ = ask(server, head.encode())
    assert (status, problem["detail"]) == (400, "Authorization: There is more than one")


@pytest.mark.parametrize("host", ["x", "x:8080", "x:", "127.0.0.1:80", "[::1]:8080", "xn--bcher-kva.example"])
def test_hosts_of_every_form_are_taken(server: Server, host: str) -> None:
    assert ask(server, f"GET /health/live HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[0] == 200


def test_a_link_leads_somewhere_without_a_host_as_well(server: Server, editor: str) -> None:
    body = b'{"period": "2026-11"}'
    head = (
        f"POST /v1/reports HTTP/1.0\r\nAuthorization: Bearer {editor}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    status, made, _ = ask(server, head.encode() + body)
    assert status == 201
    assert made["url"].startswith(f"{server.url}/v1/reports/")
    assert urlopen(made["url"], timeout=10).status == 200


# Where the next request begins would be anybody's guess, and a proxy's guess may be another.
AMBIGUOUS = [
    ["Content-Length: 4", "Content-Length: 5"],
    ["Content-Length: -1"],
    ["Content-Length: +4"],
    ["Content-Length: 4, 5"],
    ["Transfer-Encoding : chunked"],
    ["Transfer-Encoding: xchunked"],
    ["Transfer-Encoding: gzip, chunked"],
    ["Transfer-Encoding: chunked, chunked"],
    ["Transfer-Encoding: chunked, identity"],
    ["Transfer-Encoding:\x0bchunked"],
    ["X: a\0b", "Content-Length: 0"],
    ["X: a", " folded", "Content-Length: 0"],
]


@pytest.mark.parametrize("lines", AMBIGUOUS, ids=" | ".join)
def test_what_may_be_read_in_two_ways_is_refused(server: Server, lines: list[str]) -> None:
    head = "\r\n".join(["POST /v1/reports HTTP/1.1", "Host: x", *lines, "", ""])
    assert ask(server, head.encode("latin-1"))[0] == 400


def test_of_two_lengths_chunks_count_and_the_connection_ends(server: Server) -> None:
    with connect(server) as client:
        client.sendall(
            b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert answer(client)[0] == 401
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GE\x01T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_what_is_no_http_is_refused(server: Server, nonsense: bytes) -> None:
    with connect(server) as client:
        client.sendall(nonsense)
        assert answer(client)[0] == 400
        assert client.recv(1) == b""


# ------------------------------------------------------------------------------- a refusal that arrives


@pytest.mark.parametrize(
    ("path", "method", "kind", "status"),
    [
        ("/v1/segments/A/members", "POST", "", 401),
        ("/v1/segments/NOPE/members", "POST", "text/csv", 404),
        ("/v1/users/7/segments", "PATCH", "application/json", 413),
        ("/v1/segments/A/members", "POST", "image/png", 415),
        ("/v1/nowhere", "POST", "text/csv", 404),
        ("/v1/segments", "GET", "", 401),
    ],
)
def test_a_refusal_reaches_a_client_that_is_still_sending(
    server: Server, editor: str, path: str, method: str, kind: str, status: int
) -> None:
    headers = {"Content-Type": kind, "Authorization": f"Bearer {editor}"} if kind else {}
    for _ in range(5):
        # urllib says Connection: close, and looks at the answer only when all is sent.
        request = Request(f"{server.url}{path}", b"1000\n" * 2**20, headers, method=method)
        with pytest.raises(HTTPError) as refused:
            urlopen(request, timeout=20)
        assert refused.value.status == status
        assert json.load(refused.value)["status"] == status


def test_a_client_that_waits_to_be_asked_for_its_body_is_not_asked_after_a_refusal(server: Server) -> None:
    with connect(server) as client:
        client.sendall(patch("wrong", "Expect: 100-continue", LENGTH, body=b""))
        begun = time.monotonic()
        assert answer(client)[0] == 401
        assert client.recv(1) == b""
        assert time.monotonic() - begun < 5


# ------------------------------------------------------------------------------------ nothing without end


def test_as_many_clients_are_served_as_the_setting_says_and_the_next_wait(
    run_server: Callable[..., Server],
) -> None:
    server = run_server(MAX_CONNECTIONS="3")
    with ExitStack() as opened:
        served = [opened.enter_context(connect(server)) for _ in range(3)]
        for client in served:
            client.sendall(LIVE)
            assert answer(client)[0] == 200
        waiting = opened.enter_context(connect(server))
        waiting.sendall(LIVE)
        waiting.settimeout(0.3)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        waiting.settimeout(20)
        served.pop().close()
        assert answer(waiting)[0] == 200


def test_a_process_may_open_as_many_files_as_it_holds_connections(run_server: Callable[..., Server]) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limit[1]))
    try:
        server = run_server(MAX_CONNECTIONS="150")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    with ExitStack() as opened:
        clients = [opened.enter_context(connect(server)) for _ in range(140)]
        for client in clients:
            client.sendall(LIVE)
            assert answer(client)[0] == 200


@pytest.fixture
def many_files() -> Iterator[None]:
    """The right to open some thousand connections."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_two_thousand_silent_clients_are_in_nobodys_way(server: Server, many_files: None) -> None:
    with ExitStack() as opened:
        for _ in range(2000):
            opened.enter_context(connect(server))
        for _ in range(5):
            begun = time.monotonic()
            assert ask(server, LIVE)[0] == 200
            assert time.monotonic() - begun < 1


def test_a_head_without_end_is_cut_off_and_not_kept(strict: Server) -> None:
    for begin in (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET /health/live?"):
        status, _, response = ask(strict, begin + b"a" * 10_000)
        assert (status, response.headers["connection"]) == (431, "close")
    before = memory(strict)
    for begin in (
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: ",
        # The trailer of a body is no better.
        b"POST /v1/segments HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ",
    ):
        with connect(strict) as endless, suppress(OSError):
            endless.sendall(begin)
            for _ in range(50):
                endless.sendall(b"a" * 2**20)
    assert memory(strict) - before < 20_000


def test_a_head_that_is_whole_but_too_long_does_nothing(strict: Server, db: Database, editor: str) -> None:
    for lines in (["X-Long: " + "a" * 9000], [f"X-{number}: a" for number in range(500)]):
        with connect(strict) as client:
            client.sendall(patch(editor, *lines, LENGTH))
            assert answer(client)[0] == 431
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""
    assert db.segments_of(7) == []
    # A body is no head, however much comes at once.
    body = ADD + b" " * 100_000
    with connect(strict) as client:
        for _ in range(2):
            client.sendall(patch(editor, f"Content-Length: {len(body)}", body=body))
            assert answer(client)[0] == 200


def test_a_head_that_comes_too_slowly_is_not_waited_for(strict: Server) -> None:
    with connect(strict) as slow:
        slow.sendall(b"GET /health/live HT")
        assert slow.recv(1) == b""
    # After an answer as well; and a connection on which nobody asks is closed.
    for begun in (b"G", b""):
        with connect(strict) as slow:
            slow.sendall(LIVE)
            assert answer(slow)[0] == 200
            slow.sendall(begun)
            assert slow.recv(1) == b""


def test_requests_whose_answers_nobody_reads_are_not_kept(server: Server, editor: str) -> None:
    read = f"GET /v1/users/1/segments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {editor}\r\n\r\n".encode()
    for request in (LIVE, read):
        flood = request * (7 * 2**20 // len(request))
        ask(server, request)
        before = memory(server)
        with ExitStack() as opened:
            for _ in range(20):
                client = opened.enter_context(connect(server))
                client.setblocking(False)
                sent = 0
                with suppress(BlockingIOError):
                    while sent < len(flood):
                        sent += client.send(flood[sent : sent + 2**18])
            for _ in range(5):
                begun = time.monotonic()
                assert ask(server, LIVE)[0] == 200
                assert time.monotonic() - begun < 2
            assert memory(server) - before < 40_000


def test_what_was_asked_at_once_is_answered_in_order(server: Server, editor: str) -> None:
    with connect(server) as client:
        client.sendall(b"".join(patch(editor, LENGTH) + LIVE for _ in range(20)))
        received = b""
        while received.count(b'{"') < 40:
            part = client.recv(2**16)
            assert part, received
            received += part
        assert re.findall(rb'{"(\w+)"', received) == [b"user_id", b"status"] * 20
