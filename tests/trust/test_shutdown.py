"""Told to stop: running requests are answered, idle connections are closed, new ones are refused."""

import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPResponse

import httpx
import pytest

from tests.conftest import Database
from tests.expect import slug_held, wait_until, waiting
from tests.trust.server import Server


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
    # On the same port.
    server.start()


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
                running = [
                    pool.submit(change, 1),
                    pool.submit(change, 2),
                    pool.submit(change, 3, **{"Idempotency-Key": "a"}),
                ]
                wait_until(lambda: waiting(db) == 3)
                server.process.send_signal(signal.SIGTERM)
                # Without a pause: the first of several processes goes on listening, so that it takes a full
                # queue until a connection is no longer made.
                wait_until(lambda: not accepts(server), pause=0)
                # It cuts nothing off: by now it would have happened.
                time.sleep(0.5)
                assert not any(each.done() for each in running)
                half.sendall(b'"add": ["A"]}')
                wait_until(lambda: waiting(db) == 4)
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
