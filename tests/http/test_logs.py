"""Request ids in every answer and every line of the log; no secrets in it."""

import json
import logging
import re
from collections.abc import Iterator

import httpx
import pytest

from service.logs import JsonLines, Lines
from tests.conftest import Database
from tests.http.conftest import Api, Run, Service, wait_until_live

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
    db.rows("alter function segmentation.http_users_segments rename to hidden")
    reader.is_refused(
        "GET", "/v1/users/1/segments", 500, "internal_error", headers={"X-Request-ID": "checkout-7"}
    )
    (line,) = lines
    assert line.startswith("ERROR [checkout-7] GET /v1/users/1/segments failed")


def test_neither_key_nor_body_nor_link_is_logged(
    reader: Api, db: Database, lines: list[str], service: Service
) -> None:
    db.rows("alter function segmentation.http_users_segments rename to hidden")
    db.rows("alter function segmentation.linked_pages rename to hidden_report")
    reader.send("POST", "/v1/users/segments", json={"user_ids": [987654321]})
    reader.client.get("/v1/reports/secretsecret.csv")
    text = "\n".join(lines)
    assert text.count("failed") == 2
    assert reader.headers["Authorization"].split()[1] not in text
    assert "987654321" not in text
    assert "secretsecret" not in text
    assert "/v1/reports/***" in text


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


def test_the_server_logs_json_if_told_to(run: Run, port: int) -> None:
    server = run(LOG_FORMAT="json", ACCESS_LOG="true")
    wait_until_live(port, server)
    headers = {"X-Request-ID": "checkout-7", "Authorization": "Bearer sesame"}
    httpx.get(f"http://127.0.0.1:{port}/v1/users/1/segments", headers=headers)
    server.terminate()
    said = server.communicate(timeout=30)[1]
    events = [json.loads(line) for line in said.splitlines()]
    (access,) = (e for e in events if "/v1/users/1/segments" in e["message"])
    assert access["request_id"] == "checkout-7"
    assert "401" in access["message"]
    assert "sesame" not in said
