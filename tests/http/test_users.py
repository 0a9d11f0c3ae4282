"""Users over HTTP: the hot read, changes, explanations, histories."""

from datetime import datetime, timedelta
from urllib.parse import quote

import pytest

from service.schemas import (
    EndingSoon,
    Explanation,
    UserChanged,
    UserHistory,
    UserOverrides,
    UserSegments,
    UsersSegments,
)
from tests.conftest import NOON, Clock, Database
from tests.expect import first, inside, outside
from tests.http.conftest import Api


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """Two segments by hand, and one that every user is in."""
    for slug, percent in {"AVITO_VOICE_MESSAGES": 0, "AVITO_DISCOUNT_30": 0, "EVERYBODY": 100}.items():
        db.rows("select create_segment(%s, %s::numeric)", slug, percent)
    clock.advance(minutes=1)


def change(editor: Api, user_id: int = 1000, **body: object) -> UserChanged:
    return editor.does("PATCH", f"/v1/users/{user_id}/segments", UserChanged, body)


def segments_of(api: Api, user_id: int = 1000, at: datetime | None = None) -> list[str]:
    query = f"?at={quote(at.isoformat())}" if at else ""
    answer = api.get(f"/v1/users/{user_id}/segments{query}", UserSegments)
    assert answer.user_id == user_id
    return answer.segments


def test_what_was_set_by_hand_is_told_with_its_own_end(editor: Api, reader: Api) -> None:
    change(editor, add=["AVITO_DISCOUNT_30"], remove=["EVERYBODY"], reason="ticket 17")
    change(editor, add=["AVITO_VOICE_MESSAGES"], ttl_seconds=3600)
    told = reader.get("/v1/users/1000/overrides", UserOverrides)
    assert told.user_id == 1000
    assert [(o.segment, o.kind, o.reason) for o in told.overrides] == [
        ("AVITO_DISCOUNT_30", "assignment", "ticket 17"),
        ("AVITO_VOICE_MESSAGES", "assignment", None),
        ("EVERYBODY", "exclusion", "ticket 17"),
    ]
    assert told.overrides[1].until == told.overrides[1].since + timedelta(hours=1)
    assert (told.overrides[0].until, told.overrides[0].actor) == (None, "test-editor")
    assert reader.get("/v1/users/7/overrides", UserOverrides).overrides == []


def test_what_ends_soon_is_told_the_first_to_end_first(editor: Api, reader: Api) -> None:
    change(editor, 1000, add=["AVITO_VOICE_MESSAGES"], ttl_seconds=3 * 86400)
    change(editor, 1002, add=["AVITO_DISCOUNT_30"], ttl_seconds=3600)
    change(editor, 1004, add=["AVITO_DISCOUNT_30"], ttl_seconds=30 * 86400)
    for query, expected in [
        ("", [1002, 1000]),
        ("?within=PT2H", [1002]),
        ("?within=P2M&slug=AVITO_DISCOUNT_30", [1002, 1004]),
        ("?within=P2M&limit=2", [1002, 1000]),
    ]:
        told = reader.get(f"/v1/ending-soon{query}", EndingSoon)
        assert [override.user_id for override in told.overrides] == expected
    for query, status, code in [
        ("within=7", 422, "invalid_value"),
        ("within=PT0S", 422, "invalid_value"),
        ("limit=10001", 422, "invalid_value"),
        ("limit=1.0", 400, "malformed_request"),
        ("slug=NOPE", 404, "not_found"),
    ]:
        reader.is_refused("GET", f"/v1/ending-soon?{query}", status, code)


def test_a_user_never_seen_is_in_what_the_rollouts_give(reader: Api) -> None:
    assert segments_of(reader, 1) == ["EVERYBODY"]
    assert segments_of(reader, 9223372036854775807) == ["EVERYBODY"]


def test_a_change_says_what_became_of_each_segment(editor: Api) -> None:
    changed = change(editor, add=["AVITO_VOICE_MESSAGES", "AVITO_DISCOUNT_30"])
    assert changed == UserChanged(
        user_id=1000,
        added=["AVITO_DISCOUNT_30", "AVITO_VOICE_MESSAGES"],
        removed=[],
        rescheduled=[],
        unchanged=[],
    )
    changed = change(editor, add=["AVITO_VOICE_MESSAGES"], remove=["AVITO_DISCOUNT_30"])
    assert (changed.unchanged, changed.removed) == (["AVITO_VOICE_MESSAGES"], ["AVITO_DISCOUNT_30"])
    changed = change(editor, add=["AVITO_VOICE_MESSAGES"], ttl_seconds=60)
    assert changed.rescheduled == ["AVITO_VOICE_MESSAGES"]


def test_what_was_changed_is_read_at_once_sorted(editor: Api) -> None:
    change(editor, add=["AVITO_VOICE_MESSAGES", "AVITO_DISCOUNT_30"])
    assert segments_of(editor) == ["AVITO_DISCOUNT_30", "AVITO_VOICE_MESSAGES", "EVERYBODY"]
    change(editor, remove=["EVERYBODY", "AVITO_DISCOUNT_30"])
    assert segments_of(editor) == ["AVITO_VOICE_MESSAGES"]


def test_a_membership_ends_at_expires_at_to_the_microsecond(editor: Api, clock: Clock) -> None:
    evening = NOON + timedelta(hours=6)
    change(editor, add=["AVITO_VOICE_MESSAGES"], expires_at=evening.isoformat())
    clock.set(evening - timedelta(microseconds=1))
    assert "AVITO_VOICE_MESSAGES" in segments_of(editor)
    clock.set(evening)
    assert "AVITO_VOICE_MESSAGES" not in segments_of(editor)


def test_a_membership_ends_after_ttl_seconds_fractions_too(editor: Api, clock: Clock) -> None:
    change(editor, add=["AVITO_VOICE_MESSAGES"], ttl_seconds=0.5)
    clock.advance(milliseconds=499)
    assert "AVITO_VOICE_MESSAGES" in segments_of(editor)
    clock.advance(milliseconds=1)
    assert "AVITO_VOICE_MESSAGES" not in segments_of(editor)


def test_a_membership_can_be_planned(editor: Api, clock: Clock) -> None:
    evening = NOON + timedelta(hours=6)
    change(editor, add=["AVITO_VOICE_MESSAGES"], starts_at=evening.isoformat(), ttl_seconds=60)
    assert "AVITO_VOICE_MESSAGES" not in segments_of(editor)
    assert "AVITO_VOICE_MESSAGES" in segments_of(editor, at=evening)
    assert "AVITO_VOICE_MESSAGES" not in segments_of(editor, at=evening + timedelta(seconds=60))
    clock.set(evening)
    assert "AVITO_VOICE_MESSAGES" in segments_of(editor)


def test_the_past_can_be_asked_for_in_any_time_zone(editor: Api, clock: Clock) -> None:
    change(editor, add=["AVITO_VOICE_MESSAGES"], ttl_seconds=60)
    clock.advance(hours=1)
    assert segments_of(editor) == ["EVERYBODY"]
    for at in ("2026-11-20T12:01:30Z", "2026-11-20T15:01:30%2B03:00", "2026-11-20T12:01:30.000001z"):
        answer = editor.get(f"/v1/users/1000/segments?at={at}", UserSegments)
        assert answer.segments == ["AVITO_VOICE_MESSAGES", "EVERYBODY"]


def test_many_users_are_answered_in_the_order_asked_for(editor: Api) -> None:
    change(editor, 1002, add=["AVITO_VOICE_MESSAGES"])
    body = {"user_ids": [1004, 1002, 1000]}
    answer = editor.does("POST", "/v1/users/segments", UsersSegments, body)
    assert [(user.user_id, user.segments) for user in answer.users] == [
        (1004, ["EVERYBODY"]),
        (1002, ["AVITO_VOICE_MESSAGES", "EVERYBODY"]),
        (1000, ["EVERYBODY"]),
    ]
    assert editor.does("POST", "/v1/users/segments", UsersSegments, {"user_ids": []}).users == []


def test_a_membership_by_hand_is_explained(editor: Api, clock: Clock) -> None:
    since = clock.now
    assert since
    change(editor, add=["AVITO_VOICE_MESSAGES"], ttl_seconds=3600, reason="asked for it")
    explained = editor.get("/v1/users/1000/segments/AVITO_VOICE_MESSAGES", Explanation)
    assert (explained.member, explained.source) == (True, "assignment")
    assert (explained.since, explained.until) == (since, since + timedelta(hours=1))
    assert (explained.actor, explained.reason) == ("test-editor", "asked for it")


def test_a_membership_by_rollout_is_explained_and_so_is_its_absence(admin: Api, db: Database) -> None:
    admin.send("PUT", "/v1/segments/AVITO_DISCOUNT_30/rollout", json={"percent": 50, "reason": "half"})
    (user_in,) = first(inside(db, "AVITO_DISCOUNT_30", 50), 1)
    (user_out,) = first(outside(db, "AVITO_DISCOUNT_30", 50), 1)
    explained = admin.get(f"/v1/users/{user_in}/segments/AVITO_DISCOUNT_30", Explanation)
    assert (explained.member, explained.source, explained.reason) == (True, "rollout", "half")
    assert explained.bucket_percent < explained.rollout_percent == 50
    explained = admin.get(f"/v1/users/{user_out}/segments/AVITO_DISCOUNT_30", Explanation)
    assert (explained.member, explained.source, explained.since) == (False, "none", None)
    assert explained.bucket_percent >= 50


def test_a_moment_of_the_past_is_explained(editor: Api, clock: Clock) -> None:
    change(editor, remove=["EVERYBODY"], reason="no")
    explained = editor.get("/v1/users/1000/segments/EVERYBODY", Explanation)
    assert (explained.member, explained.source, explained.reason) == (False, "exclusion", "no")
    clock.advance(hours=1)
    change(editor, add=["EVERYBODY"])
    explained = editor.get(
        f"/v1/users/1000/segments/EVERYBODY?at={quote('2026-11-20T12:30:00Z')}", Explanation
    )
    assert explained.source == "exclusion"


def test_the_history_says_when_and_why_a_user_got_in_and_out(editor: Api, clock: Clock) -> None:
    start = clock.now
    assert start
    change(editor, add=["AVITO_VOICE_MESSAGES"], ttl_seconds=60, reason="trial")
    clock.advance(hours=1)
    events = editor.get("/v1/users/1000/history", UserHistory).events
    voice = [event for event in events if event.segment == "AVITO_VOICE_MESSAGES"]
    assert [(event.operation, event.at, event.cause, event.actor) for event in voice] == [
        ("add", start, "assigned", "test-editor"),
        ("remove", start + timedelta(seconds=60), "expired", "test-editor"),
    ]
    assert voice[0].reason == "trial"


def test_a_part_of_the_history_can_be_asked_for(editor: Api, clock: Clock) -> None:
    change(editor, add=["AVITO_VOICE_MESSAGES"])
    clock.advance(days=1)
    change(editor, remove=["AVITO_VOICE_MESSAGES"])
    (event,) = editor.get("/v1/users/1000/history?from=2026-11-21T00:00:00Z", UserHistory).events
    assert event.operation == "remove"
    before = editor.get("/v1/users/1000/history?to=2026-11-21T00:00:00Z", UserHistory).events
    assert {event.operation for event in before} == {"add"}


def test_a_user_is_registered_once_and_forgotten_for_good(admin: Api, db: Database) -> None:
    admin.does_silently("PUT", "/v1/users/7")
    admin.does_silently("PUT", "/v1/users/7")
    assert db.column("select user_id from segmentation.users") == [7]
    change(admin, 7, add=["AVITO_VOICE_MESSAGES"])
    admin.does_silently("DELETE", "/v1/users/7?reason=asked%20for")
    assert db.column("select user_id from segmentation.users") == []
    assert segments_of(admin, 7) == ["EVERYBODY"]
