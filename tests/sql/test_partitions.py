"""The history's partitions, one per month (UTC), and retention, which drops whole months."""

from datetime import UTC, datetime, timedelta

from psycopg.errors import InvalidParameterValue

from tests.conftest import NOON, Clock, Database
from tests.expect import refuses


def month(year: int, number: int) -> datetime:
    """The first moment of a month."""
    return datetime(year, number, 1, tzinfo=UTC)


def months(db: Database) -> list[datetime]:
    """The months that have a partition."""
    return db.column("select month_start from history_partitions()")


def assign(db: Database, clock: Clock, user_id: int, start: datetime, end: datetime) -> None:
    """Put a closed assignment into the history: the clock goes to its end."""
    clock.set(start)
    db.rows("select change_user_segments(%s, '{A}')", user_id)
    clock.set(end)
    db.rows("select change_user_segments(%s, remove => '{A}')", user_id)


def make_fresh(db: Database) -> None:
    """Drop all partitions of an empty history."""
    for partition in db.column("select partition::text from history_partitions()"):
        db.rows(f"drop table {partition}")


def test_this_month_and_the_coming_ones_are_made(db: Database, clock: Clock) -> None:
    make_fresh(db)
    assert db.value("select ensure_history_partitions(3)") == 4
    assert months(db) == [month(2026, 11), month(2026, 12), month(2027, 1), month(2027, 2)]


def test_making_them_twice_changes_nothing(db: Database, clock: Clock) -> None:
    db.rows("select ensure_history_partitions(3)")
    before = db.rows("select * from history_partitions()")
    assert db.value("select ensure_history_partitions(months_ahead => 3)") == 0
    assert db.rows("select * from history_partitions()") == before
    assert db.value("select ensure_history_partitions(0)") == 0


def test_from_the_last_day_of_a_long_month_the_next_is_not_left_out(db: Database, clock: Clock) -> None:
    make_fresh(db)
    clock.set(datetime(2027, 1, 31, 23, 59, tzinfo=UTC))
    db.rows("select ensure_history_partitions(2)")
    assert months(db) == [month(2027, 1), month(2027, 2), month(2027, 3)]


def test_how_many_months_ahead_is_0_to_120(db: Database) -> None:
    for months_ahead in (-1, 121, None):
        with refuses(InvalidParameterValue, months_ahead=months_ahead):
            db.rows("select ensure_history_partitions(%s::integer)", months_ahead)


def test_months_are_utc_whatever_the_session_says(db: Database, clock: Clock) -> None:
    make_fresh(db)
    db.rows("set timezone = 'Pacific/Auckland'")
    clock.set(datetime(2026, 11, 30, 20, tzinfo=UTC))
    db.rows("select ensure_history_partitions(0)")
    db.rows("select create_segment('A')")
    assign(db, clock, 1, clock.advance(hours=1), clock.advance(hours=1))
    db.rows("set timezone = 'UTC'")
    assert months(db) == [month(2026, 11)]


def test_a_change_in_a_month_without_a_partition_makes_one(db: Database, clock: Clock) -> None:
    make_fresh(db)
    db.rows("select create_segment('A')")
    assign(db, clock, 1, NOON, NOON + timedelta(days=800))
    assert months(db) == [month(2029, 1)]


def test_both_sides_of_the_bound_of_a_month_find_their_partition(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    for user_id, end in ((1, month(2027, 1) - timedelta(microseconds=1)), (2, month(2027, 1))):
        assign(db, clock, user_id, end - timedelta(hours=1), end)
    assert [
        tuple(row)
        for row in db.rows(
            "select user_id, right(tableoid::regclass::text, 7)"
            " from segmentation.membership_history order by 1"
        )
    ] == [(1, "2026_12"), (2, "2027_01")]


def test_every_partition_refuses_what_the_history_refuses(db: Database, clock: Clock) -> None:
    db.rows("select ensure_history_partitions(24)")
    unguarded = db.column(
        "select partition::text from history_partitions() where not exists"
        " (select from pg_trigger where tgrelid = partition and tgname = 'history_is_append_only')"
    )
    assert unguarded == []


def test_every_partition_belongs_to_the_owner_and_to_nobody_else(db: Database, clock: Clock) -> None:
    db.rows("select ensure_history_partitions(24)")
    assert db.rows(
        "select distinct relowner::regrole::text, relacl from pg_class"
        " join history_partitions() on partition = pg_class.oid"
    ) == [("segmentation_owner", None)]


# Retention.


def test_whole_months_before_the_one_given_are_dropped(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    for user_id, (year, number) in enumerate([(2026, 12), (2027, 1), (2027, 2)], start=1):
        assign(db, clock, user_id, month(year, number), month(year, number) + timedelta(days=5))
    dropped = db.value("select drop_history_before(period => '2027-02')")
    assert dropped >= 2
    assert months(db)[0] == month(2027, 2)
    assert db.column("select user_id from segmentation.membership_history") == [3]
    assert db.value("select drop_history_before('2027-02')") == 0


def test_the_past_before_the_horizon_is_no_longer_told(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 100)")
    assign(db, clock, 1, NOON, month(2026, 12) + timedelta(days=1))
    clock.set(month(2027, 2))
    db.rows("select drop_history_before('2027-01')")
    assert db.events_of(1) == []
    for call in (
        "user_segments(1, '2026-12-31Z')",
        "explain_membership(1, 'A', '2026-12-31Z')",
        "segment_members('A', '2026-12-31Z')",
        "history_report('2026-12')",
        "history_report('2026-12', 1)",
        "create_report_link('2026-12')",
    ):
        with refuses(InvalidParameterValue):
            db.rows(f"select * from {call}")
    assert db.column("select segment from user_segments(1, '2027-01-01Z')") == []
    assert db.rows("select * from history_report('2027-01')") == []


def test_what_ended_before_the_horizon_but_was_not_swept_goes_too(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1, '{A}', expires_at => '2026-12-05Z')")
    db.rows("select change_user_segments(2, '{A}', expires_at => '2027-01-05Z')")
    clock.set(month(2027, 2))
    db.rows("select drop_history_before('2027-01')")
    db.rows("call sweep()")
    assert months(db)[0] == month(2027, 1)
    assert db.column("select user_id from segmentation.membership_history") == [2]


def test_a_segment_deleted_before_the_horizon_but_not_swept_goes_too(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1, '{A}')")
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    clock.set(month(2027, 2))
    db.rows("select drop_history_before('2027-01')")
    db.rows("call sweep()")
    assert months(db)[0] == month(2027, 1)
    assert db.rows("select * from segmentation.membership_history") == []


def test_members_stay_members_when_their_past_is_dropped(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B', 100)")
    db.rows("select change_user_segments(1, '{A}')")
    clock.set(month(2027, 2))
    db.rows("select drop_history_before('2027-02')")
    assert db.segments_of(1) == db.column("select segment from user_segments(1)") == ["A", "B"]
    clock.advance(days=1)
    db.rows("select change_user_segments(1, remove => '{A,B}')")
    assert [event[:2] for event in db.events_of(1)] == [("A", "remove"), ("B", "remove")]


def test_only_months_that_have_begun_can_be_the_first_to_keep(db: Database, clock: Clock) -> None:
    with refuses(InvalidParameterValue, period="2026-12"):
        db.rows("select drop_history_before('2026-12')")
    db.rows("select drop_history_before('2026-11')")


def test_a_period_is_a_month(db: Database) -> None:
    for period in ("2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-11-01", "0000-01", "x", "", None):
        with refuses(InvalidParameterValue, period=period):
            db.rows("select drop_history_before(%s)", period)


def test_the_horizon_never_moves_back(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select drop_history_before('2026-11')")
    db.rows("select drop_history_before('2025-01')")
    with refuses(InvalidParameterValue):
        db.rows("select * from user_segments(1, '2026-10-31Z')")
