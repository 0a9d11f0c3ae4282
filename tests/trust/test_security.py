"""Who may do what, whatever an attacker tries: roles, hostile sessions, keys, links, quotes, headers."""

import ast
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.errors import CheckViolation, InsufficientPrivilege, InvalidParameterValue

from service.schemas import Explanation, Report, UserHistory
from tests.conftest import NOON, Clock, Database
from tests.http.conftest import Api, Service
from tests.http.documented import calls_by_role

ROLES = ["evaluator", "reader", "editor", "admin"]
OTHERS = ["jobs", "service"]
HOSTILE = (
    "'; drop table segmentation.users; --",
    '"; select 1; --',
    "\\'; --",
    "$$ $1 %s {}",
    "\u2019\u0000x",
)


def granted() -> dict[str, set[str]]:
    """What sql/99_grants.sql gives to each role by itself."""
    text = (Path(__file__).parents[2] / "sql" / "99_grants.sql").read_text()
    found: dict[str, set[str]] = {}
    for functions, role in re.findall(
        r"grant execute on (?:function|procedure)(.*?)\bto segmentation_(\w+);", text, re.DOTALL
    ):
        names = re.findall(r"segmentation\.(\w+)\s*\(", functions)
        found.setdefault(role, set()).update(names)
    return found


def test_each_role_may_call_what_the_list_gives_it_and_nothing_else(db: Database) -> None:
    listed = granted()
    assert set(listed) == {*ROLES, "jobs"}
    held: set[str] = set()
    expected = {"jobs": listed["jobs"], "service": set()}
    for role in ROLES:
        held = held | listed[role]
        expected[role] = held
    for role in (*ROLES, *OTHERS):
        may = set(
            db.column(
                "select proname from pg_proc where pronamespace = 'segmentation'::regnamespace"
                " and prorettype <> 'trigger'::regtype and has_function_privilege(%s, oid, 'execute')",
                f"segmentation_{role}",
            )
        )
        assert may == expected[role], role


def test_every_definer_function_has_a_search_path_of_its_own(db: Database) -> None:
    assert (
        db.column(
            "select oid::regprocedure::text from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " and prosecdef and not coalesce(proconfig, '{}') @> '{\"search_path=pg_catalog, pg_temp\"}'"
        )
        == []
    )


@pytest.fixture
def login(database_url: str) -> Iterator[Callable[[str], Database]]:
    """Log in as the service does, with one of its roles."""
    with ExitStack() as opened:

        def login_(role: str) -> Database:
            database = Database(database_url)
            opened.callback(database.connection.close)
            database.rows("set session authorization segmentation_service")
            database.rows(f"set role segmentation_{role}")
            return database

        yield login_


# Names that the functions use, in the one schema that everybody may write to.
TRAPS = """
    create temporary table users (user_id bigint, registered_at timestamptz);
    create temporary table segments (segment_id integer, slug text, salt bigint, deleted_at timestamptz);
    create temporary table memberships (user_id bigint, segment_id integer);
    create temporary table rollouts (segment_id integer);
    create temporary table idempotency_keys (api_key text);
    create temporary table api_keys (name text, role text);
    create function pg_temp.trap() returns text language plpgsql as
      $$ begin raise notice 'trapped as %', current_user; return current_user; end $$;
    create function pg_temp.clock() returns timestamptz language sql as $$ select pg_temp.trap()::timestamptz $$;
    create function pg_temp.now() returns timestamptz language sql as $$ select pg_temp.trap()::timestamptz $$;
    create function pg_temp.length(text) returns integer language sql as $$ select length(pg_temp.trap()) $$;
    create function pg_temp.coalesce_text(text) returns text language sql as $$ select pg_temp.trap() $$;
    create function pg_temp.hashtext(text) returns integer language sql as $$ select length(pg_temp.trap()) $$;
    create function pg_temp.equal(text, text) returns boolean language sql as $$ select pg_temp.trap() is null $$;
    create function pg_temp.less(bigint, bigint) returns boolean language sql as $$ select pg_temp.trap() is null $$;
    create operator pg_temp.= (leftarg = text, rightarg = text, procedure = pg_temp.equal);
    create operator pg_temp.< (leftarg = bigint, rightarg = bigint, procedure = pg_temp.less);
    create operator pg_temp.<= (leftarg = bigint, rightarg = bigint, procedure = pg_temp.less);
    create function pg_temp.always() returns boolean language sql as $$ select pg_temp.trap() is not null $$;
    create domain pg_temp.text as pg_catalog.text check (pg_temp.always());
    create domain pg_temp.timestamptz as pg_catalog.timestamptz check (pg_temp.always());
    create domain pg_temp.bigint as pg_catalog.int8 check (pg_temp.always());
"""


def test_what_a_session_puts_in_the_way_is_not_stepped_on(
    db: Database, login: Callable[[str], Database]
) -> None:
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B', 100)")
    editor = login("editor")
    notices: list[str] = []
    editor.connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    for trap in TRAPS.split(";\n    "):
        try:
            editor.rows(trap)
        except psycopg.Error:
            # PostgreSQL itself refuses some, such as a cast between types of others.
            assert "cast" in trap
    editor.rows("set search_path = pg_temp, segmentation, pg_catalog")
    changed = editor.rows(
        "select * from segmentation.change_user_segments(1000::bigint, '{A}'::pg_catalog.text[])"
    )
    assert changed == [("A", "added")]
    assert editor.value("select (segmentation.users_segments('{1000}')).segments") == ["A", "B"]
    editor.rows("select segmentation.register_users('{7}')")
    editor.rows("select segmentation.change_segment_members('A', '{8,9}')")
    editor.rows("select * from segmentation.explain_membership(1000, 'A')")
    editor.rows("select * from segmentation.user_history(1000)")
    editor.rows("select * from segmentation.segment_members('A')")
    editor.rows("select * from segmentation.segment_stats('A')")
    editor.rows("select * from segmentation.service_status()")
    editor.rows("select * from segmentation.claim_idempotency_key('x', 'y')")
    assert notices == []
    assert db.column("select user_id from segmentation.users order by 1") == [7, 8, 9, 1000]
    assert editor.column("select user_id from pg_temp.users") == []


def test_a_table_that_stands_where_an_import_puts_its_own_is_not_used(
    db: Database, login: Callable[[str], Database]
) -> None:
    db.rows("select create_segment('A')")
    editor = login("editor")
    editor.rows("create temporary table import (user_id bigint)")
    editor.rows("insert into pg_temp.import values (1)")
    with pytest.raises(psycopg.errors.DuplicateTable):
        editor.rows("select begin_import('A')")
    # The table is the caller's own: a trap in it cannot run with the owner's rights.
    editor.rows("drop table pg_temp.import")
    editor.rows(
        "create function pg_temp.trap() returns bigint language plpgsql as"
        " $$ begin delete from segmentation.users; return 1; end $$"
    )
    editor.rows("create view pg_temp.import as select pg_temp.trap() as user_id")
    db.rows("select register_users('{55}')")
    with pytest.raises(psycopg.Error):
        editor.rows("select * from finish_import('A')")
    assert db.column("select user_id from segmentation.users") == [55]


def test_a_view_in_the_place_of_the_imports_table_does_not_run_as_the_owner(
    db: Database, login: Callable[[str], Database]
) -> None:
    db.rows("select create_segment('A')")
    editor = login("editor")
    ran_as: list[str] = []
    editor.connection.add_notice_handler(lambda notice: ran_as.append(notice.message_primary or ""))
    editor.rows(
        "create function pg_temp.trap() returns boolean language plpgsql as"
        " $$ begin raise notice '%', current_user; return true; end $$"
    )
    editor.rows("create view pg_temp.import as select 77::bigint as user_id where pg_temp.trap()")
    editor.rows("grant select on pg_temp.import to public")
    with suppress(psycopg.Error):
        editor.rows("select * from finish_import('A')")
    assert "segmentation_owner" not in ran_as


def test_a_key_is_256_random_bits_and_only_its_digest_is_kept(db: Database) -> None:
    keys = [db.value("select create_api_key(%s, 'reader')", f"key-{number}") for number in range(20)]
    assert len(set(keys)) == 20
    for key in keys:
        assert re.fullmatch(r"seg_([0-9a-f]{64}|[A-Za-z0-9_-]{43})", key)
    everything = str(db.rows("select k::text from segmentation.api_keys as k"))
    listed = str(db.rows("select l::text from list_api_keys() as l"))
    for key in keys:
        assert key not in everything + listed
        assert key[4:] not in everything + listed
    assert db.column("select distinct length(key_digest) from segmentation.api_keys") == [32]


def test_neither_a_key_nor_a_link_is_ever_logged(
    serve: Callable[..., Service], db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service = serve(log_level="debug", access_log=True)
    key = service.key("admin", "shop")
    api = service.with_key(key)
    for method, path in (("GET", "/v1/segments"), ("GET", "/v1/none"), ("PUT", "/v1/users/0")):
        api.send(method, path)
    db.rows("select revoke_api_key('shop')")
    api.send("GET", "/v1/segments")
    service.with_key("seg_wrong").send("GET", "/v1/segments")
    assert key not in caplog.text
    assert key[4:] not in caplog.text
    assert "seg_wrong" not in caplog.text


def test_a_key_is_read_from_the_header_alone(service: Service) -> None:
    key = service.key("reader")
    nobody = service.with_key(None)
    for path in (
        f"/v1/segments?key={key}",
        f"/v1/segments?api_key={key}",
        f"/v1/segments?access_token={key}",
    ):
        nobody.is_refused("GET", path, 401, "unauthorized")
    service.client.cookies.set("Authorization", f"Bearer {key}")
    nobody.is_refused("GET", "/v1/segments", 401, "unauthorized")


# What is put into the text of a statement: names from the code, and never a value.
PUT_TOGETHER = {
    "select {name_it}, segmentation.{function}({arguments})",
    "select {columns} from segmentation.{function}({named})",
}


def test_no_statement_is_put_together_from_values() -> None:
    root = Path(__file__).parents[2]
    found = set()
    for path in sorted((root / "service").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                text = ast.unparse(node)[2:-1]
                if re.match(
                    r"\s*(select|insert|update|delete|set|call|copy|with|values|do)\s", text, re.IGNORECASE
                ):
                    found.add(text)
            # Nor in any other way than by an f-string.
            if isinstance(node, ast.Call | ast.BinOp):
                text = ast.unparse(node)
                assert not re.match(r"'(select|insert|update|delete|call|copy) .*'( %|\.format| \+)", text), (
                    text
                )
    assert found == PUT_TOGETHER
    for path in sorted((root / "sql").glob("*.sql")):
        for statement in re.findall(
            r"^\s+execute (?!function)(.+?;)", path.read_text(), re.MULTILINE | re.DOTALL
        ):
            # %I and %L quote; %s is for PostgreSQL's own name of a partition, wanted.trigger its own text of a trigger.
            assert re.match(r"format\(\s*'|regexp_replace\(wanted\.trigger, ", statement), statement
            assert "%s" not in statement or re.search(r"old_partition|missing\.", statement), statement


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "|", "%", '"', ";", ","])
def test_no_cell_of_a_csv_can_be_a_formula(db: Database, start: str) -> None:
    # Beside slugs, reports and exports hold ids, two words and times.
    slug = f"{start}1+1"
    with pytest.raises(InvalidParameterValue):
        db.rows("select create_segment(%s)", slug)
    with pytest.raises(CheckViolation):
        db.rows("insert into segmentation.segments (slug) values (%s)", slug)


@pytest.mark.parametrize("hostile", HOSTILE[:4])
def test_quotes_and_semicolons_are_only_text(admin: Api, db: Database, hostile: str) -> None:
    db.rows("select create_segment('A')")
    body = {"add": ["A"], "reason": hostile}
    assert admin.send("PATCH", "/v1/users/1000/segments", json=body).status_code == 200
    history = admin.get("/v1/users/1000/history", UserHistory)
    assert [event.reason for event in history.events] == [hostile]
    assert admin.get("/v1/users/1000/segments/A", Explanation).reason == hostile
    for refused in (
        admin.send("POST", "/v1/segments", json={"slug": hostile}),
        admin.send("PATCH", "/v1/users/1000/segments", json={"add": [hostile]}),
        admin.send("POST", "/v1/reports", json={"period": hostile}),
        admin.send(
            "POST",
            f"/v1/segments/A/members?operation={hostile.replace('%', '%25')}",
            content=b"1\n",
            headers={"Content-Type": "text/csv"},
        ),
        admin.send(
            "POST",
            "/v1/segments/A/members",
            content=hostile.encode() + b"\n",
            headers={"Content-Type": "text/csv"},
        ),
    ):
        assert refused.status_code == 422, refused.text
    with pytest.raises(InvalidParameterValue):
        db.rows("select create_api_key(%s, 'reader')", hostile)
    db.rows("select change_user_segments(1001, '{A}', actor => %s, reason => %s)", hostile, hostile)
    row = db.row("select actor, reason from user_history(1001)")
    assert row == (hostile, hostile)
    assert db.value("select count(*) from segmentation.users") == 2


def test_a_null_character_is_refused_and_harms_nothing(admin: Api, db: Database) -> None:
    db.rows("select create_segment('A')")
    for name, body in (
        ("reason", {"add": ["A"], "reason": HOSTILE[4]}),
        ("add", {"add": ["A", "A\u0000"]}),
    ):
        problem = admin.is_refused("PATCH", "/v1/users/1/segments", 422, "invalid_value", json=body)
        assert problem["detail"].startswith(f"{name} has a NUL character")
    problem = admin.is_refused("GET", "/v1/segments/A%00", 422, "invalid_value")
    assert problem["detail"].startswith("slug has a NUL character")


def test_an_error_about_one_user_tells_nothing_of_others(service: Service, db: Database) -> None:
    db.rows("select create_segment('SECRET_CAMPAIGN')")
    db.rows(
        "select change_user_segments(4242, '{SECRET_CAMPAIGN}', actor => 'secret-actor', reason => 'secret-why')"
    )
    editor = service.as_role("editor")
    problems = [
        editor.send("PATCH", "/v1/users/1/segments", json={"add": ["NOPE"]}),
        editor.send("PATCH", "/v1/users/0/segments", json={"add": ["SECRET_CAMPAIGN"]}),
        editor.send("GET", "/v1/users/1/segments/NOPE"),
        editor.send("DELETE", "/v1/users/4242"),
        editor.send("POST", "/v1/segments", json={"slug": "SECRET_CAMPAIGN"}),
    ]
    for response in problems:
        assert response.status_code >= 400
        for secret in ("4242", "secret-actor", "secret-why"):
            assert secret not in response.text.replace("/v1/users/4242", "")
    assert editor.get("/v1/users/1/history", UserHistory).events == []


def test_a_report_opens_by_its_link_and_by_nothing_else(service: Service, db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}')")
    editor = service.as_role("editor")
    link = editor.does("POST", "/v1/reports", Report, {"period": f"{NOON:%Y-%m}"}, status=201)
    path = link.url[link.url.index("/v1/") :]
    assert "1000;A;add" in service.client.get(path).text
    secret = path.removeprefix("/v1/reports/").removesuffix(".csv")
    assert len(secret) >= 32
    others = [
        "1",
        "0",
        "",
        "null",
        secret[:-1],
        secret[:-1] + ("0" if secret[-1] != "0" else "1"),
        "%25",
        "'",
    ]
    for wrong in others:
        assert editor.send("GET", f"/v1/reports/{wrong}.csv").status_code in (404, 422), wrong
    assert editor.send("GET", "/v1/reports").status_code == 405
    clock.advance(hours=24)
    assert service.client.get(path).status_code == 404


def test_a_forgotten_user_leaves_no_link_and_no_answer(service: Service, db: Database) -> None:
    db.rows("select create_segment('A')")
    admin = service.as_role("admin")
    keyed = {"Idempotency-Key": "a"}
    admin.send("PATCH", "/v1/users/4242/segments", json={"add": ["A"]}, headers=keyed)
    admin.send("POST", "/v1/reports", json={"period": "2026-11", "user_id": 4242})
    admin.does_silently("DELETE", "/v1/users/4242")
    for table in db.column(
        "select oid::regclass::text from pg_class"
        " where relnamespace = 'segmentation'::regnamespace and relkind in ('r', 'p')"
    ):
        assert "4242" not in str(db.rows(f"select t::text from segmentation.{table} as t")), table


def test_answers_say_how_they_are_to_be_handled(service: Service) -> None:
    reader = service.as_role("reader")
    for path in ("/v1/segments", "/v1/users/1/segments", "/v1/users/0/segments", "/v1/none"):
        headers = reader.send("GET", path).headers
        # A browser neither runs JSON nor guesses its type.
        assert headers["content-type"] in ("application/json", "application/problem+json")
        assert "server" not in headers
    docs = service.client.get("/docs").headers["content-security-policy"]
    assert "default-src 'self'" in docs
    assert "frame-ancestors 'none'" in docs
    assert "unsafe-eval" not in docs
    # Where there is no script-src, default-src is what counts for scripts.
    script = re.search(r"script-src ([^;]*)", docs) or re.search(r"default-src ([^;]*)", docs)
    assert script and "unsafe-inline" not in script[1]


def test_no_answer_is_kept_by_anybody_on_its_way_nor_taken_for_what_it_is_not(
    service: Service, db: Database
) -> None:
    def is_not_kept(response: Any) -> None:
        assert response.headers["x-content-type-options"] == "nosniff", response.url
        assert response.status_code == 204 or response.headers["cache-control"] == "no-store", response.url

    admin = service.as_role("admin")
    nobody = service.with_key(None)
    statuses = set()
    for method, path, _, sent in calls_by_role(service):
        for response in (
            nobody.send(method, path, **sent),
            admin.send(method, path, **sent),
            admin.send(method, path, content=b"{", headers={"Content-Type": "application/json"}),
            admin.send("TRACE", path),
        ):
            is_not_kept(response)
            statuses.add(response.status_code)
    assert {200, 201, 204, 400, 401, 405, 415} <= statuses
    db.rows("select create_segment('A')")
    keyed = {"Idempotency-Key": "a"}
    for _ in range(2):
        response = admin.send("PATCH", "/v1/users/1/segments", json={"add": ["A"]}, headers=keyed)
        is_not_kept(response)
    assert response.headers["idempotency-replayed"] == "true"
    link = admin.send("POST", "/v1/reports", json={"period": time.strftime("%Y-%m", time.gmtime())}).json()[
        "url"
    ]
    csv = {"Accept": "text/csv"}
    for response in (
        nobody.send("GET", link[link.index("/v1/") :]),
        nobody.send("GET", "/v1/reports/0.csv"),
        admin.send("GET", "/v1/segments/A/members", headers=csv),
        admin.send("GET", "/v1/segments/NOPE/members", headers=csv),
        admin.send("GET", "/v1/none"),
        nobody.send("GET", "/health/live"),
        nobody.send("GET", "/health/ready"),
    ):
        is_not_kept(response)
    # A client of flags keeps its answer and asks whether it still holds.
    asked = {"json": {"context": {"targetingKey": "1"}}}
    flags = admin.send("POST", "/ofrep/v1/evaluate/flags", **asked)
    same = admin.send(
        "POST", "/ofrep/v1/evaluate/flags", **asked, headers={"If-None-Match": flags.headers["etag"]}
    )
    assert same.status_code == 304
    is_not_kept(flags)
    is_not_kept(same)


def test_the_docs_are_asked_for_anew_after_a_deploy(service: Service) -> None:
    for path in ("/docs", "/docs/errors", "/docs/swagger-ui.css", "/openapi.json"):
        headers = service.client.get(path).headers
        assert headers["cache-control"] == "no-cache"
        assert headers["x-content-type-options"] == "nosniff"
    assert service.client.get("/docs").headers["referrer-policy"] == "no-referrer"


def test_no_other_site_may_read_an_answer_unless_it_is_let(service: Service) -> None:
    reader = service.as_role("reader")
    response = reader.send("GET", "/v1/segments", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in response.headers


def test_the_services_login_cannot_read_keys_or_links_or_stored_answers(
    login: Callable[[str], Database],
) -> None:
    for role in ROLES:
        session = login(role)
        for table in ("api_keys", "report_links", "idempotency_keys", "memberships"):
            with pytest.raises(InsufficientPrivilege):
                session.rows(f"select * from segmentation.{table}")
