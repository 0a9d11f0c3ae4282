"""Changes of one layer at once: one at a time, never more than 100 %, and whoever comes too late is told why."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from psycopg.errors import (
    ForeignKeyViolation,
    InvalidParameterValue,
    NoDataFound,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    UniqueViolation,
)

from tests.concurrency.conftest import Session, Waits, race
from tests.conftest import Database
from tests.expect import refuses

Open = Callable[..., Session]


@pytest.fixture(autouse=True)
def layer(db: Database) -> None:
    """Layer L with the segments A and B, at 40 % each."""
    db.rows("select create_layer('L')")
    db.rows("select create_segment(slug, 40, layer => 'L') from unnest(array['A', 'B']) as slug")


def held_now(db: Database) -> tuple[int, int]:
    """How many buckets are held now, and how many different ones."""
    return tuple(
        db.row(
            "select coalesce(sum(segmentation.bucket_count(r.buckets)), 0)::int as held,"
            " coalesce(segmentation.bucket_count(range_agg(r.buckets)), 0) as apart"
            " from segmentation.rollouts as r where r.ends_at = 'infinity'"
        )
    )


def test_two_who_raise_at_once_never_get_more_than_there_is(db: Database, session: Open) -> None:
    one, other = session(), session()
    refused = 0
    for turn in range(100):
        running = [
            one.start("select set_rollout('A', 60)"),
            other.start("select set_rollout('B', 60)"),
        ]
        for future in running:
            if error := future.exception():
                assert isinstance(error, ObjectNotInPrerequisiteState)
                assert '"layer_full"' in str(error.diag.message_detail)
                refused += 1
        assert held_now(db) == (100_000, 100_000), turn
        db.rows("select set_rollout(slug, 40) from unnest(array['A', 'B']) as slug")
        assert held_now(db) == (80_000, 80_000), turn
    assert refused == 100, "each time one of them is told why not"


def test_many_who_change_a_layer_at_once_never_deadlock(db: Database, session: Open) -> None:
    db.rows("select create_segment(slug, 5, layer => 'L') from unnest(array['C', 'D']) as slug")
    sessions = [session() for _ in range(4)]

    def change(me: int) -> None:
        for turn in range(25):
            slug, percent = "ABCD"[(me + turn) % 4], (7 * me + 13 * turn) % 50
            try:
                sessions[me].rows("select set_rollout(%s, %s)", slug, percent)
            except ObjectNotInPrerequisiteState as error:
                assert '"layer_full"' in str(error.diag.message_detail)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(change, range(4)))
    held, apart = held_now(db)
    assert held == apart <= 100_000


def test_segments_come_and_go_while_others_are_ramped_and_none_deadlocks(db: Database, session: Open) -> None:
    db.rows("select set_rollout(slug, 10) from unnest(array['A', 'B']) as slug")
    db.rows("select create_segment(slug, 10, layer => 'L') from unnest(array['C', 'D']) as slug")
    sessions = [session() for _ in range(3)]

    def come_and_go() -> None:
        for turn in range(50):
            slug = "ABCD"[turn % 4]
            sessions[0].rows("select delete_segment(%s)", slug)
            sessions[0].rows("select create_segment(%s, 5, layer => 'L')", slug)

    def ramp(me: int) -> None:
        for turn in range(100):
            slug, percent = "ABCD"[(me + turn) % 4], (7 * me + 13 * turn) % 20 + 1
            later = "clock() + interval '0.3 seconds'" if turn % 2 else "null"
            # What is planned may have waited until its moment had gone by.
            too_late = [InvalidParameterValue] if turn % 2 else []
            # Too much, or just deleted.
            with suppress(ObjectNotInPrerequisiteState, NoDataFound, *too_late):
                sessions[me].rows(f"select set_rollout(%s, %s, {later})", slug, percent)

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(come_and_go), threads.submit(ramp, 1), threads.submit(ramp, 2)]
    for future in running:
        future.result()
    held, apart = held_now(db)
    assert held == apart <= 100_000


def test_who_waits_sees_what_was_given_back(db: Database, session: Open, waits: Waits) -> None:
    race(session(), session(), waits, "select set_rollout('A', 10)", "select set_rollout('B', 90)")
    assert held_now(db) == (100_000, 100_000)


def test_who_waits_for_a_deletion_takes_what_it_gave_back(db: Database, session: Open, waits: Waits) -> None:
    race(
        session(),
        session(),
        waits,
        "select delete_segment('A')",
        "select create_segment('C', 60, layer => 'L')",
    )
    assert db.value("select allocated_percent from get_layer('L')") == 100


def test_what_a_dba_types_waits_too(db: Database, session: Open, waits: Waits) -> None:
    with refuses(ObjectNotInPrerequisiteState, code="layer_full"):
        race(
            session(),
            session(),
            waits,
            "select set_rollout('A', 60)",
            "insert into segmentation.rollouts (segment_id, salt, percent, starts_at)"
            " select segment_id, salt, 41, clock() + interval '1 hour' from segmentation.segments where slug = 'B'",
        )


def test_who_cannot_see_what_others_did_has_to_begin_anew(db: Database, session: Open) -> None:
    """REPEATABLE READ sees the state that it began with."""
    late = session()
    late.rows("begin isolation level repeatable read")
    late.rows("select * from list_layers()")
    db.rows("select set_rollout('A', 60)")
    with pytest.raises(SerializationFailure):
        late.rows("select set_rollout('B', 60)")
    assert held_now(db) == (100_000, 100_000)


def test_a_layer_is_not_deleted_under_a_segment_that_is_being_created(
    db: Database, session: Open, waits: Waits
) -> None:
    db.rows("select create_layer('M')")
    with refuses(ObjectNotInPrerequisiteState, layer="M", segments=["C"]):
        race(
            session(),
            session(),
            waits,
            "select create_segment('C', layer => 'M')",
            "select delete_layer('M')",
        )


def test_a_segment_is_not_created_in_a_layer_that_is_being_deleted(
    db: Database, session: Open, waits: Waits
) -> None:
    db.rows("select create_layer('M')")
    with refuses(ForeignKeyViolation, layer="M"):
        race(
            session(),
            session(),
            waits,
            "select delete_layer('M')",
            "select create_segment('C', layer => 'M')",
        )


def test_segments_are_created_in_different_layers_and_in_none_at_once(db: Database, session: Open) -> None:
    db.rows("select create_layer('M')")
    first = session()
    first.rows("begin")
    first.rows("select create_segment('C', 10, layer => 'M')")
    for call in ("create_segment('D', 10, layer => 'L')", "create_segment('E')", "set_rollout('A', 41)"):
        session(lock_timeout="1ms").rows(f"select {call}")
    first.rows("commit")


@pytest.mark.parametrize("turned", [False, True])
def test_a_layer_and_a_segment_do_not_take_the_same_slug_at_once(
    db: Database, session: Open, waits: Waits, turned: bool
) -> None:
    calls = ["select create_layer('C')", "select create_segment('C')"]
    with refuses(UniqueViolation, slug="C"):
        race(session(), session(), waits, *reversed(calls) if turned else calls)


# Two calls for one user ----------------------------------------------------------------------------------


ADDS = {
    "one": "select change_user_segments(7, array['{slug}'])",
    "many": "select change_segment_members('{slug}', '{{6,7}}')",
}


def assigned(db: Database) -> list[str]:
    """The segments that user 7 is assigned to."""
    return db.column("select segment from user_overrides(7) where kind = 'assignment'")


@pytest.mark.parametrize("then", ADDS)
@pytest.mark.parametrize("first", ADDS)
def test_two_who_add_one_user_to_two_segments_of_a_layer(
    db: Database, session: Open, waits: Waits, first: str, then: str
) -> None:
    with pytest.raises(ObjectNotInPrerequisiteState) as refused:
        race(session(), session(), waits, ADDS[first].format(slug="A"), ADDS[then].format(slug="B"))
    assert '"exclusive_segments"' in str(refused.value.diag.message_detail)
    assert assigned(db) == ["A"]


def test_who_waits_for_an_addition_that_is_undone_adds(db: Database, session: Open, waits: Waits) -> None:
    first, then = (ADDS["one"].format(slug=slug) for slug in "AB")
    race(session(), session(), waits, first, then, commit=False)
    assert assigned(db) == ["B"]


def test_two_who_move_one_user_out_of_the_same_segment(db: Database, session: Open, waits: Waits) -> None:
    db.rows("select create_segment('C', 20, layer => 'L')")
    db.rows(ADDS["one"].format(slug="C"))
    first, then = (f"select change_user_segments(7, '{{{slug}}}', remove => '{{C}}')" for slug in "AB")
    with refuses(ObjectNotInPrerequisiteState, exclusive_segments=["A"]):
        race(session(), session(), waits, first, then)
    assert assigned(db) == ["A"]


def test_a_dba_who_types_what_another_is_adding_is_refused(db: Database, session: Open, waits: Waits) -> None:
    with pytest.raises(UniqueViolation):
        race(
            session(),
            session(),
            waits,
            ADDS["one"].format(slug="A"),
            "insert into segmentation.memberships (user_id, segment_id)"
            " select 7, segment_id from segmentation.segments where slug = 'B'",
        )
    assert assigned(db) == ["A"]


def test_a_user_who_moves_all_the_time_is_never_in_two(
    db: Database, session: Open, consistent: Callable[[], None]
) -> None:
    sessions = [session() for _ in range(4)]

    def move(me: int) -> None:
        for turn in range(25):
            slug, other = "AB"[(me + turn) % 2], "AB"[(me + turn + 1) % 2]
            sessions[me].rows("select change_user_segments(7, array[%s], array[%s])", slug, other)
            assert len(sessions[me].value("select segments from users_segments('{7}')")) == 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(move, range(4)))
    consistent()
    assert len(assigned(db)) == 1
