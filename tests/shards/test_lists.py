"""A list is changed on all shards or on none, whatever ends in between."""

from collections.abc import Callable

import psycopg
import pytest

from tests.conftest import Database
from tests.expect import refuses
from tests.shards.conftest import Shards, claimed, users_of

PREPARE = """
    select segmentation.prepare_on_shards(
      '{s0,s1}',
      array(
        select format(
          'select * from segmentation.change_segment_members(''A'', %%L)',
          array(select u from unnest(%s::bigint[]) as u
            join segmentation.slots as d on d.slot = segmentation.slot_of(u) where d.shard = s))
        from unnest('{s0,s1}'::text[]) as s),
      %s, interval '5 seconds', 'A', 6, null, false)
"""
OWNER = "set role segmentation_owner"


@pytest.fixture
def listed(router: Database) -> list[int]:
    """A segment, and users of both shards for it."""
    router.rows("select create_segment('A')")
    return users_of(router, "s0") + users_of(router, "s1")


def members(router: Database) -> list[int]:
    """Who is in."""
    return router.column("select user_id from segment_members('A')")


def test_a_crash_before_the_decision_undoes_it_everywhere(router: Database, listed: list[int]) -> None:
    router.rows(OWNER)
    router.rows(PREPARE, listed, "segmentation-1")
    assert members(router) == []
    settled = router.rows("select shard, gid, outcome from settle('0')")
    assert [tuple(row) for row in settled] == [
        ("s0", "segmentation-1-s0", "rolled back"),
        ("s1", "segmentation-1-s1", "rolled back"),
    ]
    assert members(router) == []
    # Whoever comes late cannot decide otherwise.
    with refuses(psycopg.errors.ConnectionFailure):
        router.rows("select segmentation.commit_on_shards('{s0,s1}', 'segmentation-1', '{}', null, null)")
    assert router.rows("select * from settle('0')") == []


def test_a_crash_after_the_decision_does_it_everywhere(router: Database, listed: list[int]) -> None:
    router.rows(OWNER)
    router.rows(PREPARE, listed, "segmentation-2")
    router.rows("select segmentation.decide_for_good('segmentation-2', true)")
    assert {row.outcome for row in router.rows("select * from settle('0')")} == {"committed"}
    assert members(router) == sorted(listed)
    assert router.rows("select * from settle('0')") == []


def test_what_is_on_its_way_is_not_settled(router: Database, listed: list[int]) -> None:
    router.rows(OWNER)
    router.rows(PREPARE, listed, "segmentation-3")
    assert router.rows("select * from settle()") == []
    router.rows("select segmentation.commit_on_shards('{s0,s1}', 'segmentation-3', '{}', null, null)")
    assert members(router) == sorted(listed)


def test_a_refusal_of_one_shard_changes_nothing_on_the_other(
    router: Database, listed: list[int], session: Callable[[str], Database]
) -> None:
    router.rows("select create_layer('L')")
    router.rows("select create_segment('B', layer => 'L')")
    router.rows("select create_segment('C', layer => 'L')")
    assigned = [listed[1], listed[-2], listed[-1]]
    router.rows("select change_segment_members('B', %s)", assigned)
    with refuses(
        psycopg.errors.ObjectNotInPrerequisiteState,
        code="exclusive_segments", exclusive_segments=["B"], users=3, user_ids=sorted(assigned),
    ):  # fmt: skip
        router.rows("select change_segment_members('C', %s)", listed)
    # Of each shard one user.
    with refuses(psycopg.errors.ObjectNotInPrerequisiteState, users=2, user_ids=sorted(assigned[:2])):
        router.rows("select change_segment_members('C', %s)", assigned[:2])
    assert router.column("select user_id from segment_members('C')") == []
    for name in ("s0", "s1"):
        assert session(name).value("select count(*) from pg_prepared_xacts") == 0


def test_a_list_that_would_remove_too_many_in_all_changes_nothing(
    router: Database, listed: list[int]
) -> None:
    router.rows("select change_segment_members('A', %s)", listed)
    kept = [listed[0], listed[-1]]
    with refuses(psycopg.errors.ObjectNotInPrerequisiteState, code="too_many_removed", removed=4):
        router.rows("select change_segment_members('A', %s, 'replace', max_removed => 3)", kept)
    with refuses(psycopg.errors.ObjectNotInPrerequisiteState, code="too_many_removed", removed=6):
        router.rows("select change_segment_members('A', '{}', 'replace')")
    assert members(router) == sorted(listed)
    # Nobody on the list is on the second shard: its users are removed all the same.
    counts = router.row("select * from change_segment_members('A', %s, 'replace')", listed[:1])
    assert (counts.received, counts.removed, counts.unchanged) == (1, 5, 1)
    assert members(router) == listed[:1]


def test_a_list_waits_for_a_user_whom_somebody_else_holds(
    router: Database, listed: list[int], shards: Shards
) -> None:
    router.rows("select register_users(%s)", listed)
    with psycopg.connect(shards.urls["s1"]) as holder:
        holder.execute("select from segmentation.users where user_id = %s for update", [listed[-1]])
        router.rows("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            router.rows("select change_segment_members('A', %s)", listed)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            router.rows("select change_user_segments(%s, '{A}')", listed[-1])
        router.rows("select change_user_segments(%s, '{A}')", listed[0])
    assert members(router) == listed[:1]


def test_a_change_whose_answer_was_lost_with_the_router_is_done_once(
    router: Database, listed: list[int]
) -> None:
    user = listed[-1]
    change = f"select segment, change from change_user_segments({user}, '{{A}}', actor => 'web')"
    assert claimed(router, key="1", change=change) == [("A", "added")]
    assert claimed(router, key="1", change=change) == [("A", "added")]
    assert claimed(router, key="2", change=change) == [("A", "unchanged")]
    assert router.events_of(user) == [("A", "add", "assigned")]
    with refuses(psycopg.errors.InvalidParameterValue, code="idempotency_key_reused"):
        claimed(router, key="1", change=f"select * from change_user_segments({user}, remove => '{{A}}')")


def test_a_person_who_sets_the_setting_gets_nobody_elses_answer(router: Database, listed: list[int]) -> None:
    change = f"select change from change_user_segments({listed[0]}, '{{A}}', reason => 'r')"
    assert claimed(router, key="1", change=change) == [("added",)]
    router.rows("create role editor_of_shards login in role segmentation_editor")
    try:
        with Database(router.url).connection as person:
            person.execute("set session authorization editor_of_shards")
            person.execute('set segmentation.claimed = \'["web", "1"]\'')
            assert person.execute(change.encode()).fetchall() == [("unchanged",)]
    finally:
        router.rows("drop role editor_of_shards")


def test_a_list_whose_answer_was_lost_with_the_router_is_done_once(
    router: Database, listed: list[int]
) -> None:
    change = f"select added, unchanged from change_segment_members('A', array{listed})"
    assert claimed(router, key="1", change=change) == [(6, 0)]
    assert claimed(router, key="1", change=change) == [(6, 0)]
    assert claimed(router, key="2", change=change) == [(0, 6)]


def test_a_key_is_of_one_list_and_for_as_long_as_answers_are_kept(
    router: Database, listed: list[int]
) -> None:
    router.rows("select create_segment('B')")
    call = "select added, removed from change_segment_members"
    assert claimed(router, key="1", change=f"{call}('A', array{listed[1:]})") == [(5, 0)]
    others = [
        f"('B', array{listed[1:]})",
        f"('A', array{listed})",
        f"('A', array{listed[1:]}, 'remove')",
        f"('A', array{listed[1:]}, dry_run => true)",
        f"('A', array{listed[1:]}, 'replace', max_removed => 9)",
        f"('A', array{listed[1:]}, reason => 'r')",
    ]
    for other in others:
        with refuses(psycopg.errors.InvalidParameterValue, code="idempotency_key_reused"):
            claimed(router, key="1", change=call + other)
    # It may still be needed for what is prepared on a shard that is away.
    router.rows("update segmentation.decisions set decided_at = decided_at - interval '24 hours 10 minutes'")
    assert claimed(router, key="1", change=f"{call}('A', array{listed})") == [(1, 0)]
    assert claimed(router, key="1", change=f"{call}('A', array{listed})") == [(1, 0)]
    assert members(router) == sorted(listed)
