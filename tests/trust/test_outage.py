"""The database is full, silent, or replaced: 503 meanwhile, and service again without a restart."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.conftest import Database
from tests.expect import wait_until
from tests.http.conftest import Service
from tests.launcher import Server


def is_unavailable(response: httpx.Response) -> None:
    """Assert the answer that every call gets while the database is away."""
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable"), response.text
    assert response.headers["retry-after"] == "1"
    assert response.headers["content-type"] == "application/problem+json"


@pytest.fixture
def with_few_slots(db: Database, database_url: str) -> Iterator[str]:
    """The URL of a login like the service's own, whose number of connections can be limited."""
    db.rows(
        "create role slots login password 'secret' noinherit"
        " in role segmentation_reader, segmentation_editor, segmentation_admin, segmentation_service"
    )
    yield "postgresql://slots:secret@" + database_url.rpartition("@")[2]
    db.rows("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'slots'")
    db.rows("drop role slots")


def test_while_all_connection_slots_are_taken_those_that_have_one_go_on(
    serve: Callable[..., Service], db: Database, with_few_slots: str
) -> None:
    db.rows("select create_segment('A')")
    service = serve(database_url=with_few_slots, api_key_cache_seconds=60)
    reader, editor = service.as_role("reader"), service.as_role("editor")
    csv = {"content": b"1\n", "headers": {"Content-Type": "text/csv"}}
    assert reader.send("GET", "/v1/segments").status_code == 200
    assert reader.send("GET", "/v1/users/1/segments").status_code == 200
    # The editor's key is known now, and no connection of the editors' pool was needed for that.
    assert editor.send("GET", "/v1/users/1/segments").status_code == 200
    db.rows("alter role slots connection limit 0")
    for _ in range(2):
        # With connections that there are: the reader's pool has one, and so have the shared reads.
        assert reader.send("GET", "/v1/segments").status_code == 200
        assert reader.send("GET", "/v1/users/1/segments").status_code == 200
        is_unavailable(editor.send("PUT", "/v1/users/2"))
        is_unavailable(editor.send("PUT", "/v1/users/2", headers={"Idempotency-Key": "a"}))
        is_unavailable(editor.send("POST", "/v1/segments/A/members", **csv))
        is_unavailable(editor.send("GET", "/v1/segments/A/members", headers={"Accept": "text/csv"}))
    db.rows("alter role slots connection limit -1")
    editor.does_silently("PUT", "/v1/users/2")
    assert editor.send("POST", "/v1/segments/A/members", **csv).status_code == 200


@contextmanager
def frozen(db: Database) -> Iterator[None]:
    """All of PostgreSQL's processes for the service stand still: no answer and no refusal comes."""
    pids = db.column(
        "select pid from pg_stat_activity where datname = current_database()"
        " and application_name like 'segmentation service%'"
    )
    assert len(pids) >= 3
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_a_database_that_falls_silent_is_not_waited_for_for_ever(
    run_server: Callable[..., Server], db: Database
) -> None:
    server = run_server(STATEMENT_TIMEOUT="0.5", ACQUIRE_TIMEOUT="0.5")
    key = db.value("select create_api_key('shop', 'editor')")
    paths = ("/v1/segments", "/v1/users/1/segments")
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        for path in paths:
            assert client.get(path).status_code == 200
        with frozen(db), ThreadPoolExecutor() as pool:
            for response in pool.map(client.get, paths):
                is_unavailable(response)
            # The process itself is well meanwhile.
            assert client.get("/health/live").status_code == 200
        for path in paths:
            wait_until(lambda path=path: client.get(path).status_code == 200)  # type: ignore[misc]
