"""srm_p_value: the chi-square test of what a rollout holds against what it has planned."""

import math
from typing import Any

import pytest
from psycopg.errors import NoDataFound

from tests.conftest import Clock, Database
from tests.expect import first, inside, outside, refuses


def p_value(db: Database, statistic: float, freedom: int) -> Any:
    """The probability of chi-square to be so large."""
    return db.value("select segmentation.chi_square_p_value(%s, %s)", statistic, freedom)


def test_the_error_function_is_that_of_python(db: Database) -> None:
    points = [n / 40 for n in range(1040)] + [10.0**-n for n in range(2, 30)]
    for x, value in zip(
        points,
        db.column("select segmentation.complementary_error(x) from unnest(%s::float8[]) as x", points),
        strict=True,
    ):
        assert value == pytest.approx(math.erfc(x), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize(
    ("statistic", "freedom", "p"),
    [
        (2.705543454095404, 1, 0.1),
        (3.841458820694124, 1, 0.05),
        (6.6348966010212145, 1, 0.01),
        (10.827566170662733, 1, 0.001),
        (5.991464547107979, 2, 0.05),
        (7.814727903251179, 3, 0.05),
        (9.487729036781154, 4, 0.05),
        (18.307038053275146, 10, 0.05),
        (23.209251158954356, 10, 0.01),
        (31.410432844230918, 20, 0.05),
        (30.57791416689249, 15, 0.01),
    ],
)
def test_quantiles_are_as_in_the_tables(db: Database, statistic: float, freedom: int, p: float) -> None:
    assert p_value(db, statistic, freedom) == pytest.approx(p, rel=1e-9)


def test_ends_of_the_scale(db: Database) -> None:
    for freedom in (1, 2, 3, 4, 21):
        assert p_value(db, 0, freedom) == 1
        assert p_value(db, 1e6, freedom) == 0
        assert 0 <= p_value(db, 1190, freedom) < 1e-200


def stats(db: Database, slug: str) -> tuple[Any, ...]:
    """(planned, actual, p-value) of a segment."""
    return tuple(db.row("select planned_percent, actual_percent, srm_p_value from segment_stats(%s)", slug))


def test_a_rollout_that_holds_what_it_planned_has_no_mismatch(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 30)")
    db.rows("select register_users(%s)", first(inside(db, "A", 30), 300) + first(outside(db, "A", 30), 700))
    assert stats(db, "A") == (30, 30, 1)


def test_one_that_does_not_has(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A', 50)")
    db.rows("select register_users(%s)", first(inside(db, "A", 50), 400) + first(outside(db, "A", 50), 600))
    planned, actual, p = stats(db, "A")
    assert (planned, actual) == (50, 40)
    assert p == pytest.approx(math.erfc(math.sqrt(40 / 2)), rel=1e-9)
    # Who is overridden is not asked.
    db.rows("select change_segment_members('A', %s)", first(outside(db, "A", 50), 200))
    assert stats(db, "A") == (50, 50, 1)


def test_there_may_be_nothing_to_test(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select create_segment('B', 100)")
    db.rows("select create_segment('C', 50)")
    assert stats(db, "C") == (50, None, None)
    db.rows("select register_users('{1,2,3}')")
    assert stats(db, "A") == (0, 0, None)
    assert stats(db, "B") == (100, 100, None)
    assert stats(db, "C")[2] is not None


def test_a_layer_is_tested_segment_by_segment_and_as_a_whole(db: Database, clock: Clock) -> None:
    db.rows("select create_layer('L')")
    db.rows("select create_segment('A', 30, layer => 'L')")
    db.rows("select create_segment('B', 30, layer => 'L')")
    assert [tuple(row)[5:] for row in db.rows("select * from layer_stats('L')")] == [
        (30, None, None),
        (30, None, None),
        (60, None, None),
    ]
    db.rows("select register_users(array(select generate_series(1, 2000)))")
    rows = {row.segment: row for row in db.rows("select * from layer_stats('L')")}
    assert list(rows) == ["A", "B", None]
    for slug in ("A", "B"):
        assert tuple(rows[slug])[1:] == tuple(db.row("select * from segment_stats(%s)", slug))
    held = [rows["A"].rolled_out, rows["B"].rolled_out]
    assert rows[None].rolled_out == rows[None].members == sum(held)
    groups = zip([*held, 2000 - sum(held)], [600, 600, 800], strict=True)
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in groups)
    assert rows[None].srm_p_value == pytest.approx(math.exp(-statistic / 2), rel=1e-9)
    is_a = db.value("select user_id from segment_members('A') limit 1")
    clock.advance(hours=1)
    db.rows("select change_user_segments(%s, '{B}')", is_a)
    rows = {row.segment: row for row in db.rows("select * from layer_stats('L')")}
    assert (rows[None].assigned, rows[None].rolled_out, rows[None].members) == (1, sum(held) - 1, sum(held))
    with refuses(NoDataFound, layer="M"):
        db.rows("select * from layer_stats('M')")
