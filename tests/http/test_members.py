"""Members over HTTP: pages of JSON, all ids as CSV, and uploaded ids that are added or removed."""

import gzip
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from service.schemas import Imported, Member, Members
from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, first, inside
from tests.http.conftest import Api, Service

PATH = "/v1/segments/AVITO_DISCOUNT_30/members"
CSV = {"Content-Type": "text/csv"}
ACCEPT_CSV = {"Accept": "text/csv"}
EVENING = NOON + timedelta(hours=6)
LARGEST = 9223372036854775807


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """A segment with nobody in it, made a minute ago."""
    db.rows("select create_segment('AVITO_DISCOUNT_30')")
    clock.advance(minutes=1)


def add(db: Database, *user_ids: int, until: datetime | None = None, operation: str = "add") -> None:
    """Put users into the segment now."""
    db.rows(
        "select change_segment_members('AVITO_DISCOUNT_30', %s, %s, expires_at => %s)",
        list(user_ids),
        operation,
        until,
    )


def page(api: Api, query: str = "") -> Members:
    """One page of members."""
    return api.get(f"{PATH}{query}", Members)


def ids(members: Members) -> list[int]:
    """The ids on a page."""
    return [member.user_id for member in members.members]


def everybody(db: Database) -> list[int]:
    """The members, by SQL."""
    return db.column("select user_id from segment_members('AVITO_DISCOUNT_30')")


def export(api: Api, query: str = "", **headers: str) -> str:
    """All ids."""
    response = api.send("GET", f"{PATH}{query}", headers=ACCEPT_CSV | headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="AVITO_DISCOUNT_30.csv"'
    return str(response.text)


def send(editor: Api, body: bytes | str, query: str = "", **headers: str) -> tuple[int, int, int]:
    """Send an import that succeeds: (received, changed, unchanged)."""
    response = editor.send("POST", f"{PATH}{query}", content=body, headers=CSV | headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    done = msgspec.json.decode(response.content, type=Imported, strict=True)
    return done.received, done.changed, done.unchanged


def lines(user_ids: Iterable[int]) -> str:
    """A file of these ids."""
    return "".join(f"{user_id}\n" for user_id in user_ids)


# ---------------------------------------------------------------------------------------------- list


def test_a_page_says_by_what_since_when_and_until_when(db: Database, clock: Clock, reader: Api) -> None:
    add(db, 1000)
    clock.advance(minutes=1)
    add(db, 1002, until=EVENING)
    db.rows("select set_rollout('AVITO_DISCOUNT_30', 50)")
    rolled_out = next(inside(db, "AVITO_DISCOUNT_30", 50, start=2000))
    clock.advance(minutes=1)
    db.rows("select register_users(array[%s::bigint])", rolled_out)
    minute = timedelta(minutes=1)
    # Where the rollout holds the user as well, the membership outlasts the assignment.
    end = None if next(inside(db, "AVITO_DISCOUNT_30", 50, start=1002)) == 1002 else EVENING
    assert page(reader) == Members(
        segment="AVITO_DISCOUNT_30",
        members=[
            Member(user_id=1000, source="assignment", since=NOON + minute, until=None),
            Member(user_id=1002, source="assignment", since=NOON + 2 * minute, until=end),
            Member(user_id=rolled_out, source="rollout", since=NOON + 3 * minute, until=None),
        ],
        next_after=None,
    )


def test_a_segment_without_members_has_an_empty_page(reader: Api) -> None:
    assert page(reader) == Members(segment="AVITO_DISCOUNT_30", members=[], next_after=None)


def test_pages_follow_each_other_by_after(db: Database, reader: Api) -> None:
    add(db, *range(1, 251), LARGEST)
    found: list[int] = []
    after: str | None = "0"
    pages = 0
    while after is not None:
        answer = page(reader, f"?after={after}&limit=50")
        found += ids(answer)
        after = answer.next_after
        pages += 1
    assert found == [*range(1, 251), LARGEST]
    assert pages == 6
    assert len(ids(page(reader))) == 100
    assert page(reader).next_after == "100"


def test_a_page_holds_1_to_10000(db: Database, reader: Api) -> None:
    add(db, 1, 2)
    assert ids(page(reader, "?limit=1")) == [1]
    assert ids(page(reader, "?limit=10000")) == [1, 2]
    for limit in (0, 10001, 2**31 - 1):
        reader.is_refused("GET", f"{PATH}?limit={limit}", 422, "invalid_value")
    for malformed in ("ten", "1.5", "-1", ""):
        reader.is_refused("GET", f"{PATH}?limit={malformed}", 400, "malformed_request")
    for huge in (2**31, 2**63, 10**30):
        reader.is_refused("GET", f"{PATH}?limit={huge}", 422, "invalid_value")
        reader.is_refused("GET", f"{PATH}?after={huge * 2**32}", 422, "invalid_value")
        csv = reader.send("GET", f"{PATH}?after={huge * 2**32}", headers=ACCEPT_CSV)
        assert csv.status_code == 422, csv.text


def test_a_page_can_be_of_another_moment(db: Database, clock: Clock, reader: Api) -> None:
    add(db, 1000, until=EVENING)
    clock.advance(hours=1)
    add(db, 1002)
    for moment, expected in [
        (NOON, []),
        (NOON + timedelta(minutes=1), [1000]),
        (NOON + timedelta(hours=2), [1000, 1002]),
        (EVENING, [1002]),
    ]:
        at = f"?at={quote(moment.isoformat())}"
        assert ids(page(reader, at)) == expected
        assert export(reader, at) == lines_with_header(expected)


def test_a_segment_that_is_not_there_has_no_members(reader: Api) -> None:
    path = "/v1/segments/NOPE/members"
    for headers in ({}, ACCEPT_CSV):
        problem = reader.is_refused("GET", path, 404, "not_found", headers=headers)
        assert "NOPE" in problem["detail"]


# -------------------------------------------------------------------------------------------- export


def lines_with_header(user_ids: Iterable[int]) -> str:
    """A file of these ids, as an export writes it."""
    return f"user_id\n{lines(user_ids)}"


def test_an_export_holds_all_members_by_id(db: Database, reader: Api) -> None:
    add(db, LARGEST, 9, 1000, 10)
    assert export(reader) == f"user_id\n9\n10\n1000\n{LARGEST}\n"


def test_an_export_holds_users_of_the_rollout_and_leaves_the_excluded_out(db: Database, reader: Api) -> None:
    db.rows("select register_users(array(select generate_series(1, 1000)))")
    db.rows("select set_rollout('AVITO_DISCOUNT_30', 30)")
    members = [user_id for user_id in first(inside(db, "AVITO_DISCOUNT_30", 30), 1000) if user_id <= 1000]
    add(db, members[0], operation="remove")
    assert export(reader) == lines_with_header(members[1:])


def test_an_export_has_no_pages(db: Database, reader: Api) -> None:
    add(db, *range(1, 25001))
    assert export(reader) == lines_with_header(range(1, 25001))
    assert export(reader, "?after=24990") == lines_with_header(range(24991, 25001))


def test_an_export_of_nobody_is_a_header(reader: Api) -> None:
    assert export(reader) == "user_id\n"


def test_csv_is_for_those_who_prefer_it(db: Database, reader: Api) -> None:
    add(db, 1000)
    for accept, given in [
        ("text/csv", "text/csv"),
        ("text/csv, application/json;q=0.5", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;charset=utf-8", "text/csv"),
        ("text/csv; header=present, */*;q=0.1", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("application/json, text/csv;q=0.5", "application/json"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv; q=0.0, */*", "application/json"),
        ("text/csv;q=0, text/*", "application/json"),
        ("application/json;q=0, */*", "text/csv"),
    ]:
        response = reader.send("GET", PATH, headers={"Accept": accept})
        assert response.headers["content-type"].startswith(given), accept


def test_an_export_is_zipped_for_those_who_ask(db: Database, reader: Api) -> None:
    add(db, *range(1, 1001))
    plain = reader.send("GET", PATH, headers=ACCEPT_CSV | {"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    zipped = reader.send("GET", PATH, headers=ACCEPT_CSV | {"Accept-Encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.content == plain.content
    assert int(zipped.num_bytes_downloaded) < len(plain.content)


def test_nobody_sees_members_without_a_key(service: Service) -> None:
    service.with_key(None).is_refused("GET", PATH, 401, "unauthorized", headers=ACCEPT_CSV)


# -------------------------------------------------------------------------------------------- import


def test_an_import_adds_every_user_of_the_file(db: Database, editor: Api) -> None:
    assert send(editor, "1000\n1002\n1004\n") == (3, 3, 0)
    assert everybody(db) == [1000, 1002, 1004]


def test_an_import_can_remove_them(db: Database, editor: Api) -> None:
    add(db, 1000, 1002, 1004)
    assert send(editor, "1000\n1004\n1006\n", "?operation=remove") == (3, 2, 1)
    assert everybody(db) == [1002]


def test_one_event_appears_for_each_user_changed_and_none_for_the_others(
    db: Database, clock: Clock, editor: Api
) -> None:
    add(db, 1000)
    assert send(editor, "1000\n1002\n1002\n") == (3, 1, 2)
    assert db.events_of(1000) == db.events_of(1002) == [("AVITO_DISCOUNT_30", "add", "assigned")]
    clock.advance(minutes=1)
    send(editor, "1002\n", "?operation=remove")
    assert len(db.events_of(1000)) == 1
    assert len(db.events_of(1002)) == 2


def test_an_import_touches_no_other_segment(db: Database, editor: Api) -> None:
    db.rows("select create_segment('AVITO_VOICE_MESSAGES')")
    db.rows("select change_user_segments(1000, add => '{AVITO_VOICE_MESSAGES}')")
    send(editor, "1000\n")
    assert db.segments_of(1000) == ["AVITO_DISCOUNT_30", "AVITO_VOICE_MESSAGES"]


def test_an_import_lasts_as_long_as_it_says(db: Database, editor: Api, reader: Api) -> None:
    until = [
        ("", None),
        (f"?expires_at={quote(EVENING.isoformat())}", EVENING),
        ("?ttl_seconds=3600", NOON + timedelta(hours=1, minutes=1)),
    ]
    for user_id, (query, _) in enumerate(until, 1):
        assert send(editor, f"{user_id}\n", query) == (1, 1, 0)
    assert [member.until for member in page(reader).members] == [end for _, end in until]


def test_an_import_can_be_planned(db: Database, clock: Clock, editor: Api, reader: Api) -> None:
    send(editor, "1000\n", f"?starts_at={quote(EVENING.isoformat())}&ttl_seconds=60")
    assert ids(page(reader)) == []
    clock.set(EVENING)
    (member,) = page(reader).members
    assert (member.since, member.until) == (EVENING, EVENING + timedelta(seconds=60))


def counts(api: Api, user_ids: Iterable[int], query: str) -> dict[str, int]:
    """Replace the list, and the counts that are not 0."""
    response = api.send("POST", f"{PATH}?operation=replace{query}", content=lines(user_ids), headers=CSV)
    assert response.status_code == 200, response.text
    done = msgspec.json.decode(response.content, type=Imported, strict=True)
    return {name: number for name, number in msgspec.structs.asdict(done).items() if number}


def test_a_list_replaces_what_the_same_key_has_assigned(db: Database, editor: Api, service: Service) -> None:
    support = service.with_key(service.key("editor", "support"))
    assert send(support, "7\n") == (1, 1, 0)
    assert counts(editor, [1, 2, 3], "") == {"received": 3, "changed": 3, "added": 3}
    expected = {"received": 2, "changed": 3, "unchanged": 1, "added": 1, "removed": 2}
    assert counts(editor, [3, 4], "&dry_run=true&max_removed=2") == expected
    assert db.column("select user_id from segment_members('AVITO_DISCOUNT_30')") == [1, 2, 3, 7]
    assert counts(editor, [3, 4], "&max_removed=2") == expected
    assert db.column("select user_id from segment_members('AVITO_DISCOUNT_30')") == [3, 4, 7]
    assert counts(editor, [3, 4], "&all_actors=true") == {
        "received": 2,
        "changed": 1,
        "unchanged": 2,
        "removed": 1,
    }


def test_a_list_that_removes_too_many_is_refused(editor: Api, unchanged: Callable[[], bool]) -> None:
    send(editor, lines(range(1, 11)), "?operation=replace")
    unchanged()
    path = f"{PATH}?operation=replace&max_removed=4"
    refused = partial(editor.is_refused, "POST", status=422, code="too_many_removed", headers=CSV)
    problem = refused(path, content=lines(range(1, 6)))
    assert (problem["removed"], problem["max_removed"]) == (5, 4)
    assert refused(path, content="user_id\n")["removed"] == 10
    assert unchanged()


def test_who_imported_and_why_is_kept(db: Database, editor: Api) -> None:
    send(editor, "1000\n", "?reason=november%20campaign")
    (event,) = db.rows("select actor, reason from user_history(1000)")
    assert tuple(event) == ("test-editor", "november campaign")


def test_an_export_can_be_sent_back_unchanged(db: Database, editor: Api) -> None:
    add(db, 9, 10, 1000, LARGEST)
    exported = editor.send("GET", PATH, headers=ACCEPT_CSV)
    rows = db.value("select count(*) from segmentation.memberships")
    assert send(editor, exported.content) == (4, 0, 4)
    assert db.value("select count(*) from segmentation.memberships") == rows
    assert send(editor, exported.content, "?operation=remove") == (4, 4, 0)
    assert everybody(db) == []
    assert send(editor, exported.content) == (4, 4, 0)
    assert export(editor) == exported.text


def test_a_file_may_be_written_in_many_ways(db: Database, editor: Api) -> None:
    for file in (
        b"1000\n1002\n",
        b"1000\n1002",
        b"1000\r\n1002\r\n",
        b"1000\r\n1002",
        b"1000\r\n1002\r",
        b"1000\n1002\r\n",
        b"1000\r\n1002\n",
        b"user_id\n1000\n1002\n",
        b"user_id\r\n1000\r\n1002\r\n",
        b"user_id\r\n1000\n1002\n",
        b'"user_id"\n"1000"\n"1002"\n',
        b'"user_id"\r\n"1000"\r\n1002',
        b"\xef\xbb\xbf1000\n1002\n",
        b"\xef\xbb\xbfuser_id\n1000\n1002\n",
        b'\xef\xbb\xbf"user_id"\r\n"1000"\r\n"1002"\r\n',
        b" 1000\n1002 \n",
        b"0001000\n+1002\n",
    ):
        assert send(editor, file) == (2, 2, 0), file
        assert everybody(db) == [1000, 1002]
        assert send(editor, file, "?operation=remove") == (2, 2, 0), file


def test_the_largest_id_is_an_id(db: Database, editor: Api) -> None:
    send(editor, f"1\n{LARGEST}\n")
    assert everybody(db) == [1, LARGEST]


def test_a_file_may_come_in_parts_of_any_length(db: Database, editor: Api) -> None:
    file = b"\xef\xbb\xbfuser_id\r\n" + b"".join(b"%d\r\n" % (7 * number) for number in range(1, 201))
    for length in (1, 2, 3, 7, 64):
        parts = [file[start : start + length] for start in range(0, len(file), length)]
        response = editor.send("POST", PATH, content=iter(parts), headers=CSV)
        assert response.json()["received"] == 200, response.text
        assert everybody(db) == [7 * number for number in range(1, 201)]
        send(editor, file, "?operation=remove")


def test_a_file_may_be_zipped(db: Database, editor: Api) -> None:
    for encoding in ("gzip", "x-gzip", "GZIP"):
        file = gzip.compress(b"user_id\n1000\n1002\n")
        assert send(editor, file, **{"Content-Encoding": encoding}) == (2, 2, 0)
        assert send(editor, file, "?operation=remove", **{"Content-Encoding": encoding}) == (2, 2, 0)
    # As cat a.csv.gz b.csv.gz makes it.
    two = gzip.compress(b"1000\n10") + gzip.compress(b"02\n1004\n")
    assert send(editor, two, **{"Content-Encoding": "gzip"}) == (3, 3, 0)
    assert everybody(db) == [1000, 1002, 1004]
    assert send(editor, "1006\n", **{"Content-Encoding": "identity"}) == (1, 1, 0)


def test_a_file_may_be_longer_than_any_other_body(serve: Callable[..., Service], db: Database) -> None:
    service = serve(max_body_bytes=1024)
    assert send(service.as_role("editor"), lines(range(1, 20001))) == (20000, 20000, 0)
    assert len(everybody(db)) == 20000


def test_parameters_of_the_type_do_no_harm(editor: Api) -> None:
    assert send(editor, "1000\n", **{"Content-Type": "text/csv; charset=utf-8; header=absent"}) == (1, 1, 0)


# ------------------------------------------------------------------------------------------- refusal

# A line, and the word in the error that says what is wrong with it.
BAD_LINES = {
    b"": "empty",
    b"  ": "whole number",
    b"abc": "whole number",
    b"10a": "whole number",
    b"1.5": "whole number",
    b"1e3": "whole number",
    b"1_000": "whole number",
    b"0x10": "whole number",
    b"0b1": "whole number",
    b"0": "above 0",
    b"-1": "above 0",
    b"-9223372036854775808": "above 0",
    b"9223372036854775808": "9223372036854775807",
    b"-9223372036854775809": "9223372036854775807",
    b"9" * 150: "9223372036854775807",
    b"1000,1002": "one column",
    b"1000,": "one column",
    b",1000": "one column",
    b"1000;1002": "whole number",
    b"1000\t1002": "whole number",
    b"1000\r1002": "carriage return",
    b"user_id": "whole number",
    b"null": "whole number",
    b"\\N": "whole number",
    b"\\.": "whole number",
    b"\\.\\.": "whole number",
    b"10\\00": "whole number",
    b"\\x31": "whole number",
    b'"1000': "whole number",
    b'1000"': "whole number",
    b'"10"00': "whole number",
    b'""': "whole number",
    b'"': "whole number",
    b'"-1000"': "whole number",
    b"'1000'": "whole number",
    b"10\x0000": "UTF-8",
    b"\x00": "UTF-8",
    b"\xff\xfe": "UTF-8",
    b"\xe4": "UTF-8",
    b"\xc0\xb1": "UTF-8",
    b"\xed\xa0\x80": "UTF-8",
    "ä".encode(): "whole number",
    "１０００".encode(): "whole number",
    b"\xef\xbb\xbf1000": "whole number",
    b"\x1f\x8b\x08": "UTF-8",
    b"=1+1": "whole number",
    b"1" * 100_000: "",
    b" " * 100_000: "",
}


def test_a_bad_line_is_named_and_nothing_is_changed(editor: Api, db: Database, unchanged: Any) -> None:
    add(db, 1000)
    unchanged()
    for bad, reason in BAD_LINES.items():
        for before, after in [(b"1000\n1002\n", b"\n1004\n"), (b"user_id\n1002\n", b"\n1004\n")]:
            body = before + bad + after
            problem = editor.is_refused("POST", PATH, 422, "invalid_value", content=body, headers=CSV)
            assert problem["line"] == 3, (bad, problem)
            assert "Line 3 " in problem["detail"]
            assert reason in problem["detail"], (bad, problem)
            assert problem["hint"]
        assert unchanged(), bad


def test_a_bad_line_is_named_wherever_it_stands(editor: Api, unchanged: Callable[[], bool]) -> None:
    unchanged()
    good = [str(number).encode() for number in range(1, 50001)]
    for bad in (b"x", b"\\.", b"\xff", b"\x00", b"", b"1,2", b'"1'):
        for place in (1, 2, 1000, 49999, 50000):
            if not bad and place == 50000:
                continue  # a blank line at the end is no line
            body = b"\n".join([*good[: place - 1], bad, *good[place:]]) + b"\n"
            for sent, headers in ((body, CSV), (gzip.compress(body, 1), CSV | {"Content-Encoding": "gzip"})):
                problem = editor.is_refused("POST", PATH, 422, "invalid_value", content=sent, headers=headers)
                assert problem["line"] == place, (bad, problem)
    assert unchanged()


def test_the_first_of_several_bad_lines_is_named(editor: Api) -> None:
    body = "1\nx\n\\.\n\n0\n"
    assert editor.is_refused("POST", PATH, 422, "invalid_value", content=body, headers=CSV)["line"] == 2


def test_a_file_in_another_encoding_is_refused(editor: Api, unchanged: Callable[[], bool]) -> None:
    unchanged()
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        body = "user_id\n1000\n".encode(encoding)
        problem = editor.is_refused("POST", PATH, 422, "invalid_value", content=body, headers=CSV)
        assert problem["line"] == 1
    assert unchanged()


def test_a_line_that_never_ends_is_refused(editor: Api, unchanged: Callable[[], bool]) -> None:
    unchanged()
    for filling in (b"1", b" ", b"0", b'"', b"\\"):
        body = iter([b"1000\n", *[filling * 65536] * 50])
        problem = editor.is_refused("POST", PATH, 422, "invalid_value", content=body, headers=CSV)
        assert problem["line"] == 2
    assert unchanged()


def test_an_import_of_nobody_is_refused(editor: Api, unchanged: Callable[[], bool]) -> None:
    unchanged()
    for body in (b"", b"user_id\n", b"user_id", b"\xef\xbb\xbf", b"\xef\xbb\xbfuser_id\r\n"):
        problem = editor.is_refused("POST", PATH, 422, "invalid_value", content=body, headers=CSV)
        assert problem["hint"]
    assert unchanged()


def test_only_csv_is_taken(editor: Api, unchanged: Callable[[], bool]) -> None:
    unchanged()
    for content_type in (
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/csvx",
        "",
    ):
        headers = {"Content-Type": content_type}
        problem = editor.is_refused(
            "POST", PATH, 415, "unsupported_media_type", content="1000\n", headers=headers
        )
        assert "text/csv" in problem["hint"]
    assert editor.send("POST", PATH, content=b"1000\n").status_code == 415
    for encoding in ("br", "deflate", "gzip, gzip", "nonsense"):
        headers = CSV | {"Content-Encoding": encoding}
        editor.is_refused("POST", PATH, 415, "unsupported_media_type", content="1000\n", headers=headers)
    assert unchanged()


def test_what_only_pretends_to_be_gzip_is_refused(editor: Api, unchanged: Callable[[], bool]) -> None:
    unchanged()
    whole = gzip.compress(lines(range(1, 10001)).encode())
    flipped = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 0xFF]) + whole[len(whole) // 2 + 1 :]
    headers = CSV | {"Content-Encoding": "gzip"}
    for body in (
        b"1000\n1002\n",
        b"",
        whole[:1],
        whole[:20],
        whole[: len(whole) // 2],
        whole[:-8],
        whole[:-1],
        whole[:-4] + b"\0\0\0\0",
        whole + b"1000\n",
        whole + whole[:-1],
        flipped,
    ):
        # After a flipped bit, gzip may still unpack it up to a line that is no id.
        response = editor.send("POST", PATH, content=body, headers=headers)
        problem = response.json()
        expected = {(400, "malformed_request"), *([(422, "invalid_value")] if body is flipped else [])}
        assert (response.status_code, problem["code"]) in expected, problem
    assert unchanged()


def test_a_reader_cannot_import(reader: Api, service: Service, unchanged: Callable[[], bool]) -> None:
    unchanged()
    for operation in ("add", "remove"):
        path = f"{PATH}?operation={operation}"
        reader.is_refused("POST", path, 403, "forbidden", content="1000\n", headers=CSV)
        service.with_key(None).is_refused("POST", path, 401, "unauthorized", content="1000\n", headers=CSV)
    assert unchanged()


def test_parameters_that_cannot_be_are_refused(editor: Api, db: Database, unchanged: Any) -> None:
    add(db, 1002)
    unchanged()
    for query in (
        "operation=mirror",
        "operation=add&all_actors=true",
        "operation=",
        "operation=ADD",
        "ttl_seconds=0",
        "ttl_seconds=60&expires_at=2027-01-01T00:00:00Z",
        "expires_at=2026-11-20T12:00:00Z",
        "starts_at=2026-11-19T00:00:00Z",
        "starts_at=2026-11-22T00:00:00Z&expires_at=2026-11-21T00:00:00Z",
        "operation=remove&ttl_seconds=60",
        "operation=remove&starts_at=2026-11-22T00:00:00Z",
    ):
        path = f"{PATH}?{query}"
        editor.is_refused("POST", path, 422, "invalid_value", content="1000\n1002\n", headers=CSV)
    for query in (
        "ttl_seconds=long",
        "ttl_seconds=0.5",
        "ttl_seconds=1e3",
        "ttl_seconds=-1",
        "expires_at=tomorrow",
        "expires_at=2027-01-01",
        "starts_at=1",
    ):
        path = f"{PATH}?{query}"
        editor.is_refused("POST", path, 400, "malformed_request", content="1000\n1002\n", headers=CSV)
    assert unchanged()


def test_a_plan_for_somebody_excluded_is_refused_for_all(editor: Api, db: Database, unchanged: Any) -> None:
    db.rows("select set_rollout('AVITO_DISCOUNT_30', 100)")
    add(db, 1002, operation="remove")
    unchanged()
    path = f"{PATH}?starts_at={quote(EVENING.isoformat())}"
    problem = editor.is_refused("POST", path, 422, "impossible_now", content="1000\n1002\n", headers=CSV)
    assert problem["hint"]
    assert unchanged()


def test_an_import_leaves_nothing_behind(editor: Api, db: Database) -> None:
    send(editor, "1000\n")
    editor.is_refused("POST", PATH, 422, "invalid_value", content="x\n", headers=CSV)
    assert send(editor, "1002\n") == (1, 1, 0)
    assert db.value("select count(*) from pg_class where relname = 'import'") == 0
    ends = db.column("select ends_at from segmentation.memberships")
    assert ends == [FOREVER, FOREVER]
