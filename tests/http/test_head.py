"""HEAD is answered wherever GET is: the same status and headers, no body, and no rows copied for it."""

from http.client import HTTPConnection
from typing import Any

import pytest

from service.database import Caller
from tests.conftest import Database
from tests.http.conftest import Api, Service
from tests.http.documented import PLACES, QUERIES, calls
from tests.launcher import Server

CHANGES = "/v1/changes?from=2026-11-01T00:00:00Z"
MEMBERS = "/v1/segments/AVITO_VOICE_MESSAGES/members"
# What differs from one answer to the next.
OF_ONE_ANSWER = {"x-request-id", "date", "link"}


@pytest.fixture
def report(admin: Api, db: Database) -> str:
    """The path of a report; and there is a segment with somebody in it."""
    db.rows("select create_segment('AVITO_VOICE_MESSAGES')")
    db.rows("select change_user_segments(1000, add => '{AVITO_VOICE_MESSAGES}')")
    db.rows("call sweep()")
    path: str = admin.send("POST", "/v1/reports", json={"period": "2026-11"}).json()["url"]
    return path[path.index("/v1/") :]


def heads(response: Any) -> tuple[int, dict[str, str]]:
    """The status and the headers."""
    return response.status_code, {n: v for n, v in response.headers.items() if n not in OF_ONE_ANSWER}


def test_every_documented_get_has_its_head(admin: Api, service: Service, report: str) -> None:
    description = service.client.get("/openapi.json").json()
    paths = [
        report if "file_name" in path else path.format(**PLACES) + QUERIES.get(call["operationId"], "")
        for method, path, call in calls(description)
        if method == "GET"
    ]
    assert len(paths) >= 13
    others = ["/", "/docs", "/docs/page.js", "/openapi.json", "/favicon.ico", "/nope", "/v1/segments/NOPE"]
    for path in [*paths, *others]:
        got = admin.send("GET", path, follow_redirects=False)
        head = admin.send("HEAD", path, follow_redirects=False)
        if path != "/metrics":
            assert heads(head) == heads(got), path
        assert (head.status_code, head.content) == (got.status_code, b""), path
    assert not any("head" in methods for methods in description["paths"].values())


def test_nothing_is_copied_for_it(
    admin: Api, service: Service, report: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("rows are copied")

    accept = {"Accept": "text/csv"}
    streamed = (MEMBERS, report, CHANGES)
    for encoding in ("identity", "gzip"):
        headers = accept | {"Accept-Encoding": encoding}
        expected = [heads(admin.send("GET", path, headers=headers)) for path in streamed]
        with monkeypatch.context() as patch:
            patch.setattr(Caller, "copy", fail)
            found = [heads(admin.send("HEAD", path, headers=headers)) for path in streamed]
        assert found == expected
    assert admin.send("HEAD", "/v1/segments/NOPE/members", headers=accept).status_code == 404
    assert admin.send("HEAD", f"{MEMBERS}?at=9999-12-31T23:59:59-01:00", headers=accept).status_code == 422
    assert service.client.head(f"/v1/reports/{'0' * 64}.csv").status_code == 404


def test_it_is_refused_where_get_is_and_named_where_get_is(service: Service, admin: Api) -> None:
    assert service.with_key(None).send("HEAD", "/v1/segments").status_code == 401
    assert admin.send("HEAD", "/v1/segments?x=1").status_code == 400
    refused = admin.send("HEAD", "/v1/reports")
    assert (refused.status_code, "HEAD" in refused.headers["allow"]) == (405, False)
    for method, status in (("PUT", 405), ("OPTIONS", 204)):
        answer = admin.send(method, "/v1/segments")
        assert answer.status_code == status
        assert {"GET", "HEAD", "POST"} <= set(answer.headers["allow"].split(", "))


def test_a_connection_goes_on_after_it(run_server: Any, db: Database) -> None:
    server: Server = run_server()
    key = db.value("select create_api_key('reader', 'reader')")
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    db.rows("select create_segment('AVITO_VOICE_MESSAGES')")
    for path, accept in (("/v1/segments", "*/*"), (MEMBERS, "text/csv"), ("/health/live", "*/*")):
        for method in ("HEAD", "GET", "HEAD"):
            headers = {"Authorization": f"Bearer {key}", "Accept": accept}
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            assert (response.status, bool(response.read())) == (200, method == "GET"), (method, path)
            assert response.headers["content-type"].startswith(accept.replace("*/*", "application/json"))
