"""Request ids in every answer and every line of the log; no secrets in it."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from service.http.logs import JsonLines, Lines
from tests.conftest import Database
from tests.http.conftest import Api, Service
from tests.launcher import Server

GENERATED = re.compile("[0-9a-f]{32}")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged, as lines of text."""
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(self.format(record))

    handler = Keep()
    handler.setFormatter(Lines("%(levelname)s [%(request_id)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    yield seen
    logging.getLogger().removeHandler(handler)


def test_every_answer_carries_the_id_that_came(reader: Api, service: Service) -> None:
    sent = {"X-Request-ID": "checkout-7/a:b@c"}
    for method, path, status in [
        ("GET", "/v1/users/1/segments", 200),
        ("PUT", "/v1/users/1", 403),
        ("GET", "/v1/users/0/segments", 422),
        ("GET", "/v1/segments/NOPE", 404),
        ("GET", "/nowhere", 404),
        ("TRACE", "/v1/segments", 405),
        ("GET", "/health/live", 200),
        ("GET", "/docs", 200),
        ("GET", "/v1/reports/x.csv", 404),
        ("POST", "/ofrep/v1/evaluate/flags", 400),
    ]:
        response = reader.send(method, path, headers=sent)
        assert response.status_code == status, (path, response.text)
        assert response.headers.get_list("x-request-id") == ["checkout-7/a:b@c"], path
    assert service.with_key(None).send("GET", "/v1/segments", headers=sent).headers["x-request-id"]


def test_without_a_good_one_each_request_gets_an_id(reader: Api) -> None:
    ids = set()
    for bad in (None, "", "a b", "a\tb", "x" * 129, "é".encode(), '{"a":1}'):
        headers = {} if bad is None else {"X-Request-ID": bad}
        response = reader.send("GET", "/v1/users/1/segments", headers=headers)
        assert GENERATED.fullmatch(response.headers["x-request-id"])
        ids.add(response.headers["x-request-id"])
    assert len(ids) == 7


def test_a_failure_is_logged_under_the_id(reader: Api, db: Database, lines: list[str]) -> None:
    db.rows("alter function segmentation.http_user_segments_each rename to hidden")
    reader.is_refused(
        "GET", "/v1/users/1/segments", 500, "internal_error", headers={"X-Request-ID": "checkout-7"}
    )
    (line,) = lines
    assert line.startswith("ERROR [checkout-7] GET /v1/users/{user_id}/segments failed")


def test_neither_key_nor_body_nor_link_is_logged(
    reader: Api, db: Database, lines: list[str], service: Service
) -> None:
    db.rows("alter function segmentation.http_users_segments rename to hidden")
    db.rows("alter function segmentation.open_report_link rename to hidden_report")
    reader.send("POST", "/v1/users/segments", json={"user_ids": [987654321]})
    reader.client.get(f"/v1/reports/{'5ec2e7' + '0' * 58}.csv")
    text = "\n".join(lines)
    assert text.count("failed") == 2
    assert reader.headers["Authorization"].split()[1] not in text
    assert "987654321" not in text
    assert "5ec2e7" not in text
    assert "/v1/reports/{file_name}" in text


def test_postgresql_logs_what_fails_and_what_is_slow_under_the_id(
    editor: Api, db: Database, server_log: Callable[[], str]
) -> None:
    db.rows("select create_segment('A')")
    db.rows(f"alter database {db.value('select current_database()')} set log_min_duration_statement = 0")
    csv = {"Content-Type": "text/csv"}
    calls: list[tuple[str, str, int, dict[str, Any]]] = [
        ("GET", "/v1/users/1/segments/A", 200, {}),
        ("PATCH", "/v1/users/1/segments", 200, {"json": {"add": ["A"]}}),
        ("PATCH", "/v1/users/1/segments", 422, {"json": {"add": ["NOPE"]}}),
        ("GET", "/v1/segments/NOPE", 404, {}),
        ("POST", "/v1/segments/A/members", 200, {"content": b"1\n", "headers": csv}),
        ("POST", "/v1/segments/A/members", 422, {"content": b"x\n", "headers": csv}),
    ]
    for number, (method, path, status, sent) in enumerate(calls):
        for key in ({}, {"Idempotency-Key": f"key-{number}"}) if method != "GET" else ({},):
            request_id = f"a-long-enough-request-id-of-{number}-{len(key)}"
            headers = {**sent.get("headers", {}), **key, "X-Request-ID": request_id}
            assert editor.send(method, path, **{**sent, "headers": headers}).status_code == status
            kind = "LOG:  duration: " if status == 200 else "ERROR: "
            lines = [
                line for line in server_log().splitlines() if f" segmentation service {request_id}: " in line
            ]
            assert any(kind in line for line in lines), (method, path, server_log()[-2000:])


def test_what_a_client_asks_wrongly_is_one_line_of_postgresqls_log(
    database_url: str, db: Database, server_log: Callable[[], str]
) -> None:
    db.rows("alter role segmentation_service password 'sesame'")
    login = make_conninfo(database_url, user="segmentation_service", password="sesame")
    with psycopg.connect(login) as service, pytest.raises(psycopg.errors.ForeignKeyViolation):
        service.execute("set role segmentation_editor")
        service.execute("select segmentation.change_user_segments(1, '{NOPE}')")
    (line,) = server_log().splitlines()
    assert line.endswith("ERROR:  unknown segments: NOPE")


def test_postgresqls_log_is_readable_by_its_owner_only(db: Database, server_log: Callable[[], str]) -> None:
    assert server_log() == ""
    assert Path(f"/proc/{db.value('select pg_backend_pid()')}/fd/2").stat().st_mode & 0o077 == 0


def test_postgresql_names_the_request_while_it_runs_and_no_longer(reader: Api, db: Database) -> None:
    named = "select count(*) from pg_stat_activity where application_name = 'segmentation service checkout-7'"
    with ThreadPoolExecutor() as pool:
        with db.connection.transaction():
            db.rows("lock table segmentation.users")
            path = "/v1/users/1/history"
            waiting = pool.submit(reader.send, "GET", path, headers={"X-Request-ID": "checkout-7"})
            deadline = time.monotonic() + 10
            while db.value(named) == 0:
                assert time.monotonic() < deadline
                db.rows("select pg_stat_clear_snapshot()")
        assert waiting.result().status_code == 200
    assert db.value(named) == 0


def test_json_lines_are_json() -> None:
    try:
        raise ValueError('a "quoted"\nerror')
    except ValueError as error:
        record = logging.makeLogRecord(
            {
                "msg": "%s\nfailed",
                "args": ("é",),
                "levelname": "ERROR",
                "name": "x",
                "created": 0.005,
            }
        )
        record.exc_info = (type(error), error, error.__traceback__)
    line = JsonLines().format(record)
    assert "\n" not in line
    event = json.loads(line)
    assert event["time"] == "1970-01-01T00:00:00.005000Z"
    assert (event["level"], event["logger"], event["message"]) == ("error", "x", "é\nfailed")
    assert 'ValueError: a "quoted"\nerror' in event["exception"]


def test_the_server_logs_json_if_told_to(run_server: Callable[..., Server]) -> None:
    server = run_server(LOG_FORMAT="json", ACCESS_LOG="true")
    headers = {"X-Request-ID": "checkout-7", "Authorization": "Bearer sesame"}
    httpx.get(f"{server.url}/v1/users/1/segments", headers=headers)
    said = server.stop()
    events = [json.loads(line) for line in said.splitlines()]
    (access,) = (e for e in events if e.get("route") == "/v1/users/{user_id}/segments")
    assert access["request_id"] == "checkout-7"
    assert (access["method"], access["status"], access["key"]) == ("GET", 401, None)
    assert 0 < access["milliseconds"] < 60_000
    assert "sesame" not in said
    assert "/v1/users/1/" not in said


def test_an_event_is_one_line_whatever_is_in_it(lines: list[str]) -> None:
    forged = "x\n2026-01-01 ERROR forged: y"
    logging.getLogger("test").error("%s", forged)
    (line,) = lines
    assert all(more.startswith("    ") for more in line.split("\n")[1:])
