"""Layers over HTTP: segments that exclude each other."""

from service.schemas import Layer, Layers, LayerSegment, Segment, Segments
from tests.conftest import NOON, Clock
from tests.http.conftest import Api


def create(admin: Api, slug: str, **body: object) -> Segment:
    return admin.does("POST", "/v1/segments", Segment, {"slug": slug, "layer": "L", **body}, status=201)


def test_a_new_layer_is_answered_with_its_place(admin: Api, clock: Clock) -> None:
    response = admin.send(
        "POST", "/v1/layers", json={"slug": "L", "description": "one of them", "reason": "trial"}
    )
    assert response.status_code == 201
    assert response.headers["location"] == "/v1/layers/L"
    made = admin.get(response.headers["location"], Layer)
    assert (made.slug, made.description, made.created_at, made.segments) == ("L", "one of them", NOON, [])
    assert (made.allocated_percent, made.free_percent) == (0, 100)


def test_a_layer_shows_its_segments_and_what_is_free(admin: Api) -> None:
    for slug in ("L", "EMPTY"):
        admin.does("POST", "/v1/layers", Layer, {"slug": slug}, status=201)
    assert create(admin, "B", percent=30).layer == "L"
    create(admin, "A", percent=0.5)
    layers = admin.get("/v1/layers", Layers).layers
    assert [layer.slug for layer in layers] == ["EMPTY", "L"]
    assert layers[1] == admin.get("/v1/layers/L", Layer)
    assert layers[1].segments == [LayerSegment(slug="A", percent=0.5), LayerSegment(slug="B", percent=30)]
    assert (layers[1].allocated_percent, layers[1].free_percent) == (30.5, 69.5)
    assert [segment.layer for segment in admin.get("/v1/segments", Segments).segments] == ["L", "L"]
    assert admin.get("/v1/segments/A", Segment).salt == layers[1].salt


def test_a_full_layer_refuses_and_says_who_holds_what(admin: Api, clock: Clock) -> None:
    admin.does("POST", "/v1/layers", Layer, {"slug": "L"}, status=201)
    create(admin, "A", percent=100)
    problem = admin.is_refused(
        "POST", "/v1/segments", 422, "layer_full", json={"slug": "B", "percent": 1, "layer": "L"}
    )
    assert problem["detail"] == (
        'segment "B" asks for 1 % of layer "L" from 2026-11-20T12:00:00.000000Z on, where 0 % are free for it'
    )
    assert (problem["layer"], problem["free_percent"], problem["asked_percent"]) == ("L", 0, 1)
    assert problem["held"] == [
        {"segment": "A", "percent": 100, "starts_at": "2026-11-20T12:00:00.000000Z", "ends_at": None}
    ]
    create(admin, "B")
    admin.is_refused("PUT", "/v1/segments/B/rollout", 422, "layer_full", json={"percent": 0.001})


def test_only_an_empty_layer_is_deleted(admin: Api) -> None:
    admin.does("POST", "/v1/layers", Layer, {"slug": "L"}, status=201)
    create(admin, "A")
    assert admin.is_refused("DELETE", "/v1/layers/L", 422, "impossible_now")["segments"] == ["A"]
    assert admin.send("DELETE", "/v1/segments/A").status_code == 204
    assert admin.send("DELETE", "/v1/layers/L?reason=over").status_code == 204
    admin.is_refused("GET", "/v1/layers/L", 404, "not_found")
    admin.is_refused("DELETE", "/v1/layers/L", 404, "not_found")


def test_what_cannot_be_a_layer_is_told(admin: Api) -> None:
    admin.does("POST", "/v1/layers", Layer, {"slug": "L"}, status=201)
    admin.is_refused("POST", "/v1/layers", 409, "already_exists", json={"slug": "L"})
    admin.is_refused("POST", "/v1/segments", 409, "already_exists", json={"slug": "L"})
    admin.is_refused("POST", "/v1/layers", 422, "invalid_value", json={"slug": "no slug"})
    problem = admin.is_refused("POST", "/v1/segments", 422, "unknown_layer", json={"slug": "A", "layer": "M"})
    assert problem["layer"] == "M"


def test_an_assignment_elsewhere_is_named(admin: Api) -> None:
    admin.does("POST", "/v1/layers", Layer, {"slug": "L"}, status=201)
    for slug in ("A", "B"):
        create(admin, slug)
    path = "/v1/users/7/segments"
    assert admin.send("PATCH", path, json={"add": ["A"]}).status_code == 200
    problem = admin.is_refused("PATCH", path, 422, "exclusive_segments", json={"add": ["B"]})
    assert problem["exclusive_segments"] == ["A"]
    problem = admin.is_refused(
        "POST",
        "/v1/segments/B/members",
        422,
        "exclusive_segments",
        content="6\n7\n8\n",
        headers={"Content-Type": "text/csv"},
    )
    assert (problem["exclusive_segments"], problem["users"], problem["user_ids"]) == (["A"], 1, [7])
    assert admin.send("PATCH", path, json={"add": ["B"], "remove": ["A"]}).status_code == 200
    events = admin.send("GET", "/v1/users/7/history").json()["events"]
    assert [(e["segment"], e["operation"]) for e in events][-2:] == [("A", "remove"), ("B", "add")]
