"""Told to stop: running requests are answered, idle connections are closed, new ones are refused."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from operator import gt
from threading import Event
from typing import Any

import httpx
import pytest

from service.server import Listener
from tests.conftest import Database
from tests.expect import slug_held, wait_until
from tests.launcher import Server, free_port


def accepts(server: Server) -> bool:
    """Whether the service takes new connections."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
        return True
    return False


def test_workers_end_when_the_process_that_started_them_is_killed(run_server: Callable[..., Server]) -> None:
    server = run_server(WORKERS="2")
    assert accepts(server)
    server.kill()
    wait_until(lambda: not accepts(server))
    # On the same port; one process will do.
    server.environment["WORKERS"] = "1"
    server.start()


def have_waited(db: Database, waited: set[str]) -> set[str]:
    """The requests that have waited for a lock, now or before: each gives its connection back now and then."""
    waited |= set(
        db.column(
            "select application_name from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock'"
        )
    )
    return waited


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_runs_when_the_service_is_told_to_stop_ends_and_is_answered(
    run_server: Callable[..., Server], db: Database, workers: str
) -> None:
    db.rows("select create_segment('A')")
    key = db.value("select create_api_key('shop', 'editor')")
    server = run_server(WORKERS=workers)
    headers = {"Authorization": f"Bearer {key}"}

    def change(user_id: int, **more: str) -> httpx.Response:
        path = f"{server.url}/v1/users/{user_id}/segments"
        return httpx.patch(path, json={"add": ["A"]}, headers=headers | more, timeout=30)

    with httpx.Client(base_url=server.url, headers=headers) as idle:
        assert idle.get("/v1/users/1/segments").status_code == 200
        half = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        half.sendall(
            f"PATCH /v1/users/4/segments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{".encode()
        )
        with ThreadPoolExecutor() as pool:
            with slug_held(db, "A"):
                waited: set[str] = set()
                running = [
                    pool.submit(change, 1),
                    pool.submit(change, 2),
                    pool.submit(change, 3, **{"Idempotency-Key": "a"}),
                ]
                wait_until(lambda: len(have_waited(db, waited)) == 3)
                server.process.send_signal(signal.SIGTERM)
                wait_until(lambda: not accepts(server))
                # It cuts nothing off: by now it would have happened.
                time.sleep(0.5)
                assert not any(each.done() for each in running)
                half.sendall(b'"add": ["A"]}')
                wait_until(lambda: len(have_waited(db, waited)) == 4)
            for each in running:
                assert each.result().status_code == 200
                # So that the client does not send the next one here.
                assert each.result().headers["connection"] == "close"
        response = HTTPResponse(half)
        response.begin()
        assert response.status == 200
        half.close()
        with pytest.raises(httpx.TransportError):
            idle.get("/v1/users/1/segments")
    server.process.wait(timeout=10)
    assert db.column("select user_id from segment_members('A')") == [1, 2, 3, 4]
    assert (
        db.value(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and application_name like 'segmentation service%'"
        )
        == 0
    )


class Asking:
    """A client that asks all the time, in several threads, and keeps what went wrong."""

    def __init__(self, port: int, key: str) -> None:
        """Ask on this port."""
        self._port = port
        self._request = (
            f"GET /v1/users/1000/segments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        self._ended = Event()
        self.answers = [0, 0]
        self.failures: list[str] = []

    @contextmanager
    def asks(self) -> Iterator[None]:
        """Ask meanwhile: by two connections that are kept open, and by a new one for each question."""
        with ThreadPoolExecutor() as pool:
            asking = [pool.submit(self._ask, keeps) for keeps in (True, True, False, False)]
            try:
                yield
            finally:
                self._ended.set()
        for each in asking:
            each.result()

    def _ask(self, keeps: bool) -> None:
        connection = None
        while not self._ended.is_set():
            try:
                connection = connection or socket.create_connection(("127.0.0.1", self._port), timeout=20)
                connection.sendall(self._request)
                response = HTTPResponse(connection)
                response.begin()
                assert (response.status, json.load(response)["user_id"]) == (200, 1000)
                self.answers[keeps] += 1
                stays = keeps and not response.will_close
            except (OSError, HTTPException) as error:
                self.failures.append(f"{'kept' if keeps else 'new'}: {error!r}")
                stays = False
            if connection and not stays:
                connection.close()
                connection = None


@pytest.fixture
def systemd() -> Iterator[tuple[socket.socket, list[str]]]:
    """A socket that is held as systemd holds it, and the command by which systemd would start the service."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        # Sockets begin at number 3, and the process that they are for is named.
        script = f'exec 3<&{held.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        yield held, ["bash", "-c", script, "bash", sys.executable, "-m", "service"]


# The second new process gets the socket from one that got it itself.
@pytest.mark.parametrize(("workers", "times"), [("1", 2), ("2", 1)])
@pytest.mark.parametrize("by", ["each other", "systemd"])
def test_a_new_process_takes_over_from_the_old_one_and_no_request_is_lost(
    database_url: str,
    db: Database,
    systemd: tuple[socket.socket, list[str]],
    workers: str,
    times: int,
    by: str,
) -> None:
    key = db.value("select create_api_key('shop', 'reader')")
    held, command = systemd
    port = held.getsockname()[1] if by == "systemd" else free_port()
    given: dict[str, Any] = {"WORKERS": workers, "port": port}
    if by == "systemd":
        given |= {"command": command, "pass_fds": [held.fileno()]}
    servers = [Server(database_url, **given)]
    client = Asking(port, key)
    try:
        with client.asks():
            for _ in range(times):
                servers.append(Server(database_url, live=False, **given))
                servers[-1].wait_until_ready()
                asked = list(client.answers)
                servers[-2].stop()
                # Both kinds of clients have been answered meanwhile and are answered afterwards.
                wait_until(lambda before=asked: all(map(gt, client.answers, before)))  # type: ignore[misc]
        assert client.failures == []
    finally:
        for server in servers:
            server.kill()


def test_a_socket_is_handed_to_the_same_user_only(monkeypatch: pytest.MonkeyPatch) -> None:
    port, me = free_port(), os.getuid()
    listener = Listener("127.0.0.1", port)
    for user, given in ((me, 2), (me + 1, 0)):
        with socket.socket(socket.AF_UNIX) as asking, monkeypatch.context() as patched:
            patched.setattr(os, "getuid", lambda user=user: user)
            asking.connect(f"\0segmentation 127.0.0.1 {port}")
            listener.hand_over()
            _, numbers, _, _ = socket.recv_fds(asking, 1, 2)
            for number in numbers:
                os.close(number)
            assert len(numbers) == given
    listener.close()
