"""Plans where the planner's statistics are old: right after a change of many rows they always are.

A list is as quick for a segment filled a second ago, of which the statistics know nothing, as for any other.
auto_explain counts the rows that each part of a plan handles: as many as the list has, not their square.
"""

import pytest

from tests.conftest import Clock, Database
from tests.plans import most_rows, plans_within

USERS = 1500
ALL = f"array(select generate_series(1, {USERS})::bigint)"
HALF = f"array(select generate_series(1, {USERS}, 2)::bigint)"

# What is analyzed is empty, but its files are not: what an import leaves that was rolled back.
EMPTIED = f"""
    begin;
    select change_segment_members('LAYERED', {ALL});
    select change_segment_members('LAYERED', {ALL}, 'remove');
    rollback;
    analyze;
"""
# Other segments are known to be filled.
OTHERS = f"""
    select create_segment('OTHER_' || n) from generate_series(1, 4) as n;
    select change_segment_members('OTHER_' || n, {ALL}) from generate_series(1, 4) as n;
    select change_segment_members('OTHER_4', {ALL}, 'remove');
    analyze;
"""
WRITES = {"change_segment_members", "set_rollout", "delete_segment", "expire_memberships"}
# One after the other, each with the statistics from before the first.
STEPS = [
    f"change_segment_members('NEW', {ALL})",
    f"change_segment_members('NEW', {ALL}, expires_at => clock() + interval '1 day')",
    f"change_segment_members('NEW', {ALL}, expires_at => clock() + interval '2 days')",
    f"change_segment_members('NEW', {HALF}, 'replace')",
    f"change_segment_members('NEW', {ALL}, 'replace', expires_at => clock() + interval '3 days')",
    f"change_segment_members('NEW', {ALL}, 'replace', expires_at => clock() + interval '2 days')",
    f"change_segment_members('NEW', {HALF}, 'remove')",
    "set_rollout('NEW', 100)",
    f"change_segment_members('NEW', {ALL}, 'remove')",
    f"change_segment_members('NEW', {ALL})",
    "set_rollout('NEW', 0)",
    f"change_segment_members('NEW', {ALL}, 'remove')",
    f"change_segment_members('NEW', {ALL}, starts_at => clock() + interval '1 hour')",
    f"change_segment_members('NEW', {ALL}, 'remove')",
    f"change_segment_members('NEW', {ALL})",
    f"change_segment_members('LAYERED', {ALL})",
    "segment_members('LAYERED')",
    "segment_members('LAYERED', after => 100, max_rows => 10)",
    "layer_stats('LAYER')",
    f"change_segment_members('LAYERED', {HALF}, 'remove')",
    f"change_segment_members('LAYERED_TOO', {HALF})",
    f"users_segments({ALL})",
    "segment_members('NEW')",
    "segment_stats('NEW')",
    "layer_stats('LAYER')",
    "segment_periods('NEW', clock() - interval '1 day', clock())",
    "segment_growth('NEW', clock() - interval '1 day', clock(), '1 hour')",
    "history_report(to_char(clock() at time zone 'UTC', 'YYYY-MM'))",
    "ending_soon('1 week')",
    "delete_segment('LAYERED')",
    f"expire_memberships({USERS})",
]
# Where a table was analyzed while it was empty, questions about all users are slow until it is analyzed again.
CHANGES = [step for step in STEPS if step.split("(")[0] in WRITES]
PLAIN = [
    "update memberships set ends_at = clock() + interval '1 day' where included",
    "update memberships set included = not included, starts_at = clock()",
    "delete from memberships",
]


@pytest.fixture
def misled(request: pytest.FixtureRequest, db: Database, clock: Clock) -> Database:
    """A database whose statistics are kept as they are from now on."""
    for table in ("users", "memberships", "membership_history", "segments", "rollouts"):
        for (part,) in db.rows(
            "select t.relid::regclass::text from pg_partition_tree(%s::regclass) as t where t.isleaf",
            f"segmentation.{table}",
        ):
            db.rows(f"alter table {part} set (autovacuum_enabled = off)")
    db.rows("select create_layer('LAYER'), create_segment('NEW')")
    db.rows(
        "select create_segment(slug, 20, layer => 'LAYER') from unnest('{LAYERED,LAYERED_TOO}'::text[]) as slug"
    )
    for statement in request.param.split(";\n"):
        db.rows(statement)
    clock.advance(hours=1)
    return db


def handled(db: Database, clock: Clock, statements: list[str]) -> dict[str, int]:
    """The rows that the busiest part of all plans within each statement handles, one after the other."""
    rows = {}
    for statement in statements:
        clock.advance(minutes=1)
        rows[statement] = most_rows(plans_within(db, statement, analyze=True))
    return rows


@pytest.mark.parametrize(
    ("misled", "steps"),
    [(EMPTIED, CHANGES), (OTHERS, STEPS)],
    indirect=["misled"],
    ids=["emptied", "others"],
)
def test_a_list_costs_as_much_as_it_has_users(misled: Database, clock: Clock, steps: list[str]) -> None:
    # Every override there is may be looked at, and for each the few segments.
    bound = 50 * (USERS + misled.value("select count(*) from memberships"))
    rows = handled(misled, clock, [f"select count(*) from {step}" for step in steps])
    assert {statement: number for statement, number in rows.items() if number > bound} == {}


@pytest.mark.parametrize("misled", [EMPTIED, OTHERS], indirect=True, ids=["emptied", "others"])
def test_plain_statements_cost_as_much_as_they_change(misled: Database, clock: Clock) -> None:
    misled.rows("select change_segment_members('NEW', array[1])")
    misled.rows("select change_segment_members('NEW', array[1], 'remove')")
    misled.rows(f"select change_segment_members('NEW', {ALL})")
    bound = 50 * (USERS + misled.value("select count(*) from memberships"))
    rows = handled(misled, clock, PLAIN)
    assert {statement: number for statement, number in rows.items() if number > bound} == {}
