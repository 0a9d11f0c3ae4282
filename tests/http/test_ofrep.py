"""OpenFeature: segments as boolean flags, by the protocol (OFREP 0.3) and by its own client from PyPI."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason

from service.schemas import Flag, FlagFailure, FlagOfMany, Flags
from tests.conftest import NOON, Clock, Database
from tests.expect import first, inside, outside
from tests.http.conftest import Api, Service
from tests.launcher import Server

FLAGS = "/ofrep/v1/evaluate/flags"
MISSING: list[dict[str, Any]] = [{}, {"context": {}}, {"context": {"userId": "1"}}]
NO_USER_IDS: list[Any] = [
    *("anonymous", "", "0", "-1", "+1", "1.5", "٣", "1\n", " 1"),
    *(0, -1, 1.5, None, True, {}),
]
EVENING = NOON + timedelta(hours=6)


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """One segment with assignments, one that is rolling out, one that every user is in."""
    for slug, percent in {"BY_HAND": 0, "ROLLING": 30, "EVERYBODY": 100}.items():
        db.rows("select create_segment(%s, %s::numeric)", slug, percent)


def context(user_id: Any = "1000", **others: Any) -> dict[str, Any]:
    return {"context": {"targetingKey": user_id, **others}}


def flag(api: Api, key: str, user_id: Any = "1000") -> Flag:
    evaluated = api.does("POST", f"{FLAGS}/{key}", Flag, context(user_id))
    assert evaluated.key == key
    assert evaluated.variant == ("in" if evaluated.value else "out")
    return evaluated


def flags(api: Api, user_id: Any = "1000", **others: Any) -> list[FlagOfMany]:
    return api.does("POST", FLAGS, Flags, context(user_id, **others)).flags


def fails(api: Api, path: str, status: int, code: str, **kwargs: Any) -> str:
    """Send a request that fails in the way of the protocol, and return what it says."""
    response = api.send("POST", path, **kwargs)
    assert response.headers["content-type"] == "application/json", response.text
    failure = msgspec.json.decode(response.content, type=FlagFailure, strict=True)
    assert (response.status_code, failure.error_code) == (status, code), response.text
    assert failure.error_details
    key = path.removeprefix(FLAGS).removeprefix("/")
    assert failure.key == (key or msgspec.UNSET)
    return failure.error_details


def test_a_rollout_is_a_split(reader: Api, db: Database) -> None:
    for user_id in first(inside(db, "ROLLING", 30), 5):
        evaluated = flag(reader, "ROLLING", user_id)
        assert (evaluated.value, evaluated.reason) == (True, "SPLIT")
        assert (evaluated.metadata.source, evaluated.metadata.since) == ("rollout", NOON)
    for user_id in first(outside(db, "ROLLING", 30), 5):
        evaluated = flag(reader, "ROLLING", str(user_id))
        assert (evaluated.value, evaluated.reason, evaluated.metadata.source) == (False, "SPLIT", "none")


def test_a_full_rollout_is_static(reader: Api) -> None:
    evaluated = flag(reader, "EVERYBODY")
    assert (evaluated.value, evaluated.reason, evaluated.metadata.source) == (True, "STATIC", "rollout")
    assert evaluated.metadata.until is msgspec.UNSET


def test_an_assignment_and_an_exclusion_are_a_targeting_match(
    reader: Api, db: Database, clock: Clock
) -> None:
    db.rows("select change_user_segments(1000, '{BY_HAND}', expires_at => %s)", EVENING)
    db.rows("select change_user_segments(1000, remove => '{EVERYBODY}')")
    assigned, excluded = flag(reader, "BY_HAND"), flag(reader, "EVERYBODY")
    assert (assigned.value, assigned.reason, assigned.metadata.source) == (
        True,
        "TARGETING_MATCH",
        "assignment",
    )
    assert (assigned.metadata.since, assigned.metadata.until) == (NOON, EVENING)
    assert (excluded.value, excluded.reason, excluded.metadata.source) == (
        False,
        "TARGETING_MATCH",
        "exclusion",
    )
    clock.set(EVENING - timedelta(microseconds=1))
    assert flag(reader, "BY_HAND").value
    clock.set(EVENING)
    assert not flag(reader, "BY_HAND").value
    assert flag(reader, "BY_HAND").reason == "SPLIT"


def test_a_step_to_come_is_the_end_of_the_one_in_force(reader: Api, db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('ROLLING', 100, %s)", EVENING)
    assert flag(reader, "ROLLING").metadata.until == EVENING
    clock.set(EVENING)
    assert flag(reader, "ROLLING").reason == "STATIC"


def test_every_flag_agrees_with_the_explanation(reader: Api, db: Database, clock: Clock) -> None:
    db.rows("select set_rollout('ROLLING', 70, %s)", NOON + timedelta(minutes=5))
    for user_id in range(1, 13):
        for number, slug in enumerate(("BY_HAND", "ROLLING", "EVERYBODY")):
            match (user_id + number) % 4:
                case 0:
                    db.rows("select change_user_segments(%s, array[%s])", user_id, slug)
                case 1:
                    db.rows("select change_user_segments(%s, remove => array[%s])", user_id, slug)
                case 2:
                    db.rows(
                        "select change_user_segments(%s, array[%s], expires_at => %s)",
                        *(user_id, slug, NOON + timedelta(minutes=3)),
                    )
    for _ in range(4):
        for user_id in range(1, 13):
            told = {f.key: (f.value, f.metadata.source) for f in flags(reader, user_id) if f.metadata}
            explained = {
                slug: tuple(db.row("select member, source from explain_membership(%s, %s)", user_id, slug))
                for slug in ("BY_HAND", "ROLLING", "EVERYBODY")
            }
            assert told == explained
        clock.advance(minutes=2)


def test_all_segments_are_flags_by_slug_also_of_a_user_never_seen(reader: Api, db: Database) -> None:
    db.rows("select create_segment('GONE')")
    db.rows("select delete_segment('GONE')")
    assert [f.key for f in flags(reader, 9223372036854775807)] == ["BY_HAND", "EVERYBODY", "ROLLING"]
    assert flags(reader, flags=[]) == []
    assert [f.key for f in flags(reader, flags=None)] == ["BY_HAND", "EVERYBODY", "ROLLING"]


def test_a_list_of_flags_is_honoured_and_names_what_does_not_exist(reader: Api) -> None:
    missing, rolling = flags(reader, flags=["ROLLING", "NOPE", "ROLLING"])
    assert (missing.key, missing.error_code, missing.value) == ("NOPE", "FLAG_NOT_FOUND", msgspec.UNSET)
    assert missing.error_details
    assert (rolling.key, rolling.error_code) == ("ROLLING", msgspec.UNSET)


def test_other_members_are_welcome_and_no_value_is_null(reader: Api) -> None:
    response = reader.send("POST", FLAGS, json={**context(country="DE", deep={"a": [1]}), "more": 1})
    assert response.status_code == 200
    assert "null" not in response.text
    for one in response.json()["flags"]:
        assert {type(value) for value in one["metadata"].values()} <= {str, int, float, bool}


def test_a_request_that_is_no_evaluation_is_refused_in_words_of_the_protocol(reader: Api) -> None:
    for path in (f"{FLAGS}/ROLLING", FLAGS):
        for body in (b"", b"{", b"[]", b'"a"', b"\xff"):
            fails(
                reader, path, 400, "PARSE_ERROR", content=body, headers={"Content-Type": "application/json"}
            )
        fails(reader, path, 400, "PARSE_ERROR", content=b"a=b", headers={"Content-Type": "text/plain"})
        for missing in MISSING:
            fails(reader, path, 400, "TARGETING_KEY_MISSING", json=missing)
        for wrong in NO_USER_IDS:
            details = fails(reader, path, 400, "INVALID_CONTEXT", json=context(wrong))
            assert "whole number" in details or "not above 0" in details
        for too_large in ("9223372036854775808", 2**63, 2**64):
            fails(reader, path, 400, "INVALID_CONTEXT", json=context(too_large))
        fails(reader, path, 400, "INVALID_CONTEXT", json={"context": "1000"})
    fails(reader, FLAGS, 400, "INVALID_CONTEXT", json=context(flags="ROLLING"))
    fails(reader, FLAGS, 400, "INVALID_CONTEXT", json=context(flags=["\0"]))
    fails(reader, FLAGS, 400, "GENERAL", json=context(filler="x" * 2**20))


def test_an_unknown_segment_is_a_flag_not_found(reader: Api) -> None:
    assert "NOPE" in fails(reader, f"{FLAGS}/NOPE", 404, "FLAG_NOT_FOUND", json=context())
    fails(reader, f"{FLAGS}/rolling", 404, "FLAG_NOT_FOUND", json=context())


def test_the_key_comes_in_either_header(service: Service) -> None:
    nobody, key = service.with_key(None), service.key("reader")
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        assert nobody.send("POST", FLAGS, json=context(), headers=headers).status_code == 200
    nobody.is_refused("POST", FLAGS, 401, "unauthorized", json=context())
    nobody.is_refused("POST", FLAGS, 401, "unauthorized", json=context(), headers={"X-API-Key": "wrong"})
    # So everywhere.
    assert nobody.send("GET", "/v1/segments", headers={"X-API-Key": key}).status_code == 200


def test_what_passes_by_itself_is_a_500_with_whole_seconds(
    serve: Callable[..., Service], db: Database
) -> None:
    # What is locked is tried again until then.
    reader = serve(lock_timeout=0.1).as_role("reader")
    for sqlstate in ("40001", "55P03", "57014", "08006", "XX000"):
        db.rows(
            "create or replace function segmentation.ofrep_evaluations(user_id bigint, slugs text[])"
            " returns table (slug text, evaluation json) language plpgsql as"
            f" $$ begin raise sqlstate '{sqlstate}' using message = 'no'; end $$"
        )
        fails(reader, f"{FLAGS}/ROLLING", 500, "GENERAL", json=context())
        response = reader.send("POST", FLAGS, json=context())
        assert response.status_code == 500
        if sqlstate not in ("57014", "XX000"):
            assert response.headers["retry-after"].isdigit()


def test_the_etag_is_that_of_the_answer(reader: Api, db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(1000, '{BY_HAND}', expires_at => %s)", EVENING)

    def ask(if_none_match: str | None = None) -> Any:
        headers = {"If-None-Match": if_none_match} if if_none_match else {}
        return reader.send("POST", FLAGS, json=context(), headers=headers)

    etag = ask().headers["etag"]
    assert etag.startswith('"')
    assert etag.endswith('"')
    for known in (etag, f"W/{etag}", f'"x", W/{etag}', f'"a,b",{etag}', "*"):
        response = ask(known)
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
        assert "content-type" not in response.headers
    for other in ('"x"', "W/", etag[:-2] + '"', etag.strip('"')):
        assert ask(other).status_code == 200
    # Nothing is written when a membership ends, but the answer changes.
    clock.set(EVENING)
    response = ask(etag)
    assert response.status_code == 200
    assert response.headers["etag"] != etag


def test_browsers_of_the_origins_that_are_set_may_ask(serve: Callable[..., Service]) -> None:
    service = serve(cors_origins="https://shop.example, https://app.example", cors_headers="X-Shop, X-Page")
    preflight = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-api-key,content-type,if-none-match,traceparent,x-page",
    }
    for path in (FLAGS, f"{FLAGS}/ROLLING"):
        allowed = service.client.options(path, headers=preflight)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        refused = service.client.options(path, headers={**preflight, "Origin": "https://evil.example"})
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
    # They may do that and nothing else.
    assert (
        "access-control-allow-origin" not in service.client.options("/v1/reports", headers=preflight).headers
    )
    answer = service.as_role("reader").send(
        "POST", FLAGS, json=context(), headers={"Origin": "https://app.example"}
    )
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert "etag" in exposed
    assert "retry-after" in exposed


def test_browsers_may_read_every_answer_also_errors_and_304(serve: Callable[..., Service]) -> None:
    service = serve(cors_origins="https://app.example", rate_limit_per_minute=4)
    reader, nobody = service.as_role("reader"), service.with_key("wrong")
    origin = {"Origin": "https://app.example"}
    etag = reader.send("POST", FLAGS, json=context(), headers=origin).headers["etag"]
    answers = [
        reader.send("POST", FLAGS, json=context(), headers={**origin, "If-None-Match": etag}),
        reader.send("POST", f"{FLAGS}/NOPE", json=context(), headers=origin),
        reader.send("POST", FLAGS, json=context("anonymous"), headers=origin),
        reader.send("POST", FLAGS, json=context(), headers=origin),
        nobody.send("POST", FLAGS, json=context(), headers=origin),
    ]
    assert [answer.status_code for answer in answers] == [304, 404, 400, 429, 401]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {"etag", "retry-after", "x-request-id"} <= set(exposed)
        # Otherwise a cache could give one origin's answer to another.
        assert answer.headers["vary"] == "Origin"


def test_without_origins_no_browser_is_let_in(reader: Api) -> None:
    answer = reader.send("POST", FLAGS, json=context(), headers={"Origin": "https://app.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_provider_from_pypi_reads_segments(run_server: Callable[..., Server], db: Database) -> None:
    server = run_server()
    key = db.value("select create_api_key('shop', 'reader')")
    ids = [*first(inside(db, "ROLLING", 30), 4), *first(outside(db, "ROLLING", 30), 4)]

    def details(flag_key: str, targeting_key: str | None, key: str = key) -> FlagEvaluationDetails[bool]:
        provider = OFREPProvider(server.url, headers_factory=lambda: {"Authorization": f"Bearer {key}"})
        api.set_provider(provider)
        # The default is the opposite of the correct answer, so that a failure cannot pass for it.
        wrong = flag_key != "ROLLING" or targeting_key not in {str(user_id) for user_id in ids[:4]}
        return api.get_client().get_boolean_details(
            flag_key, wrong, EvaluationContext(targeting_key=targeting_key, attributes={"country": "DE"})
        )

    try:
        found = [details("ROLLING", str(user_id)) for user_id in ids]
        assert [d.value for d in found] == [True] * 4 + [False] * 4
        assert {(d.reason, d.error_code) for d in found} == {(Reason.SPLIT, None)}
        assert [d.variant for d in found] == ["in"] * 4 + ["out"] * 4
        assert found[0].flag_metadata["source"] == "rollout"
        db.rows("select set_rollout('ROLLING', 100)")
        assert details("ROLLING", str(ids[7])).reason == Reason.STATIC
        for flag_key, targeting_key, error in [
            ("NOPE", "1000", ErrorCode.FLAG_NOT_FOUND),
            ("ROLLING", None, ErrorCode.TARGETING_KEY_MISSING),
            ("ROLLING", "anonymous", ErrorCode.INVALID_CONTEXT),
        ]:
            failed = details(flag_key, targeting_key)
            assert (failed.error_code, failed.value) == (error, True), failed
            assert failed.error_message
        failed = details("ROLLING", "1000", key="wrong")
        assert (failed.error_code, failed.error_message) == (ErrorCode.GENERAL, "unauthorized")
    finally:
        api.clear_providers()


def test_the_provider_from_pypi_sees_a_rollout_over_many_users_as_sql_does(
    run_server: Callable[..., Server], db: Database
) -> None:
    server = run_server()
    key = db.value("select create_api_key('shop', 'reader')")
    db.rows("select register_users(array(select generate_series(1, 100000)))")
    # One URL, one key; nothing else is set.
    provider = OFREPProvider(server.url, headers_factory=lambda: {"Authorization": f"Bearer {key}"})
    api.set_provider(provider)
    try:
        client = api.get_client()
        before: set[int] = set()
        for percent, deviation in ((30, 145), (60, 155)):
            db.rows("select set_rollout('ROLLING', %s::numeric)", percent)
            members = set(db.column("select user_id from segment_members('ROLLING')"))
            # Five standard deviations of the binomial distribution.
            assert abs(len(members) - percent * 1_000) < 5 * deviation
            # Raising a rollout only adds users.
            assert before <= members
            before = members
            sample = range(percent, 100_001, 333)
            assert len(sample) >= 300
            found = {
                user_id: client.get_boolean_details(
                    "ROLLING", user_id not in members, EvaluationContext(targeting_key=str(user_id))
                )
                for user_id in sample
            }
            assert {d.error_code for d in found.values()} == {None}
            assert {user_id for user_id in sample if found[user_id].value} == members & set(sample)
    finally:
        api.clear_providers()


def test_the_provider_from_pypi_waits_as_it_is_told(run_server: Callable[..., Server], db: Database) -> None:
    server = run_server(RATE_LIMIT_PER_MINUTE="2")
    key = db.value("select create_api_key('shop', 'reader')")
    provider = OFREPProvider(server.url, headers_factory=lambda: {"Authorization": f"Bearer {key}"})
    api.set_provider(provider)
    try:
        client, user = api.get_client(), EvaluationContext(targeting_key="1000")
        found = [client.get_boolean_details("EVERYBODY", False, user) for _ in range(4)]
        assert [d.error_code for d in found] == [None, None, ErrorCode.GENERAL, ErrorCode.GENERAL]
        assert [d.value for d in found] == [True, True, False, False]
        # It has understood the number of seconds, and does not ask before they are over.
        assert re.fullmatch(r".*retry after: [1-9]\d?", str(found[2].error_message))
        assert "paused due to TooManyRequests until 20" in str(found[3].error_message)
    finally:
        api.clear_providers()


def test_a_client_that_asks_too_often_is_told_how_long_to_wait(serve: Callable[..., Service]) -> None:
    client = serve(rate_limit_per_minute=1).as_role("reader")
    assert client.send("POST", f"{FLAGS}/ROLLING", json=context()).status_code == 200
    response = client.send("POST", f"{FLAGS}/ROLLING", json=context())
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/json"
    assert response.headers["retry-after"].isdigit()
    failure = msgspec.json.decode(response.content, type=FlagFailure, strict=True)
    assert (failure.key, failure.error_code) == ("ROLLING", "GENERAL")


def test_a_layer_is_a_string_flag_whose_value_is_the_segment_of_the_user(
    reader: Api, db: Database, clock: Clock
) -> None:
    db.rows("select create_layer('EXPERIMENT')")
    for slug, percent in {"CONTROL": 50, "VARIANT_A": 25, "VARIANT_B": 0}.items():
        db.rows("select create_segment(%s, %s::numeric, layer => 'EXPERIMENT')", slug, percent)
    seen = set()
    for user_id in range(1, 60):
        evaluated = reader.does("POST", f"{FLAGS}/EXPERIMENT", Flag, context(user_id))
        (of_many,) = flags(reader, user_id, flags=["EXPERIMENT"])
        held = [slug for slug in db.segments_of(user_id) if slug in ("CONTROL", "VARIANT_A")]
        assert evaluated.value == evaluated.variant == of_many.value == (held[0] if held else "off")
        assert (evaluated.reason, evaluated.metadata.source) == ("SPLIT", "rollout" if held else "none")
        seen.add(evaluated.value)
    assert seen == {"CONTROL", "VARIANT_A", "off"}
    db.rows("select change_user_segments(1, '{VARIANT_B}', expires_at => %s)", EVENING)
    evaluated = reader.does("POST", f"{FLAGS}/EXPERIMENT", Flag, context(1))
    assert (evaluated.value, evaluated.reason) == ("VARIANT_B", "TARGETING_MATCH")
    assert (evaluated.metadata.source, evaluated.metadata.until) == ("assignment", EVENING)
    # Out of the others by that assignment.
    control = flag(reader, "CONTROL", 1)
    assert (control.value, control.reason, control.metadata.source) == (False, "TARGETING_MATCH", "none")
    assert control.metadata.until == EVENING


def test_the_provider_from_pypi_reads_a_layer_as_a_string(
    run_server: Callable[..., Server], db: Database
) -> None:
    db.rows("select create_layer('EXPERIMENT')")
    db.rows("select create_segment('CONTROL', 100, layer => 'EXPERIMENT')")
    server = run_server()
    key = db.value("select create_api_key('shop', 'reader')")
    api.set_provider(OFREPProvider(server.url, headers_factory=lambda: {"Authorization": f"Bearer {key}"}))
    try:
        user = EvaluationContext(targeting_key="1000")
        assert api.get_client().get_string_value("EXPERIMENT", "none", user) == "CONTROL"
    finally:
        api.clear_providers()
