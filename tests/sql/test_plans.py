"""Plans of what is called on every page view: users are found by index, and nothing grows with their number.

auto_explain shows the plans inside the functions, the cached generic ones included.
"""

import re
from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Clock, Database, clone
from tests.plans import most_rows, plans_within

# What grows with the number of users.
LARGE = r"(users|memberships|membership_history_\w+)"
USERS = 30_000
# Many users with many overrides: some that have ended, some in force.
BUSY = f"""
    select create_segment('SEGMENT_' || n, n) from generate_series(1, 40) as n;
    select register_users(array(select generate_series(1, {USERS})));
    select change_segment_members('SEGMENT_' || n, array(select generate_series(n, {USERS}, 7)))
    from generate_series(1, 10) as n;
    select change_segment_members('SEGMENT_' || n, array(select generate_series(n, {USERS}, 14)), 'remove')
    from generate_series(1, 5) as n;
    analyze segmentation.users, segmentation.memberships, segmentation.membership_history;
    analyze segmentation.segments, segmentation.rollouts
"""

# Many users with few overrides: a plan for any bounds expects next to none.
SPARSE = """
    select create_segment('SEGMENT_' || n, n) from generate_series(1, 18) as n;
    select register_users(array(select generate_series(1, 20000)));
    select set_rollout('SEGMENT_' || n, 5 * n) from generate_series(1, 18) as n;
    select change_segment_members('SEGMENT_' || n, array(select generate_series(n, 20000, 40)))
    from generate_series(1, 14) as n;
    analyze
"""


busy = pytest.mark.parametrize("template", [BUSY], indirect=True, ids=["busy"])
sparse = pytest.mark.parametrize("template", [SPARSE], indirect=True, ids=["sparse"])


@pytest.fixture(scope="module")
def template(request: pytest.FixtureRequest, maintenance: psycopg.Connection, template: str) -> Iterator[str]:
    """A template with this data, made once; without any, the usual one."""
    statements = getattr(request, "param", None)
    if statements is None:
        yield template
        return
    name = "segmentation_test_plans"
    with clone(maintenance, template, name) as url:
        filled = Database(url)
        for statement in statements.split(";\n"):
            filled.rows(statement)
        filled.connection.close()
        yield name


def kept_plans_of(db: Database, call: str, *, analyze: bool = False) -> list[str]:
    """The plans inside a call, after enough calls for generic plans: kept_plans_of(db, "users_segments(array[1])")."""
    for _ in range(6):
        db.rows(f"select count(*) from {call}")
    return plans_within(db, f"select count(*) from {call}", analyze=analyze)


@pytest.mark.parametrize(
    "call",
    [
        "segmentation.http_user_segments(1000)",
        "segmentation.http_user_segments(999999)",
        "segmentation.http_user_segments_each(array[1, 15, 1000, 1002, 29999])",
        "users_segments(array[1, 15, 1000, 1002, 29999])",
        "user_segments(1000)",
        "explain_membership(1000, 'SEGMENT_1')",
        "user_history(1)",
        "ofrep_flag(1000, 'SEGMENT_1')",
        "ofrep_flags(1000)",
        "change_user_segments(1000, '{SEGMENT_2}')",
        "change_user_segments(1001, remove => '{SEGMENT_20}')",
    ],
)
@busy
def test_users_are_found_by_index(db: Database, call: str) -> None:
    plans = "\n".join(kept_plans_of(db, call))
    scans = [
        line.strip()
        for line in plans.splitlines()
        if re.search(rf"Seq Scan on (segmentation\.)?{LARGE}", line)
    ]
    # A future month has no rows yet, and a partition without rows needs no index.
    filled = [scan for scan in scans if "rows=1 " not in scan and "rows=0 " not in scan]
    assert filled == [], plans
    assert re.search(r"Index (Only )?Scan", plans)
    assert re.search(r"Index Cond: .*user_id = ", plans), plans


@pytest.mark.parametrize(
    "call",
    [
        "segmentation.http_user_segments(1000)",
        "user_segments(1000)",
        "user_segments(1000, clock())",
        "explain_membership(1000, 'SEGMENT_1')",
        "user_history(1000)",
        "user_overrides(1000)",
        "ofrep_flag(1000, 'SEGMENT_1')",
        "ofrep_flags(1000)",
        "change_user_segments(1000, '{SEGMENT_2}')",
        "change_user_segments(1000, remove => '{SEGMENT_20}')",
        "set_rollout('SEGMENT_1', 1)",
        "forget_user(1000)",
    ],
)
@busy
def test_a_call_keeps_its_plans(db: Database, call: str) -> None:
    """To plan takes longer than to run. A plan that is made anew names the user; one that is kept has parameters."""
    within = [plan for plan in kept_plans_of(db, call) if f"from {call}" not in plan]
    assert any("$1" in plan for plan in within)
    assert [plan for plan in within if re.search(r"'\{?1000\}?'::bigint|'SEGMENT_1'", plan)] == []


@busy
def test_a_change_of_a_segment_looks_at_no_user(db: Database) -> None:
    for call in (
        "set_rollout('SEGMENT_1', 1 + 98 * random()::numeric(4, 3))",
        "segmentation.http_get_segment('SEGMENT_1')",
        "delete_segment((select slug from list_segments(max_rows => 1)))",
    ):
        plans = "\n".join(kept_plans_of(db, call))
        assert not re.search(rf"Scan (using \w+ )?on (segmentation\.)?{LARGE}", plans), plans


@pytest.mark.parametrize(
    "call",
    [
        "report_page(clock() - interval '1 day', clock() + interval '1 day', 0, 5000)",
        "history_report(to_char(clock() at time zone 'UTC', 'YYYY-MM'), 1000)",
        "segment_growth('SEGMENT_1', clock() - interval '1 day', clock(), '1 hour')",
        "segment_members('SEGMENT_1', max_rows => 5000)",
        "segment_stats('SEGMENT_1')",
        "users_segments(array(select generate_series(1, 5000)::bigint))",
    ],
)
@sparse
def test_no_kept_plan_compares_all_users_with_all_overrides(db: Database, call: str) -> None:
    """A plan for any bounds and arrays expects few rows, and a nested loop over many would take seconds."""
    assert most_rows(kept_plans_of(db, call, analyze=True)) < 1_000_000


def test_a_long_history_is_read_once_not_once_an_event(db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    for _ in range(20):
        for change in ("add", "remove"):
            clock.advance(hours=1)
            db.rows(f"select change_user_segments(1000, {change} => '{{A}}')")
    plan = "\n".join(
        db.column("explain (analyze) select * from segmentation.membership_events('{1000}', 'infinity')")
    )
    scans = re.findall(r"Scan.* on membership_history_\w+ .*actual .*rows=(\d+) loops=(\d+)", plan)
    assert ("20", "1") in scans, plan
    assert {loops for _, loops in scans} == {"1"}, plan


@pytest.mark.parametrize(
    "call",
    [
        "report_page(clock() - interval '1 day', clock() + interval '1 day', 0, 1000)",
        "segment_members('SEGMENT_1', max_rows => 1000)",
        "segment_stats('SEGMENT_1')",
        "segment_growth('SEGMENT_1', clock() - interval '1 day', clock(), '1 hour')",
        "users_segments(array(select generate_series(1, 1000)::bigint))",
        "change_user_segments(1000, '{SEGMENT_2}')",
    ],
)
@busy
def test_only_changes_read_the_index_by_time(db: Database, call: str) -> None:
    """A plan for any moment takes "before it" for a third of all rows, and would read as many at each page."""
    assert "memberships_begun_idx" not in "\n".join(kept_plans_of(db, call))


@busy
def test_changes_read_the_index_by_time(db: Database) -> None:
    db.rows("select change_user_segments(1, '{SEGMENT_40}')")
    plans = "\n".join(kept_plans_of(db, "membership_changes(clock() - interval '1 second')"))
    assert "memberships_begun_idx" in plans, plans
