"""GET /v1/segments/{slug}/periods: stays as CSV, for joins with events of one's own."""

from tests.conftest import Clock, Database
from tests.http.conftest import Api

PATH = "/v1/segments/A/periods"


def test_stays_are_streamed_as_csv(editor: Api, reader: Api, db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1, '{A}', expires_at => clock() + interval '1 hour')")
    db.rows("select change_user_segments(2, '{A}')")
    clock.advance(hours=2)
    response = editor.send("GET", f"{PATH}?from=2026-11-20T12:30:00Z")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert response.text == (
        "1;assignment;2026-11-20T12:00:00.000000Z;2026-11-20T13:00:00.000000Z\n"
        "2;assignment;2026-11-20T12:00:00.000000Z;\n"
    )
    assert editor.send("GET", f"{PATH}?from=2026-11-20T13:00:00Z&to=2026-11-20T13:30:00Z").text.startswith(
        "2;"
    )
    reader.is_refused("GET", PATH, 403, "forbidden")


def test_what_cannot_be_asked_is_refused(editor: Api, clock: Clock) -> None:
    editor.is_refused("GET", PATH, 404, "not_found")
    assert editor.send("HEAD", PATH).status_code == 404
    editor.is_refused("GET", f"{PATH}?from=tomorrow", 400, "malformed_request")
