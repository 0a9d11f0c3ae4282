"""One thing that is slow or stuck takes nothing from the others."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import Database
from tests.http.conftest import Service


def test_a_stuck_user_does_not_take_the_writes_of_others_away(
    serve: Callable[..., Service], db: Database, connect: Callable[..., Database]
) -> None:
    editor = serve(editor_pool_size=2, acquire_timeout=1, lock_timeout=3).as_role("editor")
    db.rows("select create_segment('A')")
    body = {"add": ["A"]}
    forgotten = connect()
    with ThreadPoolExecutor(8) as pool:
        with forgotten.connection.transaction():
            forgotten.rows("select change_user_segments(1, '{A}')")
            stuck = [pool.submit(editor.send, "PATCH", "/v1/users/1/segments", json=body) for _ in range(6)]
            for user_id in range(2, 8):
                for key in ({}, {"Idempotency-Key": f"write-{user_id}"}):
                    path = f"/v1/users/{user_id}/segments"
                    assert editor.send("PATCH", path, json=body, headers=key).status_code == 200
        assert {each.result().status_code for each in stuck} <= {200, 503}
    assert editor.send("PATCH", "/v1/users/1/segments", json=body).status_code == 200


def test_an_evaluator_asks_for_one_user_now_and_nothing_else(
    serve: Callable[..., Service], db: Database
) -> None:
    service = serve()
    db.rows("select create_segment('A', 100)")
    page = service.as_role("evaluator")
    assert page.send("GET", "/v1/users/1/segments").json()["segments"] == ["A"]
    context = {"context": {"targetingKey": "1"}}
    assert page.send("POST", "/ofrep/v1/evaluate/flags/A", json=context).status_code == 200
    assert page.send("POST", "/ofrep/v1/evaluate/flags", json=context).status_code == 200
    for method, path, body in [
        ("GET", "/v1/users/1/segments?at=2026-11-20T12:00:00Z", None),
        ("GET", "/v1/users/1/history", None),
        ("POST", "/v1/users/segments", {"user_ids": [1]}),
        ("GET", "/v1/segments/A/stats", None),
        ("GET", "/v1/segments", None),
        ("PATCH", "/v1/users/1/segments", {"remove": ["A"]}),
        ("GET", "/metrics", None),
    ]:
        page.is_refused(method, path, 403, "forbidden", json=body)
