"""GET /v1/changes: a stretch of time as CSV, and the link to the next one."""

import re
from datetime import timedelta

from tests.conftest import NOON, Clock, Database
from tests.http.conftest import Api, Service

PATH = "/v1/changes?from=2026-11-01T00:00:00Z"


def follow(api: Api, path: str) -> tuple[str, str]:
    """The rows of a stretch, and the link to the next."""
    response = api.send("GET", path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    found = re.fullmatch(r'<(/v1/changes\?from=[^>]+Z)>; rel="next"', response.headers["link"])
    assert found
    return response.text, found[1]


def test_who_follows_the_links_gets_every_change_once(editor: Api, db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1, '{A}', expires_at => clock() + interval '1 hour')")
    assert follow(editor, PATH) == ("", "/v1/changes?from=2026-11-20T11:59:59.900000Z")
    clock.advance(seconds=1)
    rows, link = follow(editor, PATH)
    assert rows == "1;A;add;2026-11-20T12:00:00.000000Z\n"
    assert follow(editor, PATH) == (rows, link)
    clock.advance(hours=1)
    rows, link = follow(editor, link)
    assert rows == "1;A;remove;2026-11-20T13:00:00.000000Z\n"
    assert follow(editor, link) == ("", link)


def test_who_is_ahead_of_what_is_settled_stays_where_it_is(editor: Api, clock: Clock) -> None:
    path = "/v1/changes?from=2026-11-21T00:00:00.000000Z"
    assert follow(editor, path) == ("", path)


def test_head_answers_the_link(editor: Api, clock: Clock) -> None:
    response = editor.send("HEAD", PATH)
    assert (response.status_code, response.content) == (200, b"")
    assert "from=2026-11-20T11:59:59.900000Z" in response.headers["link"]


def test_a_stretch_may_have_an_end(editor: Api, clock: Clock) -> None:
    assert follow(editor, f"{PATH}&to=2026-11-02T00:00:00%2B01:00")[1].endswith(
        "from=2026-11-01T23:00:00.000000Z"
    )


def test_what_is_not_settled_is_refused(editor: Api, clock: Clock) -> None:
    to = (NOON + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for method in ("GET", "HEAD"):
        response = editor.send(method, f"{PATH}&to={to}")
        assert response.status_code == 422
    problem = editor.is_refused("GET", f"{PATH}&to={to}", 422, "invalid_value")
    assert problem["settled_until"] == "2026-11-20T11:59:59.900000Z"
    editor.is_refused("GET", f"{PATH}&to=2026-10-01T00:00:00Z", 422, "invalid_value")
    editor.is_refused("GET", "/v1/changes", 400, "malformed_request")


def test_changes_are_for_editors(reader: Api, service: Service) -> None:
    reader.is_refused("GET", PATH, 403, "forbidden")
    service.with_key(None).is_refused("GET", PATH, 401, "unauthorized")
