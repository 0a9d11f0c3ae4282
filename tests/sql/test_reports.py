"""history_report: a month of everybody's events; and the links that open one without a key."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import InvalidParameterValue, NoDataFound

from tests.conftest import NOON, Clock, Database
from tests.expect import inside, refuses, where_mentioned

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)


def report(db: Database, period: str, user_id: int | None = None) -> list[tuple]:
    """The lines of a month."""
    return [tuple(line) for line in db.rows("select * from history_report(%s, %s)", period, user_id)]


def periods_since(db: Database, moment: datetime) -> list[str]:
    """All months from that of a moment to the present one."""
    return db.column(
        "select to_char(month, 'YYYY-MM') from generate_series("
        "date_trunc('month', %s at time zone 'UTC'), clock() at time zone 'UTC', '1 month') as month",
        moment,
    )


def by_history(db: Database, period: str) -> list[tuple]:
    """The lines of a month as user_history of all users gives them."""
    return [
        tuple(line)
        for line in db.rows(
            "select u.user_id, h.segment, h.operation, rfc3339(h.at) from segmentation.users as u"
            " cross join lateral user_history(u.user_id) as h"
            " where to_char(h.at at time zone 'UTC', 'YYYY-MM') = %s"
            ' order by u.user_id, h.at, h.segment collate "C", h.operation desc',
            period,
        )
    ]


def test_a_line_is_user_segment_operation_and_utc_time(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('AVITO_DISCOUNT_30')")
    db.rows("select change_user_segments(1000, '{AVITO_DISCOUNT_30}')")
    clock.advance(hours=1, microseconds=1)
    db.rows("select change_user_segments(1000, remove => '{AVITO_DISCOUNT_30}')")
    db.rows("set timezone = 'Asia/Kolkata'")
    db.rows("set datestyle = 'German'")
    assert report(db, "2026-11") == [
        (1000, "AVITO_DISCOUNT_30", "add", "2026-11-20T12:00:00.000000Z"),
        (1000, "AVITO_DISCOUNT_30", "remove", "2026-11-20T13:00:00.000001Z"),
    ]


def test_lines_come_by_user_then_time_then_segment(db: Database, clock: Clock) -> None:
    for slug in ("b", "B", "a"):
        db.rows("select create_segment(%s)", slug)
    db.rows("select change_user_segments(10, '{b,B,a}')")
    clock.advance(hours=1)
    db.rows("select change_user_segments(9, '{b}')")
    db.rows("select change_user_segments(10, remove => '{a}')")
    assert [line[:3] for line in report(db, "2026-11")] == [
        (9, "b", "add"),
        (10, "B", "add"),
        (10, "a", "add"),
        (10, "b", "add"),
        (10, "a", "remove"),
    ]


def test_a_dba_copies_it_to_a_file_separated_by_semicolons(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}')")
    with db.connection.cursor().copy(
        "copy (select * from history_report('2026-11')) to stdout csv delimiter ';'"
    ) as out:
        assert b"".join(bytes(block) for block in out) == b"1000;A;add;2026-11-20T12:00:00.000000Z\n"


def test_months_are_utc_and_join_without_gap_or_overlap(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B', 100)")
    bound = datetime(2026, 12, 1, tzinfo=UTC)
    instant = timedelta(microseconds=1)
    for user_id, moment in enumerate((bound - instant, bound, bound + instant), start=1):
        clock.set(moment)
        db.rows("select change_user_segments(%s, '{A}')", user_id)
    assert [(line[0], line[1]) for line in report(db, "2026-11")] == [(1, "A"), (1, "B")]
    assert [(line[0], line[1]) for line in report(db, "2026-12")] == [(2, "A"), (2, "B"), (3, "A"), (3, "B")]


def test_rollout_steps_are_events_of_every_known_user(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select register_users(array(select generate_series(1, 100)))")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 50)")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 20)")
    half, fifth = inside_up_to(db, 50, 100), inside_up_to(db, 20, 100)
    lines = report(db, "2026-11")
    assert [line[0] for line in lines if line[2] == "add"] == half
    assert [line[0] for line in lines if line[2] == "remove"] == sorted(set(half) - set(fifth))


def test_a_report_of_many_pages_has_each_event_once_and_in_order(db: Database, clock: Clock) -> None:
    users = 12_000
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B')")
    db.rows("select register_users(array(select generate_series(1, %s)))", users)
    clock.advance(hours=1)
    # Around the ends of pages, and beyond the last known user.
    by_hand = [1, 4999, 5000, 5001, 9999, 10_000, 10_001, users, 10 * users]
    db.rows("select change_segment_members('A', %s)", by_hand)
    clock.advance(hours=1)
    db.rows("select set_rollout('B', 100)")
    lines = report(db, "2026-11")
    assert [line[0] for line in lines if line[1] == "A"] == by_hand
    assert [line[0] for line in lines if line[1] == "B"] == [*range(1, users + 1), 10 * users]
    assert lines == sorted(lines, key=lambda line: (line[0], line[3], line[1]))


def inside_up_to(db: Database, percent: float, last: int) -> list[int]:
    """Ids up to the last one that a rollout of A holds."""
    return list(takewhile(lambda user_id: user_id <= last, inside(db, "A", percent)))


def test_the_report_of_one_user_is_the_part_of_it(db: Database, clock: Clock) -> None:
    live_through_a_year(db, clock)
    for period in ("2026-11", "2026-12", "2027-03"):
        for user_id in (1, 3, 7):
            assert report(db, period, user_id) == [line for line in report(db, period) if line[0] == user_id]


def test_a_segment_deleted_but_not_swept_yet_is_in_the_report(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}')")
    clock.set(datetime(2026, 12, 10, tzinfo=UTC))
    db.rows("select delete_segment('A')")
    expected = [(1000, "A", "remove", "2026-12-10T00:00:00.000000Z")]
    assert report(db, "2026-12") == expected
    db.rows("call sweep()")
    assert report(db, "2026-12") == expected


def live_through_a_year(db: Database, clock: Clock) -> None:
    """Users 1 to 40 and three segments through everything that can happen, months apart."""
    for slug, percent in (("A", 40), ("B", 0), ("C", 100)):
        db.rows("select create_segment(%s, %s)", slug, percent)
    db.rows("select register_users(array(select generate_series(1, 20)))")
    everything = [
        "select change_segment_members('A', array(select generate_series(1, 40, 3)))",
        "select change_segment_members('B', '{2,5,8,11,14,17,20,23,26}', 'add', clock() + '40 days')",
        "select change_segment_members('C', array(select generate_series(3, 40, 5)), 'remove')",
        "select set_rollout('A', 80)",
        "select set_rollout('B', 50, clock() + interval '25 days')",
        "select change_segment_members('C', array(select generate_series(3, 40, 7)))",
        "select change_segment_members('A', array(select generate_series(1, 40, 2)), 'remove')",
        "select set_rollout('A', 10)",
        "select delete_segment('C')",
        "select create_segment('C', 30)",
        "select change_segment_members('C', '{5,10,15,20,25,30,35,40}', starts_at => clock() + '9 days')",
        "select register_users(array(select generate_series(41, 60)))",
        "select delete_segment('A')",
    ]
    for change in everything:
        clock.advance(days=11, microseconds=7)
        db.rows(change)
    clock.advance(days=30)


def test_all_reports_together_are_the_histories_of_all_users(db: Database, clock: Clock) -> None:
    live_through_a_year(db, clock)
    periods = periods_since(db, NOON - timedelta(days=31))
    for swept in (False, True):
        if swept:
            db.rows("call sweep()")
        for period in periods:
            assert report(db, period) == by_history(db, period), (period, swept)
    assert sum(len(report(db, period)) for period in periods) > 100


CHANGES = st.sampled_from(
    [
        "select change_user_segments({user}, '{{A}}')",
        "select change_user_segments({user}, remove => '{{A}}')",
        "select change_user_segments({user}, '{{A}}', expires_at => clock() + interval '{days} days')",
        "select change_user_segments({user}, '{{B}}', remove => '{{A}}')",
        "select set_rollout('A', {percent})",
        "select set_rollout('A', {percent}, clock() + interval '{days} days')",
        "select set_rollout('B', {percent})",
        "select register_users('{{{user}}}')",
        "select delete_segment('B'); select create_segment('B', {percent})",
        "call sweep()",
    ]
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(
    changes=st.lists(
        st.tuples(
            CHANGES,
            st.fixed_dictionaries(
                {
                    "user": st.integers(1, 4),
                    "days": st.sampled_from([1, 10, 20]),
                    "percent": st.sampled_from([0, 30, 60, 100]),
                }
            ),
            st.sampled_from([0, 1, 10]),
        ),
        min_size=3,
        max_size=15,
    )
)
def test_any_life_is_reported_as_its_history_tells_it(
    db: Database, clock: Clock, changes: list[tuple[str, dict[str, Any], int]]
) -> None:
    began = clock.advance(days=40)
    for slug in db.column("select slug from list_segments()"):
        db.rows("select delete_segment(%s)", slug)
    db.rows("select forget_user(u) from generate_series(1, 4) as u")
    for slug in ("A", "B"):
        db.rows("select create_segment(%s, 50)", slug)
    for change, values, days in changes:
        clock.advance(days=days, microseconds=1)
        for statement in change.format(**values).split("; "):
            try:
                db.rows(statement)
            except InvalidParameterValue:
                assert "starts_at" not in statement
    for period in periods_since(db, began):
        assert report(db, period) == by_history(db, period)


def test_a_period_has_begun_and_is_a_month(db: Database, clock: Clock) -> None:
    for period in ("2026-12", "9999-12", "2026-13", "2026-00", "0000-01", "2026-1", "November", "", None):
        for call in ("history_report(%s)", "history_report(%s, 1)", "create_report_link(%s)"):
            with refuses(InvalidParameterValue, period=period):
                db.rows(f"select * from {call}", period)
    for period in ("2026-11", "2026-10", "1999-01", "0001-01"):
        assert report(db, period) == report(db, period, 1) == []


def test_an_unfinished_month_is_reported_up_to_now(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1000, '{A}', expires_at => %s)", FRIDAY)
    assert [line[2] for line in report(db, "2026-11")] == ["add"]
    clock.set(FRIDAY)
    assert [line[2] for line in report(db, "2026-11")] == ["add", "remove"]


def test_a_wrong_user_is_refused(db: Database, clock: Clock) -> None:
    for user_id in (0, -1):
        for call in ("history_report('2026-11', %s)", "create_report_link('2026-11', %s)"):
            with refuses(InvalidParameterValue, user_id=user_id):
                db.rows(f"select * from {call}", user_id)


# Links.


def test_a_link_opens_the_report_until_it_expires(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_segment_members('A', '{1,2}')")
    everybody = db.row("select * from create_report_link(period => '2026-11', actor => 'ann')")
    one = db.row("select * from create_report_link('2026-11', user_id => 2, valid_for => '1 hour')")
    assert everybody.expires_at == NOON + timedelta(hours=24)
    assert one.expires_at == NOON + timedelta(hours=1)

    def opened(link: Any) -> list[tuple]:
        return [
            tuple(line)
            for line in db.rows(
                "select line.* from linked_pages(%s) as page cross join lateral"
                " report_page(page.from_time, page.to_time, page.after_id, page.up_to_id) as line",
                link.id,
            )
        ]

    assert opened(everybody) == report(db, "2026-11")
    assert [line[0] for line in opened(one)] == [2]
    clock.set(one.expires_at)
    assert len(opened(everybody)) == 2
    with refuses(NoDataFound):
        opened(one)


def opens(db: Database, link_id: str) -> bool:
    """Whether a link opens a report, by the service's call and by that of its version 1.0.0."""
    calls = ("open_report_link(sha256(convert_to(%s, 'UTF8')))", "linked_pages(%s)")
    answers = set()
    for call in calls:
        try:
            answers.add(bool(db.rows(f"select * from {call}", link_id)))
        except NoDataFound:
            answers.add(False)
    (answer,) = answers
    return answer


def test_a_revoked_link_opens_nothing(db: Database, clock: Clock) -> None:
    one, other = (db.value("select id from create_report_link('2026-11')") for _ in range(2))
    db.rows("select revoke_report_link(%s)", one)
    assert (opens(db, one), opens(db, other)) == (False, True)
    for link_id in (one, "x", None):
        with refuses(NoDataFound):
            db.rows("select revoke_report_link(%s)", link_id)


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_link_ends_with_the_key_that_made_it(db: Database, clock: Clock, end: str) -> None:
    db.rows("select create_api_key('shop', 'editor', clock() + interval '1 hour')")
    db.rows("select create_api_key('other', 'editor')")
    link, other = (
        db.value("select id from create_report_link('2026-11', actor => %s)", name)
        for name in ("shop", "other")
    )
    assert opens(db, link)
    if end == "revoked":
        db.rows("select revoke_api_key('shop')")
        clock.advance(hours=-1)
    else:
        clock.advance(hours=1)
    assert (opens(db, link), opens(db, other)) == (False, True)


def test_an_unknown_link_opens_nothing(db: Database) -> None:
    for link_id in ("", "x", None):
        with refuses(NoDataFound):
            db.rows("select * from linked_pages(%s)", link_id)


def test_links_are_long_random_and_kept_as_digests(db: Database, clock: Clock) -> None:
    ids = [db.value("select id from create_report_link('2026-11')") for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(link_id) == 64 for link_id in ids)
    assert all(where_mentioned(db, link_id) == set() for link_id in ids)


def test_a_link_is_valid_for_up_to_31_days(db: Database, clock: Clock) -> None:
    db.rows("select create_report_link('2026-11', valid_for => '31 days')")
    for valid_for in ("0", "-1 hour", "32 days", None):
        with refuses(InvalidParameterValue):
            db.rows("select create_report_link('2026-11', valid_for => %s::interval)", valid_for)


def test_expired_links_are_purged(db: Database, clock: Clock) -> None:
    db.rows("select create_report_link('2026-11', valid_for => '1 hour')")
    db.rows("select create_report_link('2026-11', valid_for => '2 hours')")
    clock.advance(hours=1)
    assert db.value("select purge_expired()") == 1
    assert db.value("select count(*) from segmentation.report_links") == 1
    assert db.value("select purge_expired()") == 0
