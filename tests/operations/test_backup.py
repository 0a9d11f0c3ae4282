"""Dump, restore, migrate: the same answers and the same past; the jobs run only where they are wanted."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service.migrate import migrate
from tests.operations.conftest import JOBS, query, shell
from tests.readmes import block, in_a_sentence

PAST = (
    "select u, h.* from unnest('{1,2,3,1000,1001}'::bigint[]) as u"
    " cross join lateral segmentation.user_history(u) as h order by u, h.at, h.segment"
)
NOW = "select * from segmentation.users_segments(array(select generate_series(1, 2000)))"


@pytest.fixture
def source(cluster: Callable[[], str]) -> str:
    """A server that has been used for a while."""
    url = cluster()
    migrate(url)
    for statement in (
        "select create_segment('A')",
        "select create_segment('B', 40)",
        "select create_segment('GONE')",
        "select set_rollout('B', 60)",
        "select set_rollout('B', 80, '2099-01-01Z')",
        "select register_users(array(select generate_series(1, 2000)))",
        "select change_segment_members('A', array(select generate_series(1, 1000)), reason => 'import')",
        "select change_user_segments(1, remove => '{A}', reason => 'ticket')",
        "select change_user_segments(1000, '{GONE}')",
        "select change_user_segments(1001, remove => '{B}') from segment_members('B') where user_id = 1001",
        "select delete_segment('GONE')",
        "call sweep()",
        *block("a person").splitlines(),
    ):
        query(url, statement)
    return url


def test_a_dump_restored_into_another_server_knows_all_of_it(
    source: str, cluster: Callable[[], str], tmp_path: Path
) -> None:
    target = cluster()
    shell(block("dump"), tmp_path, DATABASE_URL=source)
    said = shell(block("restore"), tmp_path, DATABASE_URL=source, NEW_URL=target)
    assert "the database is at version" in said
    assert len(query(target, PAST)) > 5
    assert query(target, PAST) == query(source, PAST)
    assert query(target, NOW) == query(source, NOW)
    # What follows each upgrade finds nothing wrong; the next sweep comes within a minute.
    analyze = in_a_sentence("vacuumdb")
    shell(f'{analyze} --quiet --maintenance-db="$NEW_URL"', tmp_path, NEW_URL=target)
    query(target, "call sweep()")
    told = shell(in_a_sentence("python -m service status"), tmp_path, DATABASE_URL=target)
    assert re.search(r"^bucket vectors +true +as golden$", told, re.MULTILINE)
    # The jobs came along, once, and run.
    assert query(target, "select jobname::text, active from cron.job order by 1") == [
        (name, True) for name in JOBS
    ]
    assert query(target, "select pg_has_role('alice', 'segmentation_reader', 'usage')") == [(True,)]
    # Everything works on: psql needs no schema's name, and the history is kept.
    query(target, "select create_segment('C')")
    query(target, "select change_user_segments(1, '{A,C}')")
    query(target, "delete from segmentation.memberships where user_id = 2")
    assert query(target, "select segment, operation from user_history(2) order by at desc limit 1") == [
        ("A", "remove")
    ]
    query(target, block("keep a copy still"))
    assert query(target, "select * from cron.job") == []


def test_a_copy_of_the_schema_alone_takes_no_job_along(source: str, tmp_path: Path) -> None:
    query(source, "create database copy")
    copy = f"{source.rpartition('/')[0]}/copy"
    shell(block("copy"), tmp_path, DATABASE_URL=source, COPY_URL=copy)
    assert query(copy, PAST) == query(source, PAST)
    assert query(copy, NOW) == query(source, NOW)
    assert query(copy, "select to_regnamespace('cron')") == [(None,)]
    assert query(copy, "show search_path") == [('"$user", public, segmentation',)]
    query(copy, "set role segmentation_owner; create function segmentation.new() returns int return 1")
    assert query(copy, "select has_function_privilege('public', 'segmentation.new()', 'execute')") == [
        (False,)
    ]
