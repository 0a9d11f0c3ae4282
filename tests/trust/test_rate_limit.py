"""RATE_LIMIT_PER_MINUTE: each key is limited by itself; without the setting there is no limit at all."""

import time
from collections.abc import Callable

import pytest

from service.http import rate_limit as limits
from tests.http.conftest import Service

PATH = "/v1/users/1000/segments"


def test_who_sends_too_much_is_told_when_to_come_again(serve: Callable[..., Service]) -> None:
    service = serve(rate_limit_per_minute=3)
    shop = service.with_key(service.key("reader", "shop"))
    for left in ("3", "2", "1"):
        response = shop.send("GET", PATH)
        assert response.status_code == 200
        assert response.headers["ratelimit-limit"] == "3"
        assert int(response.headers["ratelimit-remaining"]) <= int(left)
    refused = shop.send("GET", PATH)
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.json()["type"] == "/docs/errors#rate_limited"
    assert "shop" in refused.json()["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["retry-after"] in refused.json()["hint"]


def test_each_key_has_its_own_allowance(serve: Callable[..., Service]) -> None:
    service = serve(rate_limit_per_minute=1)
    one, other = (service.with_key(service.key("reader", name)) for name in ("shop", "app"))
    assert [one.send("GET", PATH).status_code for _ in range(2)] == [200, 429]
    assert other.send("GET", PATH).status_code == 200
    # One allowance for all calls together.
    assert one.send("GET", "/v1/segments").status_code == 429


def test_what_is_refused_is_not_done_and_its_idempotency_key_is_free(serve: Callable[..., Service]) -> None:
    service = serve(rate_limit_per_minute=1)
    editor = service.with_key(service.key("editor", "shop"))
    editor.send("GET", PATH)
    refused = editor.send("PUT", "/v1/users/7", headers={"Idempotency-Key": "a"})
    assert refused.status_code == 429
    assert service.db.value("select count(*) from segmentation.users where user_id = 7") == 0
    assert service.db.value("select count(*) from segmentation.idempotency_keys") == 0


def test_health_docs_and_the_unknown_are_not_counted(serve: Callable[..., Service]) -> None:
    service = serve(rate_limit_per_minute=1)
    for _ in range(3):
        for path in ("/health/live", "/docs", "/docs/errors", "/openapi.json"):
            assert service.client.get(path).status_code == 200
        assert service.client.get("/health/ready").status_code in (200, 503)
        assert service.client.get(PATH).status_code == 401


def test_without_a_limit_there_is_no_trace_of_one(service: Service) -> None:
    reader = service.as_role("reader")
    assert not any(name.startswith("ratelimit") for name in reader.send("GET", PATH).headers)
    handlers = [handler for route in service.client.app.routes for handler in route.route_handlers]
    stacks = [middleware for handler in handlers for middleware in handler.resolve_middleware()]
    assert stacks
    assert not any(isinstance(middleware, limits.RateLimit) for middleware in stacks)


def test_a_minute_later_all_is_allowed_again(
    serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve(rate_limit_per_minute=2, api_key_cache_seconds=3600)
    reader = service.as_role("reader")
    assert [reader.send("GET", PATH).status_code for _ in range(3)] == [200, 200, 429]
    later = time.monotonic() + 61
    monkeypatch.setattr(limits, "monotonic", lambda: later)
    assert [reader.send("GET", PATH).status_code for _ in range(3)] == [200, 200, 429]


def test_what_is_remembered_grows_with_keys_alone(serve: Callable[..., Service]) -> None:
    service = serve(rate_limit_per_minute=1000)
    for name in ("shop", "app"):
        reader = service.with_key(service.key("reader", name))
        for user_id in range(1, 30):
            assert reader.send("GET", f"/v1/users/{user_id}/segments").status_code == 200
    for number in range(30):
        assert service.with_key(f"seg_{number}").send("GET", PATH).status_code == 401
    # A number and a time for each key, not a list of requests.
    counted = service.client.app.state.requests_counted
    assert {name: number for name, (number, _) in counted.items()} == {"shop": 29, "app": 29}
