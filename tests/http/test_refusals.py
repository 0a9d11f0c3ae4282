"""What the service refuses, with which status and code; and that a refusal changes nothing."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Clock, Database
from tests.http.conftest import Api, Service

SEGMENTS = "/v1/users/1000/segments"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def nothing_changes(db: Database, clock: Clock, unchanged: Callable[[], bool]) -> Iterator[None]:
    """Two segments and a user, which are the same after the test."""
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B')")
    db.rows("select change_user_segments(1000, array['A'])")
    unchanged()
    yield
    assert unchanged()


def test_unknown_segments_are_named(editor: Api) -> None:
    body = {"add": ["A", "NOPE"], "remove": ["NEITHER"]}
    problem = editor.is_refused("PATCH", SEGMENTS, 422, "unknown_segments", json=body)
    assert sorted(problem["unknown_segments"]) == ["NEITHER", "NOPE"]
    assert problem["hint"]


def test_a_segment_cannot_be_added_and_removed_at_once(editor: Api) -> None:
    body = {"add": ["A", "B"], "remove": ["B"]}
    problem = editor.is_refused("PATCH", SEGMENTS, 422, "invalid_value", json=body)
    assert ["B"] in problem.values()


def test_an_empty_change_is_refused(editor: Api) -> None:
    editor.is_refused("PATCH", SEGMENTS, 422, "invalid_value", json={})
    editor.is_refused("PATCH", SEGMENTS, 422, "invalid_value", json={"add": [], "remove": []})


def test_times_that_cannot_be_are_refused(editor: Api) -> None:
    impossible: list[dict[str, Any]] = [
        {"expires_at": "2026-11-20T11:59:59Z"},
        {"expires_at": "2026-11-20T12:00:00Z"},
        {"starts_at": "2026-11-21T00:00:00Z", "expires_at": "2026-11-20T23:00:00Z"},
        {"starts_at": "2026-11-19T00:00:00Z"},
        {"ttl_seconds": 0},
        {"ttl_seconds": -5},
        {"ttl_seconds": 1e300},
        {"ttl_seconds": 60, "expires_at": "2027-01-01T00:00:00Z"},
        {"expires_at": "0001-01-01T00:00:00+14:00"},
    ]
    for times in impossible:
        editor.is_refused("PATCH", SEGMENTS, 422, "invalid_value", json={"add": ["B"], **times})


def test_a_percentage_lies_between_0_and_100_with_three_decimals(admin: Api) -> None:
    for percent in (101, -1, 100.001, 33.3333, 1e300):
        new = {"slug": "C", "percent": percent}
        admin.is_refused("POST", "/v1/segments", 422, "invalid_value", json=new)
        admin.is_refused("PUT", "/v1/segments/A/rollout", 422, "invalid_value", json={"percent": percent})


def test_a_slug_that_cannot_be_is_refused(admin: Api) -> None:
    for slug in ("a;drop table users", "a b", "x" * 101, "", "-a", "=1+1", "ä", "a\n", "a\u0000"):
        admin.is_refused("POST", "/v1/segments", 422, "invalid_value", json={"slug": slug})
        assert admin.send("PATCH", SEGMENTS, json={"add": [slug]}).status_code == 422


def test_a_segment_that_is_not_there_is_not_found(admin: Api) -> None:
    for path, method, body in [
        ("/v1/segments/NOPE", "GET", None),
        ("/v1/segments/NOPE", "PATCH", {"description": "new"}),
        ("/v1/segments/NOPE", "DELETE", None),
        ("/v1/segments/NOPE/rollout", "PUT", {"percent": 1}),
        ("/v1/segments/NOPE/rollout?starts_at=2027-01-01T00:00:00Z", "DELETE", None),
        ("/v1/segments/NOPE/stats", "GET", None),
        ("/v1/segments/NOPE/history", "GET", None),
        ("/v1/users/1000/segments/NOPE", "GET", None),
    ]:
        problem = admin.is_refused(method, path, 404, "not_found", json=body)
        assert "NOPE" in problem["detail"]
        assert problem["hint"]


def test_a_path_may_hold_anything(admin: Api) -> None:
    for slug in ("a", "a;drop%20table%20users", "x" * 101, "%00", "%F0%9F%92%A9", "%25", "..%2f", "'"):
        for path in (f"/v1/segments/{slug}", f"/v1/segments/{slug}/stats", f"{SEGMENTS}/{slug}"):
            assert admin.send("GET", path).status_code in (400, 404, 422)


def test_an_empty_part_of_a_path_is_not_left_out(admin: Api) -> None:
    for path in (
        "/v1/users/7%2F",
        "/v1/users//7",
        "/v1//users/7",
        "/v1/users/7%2f/segments",
        "/v1/users/%2F7",
    ):
        problem = admin.is_refused("DELETE", path, 400, "malformed_request")
        assert problem["detail"].startswith("Path: ")
    assert admin.send("DELETE", "/v1/users/7/").status_code == 204


def test_a_slug_is_taken_once(admin: Api) -> None:
    problem = admin.is_refused("POST", "/v1/segments", 409, "already_exists", json={"slug": "A"})
    assert "A" in problem["detail"]


def test_a_step_that_is_not_planned_cannot_be_cancelled(admin: Api) -> None:
    path = "/v1/segments/A/rollout?starts_at=2027-01-01T00:00:00Z"
    assert admin.send("DELETE", path).status_code in (404, 422)


def test_a_user_id_that_cannot_be_is_named(admin: Api) -> None:
    for user_id in ("0", "9223372036854775808", "1" + "0" * 30):
        for method, path, body in [
            ("GET", "/segments", None),
            ("GET", "/segments?at=2026-11-20T12:00:00Z", None),
            ("PATCH", "/segments", {"add": ["A"]}),
            ("GET", "/segments/A", None),
            ("GET", "/history", None),
            ("PUT", "", None),
            ("DELETE", "", None),
        ]:
            problem = admin.is_refused(method, f"/v1/users/{user_id}{path}", 422, "invalid_value", json=body)
            assert user_id in problem["detail"]
        many = f'{{"user_ids":[1000,{user_id}]}}'
        path = "/v1/users/segments"
        problem = admin.is_refused("POST", path, 422, "invalid_value", content=many, headers=JSON)
        assert user_id in problem["detail"]


def test_a_user_id_is_a_number(admin: Api) -> None:
    for user_id in ("abc", "-1", "1.5", "0x10", "1_000", "%20", "%00", "٣", "007", "null"):
        problem = admin.is_refused("GET", f"/v1/users/{user_id}/segments", 400, "malformed_request")
        assert [error["parameter"] for error in problem["errors"]] == ["user_id"]


def test_more_than_10000_users_at_once_are_too_many(reader: Api) -> None:
    body = {"user_ids": list(range(1, 10_002))}
    problem = reader.is_refused("POST", "/v1/users/segments", 422, "invalid_value", json=body)
    assert problem["detail"] == "the number of user_ids must be from 1 to 10000, not 10001"


def test_a_page_has_at_least_one_row(reader: Api) -> None:
    for limit in ("0", "99999999999"):
        problem = reader.is_refused("GET", f"/v1/segments?limit={limit}", 422, "invalid_value")
        assert limit in problem["detail"]
        assert problem["hint"]


def test_a_history_ends_after_it_begins(reader: Api) -> None:
    window = "from=2026-11-21T00:00:00Z&to=2026-11-20T00:00:00Z"
    for call in ("users/1000/history", "segments/A/growth"):
        problem = reader.is_refused("GET", f"/v1/{call}?{window}", 422, "invalid_value")
        # By the names of the parameters, which in psql are others.
        assert problem["from"].startswith("2026-11-21")
        assert problem["to"].startswith("2026-11-20")


def test_a_time_in_a_query_has_its_offset(reader: Api) -> None:
    without = ["2026-11-20T12:00:00", "2026-11-20", "2026", "1700000000", "now", "", "infinity"]
    # In a query + is a blank.
    for time in [*without, "2026-13-01T00:00:00Z", "2026-11-20T12:00:00+03:00"]:
        for path, name in [(SEGMENTS, "at"), (f"{SEGMENTS}/A", "at"), ("/v1/users/1000/history", "from")]:
            problem = reader.is_refused("GET", f"{path}?{name}={time}", 400, "malformed_request")
            assert [error["parameter"] for error in problem["errors"]] == [name]
            assert "RFC 3339" in problem["detail"]


def test_a_parameter_that_is_needed_is_asked_for(admin: Api) -> None:
    problem = admin.is_refused("DELETE", "/v1/segments/A/rollout", 400, "malformed_request")
    assert problem["errors"] == [{"detail": "It is missing", "parameter": "starts_at"}]


def test_the_hint_for_a_step_can_be_followed(reader: Api) -> None:
    growth = "/v1/segments/A/growth?step"
    hint = reader.is_refused("GET", f"{growth}=PT0S", 422, "invalid_value")["hint"]
    steps = re.findall(r"\bP\w+", hint)
    assert steps
    for step in steps:
        assert reader.send("GET", f"{growth}={step}").status_code == 200


def value_at(body: bytes, pointer: str) -> str:
    """What stands at this place of a body, as JSON."""
    value = json.loads(body)
    for part in pointer.split("/")[1:]:
        value = value[int(part) if part.isdigit() else part]
    return json.dumps(value)


def test_a_body_that_departs_from_its_schema_is_malformed_at_that_place(editor: Api) -> None:
    for body, pointer in [
        (b"", "#"),
        (b"{", "#"),
        (b"not json", "#"),
        (b"[]", "#"),
        (b"null", "#"),
        (b'{"add": "B"}', "#/add"),
        (b'{"add": ["B", 7]}', "#/add/1"),
        (b'{"add": [null]}', "#/add/0"),
        (b'{"add": ["B"], "remvoe": ["A"]}', "#"),
        (b'{"add": ["B"], "reason": 7}', "#/reason"),
        (b'{"add": ["B"], "ttl_seconds": "60"}', "#/ttl_seconds"),
        (b'{"add": ["B"], "ttl_seconds": NaN}', "#"),
        (b'{"add": ["B"], "ttl_seconds": true}', "#/ttl_seconds"),
        (b'{"add": ["B"], "expires_at": "2027-01-01T00:00:00"}', "#/expires_at"),
        (b'{"add": ["B"], "expires_at": "tomorrow"}', "#/expires_at"),
        (b'{"add": ["B"], "expires_at": 1893456000}', "#/expires_at"),
        (b'{"add": ["\xff"]}', "#"),
        (b'{"add": ["\\ud800"]}', "#"),
        (b"[" * 100_000, "#"),
    ]:
        problem = editor.is_refused("PATCH", SEGMENTS, 400, "malformed_request", content=body, headers=JSON)
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
        detail = problem["errors"][0]["detail"]
        assert detail
        # What stands there, if that is a part of the body.
        assert pointer == "#" or detail.endswith(f": {value_at(body, pointer)}")


def test_every_body_is_held_to_its_schema(admin: Api) -> None:
    for method, path, body in [
        ("POST", "/v1/segments", b'{"slug": "C", "percent": NaN}'),
        ("POST", "/v1/segments", b'{"slug": "C", "percent": "50"}'),
        ("POST", "/v1/segments", b'{"percent": 50}'),
        ("POST", "/v1/segments", b'{"slug": "C", "salt": 1}'),
        ("PATCH", "/v1/segments/A", b'{"slug": "C", "description": "new"}'),
        ("PATCH", "/v1/segments/A", b"{}"),
        ("PUT", "/v1/segments/A/rollout", b'{"percent": null}'),
        ("PUT", "/v1/segments/A/rollout", b'{"percent": 1e999}'),
        ("POST", "/v1/users/segments", b'{"user_ids": ["1000"]}'),
        ("POST", "/v1/users/segments", b'{"user_ids": [1.5]}'),
        ("POST", "/v1/users/segments", b'{"user_ids": 1000}'),
    ]:
        admin.is_refused(method, path, 400, "malformed_request", content=body, headers=JSON)


def test_a_body_of_another_type_is_refused(editor: Api) -> None:
    for content_type in (
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin1",
    ):
        editor.is_refused(
            "PATCH",
            SEGMENTS,
            415,
            "unsupported_media_type",
            content=b'{"add":["B"]}',
            headers={"Content-Type": content_type},
        )


def test_a_body_of_10_mb_is_refused_however_it_comes(editor: Api) -> None:
    body = b'{"add": ["' + b"B" * 10_000_000 + b'"]}'
    editor.is_refused("PATCH", SEGMENTS, 413, "payload_too_large", content=body, headers=JSON)
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    problem = editor.is_refused("PATCH", SEGMENTS, 413, "payload_too_large", content=pieces, headers=JSON)
    assert str(problem["at_most"]) in problem["hint"]


def test_unknown_paths_and_methods_are_told_apart(reader: Api) -> None:
    for path in ("/nope", "/v1", "/v1/nope", "/v1/segments/A/nope", "/docs/assets/nope"):
        reader.is_refused("GET", path, 404, "route_not_found")
    reader.is_refused("DELETE", SEGMENTS, 405, "method_not_allowed")
    assert {"GET", "PATCH"} <= set(reader.send("PUT", SEGMENTS).headers["allow"].split(", "))


def test_options_names_every_method_of_a_path(service: Service) -> None:
    reader = service.as_role("reader")
    paths = service.client.get("/openapi.json").json()["paths"]
    assert len(paths) > 15
    for path, operations in paths.items():
        response = reader.send("OPTIONS", path.format(user_id=1, slug="A", key="A", file_name="x.csv"))
        assert (response.status_code, response.content) == (204, b"")
        methods = {"OPTIONS", *map(str.upper, operations)} | ({"HEAD"} if "get" in operations else set())
        assert set(response.headers["allow"].split(", ")) == methods, path
