"""user_overrides and ending_soon: what was set by hand, with its own end; list_segments: searched."""

from datetime import timedelta

import pytest
from psycopg.errors import InvalidParameterValue, NoDataFound

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, refuses

USER = 1000
FRIDAY = NOON + timedelta(days=7)
LATER = NOON + timedelta(days=30)


@pytest.fixture(autouse=True)
def segments(db: Database, clock: Clock) -> None:
    """A rolls out to everybody, B and C to nobody."""
    db.rows("select create_segment('A', 100)")
    db.rows("select create_segment('B')")
    db.rows("select create_segment('C')")
    clock.advance(hours=1)


def overrides(db: Database, user_id: int = USER) -> list[tuple]:
    """All that user_overrides tells."""
    return [tuple(row) for row in db.rows("select * from user_overrides(%s)", user_id)]


def ending(db: Database, arguments: str) -> list[tuple[int, str, str]]:
    """Who is told by ending_soon, of which segment, as what."""
    return [(r.user_id, r.segment, r.kind) for r in db.rows(f"select * from ending_soon({arguments})")]


def test_each_override_is_told_with_its_own_end_whatever_the_rollout_says(db: Database, clock: Clock) -> None:
    now = clock.now
    db.rows("select change_user_segments(%s, '{A}', expires_at => %s, actor => 'ann')", USER, FRIDAY)
    db.rows("select change_user_segments(%s, '{B}', starts_at => %s, reason => 'sale')", USER, FRIDAY)
    assert overrides(db) == [
        ("A", "assignment", now, FRIDAY, "ann", None),
        ("B", "assignment", FRIDAY, FOREVER, "postgres", "sale"),
    ]
    # The rollout goes on to hold the user.
    assert db.value("select until from user_segments(%s) where segment = 'A'", USER) == FOREVER


def test_an_exclusion_is_told_as_one(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(%s, remove => '{A}')", USER)
    assert overrides(db) == [("A", "exclusion", clock.now, FOREVER, "postgres", None)]


def test_what_is_over_is_not_told(db: Database, clock: Clock) -> None:
    db.rows("select change_user_segments(%s, '{A,B}', expires_at => %s)", USER, FRIDAY)
    db.rows("select change_user_segments(%s, '{C}')", USER)
    db.rows("select delete_segment('C')")
    clock.set(FRIDAY)
    assert overrides(db) == []
    assert ending(db, "interval '10 years'") == []


def test_what_ends_within_a_time_is_told_first_to_end_first(db: Database, clock: Clock) -> None:
    db.rows("select change_segment_members('B', '{3,1,2}', expires_at => %s)", LATER)
    db.rows("select change_user_segments(4, '{A,C}', expires_at => %s)", FRIDAY)
    db.rows("select change_user_segments(5, '{A}')")
    assert ending(db, "interval '7 days'") == [(4, "A", "assignment"), (4, "C", "assignment")]
    assert ending(db, "interval '6 days 22 hours'") == []
    assert [user for user, *_ in ending(db, "interval '31 days', 'B'")] == [1, 2, 3]
    assert [user for user, *_ in ending(db, "interval '31 days', max_rows => 3")] == [4, 4, 1]
    told = db.row("select * from ending_soon(interval '31 days', 'B') limit 1")
    assert (told.since, told.until, told.actor, told.reason) == (clock.now, LATER, "postgres", None)


def test_a_time_that_is_none_and_a_segment_that_is_not_there_are_refused(db: Database) -> None:
    for within in ("0", "-1 day", "300000 years", None):
        with refuses(InvalidParameterValue):
            db.rows("select * from ending_soon(%s::interval)", within)
    with refuses(NoDataFound):
        db.rows("select * from ending_soon(interval '1 day', 'nope')")
    with refuses(InvalidParameterValue):
        db.rows("select * from ending_soon(interval '1 day', max_rows => 0)")


def test_over_http_an_open_end_is_null_and_a_time_an_iso_duration(db: Database) -> None:
    db.rows("select change_user_segments(%s, '{B}')", USER)
    answer = db.value("select http_user_overrides(%s)", USER)
    assert [(o["segment"], o["kind"], o["until"]) for o in answer["overrides"]] == [("B", "assignment", None)]
    db.rows("select change_user_segments(%s, '{B}', expires_at => %s)", USER, FRIDAY)
    assert [o["user_id"] for o in db.value("select http_ending_soon('P1W')")["overrides"]] == [USER]
    assert db.value("select http_ending_soon('PT1H', 'B')") == {"overrides": []}
    with refuses(InvalidParameterValue, within="a week"):
        db.rows("select http_ending_soon('a week')")


def test_segments_are_searched_by_a_part_of_their_slugs(db: Database) -> None:
    for slug in ("VOICE_MESSAGES", "voice.calls", "DISCOUNT_30"):
        db.rows("select create_segment(%s)", slug)

    def found(search: str | None, after: str | None = None) -> list[str]:
        return db.column("select slug from list_segments(after => %s, search => %s)", after, search)

    assert found("voice") == ["VOICE_MESSAGES", "voice.calls"]
    assert found("VOICE", after="VOICE_MESSAGES") == ["voice.calls"]
    assert found("_30") == ["DISCOUNT_30"]
    assert found("%") == []
    assert found(None) == found("") == db.column("select slug from list_segments()")


def test_a_percentage_comes_without_trailing_zeros(db: Database) -> None:
    for given, told in (("33.3330", "33.333"), ("50.000", "50"), ("0.0", "0"), ("100.00", "100")):
        db.rows("select set_rollout('B', %s::numeric)", given)
        assert db.value("select percent::text from get_segment('B')") == told
        assert db.value("select rollout_percent::text from explain_membership(1, 'B')") == told
