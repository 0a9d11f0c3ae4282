"""Segments over HTTP: created, listed, described, ramped, counted, deleted."""

from datetime import timedelta
from urllib.parse import quote

from service.schemas import (
    Growth,
    Layer,
    LayerStats,
    Rollout,
    Segment,
    SegmentGrowth,
    SegmentHistory,
    Segments,
    SegmentStats,
)
from tests.conftest import NOON, Clock
from tests.http.conftest import Api


def create(admin: Api, slug: str, **body: object) -> Segment:
    return admin.does("POST", "/v1/segments", Segment, {"slug": slug, **body}, status=201)


def test_a_new_segment_is_answered_with_its_place(admin: Api, clock: Clock) -> None:
    body = {"slug": "AVITO_VOICE_MESSAGES", "percent": 33.3, "description": "voice", "reason": "trial"}
    response = admin.send("POST", "/v1/segments", json=body)
    assert response.status_code == 201
    assert response.headers["location"] == "/v1/segments/AVITO_VOICE_MESSAGES"
    made = admin.get(response.headers["location"], Segment)
    assert (made.slug, made.percent, made.description, made.created_at) == (body["slug"], 33.3, "voice", NOON)
    (step,) = made.rollout
    assert (step.percent, step.starts_at, step.ends_at) == (33.3, NOON, None)
    assert (step.actor, step.reason) == ("test-admin", "trial")


def test_a_percentage_keeps_its_digits(admin: Api) -> None:
    for number, percent in enumerate(["0", "100", "30", "0.001", "99.999", "33.3", "1e1", "7.50"]):
        response = admin.send(
            "POST",
            "/v1/segments",
            content=f'{{"slug":"S{number}","percent":{percent}}}',
            headers={"Content-Type": "application/json"},
        )
        assert response.status_code == 201, response.text
        assert response.json()["percent"] == float(percent)


def test_segments_are_found_by_a_part_of_their_slug(admin: Api) -> None:
    for slug in ("AVITO_VOICE", "avito_sale", "OTHER", "AxITO"):
        create(admin, slug)
    found = admin.get("/v1/segments?search=AVito_&limit=1", Segments)
    assert [segment.slug for segment in found.segments] == ["AVITO_VOICE"]
    found = admin.get(f"/v1/segments?search=AVito_&after={found.next_after}", Segments)
    assert [segment.slug for segment in found.segments] == ["avito_sale"]
    assert admin.get("/v1/segments?search=nope", Segments).segments == []


def test_segments_are_listed_by_slug_a_page_at_a_time(admin: Api) -> None:
    for slug in ("b", "B", "a", "A", "10"):
        create(admin, slug)
    slugs: list[str] = []
    page = admin.get("/v1/segments?limit=2", Segments)
    while page.next_after:
        slugs += [segment.slug for segment in page.segments]
        page = admin.get(f"/v1/segments?limit=2&after={page.next_after}", Segments)
    slugs += [segment.slug for segment in page.segments]
    assert slugs == ["10", "A", "B", "a", "b"]
    assert len(admin.get("/v1/segments", Segments).segments) == 5


def test_a_segment_is_described_anew(admin: Api) -> None:
    create(admin, "A", description="old")
    body = {"description": "new", "reason": "clearer"}
    assert admin.does("PATCH", "/v1/segments/A", Segment, body).description == "new"
    assert admin.get("/v1/segments/A", Segment).description == "new"


def test_steps_ahead_make_a_ramp_and_can_be_cancelled(admin: Api, clock: Clock) -> None:
    create(admin, "A", percent=10)
    clock.advance(minutes=1)
    friday, monday = (NOON + timedelta(days=days) for days in (7, 10))
    for percent, starts_at in ((50, friday), (100, monday)):
        body = {"percent": percent, "starts_at": starts_at.isoformat()}
        admin.does("PUT", "/v1/segments/A/rollout", Rollout, body)
    steps = admin.get("/v1/segments/A", Segment).rollout
    assert [(step.percent, step.starts_at, step.ends_at) for step in steps] == [
        (10, NOON, friday),
        (50, friday, monday),
        (100, monday, None),
    ]
    path = f"/v1/segments/A/rollout?starts_at={quote(friday.isoformat())}&reason=later"
    rollout = admin.does("DELETE", path, Rollout)
    assert rollout.segment == "A"
    assert [(step.percent, step.ends_at) for step in rollout.rollout] == [(10, monday), (100, None)]


def test_a_rollout_is_set_at_once(admin: Api) -> None:
    create(admin, "A")
    admin.does("PUT", "/v1/segments/A/rollout", Rollout, {"percent": 100})
    assert admin.send("GET", "/v1/users/1/segments").json()["segments"] == ["A"]
    admin.does("PUT", "/v1/segments/A/rollout", Rollout, {"percent": 0})
    assert admin.send("GET", "/v1/users/1/segments").json()["segments"] == []


def test_members_are_counted_by_how_they_got_in(admin: Api) -> None:
    create(admin, "A", percent=100)
    for user_id in (1, 2, 3):
        admin.does_silently("PUT", f"/v1/users/{user_id}")
    admin.send("PATCH", "/v1/users/1/segments", json={"add": ["A"]})
    admin.send("PATCH", "/v1/users/2/segments", json={"remove": ["A"]})
    assert admin.get("/v1/segments/A/stats", SegmentStats) == SegmentStats(
        segment="A",
        assigned=1,
        excluded=1,
        rolled_out=1,
        members=2,
        planned_percent=100,
        actual_percent=100,
        srm_p_value=None,
    )


def test_the_segments_of_a_layer_are_counted_together(admin: Api) -> None:
    admin.does("POST", "/v1/layers", Layer, {"slug": "L"}, 201)
    create(admin, "A", percent=50, layer="L")
    for user_id in range(1, 21):
        admin.does_silently("PUT", f"/v1/users/{user_id}")
    stats = admin.get("/v1/layers/L/stats", LayerStats)
    assert [each.segment for each in stats.segments] == ["A"]
    assert stats.whole.members == stats.segments[0].members > 0
    assert stats.whole.srm_p_value == stats.segments[0].srm_p_value
    admin.is_refused("GET", "/v1/layers/M/stats", 404, "not_found")


def test_the_growth_of_a_segment_stands_beside_its_plan(admin: Api, clock: Clock) -> None:
    create(admin, "A", percent=100)
    admin.does_silently("PUT", "/v1/users/1")
    clock.advance(hours=1)
    admin.does_silently("PUT", "/v1/users/2")
    admin.send("PATCH", "/v1/users/1/segments", json={"remove": ["A"]})
    end = quote((NOON + timedelta(hours=1, minutes=30)).isoformat())
    found = admin.get(f"/v1/segments/A/growth?step=PT30M&to={end}", SegmentGrowth)
    assert found.segment == "A"
    told = [(row.at, row.users, row.members, row.excluded, row.actual_percent) for row in found.growth]
    half = timedelta(minutes=30)
    assert told == [
        (NOON, 1, 1, 0, 100),
        (NOON + half, 1, 1, 0, 100),
        (NOON + 2 * half, 2, 1, 1, 50),
        (NOON + 3 * half, 2, 1, 1, 50),
    ]
    before = quote((NOON - half).isoformat())
    found = admin.get(f"/v1/segments/A/growth?from={before}&to={before}", SegmentGrowth)
    assert found.growth == [
        Growth(
            at=NOON - half, users=0, members=0, assigned=0, excluded=0, rolled_out=0,
            planned_percent=None, actual_percent=None,
        )
    ]  # fmt: skip


def test_a_step_is_an_iso_8601_duration(admin: Api, clock: Clock) -> None:
    create(admin, "A")
    for step, number in {"P1D": 61, "P1W": 9, "P1M": 2, "PT36H": 41, "P1DT12H": 41, "P1M1D": 2}.items():
        path = f"/v1/segments/A/growth?to={quote((NOON + timedelta(days=60)).isoformat())}&step={step}"
        assert len(admin.get(path, SegmentGrowth).growth) == number, step
    assert len(admin.get("/v1/segments/A/growth?step=PT0.5S", SegmentGrowth).growth) == 1
    for step in (
        "",
        "P",
        "PT",
        "1 day",
        "60",
        "P1",
        "-P1D",
        "P-1D",
        "P0D",
        "PT0S",
        "P1DT",
        "p1d",
        f"P{10**30}D",
    ):
        problem = admin.is_refused("GET", f"/v1/segments/A/growth?step={quote(step)}", 422, "invalid_value")
        assert problem["hint"], step
    admin.is_refused("GET", f"/v1/segments/A/growth?to={later(400)}&step=PT1M", 422, "invalid_value")
    admin.is_refused("GET", "/v1/segments/NOPE/growth", 404, "not_found")
    admin.is_refused("GET", "/v1/segments/A/growth?from=yesterday", 400, "malformed_request")


def later(days: int) -> str:
    """A moment in a URL."""
    return quote((NOON + timedelta(days=days)).isoformat())


def test_a_deleted_segment_is_gone_at_once_and_its_past_stays(admin: Api, clock: Clock) -> None:
    create(admin, "A", percent=100, reason="first")
    assert admin.send("GET", "/v1/users/1/segments").json()["segments"] == ["A"]
    clock.advance(hours=1)
    admin.does_silently("DELETE", "/v1/segments/A?reason=over")
    assert admin.send("GET", "/v1/users/1/segments").json()["segments"] == []
    admin.is_refused("GET", "/v1/segments/A", 404, "not_found")
    assert [event["operation"] for event in admin.send("GET", "/v1/users/1/history").json()["events"]] == [
        "add",
        "remove",
    ]
    changes = admin.get("/v1/segments/A/history", SegmentHistory).changes
    assert (changes[0].operation, changes[0].actor, changes[0].reason) == ("create", "test-admin", "first")
    assert (changes[-1].operation, changes[-1].at, changes[-1].reason) == ("delete", clock.now, "over")
