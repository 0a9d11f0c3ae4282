"""Idempotency-Key: a write is done once, however often it is sent, and answered alike each time."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest

from service.database import Database as ServiceDatabase
from service.schemas import Imported, Segment, UserChanged, UsersSegments
from tests.conftest import Clock, Database
from tests.expect import replace_list, slug_held, wait_until, waiting
from tests.http.conftest import Api, Service
from tests.launcher import Server

PATH = "/v1/users/1000/segments"
ADD = {"add": ["A"]}
KEPT = "select count(*) from segmentation.idempotency_keys"


@pytest.fixture(autouse=True)
def segment(db: Database) -> None:
    """A segment to add users to."""
    db.rows("select create_segment('A')")


def send(api: Api, key: str, method: str = "PATCH", path: str = PATH, **kwargs: Any) -> httpx.Response:
    """Send a write with this key."""
    if not {"json", "content"} & kwargs.keys() and method == "PATCH":
        kwargs["json"] = ADD
    headers = {"Idempotency-Key": key, **kwargs.pop("headers", {})}
    response: httpx.Response = api.send(method, path, headers=headers, **kwargs)
    return response


def is_done(response: httpx.Response) -> httpx.Response:
    """Assert that this request made the change itself."""
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
        {"method": "PUT", "path": "/v1/users/1000"},
        {"method": "POST", "path": "/v1/segments/A/members", "content": b"1001\n"},
        {"content": b'{"add": ["NOPE"]}'},
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
    # Forgotten after a day to the second, purged or not.
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
    assert first.json()["changed"] == 1000
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
    is_refused(send(editor, "order-1"), 503, "disk_full")
    assert (db.segments_of(1000), db.events_of(1000)) == ([], [])


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_a_write_with_a_key_that_meets_another_is_tried_twice_and_done_once(
    editor: Api, db: Database, sqlstate: str
) -> None:
    db.rows("create sequence segmentation.attempts")
    db.rows("grant usage on sequence segmentation.attempts to segmentation_editor")

    def meets_another(times: int) -> None:
        db.rows("select setval('segmentation.attempts', 1, false)")
        for name, arguments in (
            (
                "change_user_segments",
                "user_id bigint, add text[], remove text[], expires_at timestamptz, ttl_seconds numeric,"
                " starts_at timestamptz, actor text, reason text",
            ),
            (
                "finish_import",
                "slug text, operation text, expires_at timestamptz, ttl_seconds numeric,"
                " starts_at timestamptz, actor text, reason text, max_removed bigint default null,"
                " dry_run boolean default false, all_actors boolean default false",
            ),
        ):
            db.rows(
                f"create or replace function segmentation.http_{name}({arguments}) returns json language plpgsql as $$"
                " begin perform segmentation.change_user_segments(1000, '{A}');"
                f" if nextval('segmentation.attempts') <= {times} then raise exception 'x' using errcode = '{sqlstate}';"
                """ end if; return '{"done":true}'; end $$"""
            )

    csv: dict[str, Any] = {"content": b"1\n2\n", "headers": {"Content-Type": "text/csv"}}
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("PATCH", PATH, {}),
        ("POST", "/v1/segments/A/members", csv),
    ]
    for number, (method, path, rest) in enumerate(writes):
        meets_another(1)
        first = is_done(send(editor, f"order-{number}", method, path, **rest))
        assert db.value("select last_value from segmentation.attempts") == 2
        is_replay_of(first, send(editor, f"order-{number}", method, path, **rest))
        assert db.value("select last_value from segmentation.attempts") == 2
        assert db.events_of(1000) == [("A", "add", "assigned")]
        # It fails at both tries: nothing is done, nothing is kept, the key is free.
        meets_another(2)
        refused = send(editor, f"late-{number}", method, path, **rest)
        is_refused(refused, 503, "conflict_retry")
        assert refused.headers["retry-after"] == "1"
        assert db.value(KEPT) == number + 1
        is_done(send(editor, f"late-{number}", method, path, **rest))
        db.rows("delete from segmentation.idempotency_keys where idempotency_key like 'late%%'")


def test_a_function_deployed_anew_meanwhile_is_called_all_the_same(
    serve: Callable[..., Service], db: Database
) -> None:
    editor = serve(editor_pool_size=1).as_role("editor")
    is_done(send(editor, "a", "PUT", "/v1/users/7"))
    db.rows("drop function segmentation.register_users(bigint[])")
    db.rows(
        "create function segmentation.register_users(user_ids bigint[]) returns text language sql as"
        " $$ select 'another type' $$"
    )
    is_done(send(editor, "b", "PUT", "/v1/users/8"))
    is_done(editor.send("PUT", "/v1/users/9"))


def test_without_a_key_there_is_no_transaction_and_no_round_trip_for_it(
    editor: Api, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entered(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(ServiceDatabase, "transaction", entered)
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


THOUSAND = 1000


class Crowd:
    """A thousand clients, each with a connection of its own, who send the same request at the same moment."""

    def __init__(self, server: Server, key: str) -> None:
        """Send to this server."""
        self._port = server.port
        self._request = (
            f"PATCH {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: order-1\r\n"
            'Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{"add": ["A"]}'
        ).encode()
        # Status, whether it is a replay, body.
        self.answers: list[tuple[int, bool, bytes]] = []

    def send(self) -> None:
        """Send a thousand requests, and read no answer before all are sent."""
        self.answers = []
        asyncio.run(self._send())

    async def _send(self) -> None:
        opened = [await asyncio.open_connection("127.0.0.1", self._port) for _ in range(THOUSAND)]
        for _, writer in opened:
            writer.write(self._request)
        await asyncio.gather(*(self._read(reader) for reader, _ in opened))
        for _, writer in opened:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        self.answers.append((int(head.split()[1]), b"idempotency-replayed: true" in head, body))


@pytest.fixture
def crowd(run_server: Callable[..., Server], db: Database) -> Crowd:
    """A thousand clients of a server of its own."""
    # They are a thousand however slow the machine is: none is to be told that it waited too long.
    server = run_server(ACQUIRE_TIMEOUT="60", LOCK_TIMEOUT="60", STATEMENT_TIMEOUT="60")
    return Crowd(server, db.value("select create_api_key('shop', 'editor')"))


def was_done_once(db: Database) -> bool:
    """One effect, one event, one answer kept."""
    return (
        db.events_of(1000) == [("A", "add", "assigned")]
        and db.value("select count(*) from segmentation.memberships") == 1
        and db.value(KEPT) == 1
    )


def test_a_thousand_at_once_are_one(crowd: Crowd, db: Database) -> None:
    with ThreadPoolExecutor() as pool:
        with slug_held(db, "A"):
            running = pool.submit(crowd.send)
            deadline = time.monotonic() + 30
            while len(crowd.answers) < THOUSAND - 1 and not running.done() and time.monotonic() < deadline:
                time.sleep(0.05)
            # One of them waits for the slug, and all others are told so: they do run at the same time.
            assert Counter(status for status, _, _ in crowd.answers) == {409: THOUSAND - 1}
            # It asks for the lock again and again, each time for a moment.
            wait_until(lambda: waiting(db) == 1)
        running.result()
    status, is_replay, body = crowd.answers[-1]
    assert (status, is_replay) == (200, False)
    # Again, a thousand at once: a thousand equal answers.
    crowd.send()
    assert Counter(crowd.answers) == {(200, True, body): THOUSAND}
    assert was_done_once(db)


def test_a_thousand_at_once_with_nothing_in_the_way_are_one(crowd: Crowd, db: Database) -> None:
    crowd.send()
    assert {status for status, _, _ in crowd.answers} <= {200, 409}
    done = Counter(each for each in crowd.answers if each[0] == 200)
    ((first, body),) = [(each, each[2]) for each in done if not each[1]]
    assert done.pop(first) == 1
    assert set(done) <= {(200, True, body)}
    assert was_done_once(db)
