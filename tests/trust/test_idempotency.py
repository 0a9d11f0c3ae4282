"""Idempotency-Key: a write is done once, however often it is sent, and answered alike each time."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import Any

import httpx
import msgspec
import pytest

from service.database import Database as ServiceDatabase
from service.schemas import Imported, Segment, UserChanged, UsersSegments
from tests.conftest import Clock, Database
from tests.http.conftest import Api, Service
from tests.http.test_faults import replace_list, wait_until, waiting
from tests.trust.server import Server

PATH = "/v1/users/1000/segments"
ADD = {"add": ["A"]}
KEPT = "select count(*) from segmentation.idempotency_keys"


@pytest.fixture(autouse=True)
def segment(db: Database) -> None:
    """There is a segment to be put into."""
    db.rows("select create_segment('A')")


def send(api: Api, key: str, method: str = "PATCH", path: str = PATH, **kwargs: Any) -> httpx.Response:
    """Send a write with this key."""
    if not {"json", "content"} & kwargs.keys() and method == "PATCH":
        kwargs["json"] = ADD
    headers = {"Idempotency-Key": key, **kwargs.pop("headers", {})}
    response: httpx.Response = api.send(method, path, headers=headers, **kwargs)
    return response


def is_done(response: httpx.Response) -> httpx.Response:
    """Assert that this very request did it."""
    assert response.is_success, response.text
    assert "idempotency-replayed" not in response.headers
    return response


def is_replay_of(first: httpx.Response, response: httpx.Response) -> None:
    """Assert that this is the first one's answer, given again."""
    assert response.headers["idempotency-replayed"] == "true"
    same = ("content-type", "content-length", "location")
    assert (response.status_code, response.content) == (first.status_code, first.content)
    assert [response.headers.get(name) for name in same] == [first.headers.get(name) for name in same]


def is_refused(response: httpx.Response, status: int, code: str) -> None:
    """Assert this error."""
    assert (response.status_code, response.json().get("code")) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert "idempotency-replayed" not in response.headers


@contextmanager
def slug_held(db: Database, slug: str) -> Iterator[None]:
    """Hold a slug, so that whoever changes its members waits."""
    both = "hashtext('segmentation.segments'), hashtext(%s)"
    db.rows(f"select pg_advisory_lock({both})", slug)
    try:
        yield
    finally:
        db.rows(f"select pg_advisory_unlock({both})", slug)


def test_the_stored_answer_is_given_again_and_nothing_happens_twice(editor: Api, db: Database) -> None:
    first = is_done(send(editor, "order-1"))
    assert first.json()["added"] == ["A"]
    db.rows("select change_user_segments(1000, remove => '{A}')")
    for _ in range(3):
        is_replay_of(first, send(editor, "order-1"))
    assert db.segments_of(1000) == []
    assert [operation for _, operation, _ in db.events_of(1000)] == ["add", "remove"]


def test_a_key_in_quotes_and_bare_is_the_same_key(editor: Api) -> None:
    first = is_done(send(editor, "order-1"))
    is_replay_of(first, send(editor, '"order-1"'))
    spaced = is_done(send(editor, '"order 2"', json={"remove": ["A"]}))
    is_replay_of(spaced, send(editor, '"order 2"', json={"remove": ["A"]}))


@pytest.mark.parametrize(
    "key", ["", '""', '"', '"a', 'a"', 'a"b', "a b", "a" * 256, f'"{"a" * 256}"', b"\xc3\xa9", '"a\tb"']
)
def test_a_key_that_is_none_is_refused(editor: Api, db: Database, key: Any) -> None:
    response = editor.send("PATCH", PATH, json=ADD, headers={"Idempotency-Key": key})
    is_refused(response, 400, "malformed_request")
    assert response.json()["errors"][0]["parameter"] == "Idempotency-Key"
    assert db.segments_of(1000) == []


def test_two_keys_in_one_request_are_refused(service: Service) -> None:
    key = service.key("editor")
    headers = [("Authorization", f"Bearer {key}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    is_refused(service.client.patch(PATH, json=ADD, headers=headers), 400, "malformed_request")


def test_a_key_may_be_as_long_as_255_characters(editor: Api) -> None:
    first = is_done(send(editor, "k" * 255))
    is_replay_of(first, send(editor, f'"{"k" * 255}"'))


def test_a_key_used_for_another_request_is_refused(editor: Api, db: Database) -> None:
    is_done(send(editor, "order-1"))
    for other in (
        {"json": {"add": ["A"], "reason": "another body"}},
        {"path": "/v1/users/1001/segments"},
        {"path": f"{PATH}?another=query"},
        {"method": "PUT", "path": "/v1/users/1000"},
        {"method": "POST", "path": "/v1/segments/A/members", "content": b"1001\n"},
        {"content": b'{"add": ["NOPE"]}'},
        {"content": b"no JSON at all"},
    ):
        is_refused(send(editor, "order-1", **other), 422, "idempotency_key_reused")
    assert db.segments_of(1001) == []
    assert db.value(KEPT) == 1


def test_while_the_first_is_running_the_second_is_told_to_come_again(editor: Api, db: Database) -> None:
    with ThreadPoolExecutor() as pool:
        with slug_held(db, "A"):
            running = pool.submit(send, editor, "order-1")
            wait_until(lambda: waiting(db) == 1)
            second = send(editor, "order-1")
            is_refused(second, 409, "in_progress")
            assert second.headers["retry-after"] == "1"
            # Another key is another request.
            is_done(send(editor, "order-2", "PUT", "/v1/users/1001"))
        first = is_done(running.result())
    is_replay_of(first, send(editor, "order-1"))


def test_a_key_whose_request_broke_off_is_free_again(editor: Api, db: Database) -> None:
    with ThreadPoolExecutor() as pool, slug_held(db, "A"):
        running = pool.submit(send, editor, "order-1")
        wait_until(lambda: waiting(db) == 1)
        db.rows(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        is_refused(running.result(), 503, "database_unavailable")
    is_done(send(editor, "order-1"))
    assert len(db.events_of(1000)) == 1


def test_an_answer_is_kept_for_a_day_and_then_purged(editor: Api, db: Database, clock: Clock) -> None:
    first = is_done(send(editor, "order-1"))
    clock.advance(hours=23, minutes=59, seconds=59)
    is_replay_of(first, send(editor, "order-1"))
    assert db.value("select purge_expired()") == 0
    clock.advance(seconds=1)
    # Forgotten to the second, purged or not.
    assert is_done(send(editor, "order-1")).json()["unchanged"] == ["A"]
    clock.advance(hours=24)
    assert (db.value("select purge_expired()"), db.value(KEPT)) == (1, 0)


def test_the_keys_of_two_callers_are_two_keys(service: Service, db: Database) -> None:
    one, other = (service.with_key(service.key("editor", name)) for name in ("shop", "app"))
    is_done(send(one, "order-1"))
    assert is_done(send(other, "order-1", json={"remove": ["A"]})).json()["removed"] == ["A"]
    assert db.value(KEPT) == 2


def test_an_error_is_not_kept_since_the_next_try_may_succeed(editor: Api, db: Database) -> None:
    body = {"add": ["LATER"]}
    is_refused(send(editor, "order-1", json=body), 422, "unknown_segments")
    is_refused(send(editor, "order-1", json={"nonsense": 1}), 400, "malformed_request")
    assert db.value(KEPT) == 0
    db.rows("select create_segment('LATER')")
    is_replay_of(is_done(send(editor, "order-1", json=body)), send(editor, "order-1", json=body))


def test_a_key_changes_nothing_in_what_a_role_may_do(service: Service, db: Database) -> None:
    for role, method, path in (
        ("reader", "PUT", "/v1/users/1"),
        ("reader", "PATCH", PATH),
        ("editor", "DELETE", "/v1/users/1"),
        ("editor", "POST", "/v1/segments"),
    ):
        api = service.with_key(service.key(role, f"{role}-{method}"))
        body = {"json": {"slug": "B"}} if method == "POST" else {}
        is_refused(send(api, "order-1", method, path, **body), 403, "forbidden")
    assert db.value(KEPT) == 0
    is_refused(send(service.with_key(None), "order-1"), 401, "unauthorized")


def test_a_call_that_only_reads_takes_no_notice_of_a_key(reader: Api, db: Database) -> None:
    for user_ids in ([1, 2], [3]):
        response = send(reader, "order-1", "POST", "/v1/users/segments", json={"user_ids": user_ids})
        assert [user["user_id"] for user in is_done(response).json()["users"]] == user_ids
    is_done(send(reader, "order-1", "GET", PATH))
    assert db.value(KEPT) == 0


def test_every_kind_of_write_is_answered_again_alike(admin: Api, db: Database) -> None:
    writes: list[tuple[str, str, Any]] = [
        ("POST", "/v1/segments", {"slug": "B", "percent": 33.3}),
        ("PATCH", "/v1/segments/B", {"description": "nééw"}),
        ("PUT", "/v1/segments/B/rollout", {"percent": 50}),
        ("PUT", "/v1/segments/B/rollout", {"percent": 60, "starts_at": "2099-01-01T00:00:00Z"}),
        ("DELETE", "/v1/segments/B/rollout?starts_at=2099-01-01T00:00:00Z", None),
        ("PATCH", PATH, {"add": ["B"]}),
        ("PUT", "/v1/users/7", None),
        ("POST", "/v1/reports", {"period": time.strftime("%Y-%m", time.gmtime())}),
        ("DELETE", "/v1/users/1000", None),
        ("DELETE", "/v1/segments/B", None),
    ]
    firsts = [
        is_done(send(admin, f"write-{number}", method, path, json=body))
        for number, (method, path, body) in enumerate(writes)
        if method != "DELETE" or path != "/v1/users/1000"
    ]
    assert [first.status_code for first in firsts] == [201, 200, 200, 200, 200, 200, 204, 201, 204]
    assert firsts[0].headers["location"] == "/v1/segments/B"
    repeated = [
        send(admin, f"write-{number}", method, path, json=body)
        for number, (method, path, body) in enumerate(writes)
        if method != "DELETE" or path != "/v1/users/1000"
    ]
    for first, again in zip(firsts, repeated, strict=True):
        is_replay_of(first, again)
    # Forgetting a user forgets what was answered about the user.
    forgotten = is_done(send(admin, "write-8", "DELETE", "/v1/users/1000"))
    is_replay_of(forgotten, send(admin, "write-8", "DELETE", "/v1/users/1000"))
    assert db.value(f"{KEPT} where idempotency_key = 'write-5'") == 0


def test_an_import_is_done_once(editor: Api, db: Database) -> None:
    def lines(of: Iterable[int]) -> Iterator[bytes]:
        for user_id in of:
            yield f"{user_id}\n".encode()

    def post(key: str, users: Iterable[int]) -> httpx.Response:
        return send(
            editor,
            key,
            "POST",
            "/v1/segments/A/members",
            content=lines(users),
            headers={"Content-Type": "text/csv"},
        )

    first = is_done(post("import-1", range(1, 1001)))
    assert first.json() == {"received": 1000, "changed": 1000, "unchanged": 0}
    is_replay_of(first, post("import-1", range(1, 1001)))
    is_refused(post("import-1", range(1, 1002)), 422, "idempotency_key_reused")
    is_refused(post("import-2", [0]), 422, "invalid_value")
    assert is_done(post("import-2", [1001])).json()["changed"] == 1
    assert db.value("select count(*) from segmentation.memberships") == 1001


def test_an_effect_whose_answer_cannot_be_kept_is_undone(editor: Api, db: Database) -> None:
    db.rows(
        "create or replace function segmentation.keep_answer(api_key text, idempotency_key text,"
        " fingerprint bytea, path text, status integer, location text, answer text) returns void"
        " language plpgsql as $$ begin raise exception 'x' using errcode = '53100'; end $$"
    )
    is_refused(send(editor, "order-1"), 503, "database_unavailable")
    assert (db.segments_of(1000), db.events_of(1000)) == ([], [])


def test_without_a_key_there_is_no_transaction_and_no_round_trip_for_it(
    editor: Api, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entered(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(ServiceDatabase, "whole_request", entered)
    monkeypatch.setattr(ServiceDatabase, "_transaction", entered)
    assert editor.does("PATCH", PATH, UserChanged, ADD).added == ["A"]
    editor.does("POST", "/v1/users/segments", UsersSegments, {"user_ids": [1000]})
    replace_list(db, "")
    assert editor.send("GET", "/v1/segments", headers={"Idempotency-Key": "order-1"}).status_code == 200
    assert send(editor, "order-1").status_code == 500


def test_answers_with_a_key_have_the_schema_of_those_without(admin: Api) -> None:
    def decoded(response: httpx.Response, schema: Any) -> Any:
        return msgspec.json.decode(response.content, type=schema, strict=True)

    for _ in range(2):
        assert decoded(send(admin, "a"), UserChanged).added == ["A"]
        created = send(admin, "b", "POST", "/v1/segments", json={"slug": "B"})
        assert decoded(created, Segment).slug == "B"
        body: dict[str, Any] = {"content": b"1\n2\n", "headers": {"Content-Type": "text/csv"}}
        imported = send(admin, "c", "POST", "/v1/segments/A/members", **body)
        assert decoded(imported, Imported).changed == 2


def test_a_client_that_sends_slowly_holds_no_connection(
    run_server: Callable[..., Server], db: Database
) -> None:
    server = run_server(EDITOR_POOL_SIZE="1", ACQUIRE_TIMEOUT="1")
    key = db.value("select create_api_key('shop', 'editor')")
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(
            f"PATCH {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: slow\r\n"
            "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{".encode()
        )
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "quick"}
        for _ in range(3):
            assert httpx.patch(server.url + PATH, json=ADD, headers=headers).status_code == 200
        slow.sendall(b'"add": ["A"]}')
        assert slow.recv(12) == b"HTTP/1.1 200"


def test_a_thousand_at_once_are_one(run_server: Callable[..., Server], db: Database) -> None:
    server = run_server()
    key = db.value("select create_api_key('shop', 'editor')")

    async def all_at_once() -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "order-1"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:

            async def some() -> list[httpx.Response]:
                return [await client.patch(PATH, json=ADD) for _ in range(25)]

            return list(chain.from_iterable(await asyncio.gather(*(some() for _ in range(40)))))

    with ThreadPoolExecutor() as pool:
        with slug_held(db, "A"):
            answers = pool.submit(asyncio.run, all_at_once())
            wait_until(lambda: waiting(db) == 1)
            # The first is running now, and others come.
            time.sleep(0.3)
        responses = answers.result()
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 409}
    done = [response for response in responses if response.status_code == 200]
    assert len({response.content for response in done}) == 1
    assert sum("idempotency-replayed" not in response.headers for response in done) == 1
    assert db.events_of(1000) == [("A", "add", "assigned")]
    assert db.value("select count(*) from segmentation.memberships") == 1
    assert db.value(KEPT) == 1
