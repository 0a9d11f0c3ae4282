"""Segments: created, described, listed, deleted; a slug used again is a new segment."""

from datetime import timedelta

import pytest
from psycopg.errors import InvalidParameterValue, NoDataFound, UniqueViolation

from tests.conftest import NOON, Clock, Database
from tests.expect import first, inside, physically, refuses


def test_a_new_segment_is_described_and_rolled_out_to_nobody(db: Database, clock: Clock) -> None:
    made = db.row("select * from create_segment('A')")
    assert (made.slug, made.description, made.percent, made.created_at) == ("A", "", 0, NOON)
    assert db.rows("select * from rollout_steps('A')") == []


def test_a_segment_can_be_created_with_a_percentage_and_a_description(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 12.5, 'voice messages', 'ann', 'trial')")
    assert db.row("select slug, description, percent from get_segment('A')") == ("A", "voice messages", 12.5)
    assert [
        tuple(step) for step in db.rows("select percent, starts_at, actor, reason from rollout_steps('A')")
    ] == [(12.5, NOON, "ann", "trial")]


def test_arguments_can_be_named(db: Database) -> None:
    db.rows(
        "select create_segment(slug => 'A', percent => 1, description => 'd', actor => 'ann', reason => 'r')"
    )
    db.rows("select update_segment(slug => 'A', description => 'e', actor => 'ann', reason => 'r')")
    db.rows("select list_segments(after => 'A', max_rows => 1)")
    db.rows("select get_segment(slug => 'A')")
    db.rows("select delete_segment(slug => 'A', actor => 'ann', reason => 'r')")


def test_a_slug_has_letters_digits_dots_hyphens_and_underscores(db: Database) -> None:
    for slug in ["A", "7", "AVITO_VOICE_MESSAGES", "a.b-c_d", "x" * 100]:
        assert db.row("select * from create_segment(%s)", slug).slug == slug


def test_any_other_slug_is_refused(db: Database) -> None:
    for slug in ["", " ", "_A", "-A", ".A", "A B", "A\n", "A/B", "=1+1", "Ä", "x" * 101, "A,B", 'A"', None]:
        with refuses(InvalidParameterValue, slug=slug):
            db.rows("select create_segment(%s)", slug)


def test_a_percentage_has_three_decimals_and_lies_between_0_and_100(db: Database) -> None:
    for percent in ["-0.001", "100.001", "33.3333", "NaN", "Infinity", None]:
        with refuses(InvalidParameterValue, percent=percent):
            db.rows("select create_segment('A', %s::numeric)", percent)
    assert db.rows("select * from list_segments()") == []


def test_a_description_is_at_most_2000_characters_long(db: Database) -> None:
    db.rows("select create_segment('A', description => repeat('ü', 2000))")
    with refuses(InvalidParameterValue, length=2001, at_most=2000):
        db.rows("select create_segment('B', description => repeat('ü', 2001))")
    with refuses(InvalidParameterValue, length=2001, at_most=2000):
        db.rows("select update_segment('A', repeat('ü', 2001))")


def test_a_slug_is_taken_while_its_segment_lives(db: Database) -> None:
    db.rows("select create_segment('A')")
    with refuses(UniqueViolation, segment="A"):
        db.rows("select create_segment('A')")


def test_upper_and_lower_case_differ(db: Database) -> None:
    db.rows("select create_segment('beta', description => 'low')")
    db.rows("select create_segment('BETA', description => 'high')")
    assert db.row("select * from get_segment('beta')").description == "low"


def test_a_segment_can_be_described_anew(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', description => 'old')")
    clock.advance(hours=1)
    assert db.row("select * from update_segment('A', 'new', 'ann', 'clearer')").description == "new"
    assert db.row("select description, created_at from get_segment('A')") == ("new", NOON)


def test_the_same_description_again_writes_nothing(db: Database) -> None:
    db.rows("select create_segment('A', description => 'same')")
    before = physically(db, "segments", "segment_history")
    db.rows("select update_segment('A', 'same')")
    assert physically(db, "segments", "segment_history") == before


def test_segments_are_listed_bytewise_by_slug(db: Database) -> None:
    for slug in ("b", "a", "B", "A.1", "A-1", "A_1", "A1", "10", "9"):
        db.rows("select create_segment(%s)", slug)
    slugs = db.column("select slug from list_segments()")
    assert slugs == ["10", "9", "A-1", "A.1", "A1", "A_1", "B", "a", "b"] == sorted(slugs)


def test_segments_are_listed_a_page_at_a_time(db: Database) -> None:
    slugs = [f"S{number:02}" for number in range(7)]
    for slug in slugs:
        db.rows("select create_segment(%s)", slug)
    pages: list[list[str]] = []
    after = None
    while page := db.column("select slug from list_segments(%s, 3)", after):
        pages.append(page)
        after = page[-1]
    assert pages == [slugs[:3], slugs[3:6], slugs[6:]]


def test_a_page_goes_on_after_a_slug_that_is_no_longer_there(db: Database) -> None:
    for slug in ("A", "B", "C"):
        db.rows("select create_segment(%s)", slug)
    db.rows("select delete_segment('B')")
    assert db.column("select slug from list_segments(after => 'B')") == ["C"]


def test_a_page_holds_at_least_one_row(db: Database) -> None:
    for max_rows in (0, -1, None):
        with refuses(InvalidParameterValue, max_rows=max_rows):
            db.rows("select list_segments(max_rows => %s::integer)", max_rows)


@pytest.mark.parametrize(
    "call",
    [
        "get_segment(%s)",
        "update_segment(%s, 'text')",
        "delete_segment(%s)",
        "segment_history(%s)",
        "segment_stats(%s)",
        "segment_members(%s)",
        "rollout_steps(%s)",
        "set_rollout(%s, 10)",
        "cancel_rollout_step(%s, '2100-01-01Z')",
        "explain_membership(1, %s)",
        "change_segment_members(%s, '{1}')",
    ],
)
def test_a_segment_named_alone_must_exist(db: Database, call: str) -> None:
    db.rows("select create_segment('A')")
    for slug in ("B", "a", "", None):
        with refuses(NoDataFound, segment=slug):
            db.rows(f"select {call}", slug)


def test_a_deleted_segment_is_gone_at_once_for_everybody(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 50)")
    rolled_out, assigned = first(inside(db, "A", 50), 2)
    db.rows("select change_user_segments(%s, '{A}')", assigned)
    assert db.segments_of(rolled_out) == db.segments_of(assigned) == ["A"]
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    assert db.segments_of(rolled_out) == db.segments_of(assigned) == []
    assert db.rows("select * from user_segments(%s)", assigned) == []
    assert db.rows("select * from list_segments()") == []
    with refuses(NoDataFound, segment="A"):
        db.rows("select * from get_segment('A')")


def test_deleting_a_segment_writes_one_row_however_many_members_it_has(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_segment_members('A', array(select generate_series(1, 1000)))")
    before = physically(db, "memberships", "membership_history")
    db.rows("select delete_segment('A')")
    assert physically(db, "memberships", "membership_history") == before


def test_a_segment_can_be_deleted_once(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows("select delete_segment('A')")
    with refuses(NoDataFound, segment="A"):
        db.rows("select delete_segment('A')")


def test_a_slug_used_again_is_a_new_segment_with_a_new_salt_and_nobody_in_it(
    db: Database, clock: Clock
) -> None:
    db.rows("select create_segment('A', 100, 'old')")
    db.rows("select change_user_segments(7, '{A}')")
    old = db.row("select * from get_segment('A')")
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.advance(hours=1)
    new = db.row("select * from create_segment('A')")
    assert new.salt != old.salt
    assert (new.description, new.percent, new.created_at) == ("", 0, clock.now)
    assert db.segments_of(7) == []
    assert db.rows("select * from rollout_steps('A')") == []


def test_salts_are_random(db: Database) -> None:
    db.rows("select create_segment('S' || n) from generate_series(1, 50) as n")
    assert len(set(db.column("select salt from list_segments()"))) == 50


def test_the_trail_of_a_slug_tells_who_did_what_and_why(db: Database, clock: Clock) -> None:
    for change in (
        "create_segment('A', 10, 'first', 'ann', 'idea')",
        "update_segment('A', 'better', 'bob', 'typo')",
        "set_rollout('A', 50, '2026-12-01Z', 'cat', 'ramp')",
        "cancel_rollout_step('A', '2026-12-01Z', 'dan', 'not yet')",
        "delete_segment('A', 'eve', 'over')",
        "create_segment('A', actor => 'fay')",
    ):
        db.rows(f"select {change}")
        clock.advance(hours=1)
    trail = db.rows("select operation, description, percent, actor, reason from segment_history('A')")
    assert [tuple(change) for change in trail] == [
        ("create", "first", None, "ann", "idea"),
        ("set_rollout", None, 10, "ann", "idea"),
        ("describe", "better", None, "bob", "typo"),
        ("set_rollout", None, 50, "cat", "ramp"),
        ("cancel_rollout_step", None, 50, "dan", "not yet"),
        ("delete", None, None, "eve", "over"),
        ("create", None, None, "fay", None),
    ]
    assert db.column("select at from segment_history('A')")[2:] == [
        NOON + timedelta(hours=hours) for hours in range(1, 6)
    ]


def test_without_an_actor_the_trail_names_the_login(db: Database) -> None:
    db.rows("select create_segment('A')")
    assert db.column("select actor from segment_history('A')") == [db.value("select session_user::text")]
