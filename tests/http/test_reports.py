"""The month as a CSV file: who got in or out of which segment, behind a link that works by itself."""

import csv
import gzip
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncpg import Connection

from service.schemas import Report, UserHistory
from tests.conftest import NOON, Clock, Database
from tests.http.conftest import Api, Service

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """Three segments without a rollout, made in October, and one that every user is in; it is noon of 20 November."""
    clock.set(datetime(2026, 10, 1, tzinfo=UTC))
    slugs = {"AVITO_VOICE_MESSAGES": 0, "AVITO_DISCOUNT_30": 0, "AVITO_DISCOUNT_50": 0, "EVERYBODY": 100}
    for slug, percent in slugs.items():
        db.rows("select create_segment(%s, %s::numeric)", slug, percent)
    clock.set(NOON)


def add(db: Database, user_id: int, *slugs: str, until: datetime | None = None) -> None:
    """Put a user into segments now."""
    db.rows("select change_user_segments(%s, add => %s, expires_at => %s)", user_id, list(slugs), until)


def remove(db: Database, user_id: int, *slugs: str) -> None:
    """Take a user out of segments now."""
    db.rows("select change_user_segments(%s, remove => %s)", user_id, list(slugs))


def order(editor: Api, period: Any = "2026-11", **body: Any) -> Report:
    """Ask for a link."""
    return editor.does("POST", "/v1/reports", Report, {"period": period, **body}, status=201)


def opened(service: Service, link: str) -> str:
    """What the link gives, to a client that has nothing but the link."""
    response = service.client.get(link)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    name = re.fullmatch(
        r'attachment; filename="report-\d{4}-\d\d\.csv"', response.headers["content-disposition"]
    )
    assert name
    return str(response.text)


@pytest.fixture
def report(service: Service, editor: Api) -> Callable[..., str]:
    """Order a report and open its link: report("2026-11", user_id=1000)."""
    return lambda period="2026-11", **body: opened(service, order(editor, period, **body).url)


def test_a_line_says_who_what_how_and_when(db: Database, clock: Clock, report: Callable[..., str]) -> None:
    add(db, 1000, "AVITO_VOICE_MESSAGES")
    clock.set(NOON + timedelta(hours=1, microseconds=5))
    remove(db, 1000, "AVITO_VOICE_MESSAGES")
    assert report() == (
        "1000;AVITO_VOICE_MESSAGES;add;2026-11-20T12:00:00.000000Z\n"
        "1000;EVERYBODY;add;2026-11-20T12:00:00.000000Z\n"
        "1000;AVITO_VOICE_MESSAGES;remove;2026-11-20T13:00:00.000005Z\n"
    )


def test_column_names_come_only_if_asked_for(db: Database, service: Service, editor: Api) -> None:
    link = order(editor).url
    assert opened(service, link) == ""
    assert opened(service, f"{link}?header=true") == "user_id;segment;operation;at\n"
    assert opened(service, f"{link}?header=false") == ""
    add(db, 1000, "AVITO_DISCOUNT_30")
    lines = opened(service, link)
    assert lines.startswith("1000;AVITO_DISCOUNT_30;")
    assert opened(service, f"{link}?header=true") == f"user_id;segment;operation;at\n{lines}"


def test_lines_are_ordered_by_user_then_time_then_segment(
    db: Database, clock: Clock, report: Callable[..., str]
) -> None:
    for user_id in (1002, 9, 1000, 9223372036854775807):
        clock.advance(hours=1)
        add(db, user_id, "AVITO_VOICE_MESSAGES", "AVITO_DISCOUNT_50", "AVITO_DISCOUNT_30")
        clock.advance(hours=1)
        remove(db, user_id, "EVERYBODY", "AVITO_DISCOUNT_30")
    rows = [(int(user), at, slug) for user, slug, _, at in csv.reader(report().splitlines(), delimiter=";")]
    assert len(rows) == 4 * 6
    assert rows == sorted(rows)
    assert rows[0][0] == 9


def test_an_ended_membership_is_told_at_its_very_end_swept_or_not(
    db: Database, clock: Clock, report: Callable[..., str]
) -> None:
    add(db, 1000, "AVITO_DISCOUNT_30", until=NOON + timedelta(seconds=90))
    clock.advance(hours=1)
    before = report()
    assert "1000;AVITO_DISCOUNT_30;remove;2026-11-20T12:01:30.000000Z\n" in before
    assert db.value("select expire_memberships(10)") == 1
    assert report() == before


def test_what_is_only_planned_is_not_told(db: Database, clock: Clock, report: Callable[..., str]) -> None:
    add(db, 1000, "AVITO_DISCOUNT_30", until=NOON + DAY)
    db.rows("select set_rollout('EVERYBODY', 0, %s)", NOON + DAY)
    assert "remove" not in report()
    clock.set(NOON + DAY)
    assert report().count("remove") == 2


def test_it_is_the_history_of_every_user(
    db: Database, clock: Clock, reader: Api, report: Callable[..., str]
) -> None:
    for user_id in (1000, 1002, 1004):
        add(db, user_id, "AVITO_DISCOUNT_30", until=NOON + timedelta(hours=user_id % 1000 + 1))
    clock.advance(hours=4)
    add(db, 1002, "AVITO_DISCOUNT_50")
    db.rows("select set_rollout('EVERYBODY', 50)")
    expected = ""
    for user_id in (1000, 1002, 1004):
        for event in reader.get(f"/v1/users/{user_id}/history", UserHistory).events:
            at = event.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
            expected += f"{user_id};{event.segment};{event.operation};{at}\n"
    assert report() == expected


def test_it_is_what_a_dba_copies(db: Database, clock: Clock, report: Callable[..., str]) -> None:
    for user_id in range(1, 101):
        add(db, user_id, "AVITO_DISCOUNT_30", "AVITO_VOICE_MESSAGES")
    clock.advance(hours=1)
    db.rows("select set_rollout('AVITO_DISCOUNT_50', 33.333)")
    # What psql sends for \copy (…) to 'november.csv' csv delimiter ';'.
    statement = "copy (select * from history_report('2026-11')) to stdout csv delimiter ';'"
    with db.connection.cursor().copy(statement) as lines:
        copied = b"".join(bytes(line) for line in lines).decode()
    assert copied.count("\n") > 300
    assert report() == copied


def test_months_join_without_a_gap_or_an_overlap(
    db: Database, clock: Clock, report: Callable[..., str]
) -> None:
    for moment in (DECEMBER - MICROSECOND, DECEMBER, DECEMBER + MICROSECOND):
        clock.set(moment)
        add(db, 1000, "AVITO_DISCOUNT_30")
        add(db, 1002, "AVITO_DISCOUNT_30", until=DECEMBER + DAY)
        remove(db, 1000, "AVITO_DISCOUNT_30")
    clock.set(DECEMBER + 40 * DAY)
    november, december = report("2026-11").splitlines(), report("2026-12").splitlines()
    assert all(line.endswith("2026-11-30T23:59:59.999999Z") for line in november)
    assert [line for line in december if line.startswith("1002")] == [
        "1002;AVITO_DISCOUNT_30;remove;2026-12-02T00:00:00.000000Z"
    ]
    whole = db.rows(
        "select segment, operation from user_history(1000) union all select segment, operation from user_history(1002)"
    )
    assert len(november) + len(december) == len(whole)
    assert report("2026-10") == report("2027-01") == ""


def test_a_report_of_one_user_holds_no_other(db: Database, report: Callable[..., str]) -> None:
    for user_id in (100, 1000, 10000):
        add(db, user_id, "AVITO_DISCOUNT_30")
    everything = report(user_id=None).splitlines()
    only = report(user_id=1000).splitlines()
    assert only == [line for line in everything if line.startswith("1000;")]
    assert len(only) == 2


def test_a_user_never_seen_has_an_empty_report(db: Database, report: Callable[..., str]) -> None:
    db.rows("select set_rollout('EVERYBODY', 0)")
    assert report(user_id=77) == ""


def test_a_link_needs_no_key_and_is_absolute(service: Service, editor: Api) -> None:
    report = order(editor)
    assert report.period == "2026-11"
    base = str(service.client.base_url)
    assert re.fullmatch(re.escape(base) + r"/v1/reports/[A-Za-z0-9_-]+\.csv", report.url)
    assert opened(service, report.url) == ""
    # A key does no harm either.
    assert editor.send("GET", report.url).status_code == 200


def test_a_link_begins_with_the_public_url_if_there_is_one(serve: Callable[..., Service]) -> None:
    service = serve(public_url="https://segments.example/api/")
    assert order(service.as_role("editor")).url.startswith("https://segments.example/api/v1/reports/")


def test_links_cannot_be_guessed(db: Database, editor: Api) -> None:
    ids = {order(editor).url.rpartition("/")[2].removesuffix(".csv") for _ in range(20)}
    assert len(ids) == 20
    # 128 bits at least, written with 6 bits a character.
    assert all(len(link_id) >= 22 for link_id in ids)
    # Somebody who can read the table cannot open them either.
    kept = str(db.rows("select to_jsonb(l) from segmentation.report_links as l"))
    assert not any(link_id in kept for link_id in ids)


def test_a_link_works_for_a_day(service: Service, editor: Api, clock: Clock) -> None:
    report = order(editor)
    assert report.expires_at == NOON + DAY
    clock.set(report.expires_at - MICROSECOND)
    opened(service, report.url)
    clock.set(report.expires_at)
    problem = service.with_key(None).is_refused("GET", report.url, 404, "not_found")
    assert problem["hint"]


def test_a_link_nobody_made_is_not_found(service: Service, editor: Api) -> None:
    link = order(editor).url
    nobody = service.with_key(None)
    another_end = "A" if link[-5] != "A" else "B"
    for path in (
        "/v1/reports/nothing.csv",
        "/v1/reports/.csv",
        "/v1/reports/nothing",
        f"{link[:-5]}{another_end}.csv",
        f"/v1/reports/{'x' * 5000}.csv",
        "/v1/reports/%27%3B%20drop%20table%20users.csv",
        "/v1/reports/%F0%9F%92%A9.csv",
    ):
        nobody.is_refused("GET", path, 404, "not_found")


def test_a_link_can_be_ended_before_its_time(service: Service, editor: Api, reader: Api) -> None:
    gone, kept, third = (order(editor).url for _ in range(3))
    reader.is_refused("DELETE", gone, 403, "forbidden")
    editor.does_silently("DELETE", gone)
    service.with_key(None).is_refused("GET", gone, 404, "not_found")
    opened(service, kept)
    for link in (gone, "/v1/reports/nothing.csv"):
        assert editor.is_refused("DELETE", link, 404, "not_found")["hint"]
    # The id alone, as SQL knows it, and twice with the same key.
    for replayed in (None, "true"):
        answer = editor.send("DELETE", third.removesuffix(".csv"), headers={"Idempotency-Key": "once"})
        assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (204, replayed)


def test_the_id_of_a_link_is_in_no_statement(
    service: Service, editor: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    link = order(editor).url
    sent: list[str] = []

    def spied(do: Any) -> Any:
        async def spy(*arguments: Any, **named: Any) -> Any:
            sent.append(repr((arguments, named)))
            return await do(*arguments, **named)

        return spy

    for name in ("fetch", "execute", "copy_from_query"):
        monkeypatch.setattr(Connection, name, spied(getattr(Connection, name)))
    opened(service, link)
    assert editor.send("DELETE", link, headers={"Idempotency-Key": "once"}).status_code == 204
    assert any("close_report_link" in statement for statement in sent)
    secret = link.rpartition("/")[2].removesuffix(".csv")
    assert secret not in "".join(sent)
    # What the test's own client logs is not the service's.
    assert not any(secret in r.getMessage() for r in caplog.records if not r.name.startswith("http"))


def test_links_that_have_expired_are_purged(
    db: Database, service: Service, editor: Api, clock: Clock
) -> None:
    order(editor)
    clock.advance(hours=12)
    later = order(editor).url
    count = "select count(*) from segmentation.report_links"
    db.rows("select purge_expired()")
    assert db.value(count) == 2
    clock.advance(hours=12)
    db.rows("select purge_expired()")
    assert db.value(count) == 1
    opened(service, later)


def test_a_reader_cannot_order_a_report(reader: Api, service: Service, db: Database) -> None:
    body = {"period": "2026-11"}
    reader.is_refused("POST", "/v1/reports", 403, "forbidden", json=body)
    service.with_key(None).is_refused("POST", "/v1/reports", 401, "unauthorized", json=body)
    assert db.value("select count(*) from segmentation.report_links") == 0


def test_a_period_is_a_month_that_has_begun(editor: Api, db: Database, clock: Clock) -> None:
    not_months = ("2026-13", "2026-00", "2026", "2026-1", "2026-11-01", "11-2026", "0000-01", "November", "")
    not_begun = ("2026-12", "2027-11", "9999-12")
    for period in (*not_months, *not_begun, " 2026-11", "2026-11\n", "２０２６-11"):
        problem = editor.is_refused("POST", "/v1/reports", 422, "invalid_value", json={"period": period})
        assert problem["period"] == period
        assert problem["hint"]
    assert db.value("select count(*) from segmentation.report_links") == 0
    clock.set(DECEMBER)
    order(editor, "2026-12")


def test_a_month_whose_history_was_dropped_cannot_be_reported(
    editor: Api, service: Service, db: Database
) -> None:
    link = order(editor, "2026-10").url
    db.rows("select drop_history_before('2026-11')")
    editor.is_refused("POST", "/v1/reports", 422, "invalid_value", json={"period": "2026-10"})
    # Its link answers so as well: a file with rows missing would be taken for the truth.
    service.with_key(None).is_refused("GET", link, 422, "invalid_value")


def test_a_user_id_that_cannot_be_is_refused(editor: Api) -> None:
    for user_id in (0, -1, 2**63, -(2**63) - 1):
        body = {"period": "2026-11", "user_id": user_id}
        problem = editor.is_refused("POST", "/v1/reports", 422, "invalid_value", json=body)
        assert str(user_id) in problem["detail"]


def test_an_order_that_is_malformed_is_refused(editor: Api) -> None:
    malformed: list[Any] = [
        {},
        [],
        {"period": 202611},
        {"period": None},
        {"period": "2026-11", "user_id": "1000"},
        {"period": "2026-11", "user_id": 1000.5},
        {"period": "2026-11", "user": 1000},
    ]
    for body in malformed:
        editor.is_refused("POST", "/v1/reports", 400, "malformed_request", json=body)


def test_a_header_that_is_no_yes_or_no_is_refused(service: Service, editor: Api) -> None:
    link = order(editor).url
    service.with_key(None).is_refused("GET", f"{link}?header=perhaps", 400, "malformed_request")


def test_it_is_zipped_for_those_who_ask(db: Database, service: Service, editor: Api) -> None:
    for user_id in range(1, 501):
        add(db, user_id, "AVITO_DISCOUNT_30")
    link = order(editor).url
    plain = service.client.get(link, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with service.client.stream("GET", link, headers={"Accept-Encoding": "gzip"}) as zipped:
        assert zipped.headers["content-encoding"] == "gzip"
        assert "accept-encoding" in zipped.headers["vary"].lower()
        body = b"".join(zipped.iter_raw())
    assert len(body) < len(plain.content) / 4
    assert gzip.decompress(body) == plain.content


def test_its_file_is_named_for_its_month(service: Service, editor: Api) -> None:
    for period in ("2026-10", "2026-11"):
        response = service.client.get(order(editor, period).url)
        assert response.headers["content-disposition"] == f'attachment; filename="report-{period}.csv"'


@pytest.mark.parametrize(
    ("accepted", "is_zipped"),
    [
        ("gzip;q=0", False),
        ("gzip; Q=0.000, *", False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0", False),
        ("br", False),
        ("gzip;q=0.1", True),
        ("gzip, identity;q=0", True),
        ("*", True),
        ("GZIP", True),
    ],
)
def test_it_is_zipped_only_for_those_who_take_gzip(
    db: Database, service: Service, editor: Api, accepted: str, is_zipped: bool
) -> None:
    add(db, 1000, "AVITO_DISCOUNT_30")
    for path in (order(editor).url, "/docs/errors"):
        response = service.client.get(path, headers={"Accept-Encoding": accepted})
        assert ("content-encoding" in response.headers) == is_zipped, path


def test_an_error_is_a_problem_for_those_who_ask_for_gzip_too(service: Service) -> None:
    headers = {"Accept-Encoding": "gzip"}
    service.with_key(None).is_refused("GET", "/v1/reports/nothing.csv", 404, "not_found", headers=headers)
