"""API keys: who gets in, what a role may do, how soon a revoked key is refused."""

import time
from collections.abc import Callable
from datetime import timedelta

from service.schemas import UserSegments
from tests.conftest import NOON, Clock, Database
from tests.http.conftest import Api, Service
from tests.http.documented import calls_by_role

SEGMENTS = "/v1/users/1000/segments"


def soon(happens: Callable[[], bool]) -> bool:
    """Whether it happens within ten seconds: a notice takes a moment to arrive."""
    deadline = time.monotonic() + 10
    while not happens():
        if time.monotonic() > deadline:
            return False
    return True


def test_without_a_key_nothing_is_answered(service: Service) -> None:
    nobody = service.with_key(None)
    for method, path in [
        ("GET", SEGMENTS),
        ("PATCH", SEGMENTS),
        ("GET", "/v1/segments"),
        ("DELETE", "/v1/segments/A"),
    ]:
        problem = nobody.is_refused(method, path, 401, "unauthorized")
        assert "Bearer" in problem["hint"]
    assert nobody.send("GET", SEGMENTS).headers["www-authenticate"] == "Bearer"


def test_a_wrong_key_is_refused(service: Service) -> None:
    wrong = service.with_key(None)
    for header in (b"Bearer wrong", b"Bearer ", b"Bearer", b"Basic eDp5", b"wrong", b"", b"Bearer \xff"):
        wrong.is_refused("GET", SEGMENTS, 401, "unauthorized", headers={"Authorization": header})


def test_two_keys_are_refused_in_whatever_order_they_come(service: Service) -> None:
    good, other = service.key("reader"), service.key("admin")
    headers = [("Authorization", f"Bearer {good}"), ("X-API-Key", other)]
    for given in (headers, headers[::-1]):
        problem = service.client.get(SEGMENTS, headers=given).json()
        assert (problem["code"], problem["errors"][0]["parameter"]) == ("malformed_request", "X-API-Key")
    twice = [headers[0], ("X-API-Key", good)]
    assert service.client.get(SEGMENTS, headers=twice).status_code == 200


def test_an_evaluator_is_told_which_parameter_takes_another_key(service: Service) -> None:
    path = f"{SEGMENTS}?at=2026-11-20T11:00:00Z"
    problem = service.as_role("evaluator").is_refused("GET", path, 403, "forbidden")
    assert "/segments?at=." in problem["detail"]


def test_the_word_bearer_is_written_in_any_case(service: Service) -> None:
    key = service.key("reader")
    for word in ("Bearer", "bearer", "BEARER"):
        response = service.client.get(SEGMENTS, headers={"Authorization": f"{word} {key}"})
        assert response.status_code == 200


def test_the_key_is_asked_for_before_anything_else_is_judged(service: Service) -> None:
    nobody = service.with_key(None)
    nobody.is_refused("PATCH", SEGMENTS, 401, "unauthorized", content=b"{")
    nobody.is_refused("GET", "/v1/users/abc/segments", 401, "unauthorized")


def test_a_revoked_key_is_refused_although_it_was_known(serve: Callable[..., Service], db: Database) -> None:
    service = serve(api_key_cache_seconds=3600)
    shop = service.with_key(service.key("reader", "shop"))
    shop.get(SEGMENTS, UserSegments)
    db.rows("select revoke_api_key('shop')")
    assert soon(lambda: shop.send("GET", SEGMENTS).status_code == 401)


def test_a_key_whose_role_changes_has_the_new_role(serve: Callable[..., Service], db: Database) -> None:
    service = serve(api_key_cache_seconds=3600)
    shop = service.with_key(service.key("admin", "shop"))
    assert shop.send("PUT", "/v1/users/1").status_code == 204
    db.rows("update segmentation.api_keys set role = 'reader' where name = 'shop'")
    assert soon(lambda: shop.send("PUT", "/v1/users/1").status_code == 403)


def test_a_key_revoked_while_nobody_listens_is_refused_later(
    serve: Callable[..., Service], db: Database
) -> None:
    service = serve(api_key_cache_seconds=3600)
    shop = service.with_key(service.key("reader", "shop"))
    shop.get(SEGMENTS, UserSegments)
    listeners = (
        "from pg_stat_activity where datname = current_database() and application_name like '%listener%'"
    )
    assert soon(lambda: db.value(f"select count(*) {listeners}") == 1)
    db.rows(
        f"with gone as (select pg_terminate_backend(pid) {listeners}) select revoke_api_key('shop') from gone"
    )
    assert soon(lambda: shop.send("GET", SEGMENTS).status_code == 401)


def test_without_a_notice_a_key_is_looked_up_again_after_some_seconds(
    serve: Callable[..., Service], db: Database
) -> None:
    service = serve(api_key_cache_seconds=0.2)
    shop = service.with_key(service.key("reader", "shop"))
    shop.get(SEGMENTS, UserSegments)
    db.rows("alter table segmentation.api_keys disable trigger user")
    db.rows("select revoke_api_key('shop')")
    assert soon(lambda: shop.send("GET", SEGMENTS).status_code == 401)


def test_a_key_expires(serve: Callable[..., Service], db: Database, clock: Clock) -> None:
    service = serve(api_key_cache_seconds=0)
    key = db.value("select create_api_key('shop', 'reader', %s)", NOON + timedelta(hours=1))
    shop = service.with_key(key)
    shop.get(SEGMENTS, UserSegments)
    clock.advance(hours=1)
    shop.is_refused("GET", SEGMENTS, 401, "unauthorized")


def test_a_write_is_signed_with_the_name_of_the_key(service: Service, db: Database) -> None:
    shop = service.with_key(service.key("admin", "shop@eu"))
    assert shop.send("POST", "/v1/segments", json={"slug": "A", "percent": 5}).status_code == 201
    assert db.column("select actor from rollout_steps('A')") == ["shop@eu"]


def test_postgresql_refuses_what_a_role_may_not_do_just_as_documented(service: Service) -> None:
    roles = ("evaluator", "reader", "editor", "admin")
    clients: dict[str, Api] = {role: service.as_role(role) for role in roles}
    for method, path, needed, sent in calls_by_role(service):
        for role in roles:
            response = clients[role].send(method, path, **sent)
            if roles.index(role) < roles.index(needed):
                assert response.status_code == 403, (role, method, path, response.text)
                problem = response.json()
                assert problem["code"] == "forbidden"
                assert f"has the role {role}" in problem["detail"]
                assert "function" not in response.text
            else:
                assert response.status_code not in (400, 401, 403, 415, 500), (method, path, response.text)
