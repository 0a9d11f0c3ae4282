"""Everything has a limit: how long, how many, how slow. Beyond it a request is refused with a reason and changes nothing."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any

import pytest
from psycopg.errors import InvalidParameterValue, ObjectNotInPrerequisiteState

from service.schemas import Flags, UserChanged
from tests.conftest import Database
from tests.expect import held, refuses, replace_list, wait_until
from tests.http.conftest import Api, Service
from tests.launcher import Server

PATH = "/v1/users/1000/segments"
CSV = {"Content-Type": "text/csv"}


def connect(server: Server) -> socket.socket:
    """A plain connection with a time-out."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def answer(connection: socket.socket) -> tuple[int, Any, HTTPResponse]:
    """What comes back: status, body, and the response with its headers."""
    response = HTTPResponse(connection)
    response.begin()
    return response.status, json.load(response), response


def head(key: str, *lines: str, path: str = PATH, method: str = "PATCH") -> bytes:
    """The head of a request."""
    first = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    return "".join(f"{line}\r\n" for line in [*first, *lines, ""]).encode()


# -------------------------------------------------------------------------------------------- bodies


@pytest.fixture
def strict(run_server: Callable[..., Server]) -> Server:
    """A server that waits for nobody for more than a moment."""
    return run_server(STALL_TIMEOUT="0.5")


@pytest.mark.parametrize("more", [[], ["Idempotency-Key: slow"]])
def test_a_body_that_comes_too_slowly_is_not_waited_for(
    strict: Server, db: Database, more: list[str]
) -> None:
    key = db.value("select create_api_key('shop', 'editor')")
    with connect(strict) as slow:
        slow.sendall(head(key, "Content-Type: application/json", "Content-Length: 20", *more) + b"{")
        status, problem, _ = answer(slow)
        assert (status, problem["code"]) == (400, "malformed_request")
        assert "0.5 seconds" in problem["detail"]


def test_a_body_is_as_long_as_the_setting_says(serve: Callable[..., Service]) -> None:
    editor = serve(max_body_bytes=1024).as_role("editor")
    fits = b'{"add": []' + b" " * 1013 + b"}"
    assert len(fits) == 1024
    for keyed in ({}, {"Idempotency-Key": "a"}):
        headers = {"Content-Type": "application/json", **keyed}
        editor.is_refused("PATCH", PATH, 422, "invalid_value", content=fits, headers=headers)
        for method, path in (
            ("PATCH", PATH),
            ("POST", "/v1/users/segments"),
            ("POST", "/v1/reports"),
            # Where no body is looked at, none is waited for.
            *([("PUT", "/v1/users/7")] if keyed else []),
        ):
            editor.is_refused(method, path, 413, "payload_too_large", content=b" " + fits, headers=headers)
    flags = editor.send("POST", "/ofrep/v1/evaluate/flags", content=b" " + fits)
    assert (flags.status_code, flags.json()["errorCode"]) == (400, "GENERAL")


# -------------------------------------------------------------------------------------- lists, texts


def test_as_many_segments_as_the_servers_table_of_locks_bears(editor: Api, db: Database) -> None:
    slugs = [f"S{number}" for number in range(1001)]
    db.rows("select create_segment(slug) from unnest(%s::text[]) as slug", slugs)
    for body in ({"add": slugs}, {"add": slugs[:500], "remove": slugs[500:]}):
        problem = editor.is_refused("PATCH", PATH, 422, "invalid_value", json=body)
        assert (problem["segments"], problem["at_most"]) == (1001, 1000)
    unknown = [f"N{number}" for number in range(50_000)]
    problem = editor.is_refused("PATCH", PATH, 422, "invalid_value", json={"add": unknown})
    assert problem["segments"] == 50_000
    assert db.segments_of(1000) == []
    # A set: what is named twice counts once.
    added = editor.does("PATCH", PATH, UserChanged, {"add": slugs[:1000] * 2})
    assert len(added.added) == 1000
    with refuses(InvalidParameterValue, segments=1001, at_most=1000):
        db.rows("select change_user_segments(1000, %s)", slugs)


def test_as_many_flags_as_one_answer_holds(reader: Api, db: Database) -> None:
    def evaluate(number: int) -> Any:
        flags = [f"S{each}" for each in range(number)]
        return reader.send(
            "POST", "/ofrep/v1/evaluate/flags", json={"context": {"targetingKey": "1", "flags": flags}}
        )

    assert len(evaluate(1000).json()["flags"]) == 1000
    refused = evaluate(1001)
    assert (refused.status_code, refused.json()["errorCode"]) == (400, "INVALID_CONTEXT")
    assert "1001" in refused.json()["errorDetails"]
    reader.does("POST", "/ofrep/v1/evaluate/flags", Flags, {"context": {"targetingKey": "1"}})
    with refuses(InvalidParameterValue, flags=1001, at_most=1000):
        db.rows("select ofrep_flags(1, array_fill('A'::text, '{1001}'))")


def test_a_reason_has_2000_characters_wherever_it_is_given(admin: Api, db: Database) -> None:
    db.rows("select create_segment('A')")
    long, longest = "ü" * 2001, "ü" * 2000
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/segments", {"json": {"slug": "B", "reason": ...}}),
        ("PATCH", "/v1/segments/A", {"json": {"description": "new", "reason": ...}}),
        ("PUT", "/v1/segments/A/rollout", {"json": {"percent": 5, "reason": ...}}),
        (
            "PUT",
            "/v1/segments/A/rollout",
            {"json": {"percent": 6, "starts_at": "2099-01-01T00:00:00Z", "reason": ...}},
        ),
        (
            "DELETE",
            "/v1/segments/A/rollout",
            {"params": {"starts_at": "2099-01-01T00:00:00Z", "reason": ...}},
        ),
        ("PATCH", PATH, {"json": {"add": ["A"], "reason": ...}}),
        ("POST", "/v1/segments/A/members", {"params": {"reason": ...}, "content": b"1\n", "headers": CSV}),
        ("DELETE", "/v1/users/1000", {"params": {"reason": ...}}),
        ("DELETE", "/v1/segments/A", {"params": {"reason": ...}}),
    ]

    def filled(parts: dict[str, Any], reason: str) -> dict[str, Any]:
        return {
            name: {key: reason if value is ... else value for key, value in part.items()}
            if isinstance(part, dict)
            else part
            for name, part in parts.items()
        }

    for method, path, parts in writes:
        problem = admin.is_refused(method, path, 422, "invalid_value", **filled(parts, long))
        assert (problem["argument"], problem["length"], problem["at_most"]) == ("reason", 2001, 2000), path
        assert admin.send(method, path, **filled(parts, longest)).is_success, path


def test_an_actor_has_200_characters_in_sql_as_well(db: Database) -> None:
    db.rows("select create_segment('A')")
    calls = (
        "create_segment('B', actor => %s)",
        "create_layer('L', actor => %s)",
        "delete_layer('L', actor => %s)",
        "update_segment('A', 'new', actor => %s)",
        "set_rollout('A', 5, actor => %s)",
        "set_rollout('A', 6, '2099-01-01Z', actor => %s)",
        "cancel_rollout_step('A', '2099-01-01Z', actor => %s)",
        "change_user_segments(1, '{A}', actor => %s)",
        "change_segment_members('A', '{1}', actor => %s)",
        "finish_import('A', actor => %s)",
        "create_report_link('2025-01', actor => %s)",
        "forget_user(1, actor => %s)",
        "delete_segment('A', actor => %s)",
    )
    # None is left out.
    assert {call.partition("(")[0] for call in calls} == set(
        db.column(
            "select proname from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " and pg_get_function_identity_arguments(oid) ~ '\\mactor '"
            " and has_function_privilege('segmentation_admin', oid, 'execute') and proname !~ '^(http|require)_'"
        )
    )
    for call in calls:
        with db.connection.transaction():
            if call.startswith("finish_import"):
                db.rows("select begin_import('A')")
                db.rows("insert into pg_temp.import values (2)")
            too_long = refuses(InvalidParameterValue, argument="actor", length=201, at_most=200)
            with too_long, db.connection.transaction():
                db.rows(f"select {call}", "a" * 201)
            db.rows(f"select {call}", "a" * 200)


def test_a_thousand_steps_of_a_rollout_may_be_planned(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows(
        "insert into segmentation.rollouts (segment_id, salt, percent, starts_at)"
        " select segment_id, salt, n / 20, '2099-01-01Z'::timestamptz + n * interval '1 day'"
        " from segmentation.segments, generate_series(1, 1000) as n"
    )
    with refuses(ObjectNotInPrerequisiteState, planned_steps=1000, at_most=1000):
        db.rows("select set_rollout('A', 7, '2098-01-01Z')")
    # Changing one of them, or the step in force, does not add one.
    db.rows("select set_rollout('A', 77, '2099-01-02Z')")
    db.rows("select set_rollout('A', 78)")
    db.rows("select cancel_rollout_step('A', '2099-01-03Z')")
    db.rows("select set_rollout('A', 7, '2098-01-01Z')")


# ---------------------------------------------------------------------------------------------- time


def test_every_connection_has_the_limits_of_its_kind_of_work(
    serve: Callable[..., Service], db: Database
) -> None:
    service = serve(statement_timeout=7, lock_timeout=6, transfer_timeout=50, idle_transaction_timeout=20)
    shown = (
        "json_build_array(current_setting('statement_timeout'), current_setting('lock_timeout'),"
        " current_setting('idle_in_transaction_session_timeout'), current_setting('role'))"
    )
    replace_list(db, f"return {shown};")
    for role in ("reader", "editor", "admin"):
        answered = service.as_role(role).send("GET", "/v1/segments").json()
        # A call waits for a lock in short turns, up to LOCK_TIMEOUT in all.
        assert answered == ["7s", "100ms", "20s", f"segmentation_{role}"]
    db.rows(
        "create or replace function segmentation.http_finish_import(slug text, operation text, expires_at timestamptz,"
        " ttl_seconds numeric, starts_at timestamptz, actor text, reason text, max_removed bigint default null,"
        " dry_run boolean default false, all_actors boolean default false) returns json"
        f" language plpgsql as $$ begin return {shown}; end $$"
    )
    db.rows("select create_segment('A')")
    editor = service.with_key(service.key("editor", "importer"))
    answered = editor.send("POST", "/v1/segments/A/members", content=b"1\n", headers=CSV).json()
    # An import may have to wait for another import.
    assert answered == ["50s", "50s", "20s", "segmentation_editor"]


def test_a_transfer_takes_only_so_long(serve: Callable[..., Service], db: Database) -> None:
    editor = serve(transfer_timeout=0.2).as_role("editor")
    db.rows("select create_segment('A')")
    db.rows(
        "create or replace function segmentation.segment_members(slug text, at timestamptz default null,"
        " after bigint default null, max_rows integer default null)"
        " returns table (user_id bigint, source text, since timestamptz, until timestamptz) language plpgsql"
        " as $$ begin perform pg_advisory_xact_lock_shared(4711); end $$"
    )
    with held(db):
        # The limits of ordinary calls are longer.
        for headers in ({"Accept": "text/csv"}, {"Accept": "text/csv", "Accept-Encoding": "gzip"}):
            problem = editor.send("GET", "/v1/segments/A/members", headers=headers)
            assert (problem.status_code, problem.json()["code"]) in (
                (504, "statement_timeout"),
                (503, "busy"),
            )
    assert editor.send("GET", "/v1/segments/A/members", headers={"Accept": "text/csv"}).status_code == 200


def test_an_upload_that_goes_on_and_on_takes_only_so_long(
    run_server: Callable[..., Server], db: Database
) -> None:
    db.rows("select create_segment('A')")
    key = db.value("select create_api_key('shop', 'editor')")
    server = run_server(TRANSFER_TIMEOUT="0.5", STALL_TIMEOUT="20")
    begun = time.monotonic()
    with connect(server) as slow:
        slow.sendall(
            head(
                key,
                "Content-Type: text/csv",
                "Content-Length: 9999999",
                path="/v1/segments/A/members",
                method="POST",
            )
        )
        slow.settimeout(0.05)
        received = b""
        for number in range(1, 200):
            slow.sendall(b"%d\n" % number * 1000)
            with suppress(TimeoutError):
                received = slow.recv(65536)
                break
        slow.settimeout(20)
        while not received.endswith(b"}"):
            received += slow.recv(65536)
    assert received.startswith(b"HTTP/1.1 504"), received
    assert b'"statement_timeout"' in received
    assert time.monotonic() - begun < 5
    wait_until(
        lambda: (
            db.value(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and application_name = 'segmentation service (bulk)' and state <> 'idle'"
            )
            == 0
        )
    )
    assert db.value("select assigned from segment_stats('A')") == 0


def test_a_repeated_upload_is_not_waited_for_for_ever_either(
    run_server: Callable[..., Server], db: Database
) -> None:
    db.rows("select create_segment('A')")
    key = db.value("select create_api_key('shop', 'editor')")
    server = run_server(TRANSFER_TIMEOUT="0.5")
    lines = ["Content-Type: text/csv", "Idempotency-Key: a", "Content-Length: 2"]
    request = head(key, *lines, path="/v1/segments/A/members", method="POST")
    with connect(server) as client:
        client.sendall(request + b"1\n")
        assert answer(client)[0] == 200
        client.sendall(request + b"1")
        status, problem, _ = answer(client)
        assert (status, problem["code"]) == (400, "malformed_request")
    with connect(server) as client:
        client.sendall(request + b"1\n")
        status, told, response = answer(client)
        assert (status, told["received"], response.headers["idempotency-replayed"]) == (200, 1, "true")
