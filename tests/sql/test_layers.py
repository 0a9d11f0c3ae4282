"""Layers: segments that exclude each other. No two of them hold the same bucket at the same moment, ever."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import (
    ExclusionViolation,
    ForeignKeyViolation,
    InvalidParameterValue,
    NoDataFound,
    ObjectNotInPrerequisiteState,
    UniqueViolation,
)

from tests.conftest import NOON, Clock, Database
from tests.expect import refuses

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)

# Who holds each of the 100,000 buckets of layer L at a moment, by slug; null: nobody.
HOLDERS = """
    select b.bucket, s.slug
    from generate_series(0, 99999) as b (bucket)
    left join segmentation.rollouts as r
      on r.buckets @> b.bucket and segmentation.in_force(r.starts_at, r.ends_at, %s)
    left join segmentation.segments as s on s.segment_id = r.segment_id
"""


@pytest.fixture
def layer(db: Database, clock: Clock) -> None:
    """Layer L, at noon."""
    db.rows("select create_layer('L')")


def create(db: Database, **percents: float) -> None:
    """Create these segments in layer L."""
    for slug, percent in percents.items():
        db.rows("select create_segment(%s, %s::numeric, layer => 'L')", slug, percent)


def holders(db: Database, at: datetime) -> dict[int, str | None]:
    """The segment that holds each bucket of layer L at a moment."""
    rows = db.rows(HOLDERS, at)
    assert len(rows) == 100_000, "a bucket is held twice"
    return dict(rows)


def percents(db: Database, at: datetime) -> dict[str, float]:
    """How many percent each segment of layer L holds at a moment."""
    held = db.rows(
        f"select slug, count(*) as held, count(distinct bucket) as apart from ({HOLDERS}) as h group by slug",
        at,
    )
    assert sum(row[2] for row in held) == 100_000, "a bucket is held twice"
    return {slug: number / 1000 for slug, number, _ in held if slug}


def buckets(db: Database, slug: str, at: datetime) -> set[int]:
    """The buckets that a segment holds at a moment."""
    return {bucket for bucket, holder in holders(db, at).items() if holder == slug}


def state(db: Database, slug: str = "L") -> tuple[Any, ...]:
    """What list_layers says about a layer: segments, allocated and free percent."""
    return tuple(
        db.row("select segments, allocated_percent, free_percent from list_layers() where slug = %s", slug)
    )


# Layers and their segments ---------------------------------------------------------------------------


def test_a_layer_is_created_described_and_listed(db: Database, layer: None) -> None:
    db.rows("select create_layer('DISCOUNTS', 'one discount per user')")
    create(db, A=30, B=20.5)
    assert [tuple(row)[:5] for row in db.rows("select * from list_layers()")] == [
        ("DISCOUNTS", "one discount per user", [], 0, 100),
        ("L", "", ["A", "B"], 50.5, 49.5),
    ]
    assert db.row("select * from get_layer('L')").segments == ["A", "B"]


def test_a_segment_names_its_layer(db: Database, layer: None) -> None:
    create(db, A=30)
    db.rows("select create_segment('ALONE', 30)")
    assert db.rows("select slug, layer from list_segments()") == [("A", "L"), ("ALONE", None)]
    assert db.value("select layer from get_segment('A')") == "L"


def test_all_segments_of_a_layer_share_its_salt(db: Database, layer: None) -> None:
    create(db, A=10, B=10)
    salt = db.value("select salt from get_layer('L')")
    assert db.column("select salt from list_segments()") == [salt, salt]


def test_a_layer_that_is_not_there_is_named(db: Database, layer: None) -> None:
    with refuses(NoDataFound, layer="M"):
        db.rows("select get_layer('M')")
    with refuses(NoDataFound, layer="M"):
        db.rows("select delete_layer('M')")
    with refuses(ForeignKeyViolation, layer="M"):
        db.rows("select create_segment('A', layer => 'M')")


def test_what_cannot_be_a_layer(db: Database, layer: None) -> None:
    with refuses(UniqueViolation, layer="L"):
        db.rows("select create_layer('L')")
    with refuses(InvalidParameterValue, slug="no slug"):
        db.rows("select create_layer('no slug')")


def test_a_layer_and_a_segment_do_not_share_a_slug(db: Database, layer: None) -> None:
    create(db, A=30)
    with refuses(UniqueViolation, slug="A"):
        db.rows("select create_layer('A')")
    with refuses(UniqueViolation, slug="L"):
        db.rows("select create_segment('L')")
    db.rows("select delete_segment('A')")
    db.rows("select create_layer('A')")


def test_only_an_empty_layer_is_deleted(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=30)
    with refuses(ObjectNotInPrerequisiteState, layer="L", segments=["A"]):
        db.rows("select delete_layer('L')")
    clock.advance(hours=1)
    db.rows("select delete_segment('A')")
    db.rows("select delete_layer('L', reason => 'over')")
    assert db.rows("select * from list_layers()") == []
    assert db.rows("select * from segmentation.layer_cells") == []
    assert db.rows("select actor, end_actor, end_reason from segmentation.layers") == [
        ("postgres", "postgres", "over")
    ]


def test_a_slug_used_again_is_a_new_layer_with_a_new_salt(db: Database, layer: None) -> None:
    before = db.value("select salt from get_layer('L')")
    db.rows("select delete_layer('L')")
    db.rows("select create_layer('L')")
    assert db.value("select salt from get_layer('L')") != before


def test_a_segment_never_changes_its_layer(db: Database, layer: None) -> None:
    db.rows("select create_segment('ALONE')")
    create(db, A=30)
    with refuses(ObjectNotInPrerequisiteState, segment="A"):
        db.rows("update segmentation.segments set layer_id = null where slug = 'A'")
    with pytest.raises(ForeignKeyViolation, match="segments_layer_fkey"):
        db.rows("update segmentation.segments set layer_id = 1 where slug = 'ALONE'")


# Dealing of buckets ----------------------------------------------------------------------------------


def test_three_segments_share_out_all_buckets(db: Database, layer: None) -> None:
    create(db, A=30, B=30, C=40)
    assert percents(db, NOON) == {"A": 30, "B": 30, "C": 40}
    assert state(db) == (["A", "B", "C"], 100, 0)


def test_who_asks_for_more_than_is_free_is_told_who_holds_what(db: Database, layer: None) -> None:
    create(db, A=30, B=30, C=40)
    with refuses(
        ObjectNotInPrerequisiteState,
        code="layer_full",
        layer="L",
        free_percent=0,
        asked_percent=1,
        held=[
            {"segment": slug, "percent": percent, "starts_at": "2026-11-20T12:00:00.000000Z", "ends_at": None}
            for slug, percent in [("A", 30), ("B", 30), ("C", 40)]
        ],
    ):
        create(db, D=1)
    assert state(db) == (["A", "B", "C"], 100, 0)
    create(db, D=0)
    with refuses(ObjectNotInPrerequisiteState, code="layer_full", free_percent=30, asked_percent=30.001):
        db.rows("select set_rollout('A', 30.001)")


def test_what_one_gives_back_another_takes_and_nobody_else_moves(
    db: Database, layer: None, clock: Clock
) -> None:
    create(db, A=30, B=30, C=40)
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 20)")
    clock.advance(hours=1)
    create(db, D=10)
    before, after = holders(db, NOON), holders(db, clock.advance(hours=1))
    moved = {bucket for bucket in before if before[bucket] != after[bucket]}
    assert len(moved) == 10_000
    assert {(before[bucket], after[bucket]) for bucket in moved} == {("A", "D")}


def test_who_was_in_at_less_stays_in_at_more(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=20)
    at_20 = buckets(db, "A", NOON)
    db.rows("select create_segment('B', 60, layer => 'L')")
    db.rows("select set_rollout('A', 30)")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 40)")
    at_40 = buckets(db, "A", clock.advance(hours=1))
    assert at_20 < at_40


def test_lowering_gives_back_what_was_taken_last(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=10)
    moments = [NOON]
    for percent in (20.0, 30.0):
        moments.append(clock.advance(hours=1))
        db.rows("select set_rollout('A', %s::numeric)", percent)
    ten, twenty, thirty = (buckets(db, "A", at) for at in moments)
    moments = []
    for percent in (25.0, 20.0, 10.001, 10.0):
        moments.append(clock.advance(hours=1))
        db.rows("select set_rollout('A', %s::numeric)", percent)
    back_to_25, back_to_20, nearly_10, back_to_10 = (buckets(db, "A", at) for at in moments)
    assert twenty < back_to_25 < thirty
    assert back_to_20 == twenty
    assert ten < nearly_10 < twenty
    assert back_to_10 == ten


def test_a_segment_that_holds_nothing_for_a_while_begins_anew(
    db: Database, layer: None, clock: Clock
) -> None:
    create(db, A=30)
    moments = []
    for percent in (0, 10, 5, 0):
        moments.append(clock.advance(hours=1))
        db.rows("select set_rollout('A', %s::numeric)", percent)
    assert [percents(db, at).get("A", 0) for at in moments] == [0, 10, 5, 0]
    assert db.value("select count(*) from segmentation.rollouts where buckets is null") == 0
    create(db, B=100)


def test_users_of_a_new_segment_come_from_all_that_have_given_back(
    db: Database, layer: None, clock: Clock
) -> None:
    create(db, A=50, B=50)
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 40)")
    db.rows("select set_rollout('B', 40)")
    clock.advance(hours=1)
    create(db, C=10)
    before = holders(db, NOON)
    came_from = Counter(before[bucket] for bucket in buckets(db, "C", clock.advance(hours=1)))
    assert min(came_from["A"], came_from["B"]) > 3_000


def test_buckets_are_taken_at_random_in_cells_of_a_tenth_percent(db: Database, layer: None) -> None:
    create(db, A=30)
    held = buckets(db, "A", NOON)
    cells = {bucket // 100 for bucket in held}
    assert len(cells) == 300
    assert 120 < sum(cell < 500 for cell in cells) < 180


def test_thousandths_of_a_percent_are_exact(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=33.333, B=33.333, C=33.334)
    assert percents(db, NOON) == {"A": 33.333, "B": 33.333, "C": 33.334}
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 33.332)")
    db.rows("select set_rollout('C', 33.335)")
    assert percents(db, clock.advance(hours=1)) == {"A": 33.332, "B": 33.333, "C": 33.335}


def test_deleting_gives_back_all_and_the_past_stays(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=60, B=40)
    noon = clock.advance(hours=24)
    db.rows("select delete_segment('A')")
    one = clock.advance(hours=1)
    create(db, C=60)
    assert percents(db, noon - timedelta(hours=1)) == {"A": 60, "B": 40}
    assert percents(db, noon) == {"B": 40}
    assert percents(db, one) == {"B": 40, "C": 60}
    assert buckets(db, "C", one) == buckets(db, "A", NOON)


# As users see it ---------------------------------------------------------------------------------------


def test_each_user_is_in_exactly_one_of_three_segments_that_share_out_all(db: Database, layer: None) -> None:
    create(db, A=30, B=30, C=40)
    counts = dict(
        db.rows(
            "select segments[1], count(*) from users_segments(array(select generate_series(1, 100000)))"
            " where cardinality(segments) = 1 group by 1"
        )
    )
    assert sum(counts.values()) == 100_000
    assert all(
        abs(counts[slug] - percent * 1000) < 1_000 for slug, percent in [("A", 30), ("B", 30), ("C", 40)]
    )


def test_deleted_at_noon_taken_over_at_one_and_the_history_says_so(
    db: Database, layer: None, clock: Clock
) -> None:
    users = list(range(1, 201))
    create(db, A=60, B=40)
    db.rows("select register_users(%s)", users)
    noon = clock.advance(hours=24)
    db.rows("select delete_segment('A', reason => 'campaign over')")
    one = clock.advance(hours=1)
    create(db, C=60)
    clock.advance(hours=1)
    were_in_a = 0
    for user_id in users:
        history = [
            (e.segment, e.operation, e.at, e.cause)
            for e in db.rows("select * from user_history(%s)", user_id)
        ]
        if history[0][0] == "A":
            were_in_a += 1
            assert history == [
                ("A", "add", NOON, "rollout"),
                ("A", "remove", noon, "segment_deleted"),
                ("C", "add", one, "rollout"),
            ]
            for at, slugs in [
                (noon - timedelta(hours=1), ["A"]),
                (noon, []),
                (one - timedelta(microseconds=1), []),
                (one, ["C"]),
            ]:
                assert db.column("select segment from user_segments(%s, %s)", user_id, at) == slugs
            assert db.segments_of(user_id) == ["C"]
        else:
            assert history == [("B", "add", NOON, "rollout")]
            assert db.segments_of(user_id) == ["B"]
    assert 80 < were_in_a < 160


def test_who_was_in_by_rollout_at_twenty_and_thirty_percent_never_left(
    db: Database, layer: None, clock: Clock
) -> None:
    create(db, A=20, B=50)
    db.rows("select register_users(array(select generate_series(1, 300)))")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 30)")
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 20)")
    clock.advance(hours=1)
    create(db, C=10)
    stays = Counter(
        tuple(
            (e.segment, e.operation) for e in db.rows("select * from user_history(%s) order by at", user_id)
        )
        for user_id in range(1, 301)
    )
    assert set(stays) <= {
        (("A", "add"),),
        (("B", "add"),),
        (("C", "add"),),
        (("A", "add"), ("A", "remove")),
        (("A", "add"), ("A", "remove"), ("C", "add")),
        (),
    }
    assert 30 < stays[(("A", "add"),)] < 90


# Plans -------------------------------------------------------------------------------------------------


def test_a_planned_step_holds_its_buckets_from_its_start_on(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=30, B=30)
    db.rows("select set_rollout('A', 70, %s)", FRIDAY)
    with refuses(ObjectNotInPrerequisiteState, code="layer_full", free_percent=30, asked_percent=40):
        db.rows("select set_rollout('B', 40)")
    db.rows("select set_rollout('B', 20, %s)", FRIDAY)
    create(db, C=10)
    assert percents(db, NOON) == {"A": 30, "B": 30, "C": 10}
    assert percents(db, FRIDAY) == {"A": 70, "B": 20, "C": 10}
    assert buckets(db, "A", NOON) < buckets(db, "A", FRIDAY)


def test_what_is_given_back_on_friday_is_taken_on_friday(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=100, B=0)
    db.rows("select set_rollout('A', 60, %s)", FRIDAY)
    with refuses(ObjectNotInPrerequisiteState, code="layer_full"):
        db.rows("select set_rollout('B', 40, %s)", FRIDAY - timedelta(seconds=1))
    db.rows("select set_rollout('B', 40, %s)", FRIDAY)
    assert percents(db, FRIDAY) == {"A": 60, "B": 40}
    # B is to have them from Friday on, so A cannot keep them.
    with refuses(ObjectNotInPrerequisiteState, code="layer_full", free_percent=60, asked_percent=100):
        db.rows("select cancel_rollout_step('A', %s)", FRIDAY)
    db.rows("select cancel_rollout_step('B', %s)", FRIDAY)
    db.rows("select cancel_rollout_step('A', %s)", FRIDAY)
    assert percents(db, FRIDAY) == {"A": 100}


def test_a_ramp_keeps_what_it_holds_from_step_to_step(db: Database, layer: None) -> None:
    create(db, A=10, B=50)
    db.rows("select set_rollout('A', 50, %s)", MONDAY)
    on_monday = buckets(db, "A", MONDAY)
    db.rows("select set_rollout('A', 30, %s)", FRIDAY)
    assert buckets(db, "A", NOON) < buckets(db, "A", FRIDAY) < buckets(db, "A", MONDAY)
    assert buckets(db, "A", MONDAY) == on_monday


def test_raising_now_spares_what_others_have_planned(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=10, B=10)
    db.rows("select set_rollout('B', 50, %s)", FRIDAY)
    clock.advance(hours=1)
    db.rows("select set_rollout('A', 50)")
    assert percents(db, FRIDAY) == {"A": 50, "B": 50}


# Nobody gets round it --------------------------------------------------------------------------------


def test_plain_dml_is_dealt_buckets_like_everybody(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=60, B=0)
    insert = """
        insert into segmentation.rollouts (segment_id, salt, percent, starts_at, buckets)
        select segment_id, salt, %s, %s, '{[0,100000)}' from segmentation.segments where slug = 'B'
    """
    with refuses(ObjectNotInPrerequisiteState, code="layer_full"):
        db.rows(insert, 41, FRIDAY)
    db.rows(insert, 40, FRIDAY)
    assert percents(db, FRIDAY) == {"A": 60, "B": 40}
    db.rows("update segmentation.rollouts set buckets = '{[0,100000)}', layer_id = null")
    assert percents(db, FRIDAY) == {"A": 60, "B": 40}
    with refuses(ObjectNotInPrerequisiteState, code="layer_full"):
        db.rows("update segmentation.rollouts set percent = 41 where starts_at = %s", FRIDAY)
    db.rows("update segmentation.rollouts set percent = 20 where starts_at = %s", FRIDAY)
    assert percents(db, FRIDAY) == {"A": 60, "B": 20}
    db.rows("delete from segmentation.rollouts where starts_at = %s", FRIDAY)
    assert percents(db, FRIDAY) == {"A": 60}


def test_plain_dml_creates_a_segment_in_a_layer(db: Database, layer: None) -> None:
    db.rows(
        "insert into segmentation.segments (slug, layer_id) select 'A', layer_id from segmentation.layers"
    )
    db.rows("select set_rollout('A', 30)")
    assert percents(db, NOON) == {"A": 30}
    db.rows("select delete_segment('A')")
    db.rows("select delete_layer('L')")
    with refuses(ForeignKeyViolation, layer="L"):
        db.rows(
            "insert into segmentation.segments (slug, layer_id) select 'B', layer_id from segmentation.layers"
        )


def test_steps_of_several_segments_in_one_statement_are_dealt_together(
    db: Database, layer: None, clock: Clock
) -> None:
    create(db, A=0, B=100)
    db.rows(
        """insert into segmentation.rollouts (segment_id, salt, percent, starts_at)
        select segment_id, salt, 50, %s from segmentation.segments""",
        FRIDAY,
    )
    assert percents(db, FRIDAY) == {"A": 50, "B": 50}


@pytest.mark.parametrize(
    "change",
    ["slug = 'M'", "salt = 1", "created_at = '2020-01-01Z'", "actor = 'ann'", "deleted_at = '2020-01-01Z'"],
)
def test_a_layer_takes_no_plain_dml_that_changes_its_past(db: Database, layer: None, change: str) -> None:
    with refuses(ObjectNotInPrerequisiteState, layer="L"):
        db.rows(f"update segmentation.layers set {change}")
    with refuses(ObjectNotInPrerequisiteState):
        db.rows("delete from segmentation.layers")


def test_plain_dml_describes_and_deletes_an_empty_layer(db: Database, layer: None, clock: Clock) -> None:
    create(db, A=0)
    db.rows("update segmentation.layers set description = 'one of them'")
    clock.advance(hours=1)
    with refuses(ObjectNotInPrerequisiteState, segments=["A"]):
        db.rows("update segmentation.layers set deleted_at = segmentation.clock()")
    db.rows("select delete_segment('A')")
    db.rows("update segmentation.layers set deleted_at = segmentation.clock(), end_actor = 'ann'")
    assert db.rows("select description, end_actor from segmentation.layers") == [("one of them", "postgres")]


def test_the_database_itself_refuses_a_bucket_held_twice(db: Database, layer: None) -> None:
    """Whatever a function does wrong: the triggers that deal are off here."""
    create(db, A=50, B=50)
    with pytest.raises(ExclusionViolation, match="rollouts_bucket_held_once"), db.connection.transaction():
        db.rows("alter table segmentation.rollouts disable trigger user")
        db.rows("update segmentation.rollouts set buckets = '{[0,50000)}'")


# At any moment -----------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "plan", "plan", "cancel", "delete", "create"]),
        st.sampled_from("ABCD"),
        st.sampled_from([0, 0.001, 5, 10, 20, 33.333, 50, 70, 100]),
        st.integers(1, 72),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_no_bucket_is_held_twice_whatever_is_done(db: Database, operations: list[tuple]) -> None:
    with db.connection.transaction(force_rollback=True):
        clock = Clock(db)
        clock.set(NOON)
        db.rows("select create_layer('L')")
        seen: list[datetime] = [NOON]
        for operation, slug, percent, hours in operations:
            moment = clock.advance(hours=1)
            seen += [moment, moment + timedelta(hours=hours)]
            query, arguments = {
                "set": ("select set_rollout(%s, %s::numeric)", (slug, percent)),
                "plan": (
                    "select set_rollout(%s, %s::numeric, %s)",
                    (slug, percent, moment + timedelta(hours=hours)),
                ),
                "cancel": (
                    "select cancel_rollout_step(%s, r.starts_at) from rollout_steps(%s) as r"
                    " where r.starts_at > clock() order by r.starts_at limit 1",
                    (slug, slug),
                ),
                "delete": ("select delete_segment(%s)", (slug,)),
                "create": ("select create_segment(%s, %s::numeric, layer => 'L')", (slug, percent)),
            }[operation]
            try:
                with db.connection.transaction():
                    db.rows(query, *arguments)
            except (NoDataFound, UniqueViolation):
                pass
            except ObjectNotInPrerequisiteState as error:
                assert '"layer_full"' in str(error.diag.message_detail)
        db.rows("set constraints all immediate")
        assert (
            db.rows(
                """
                select from segmentation.rollouts as r
                where (r.buckets is null or segmentation.bucket_count(r.buckets) <> r.threshold)
                """
            )
            == []
        ), "each step holds as many buckets as it says"
        assert (
            db.rows(
                """
                select from segmentation.rollouts as r
                join segmentation.rollouts as o
                  on (o.segment_id, o.starts_at) > (r.segment_id, r.starts_at) and o.buckets && r.buckets
                    and o.starts_at < r.ends_at and o.ends_at > r.starts_at
                """
            )
            == []
        ), "no bucket is held twice"
        assert (
            db.rows(
                """
                select from segmentation.rollouts as r
                join segmentation.rollouts as n on n.segment_id = r.segment_id and n.starts_at = r.ends_at
                where not (r.buckets <@ n.buckets or n.buckets <@ r.buckets)
                """
            )
            == []
        ), "a step keeps what the one before it held, or gives some back"
        for moment in [*seen, moment_of_last(seen)]:
            clock.set(moment)
            assert cells_agree(db), moment


def moment_of_last(seen: list[datetime]) -> datetime:
    """A moment after all plans."""
    return max(seen) + timedelta(hours=1)


def cells_agree(db: Database) -> bool:
    """Whether layer_cells, where the hot read looks, says what the steps in force say."""
    return bool(
        db.value(
            """
            select not exists (
              select
              from generate_series(0, 999) as cell
              cross join segmentation.layers as l
              left join segmentation.layer_cells as c
                on c.layer_id = l.layer_id and c.starts_at <= segmentation.clock() and segmentation.clock() < c.ends_at
              cross join lateral (select get_byte(c.cells, cell)) as b (place)
              left join lateral (
                select coalesce(min(r.segment_id), 0) as segment_id, count(*) as segments,
                  bool_and(r.buckets @> int4range(cell * 100, cell * 100 + 100)) as whole
                from segmentation.rollouts as r
                where r.layer_id = l.layer_id
                  and segmentation.in_force(r.starts_at, r.ends_at, segmentation.clock(), r.decided_at)
                  and r.buckets && int4range(cell * 100, cell * 100 + 100)
              ) as held on true
              where b.place is distinct from 255
                and (
                  coalesce(c.segment_ids[b.place], 0) <> held.segment_id
                  or held.segments > 0 and not held.whole
                )
            )
            """
        )
    )


# A clock that goes back --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "back", [timedelta(microseconds=1), timedelta(minutes=10), timedelta(days=9)], ids=str
)
def test_a_clock_that_goes_back_gives_no_bucket_twice(
    db: Database, layer: None, clock: Clock, back: timedelta
) -> None:
    create(db, A=60, B=40)
    db.rows("select set_rollout('A', 30, %s)", NOON + timedelta(days=10))
    after = clock.advance(days=10, minutes=5)
    db.rows("select set_rollout('B', 60)")
    clock.set(after - back)
    assert cells_agree(db)
    assert in_force(db) == {"A": 30, "B": 60}, (
        "B was given what A's planned step gave back, so that has happened"
    )
    db.rows("select set_rollout('B', 10)")
    create(db, C=60)
    assert in_force(db) == {"A": 30, "B": 10, "C": 60}
    assert cells_agree(db)
    db.rows("select delete_segment('A')")
    create(db, D=30)
    assert in_force(db) == {"B": 10, "C": 60, "D": 30}
    assert cells_agree(db)
    assert percents(db, after + timedelta(hours=1)) == {"B": 10, "C": 60, "D": 30}
    db.rows("set constraints all immediate")


def cells_reach(db: Database, at: datetime) -> bool:
    """Whether layer_cells knows who holds what at a moment to come."""
    return bool(
        db.value(
            "select get_byte(cells, 0) <> 255 from segmentation.layer_cells where starts_at <= %s and ends_at > %s",
            at,
            at,
        )
    )


def in_force(db: Database) -> dict[str, float]:
    """How many percent each segment holds now, whatever the clock says of what was done."""
    rows = db.rows(
        """
        select s.slug, segmentation.bucket_count(r.buckets) as held
        from segmentation.rollouts as r
        join segmentation.segments as s on s.segment_id = r.segment_id
        where segmentation.in_force(r.starts_at, r.ends_at, segmentation.clock(), r.decided_at) and r.percent > 0
        """
    )
    return {slug: held / 1000 for slug, held in sorted(rows)}


# Many steps --------------------------------------------------------------------------------------------


def test_buckets_stay_in_few_pieces_however_often_little_is_taken(
    db: Database, layer: None, clock: Clock
) -> None:
    create(db, A=1, B=1)
    for turn in range(1, 61):
        clock.advance(hours=1)
        db.rows("select set_rollout(slug, 1 + %s / 1000.0) from unnest(array['A', 'B']) as slug", turn)
    assert (
        max(
            db.column(
                "select count(*) from segmentation.rollouts, unnest(buckets) group by segment_id, starts_at"
            )
        )
        <= 12
    )


def test_a_long_ramp_is_exact_where_the_hot_read_has_no_cells(
    db: Database, layer: None, clock: Clock
) -> None:
    create(db, A=1, B=99)
    for day in range(1, 41):
        at = NOON + timedelta(days=day)
        db.rows("select set_rollout('B', %s, %s)", 99 - day, at)
        db.rows("select set_rollout('A', %s, %s)", 1 + day, at)
    for days in (0, 1, 10, 20, 33, 40, 50):
        clock.set(NOON + timedelta(days=days))
        if days == 10:
            assert not cells_reach(db, NOON + timedelta(days=20))
            db.rows("select purge_expired()")
            assert cells_reach(db, NOON + timedelta(days=20))
        assert in_force(db) == {"A": 1 + min(days, 40), "B": 99 - min(days, 40)}
        assert cells_agree(db)
    assert db.value("select max(ends_at) = 'infinity' from segmentation.layer_cells")


def test_a_layer_of_more_segments_than_a_byte_can_name_is_read_as_the_algebra_says(
    db: Database, layer: None, clock: Clock
) -> None:
    db.rows(
        "insert into segmentation.segments (slug, layer_id)"
        " select 'S' || n, layer_id from segmentation.layers, generate_series(1, 270) as n"
    )
    db.rows(
        "insert into segmentation.rollouts (segment_id, salt, percent)"
        " select segment_id, salt, 0.3 from segmentation.segments"
    )
    db.rows("select change_user_segments(n, array['S' || 270 - n]) from generate_series(1, 9) as n")
    assert cells_agree(db)
    users = list(range(1, 301))
    hot = dict(db.rows("select user_id, segments from users_segments(%s::bigint[])", users))
    algebra: dict[int, list[str]] = {user_id: [] for user_id in users}
    for user_id, segment in db.rows(
        "select u, s.segment from unnest(%s::bigint[]) as u cross join lateral user_segments(u) as s", users
    ):
        algebra[user_id].append(segment)
    assert hot == algebra
    assert {len(segments) for segments in hot.values()} == {0, 1}
    beyond = {f"S{n}" for n in range(256, 271)}
    assert beyond & {segment for user_id in users[9:] for segment in hot[user_id]}, (
        "some are asked of the steps"
    )
