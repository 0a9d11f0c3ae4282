"""What is mistyped is refused and named, not guessed at or overlooked; what is well meant is taken."""

import gzip
import json
from typing import Any

import pytest

from service.http import parameters
from service.schemas import Members, UserChanged, UserSegments
from tests.conftest import Clock, Database
from tests.http.conftest import Api

PATH = "/v1/users/1000/segments"
MEMBERS = "/v1/segments/A/members"
JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}


@pytest.fixture(autouse=True)
def segment(db: Database, clock: Clock) -> None:
    """There is a segment."""
    db.rows("select create_segment('A')")


@pytest.mark.parametrize(
    ("method", "path", "wrong", "known"),
    [
        ("GET", f"{PATH}?att=2026-11-20T12:00:00Z", "att", "at"),
        ("POST", f"{MEMBERS}?op=remove", "op", "operation"),
        ("POST", f"{MEMBERS}?expire_at=2027-01-01T00:00:00Z", "expire_at", "expires_at"),
        ("GET", "/v1/users/1/history?since=2026-11-20T12:00:00Z", "since", "from"),
        ("PATCH", f"{PATH}?dry_run=true", "dry_run", "none"),
        ("GET", "/v1/segments?limit=1&limit=2", "limit", "more than once"),
        ("GET", f"{PATH}?at=", "at", "RFC 3339"),
        ("GET", f"{PATH}?%61tt", "att", "at"),
        ("GET", "/health/live?x=1", "x", "none"),
        ("GET", "/v1/reports/x.csv?headers=true", "headers", "header"),
    ],
)
def test_a_parameter_that_is_not_there_or_is_given_twice_is_named(
    editor: Api, db: Database, method: str, path: str, wrong: str, known: str
) -> None:
    sent: dict[str, Any] = {"content": b"1\n", "headers": CSV} if method == "POST" else {}
    problem = editor.is_refused(method, path, 400, "malformed_request", **sent)
    assert [error["parameter"] for error in problem["errors"]] == [wrong]
    assert known in problem["detail"]
    assert db.value("select count(*) from segmentation.memberships") == 0


def test_the_parameters_of_a_call_are_found_out_once(reader: Api, clock: Clock) -> None:
    moment = f"{PATH}?at={clock.now:%Y-%m-%dT%H:%M:%SZ}"
    reader.does("GET", moment, UserSegments)
    known = parameters._query_parameters.cache_info().currsize
    reader.does("GET", moment, UserSegments)
    assert parameters._query_parameters.cache_info().currsize == known


@pytest.mark.parametrize("number", ["7.5e3", "1.0", "+1", "-1", "01", "1_0", "%D9%A3", "%201", ""])
def test_a_number_in_a_path_or_a_query_is_digits_and_nothing_else(admin: Api, number: str) -> None:
    paths = [("GET", f"/v1/segments?limit={number}"), ("GET", f"{MEMBERS}?after={number}")]
    if number:
        paths += [("GET", f"/v1/users/{number}/segments"), ("DELETE", f"/v1/users/{number}")]
    for method, path in paths:
        admin.is_refused(method, path, 400, "malformed_request")


@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00%2B01:00", "9999-12-31T23:59:59-23:59"]
)
def test_a_moment_beyond_the_years_1_to_9999_is_impossible_wherever_it_stands(
    admin: Api, moment: str
) -> None:
    for method, path in [
        ("GET", f"{PATH}?at={moment}"),
        ("GET", f"{PATH}/A?at={moment}"),
        ("GET", f"/v1/users/1/history?from={moment}"),
        ("GET", f"/v1/segments/A/growth?to={moment}"),
        ("GET", f"{MEMBERS}?at={moment}"),
        ("DELETE", f"/v1/segments/A/rollout?starts_at={moment}"),
    ]:
        admin.is_refused(method, path, 422, "invalid_value")
    times = {"expires_at": moment.replace("%2B", "+")}
    admin.is_refused("PATCH", PATH, 422, "invalid_value", json={"add": ["A"], **times})
    admin.is_refused("GET", f"{MEMBERS}?at={moment}", 422, "invalid_value", headers={"Accept": "text/csv"})


def test_the_last_microsecond_of_the_year_9999_is_a_moment_and_no_infinity(admin: Api, db: Database) -> None:
    last = "9999-12-31T23:59:59.999999Z"
    admin.does("PATCH", PATH, UserChanged, {"add": ["A"], "expires_at": last})
    assert db.value("select ends_at < 'infinity' from segmentation.memberships")


def test_a_json_body_may_be_zipped_or_begin_with_a_byte_order_mark(editor: Api) -> None:
    body = json.dumps({"add": ["A"]}).encode()
    for content, headers in [
        (gzip.compress(body), {"Content-Encoding": "gzip"}),
        (gzip.compress(body) + b"\0" * 512, {"Content-Encoding": "x-gzip"}),
        (b"\xef\xbb\xbf" + body, {}),
        (body, {"Content-Encoding": "identity"}),
    ]:
        assert editor.send("PATCH", PATH, content=content, headers=JSON | headers).status_code == 200
    refused = editor.send("PATCH", PATH, content=body, headers=JSON | {"Content-Encoding": "br"})
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "gzip")
    bomb = gzip.compress(b" " * 50_000_000)
    zipped = JSON | {"Content-Encoding": "gzip"}
    editor.is_refused("PATCH", PATH, 413, "payload_too_large", content=bomb, headers=zipped)
    editor.is_refused("PATCH", PATH, 400, "malformed_request", content=body, headers=zipped)


def test_a_body_that_is_nested_deeply_is_malformed(editor: Api) -> None:
    deep = b'{"context":{"targetingKey":"1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    flag = "/ofrep/v1/evaluate/flags/A"
    response = editor.send("POST", flag, content=deep, headers=JSON)
    assert (response.status_code, response.json()["errorCode"]) == (400, "PARSE_ERROR")
    editor.is_refused("PATCH", PATH, 400, "malformed_request", content=b"[" * 100_000, headers=JSON)


def test_next_after_is_text_and_is_taken_back_as_it_came(editor: Api, db: Database) -> None:
    db.rows("select change_segment_members('A', array[9007199254740993, 9007199254740994, 9007199254740995])")
    page = editor.get(f"{MEMBERS}?limit=2", Members)
    assert page.next_after == "9007199254740994"
    assert [each.user_id for each in editor.get(f"{MEMBERS}?after={page.next_after}", Members).members] == [
        9007199254740995
    ]


@pytest.mark.parametrize(
    "file",
    [
        b"1\n2\n\n",
        b"1\r\n2\r\n\r\n",
        b"id\n1\n2\n",
        b"userId\n1\n2",
        b"User_ID\r\n1\r\n2\r\n",
        b'"USER_ID"\n"1"\n"2"\n\n\n',
    ],
)
def test_a_list_as_programs_write_it_is_taken(editor: Api, db: Database, file: bytes) -> None:
    padded = gzip.compress(file) + b"\0" * 1000
    for content, encoding in ((file, "identity"), (padded, "gzip")):
        sent = editor.send("POST", MEMBERS, content=content, headers=CSV | {"Content-Encoding": encoding})
        assert (sent.status_code, sent.json()["received"]) == (200, 2), sent.text
    blank = editor.is_refused("POST", MEMBERS, 422, "invalid_value", content=b"1\n\n2\n", headers=CSV)
    assert blank["line"] == 2


def test_an_attribute_that_is_named_flags_does_no_harm_to_one_flag(editor: Api) -> None:
    body = {"context": {"targetingKey": "1", "flags": "red and white"}}
    assert editor.send("POST", "/ofrep/v1/evaluate/flags/A", json=body).status_code == 200
    many = editor.send("POST", "/ofrep/v1/evaluate/flags", json=body)
    assert (many.status_code, many.json()["errorCode"]) == (400, "INVALID_CONTEXT")


def test_a_flag_with_a_slash_in_its_key_is_not_found_as_any_other(editor: Api) -> None:
    response = editor.send("POST", "/ofrep/v1/evaluate/flags/a%2Fb", json={"context": {"targetingKey": "1"}})
    assert (response.status_code, response.json()["errorCode"]) == (404, "FLAG_NOT_FOUND")
    assert response.json()["key"] == "a/b"


def test_blanks_around_an_idempotency_key_are_no_part_of_it(editor: Api) -> None:
    for key in ("a1", "a1 ", " a1"):
        sent = editor.send("PATCH", PATH, json={"add": ["A"]}, headers={"Idempotency-Key": key})
        assert sent.status_code == 200, sent.text


def test_the_secret_of_a_link_stands_in_no_table_and_its_answer_is_given_again(
    editor: Api, db: Database
) -> None:
    body = {"period": "2026-11"}
    first = editor.send("POST", "/v1/reports", json=body, headers={"Idempotency-Key": "report-1"})
    secret = first.json()["url"].rpartition("/")[2].removesuffix(".csv")
    for table in ("idempotency_keys", "report_links"):
        assert secret not in str(db.rows(f"select t::text from segmentation.{table} as t"))
    again = editor.send("POST", "/v1/reports", json=body, headers={"Idempotency-Key": "report-1"})
    assert (again.headers["idempotency-replayed"], again.content) == ("true", first.content)
    assert editor.client.get(first.json()["url"]).status_code == 200


def test_a_link_ends_with_the_key_that_made_it(editor: Api, db: Database) -> None:
    link = editor.send("POST", "/v1/reports", json={"period": "2026-11"}).json()["url"]
    assert editor.client.get(link).status_code == 200
    db.rows("select revoke_api_key('test-editor')")
    assert editor.client.get(link).status_code == 404


def test_what_cannot_be_a_link_costs_the_database_nothing(editor: Api, db: Database) -> None:
    db.rows("alter function segmentation.open_report_link rename to hidden")
    for name in ("x.csv", "%00.csv", "a" * 64, "A" * 64 + ".csv", "x" * 50_000):
        assert editor.client.get(f"/v1/reports/{name}").status_code == 404
    db.rows("alter function segmentation.hidden rename to open_report_link")
    assert editor.client.get(f"/v1/reports/{'a' * 64}.csv").status_code == 404
