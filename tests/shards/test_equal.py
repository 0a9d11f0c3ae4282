"""A router with its shards answers as a database by itself with the same history, errors included."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import psycopg
import pytest

from tests.conftest import NOON, Clock, Database
from tests.expect import salts_from_slugs, wait_until
from tests.shards.conftest import Shards, users_of

USERS = list(range(1, 41))
SLUGS = list("ABCDEF")

Call = tuple[str, list[Any]]


def told(db: Database, query: str, *args: Any) -> Any:
    """The rows, or the error as the client gets it."""
    try:
        return [tuple(row) for row in db.rows(query, *args)]
    except psycopg.Error as error:
        said = error.diag
        return (said.sqlstate, said.message_primary, said.message_detail, said.message_hint)


def change(chance: random.Random, now: datetime) -> Call:
    """One change, at random."""
    slug = chance.choice(SLUGS)
    users = chance.sample(USERS, chance.randint(1, 12))
    later = now + timedelta(minutes=chance.randint(1, 2000))
    end = chance.choice([None, later, later, now - timedelta(hours=1)])
    start = chance.choice([None, None, None, now + timedelta(minutes=30)])
    actor = chance.choice(["web", "support", "nightly"])
    of_segments: list[Call] = [
        ("select * from create_segment(%s, %s)", [slug, chance.choice([0, 10, 50, 100])]),
        (
            "select * from create_segment(%s, %s, layer => %s)",
            [slug, chance.choice([0, 10, 30]), "L"],
        ),
        ("select * from create_layer(%s)", ["L"]),
        ("select * from set_rollout(%s, %s, %s)", [slug, chance.choice([0, 20, 60]), start]),
        ("select * from set_rollout(%s, %s)", [slug, chance.choice([0, 5, 33.3])]),
        ("select delete_segment(%s)", [slug]),
    ]
    of_users: list[Call] = [
        (
            "select * from change_user_segments(%s, %s, %s, %s, %s, actor => %s, reason => 'r')",
            [users[0], [slug], chance.sample(SLUGS, 1), end, start, actor],
        ),
        ("select * from change_user_segments(%s, %s, actor => %s)", [users[0], [slug], actor]),
        ("select * from change_user_segments(%s, remove => %s)", [users[0], [slug]]),
        (
            "select * from change_segment_members(%s, %s, %s, %s, %s, actor => %s)",
            [slug, users, chance.choice(["add", "add", "remove", "replace"]), end, start, actor],
        ),
        (
            "select * from change_segment_members(%s, %s, 'replace', actor => %s, max_removed => %s, dry_run => %s)",
            [slug, users, actor, chance.choice([None, 2]), chance.random() < 0.5],
        ),
    ]
    rarely: list[Call] = [
        ("select * from users_segments(%s)", [users]),
        ("select forget_user(%s)", [users[0]]),
        ("call sweep()", []),
        ("select register_users(%s)", [users]),
    ]
    return chance.choice([*of_segments, *4 * of_users, *rarely])


def questions(now: datetime) -> Iterator[Call]:
    """Every question there is, and some that are refused."""
    between = NOON + (now - NOON) / 2
    for user in USERS:
        yield "select http_user_segments(%s)", [user]
        yield "select * from user_segments(%s)", [user]
        yield "select * from user_segments(%s, %s)", [user, between]
        yield "select * from user_history(%s)", [user]
        yield "select * from user_overrides(%s)", [user]
        yield "select ofrep_flags(%s)::text", [user]
        yield "select http_user_history(%s)::text", [user]
    for slug in [*SLUGS, "NONE"]:
        for user in USERS[:5]:
            yield "select * from explain_membership(%s, %s)", [user, slug]
            yield "select ofrep_flag(%s, %s)::text", [user, slug]
        yield "select * from segment_stats(%s)", [slug]
        yield "select * from segment_members(%s)", [slug]
        yield "select * from segment_members(%s, after => 5, max_rows => 7)", [slug]
        yield "select * from segment_members(%s, %s)", [slug, between]
        yield "select * from segment_growth(%s, step => '1 hour')", [slug]
        yield "select * from segment_periods(%s)", [slug]
        yield "select * from period_rows(%s, %s, %s)", [slug, NOON, now]
        yield "select * from segment_history(%s)", [slug]
        yield "select * from ending_soon('7 days', %s)", [slug]
    yield "select * from users_segments(%s)", [USERS[::-1] + USERS[:3]]
    yield "select http_users_segments(%s)", [USERS]
    yield "select * from users_segments('{}')", []
    yield "select * from users_segments('{1,0}')", []
    yield "select * from users_segments(array[1, null])", []
    yield "select http_users_segments('{}')", []
    yield "select * from layer_stats(%s)", ["L"]
    yield "select http_layer_stats(%s)::text", ["L"]
    yield "select * from ending_soon('7 days')", []
    yield "select * from ending_soon('7 days', max_rows => 3)", []
    yield "select * from ending_soon('-1 days')", []
    yield "select * from ending_soon('7 days', max_rows => 0)", []
    yield "select * from segment_members('A', max_rows => 0)", []
    yield "select * from history_report('2026-11')", []
    yield "select * from report_rows('2026-11', 7)", []
    yield "select * from history_report('2027-11')", []
    yield "select settled_until()", []
    yield "select * from membership_changes(%s)", [NOON]
    yield "select * from membership_changes(%s, %s)", [NOON, between]
    yield "select * from membership_changes(%s, 'infinity')", [NOON]
    yield "select * from list_segments()", []
    yield "select * from list_layers()", []


@pytest.mark.parametrize(
    "quoted",
    [
        "x REMOTE FATAL: y",
        "x(3): [h] REMOTE ERROR: y",
        "segmentation.proxy_x(3): [h] REMOTE PANIC: y",
        "] REMOTE ",
    ],
)
def test_an_error_is_told_as_it_is_whatever_it_quotes(quoted: str, db: Database, router: Database) -> None:
    for each in (db, router):
        each.rows("select create_segment('A')")
    for query in (
        "select * from change_user_segments(5, array[%s])",
        "select * from change_user_segments(5, '{A}', remove => array[%s])",
        "select * from explain_membership(5, %s)",
        "select * from ending_soon('1 day', %s)",
        "select * from segment_members(%s)",
        "select ofrep_flag(5, %s)::text",
        "select * from change_segment_members(%s, '{1,2,3,4,5}')",
        "select drop_history_before(%s)",
    ):
        assert told(router, query, quoted) == told(db, query, quoted)


# The users are known: a read would make them so even then.
READ_ONLY = {
    "assert_bucket_vectors": "assert_bucket_vectors()",
    "explain_membership": "explain_membership(1, 'A')",
    "http_user_segments": "http_user_segments(1)",
    "http_user_segments_each": "http_user_segments_each('{1,2,3,4,5}')",
    "http_users_segments": "http_users_segments('{1,2,3,4,5}')",
    "ofrep_flag": "ofrep_flag(1, 'A')",
    "ofrep_flags": "ofrep_flags(1)",
    "register_unknown_users": "register_unknown_users('{1,2,3,4,5,6}')",
    "user_history": "user_history(1)",
    "user_overrides": "user_overrides(1)",
    "user_segments": "user_segments(1)",
    "users_segments": "users_segments('{1,2,3,4,5}')",
}
WRITING = {
    "change_segment_members": "change_segment_members('A', '{1,2,3,4,5}', 'remove')",
    "change_user_segments": "change_user_segments(1, remove => '{A}')",
    "drop_history_before": "drop_history_before('2020-01')",
    "ensure_history_partitions": "ensure_history_partitions(7)",
    "expire_memberships": "expire_memberships()",
    "forget_user": "forget_user(1)",
    "register_users": "register_users('{6}')",
}
STATE = """
    select (select array_agg(u order by u.user_id) from segmentation.users as u) as users,
      (select array_agg(m order by m.user_id) from segmentation.memberships as m) as overrides,
      (select array_agg(h.month_start) from segmentation.history_partitions() as h) as months,
      (select kept_since::text from segmentation.retention)
"""


def test_a_read_only_transaction_changes_nothing_on_a_shard(
    db: Database, router: Database, session: Callable[[str], Database]
) -> None:
    reaching = router.column(
        "select function from segmentation.function_kinds() where kind in ('routed', 'split', 'to_all')"
    )
    assert sorted(READ_ONLY | WRITING) == sorted(reaching)
    shards = [session("s0"), session("s1")]
    for each in (db, router):
        each.rows("select create_segment('A')")
        each.rows("select * from change_segment_members('A', '{1,2,3,4,5}')")
    before = [shard.rows(STATE) for shard in shards]
    for call in (READ_ONLY | WRITING).values():
        answers = []
        for each in (db, router):
            with each.connection.transaction(force_rollback=True):
                each.rows("set transaction read only")
                answers.append(told(each, f"select segmentation.{call}"))
        failed = [answer[0] if isinstance(answer, tuple) else None for answer in answers]
        assert failed == ["25006" if call in WRITING.values() else None] * 2, (call, answers)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), router.connection.transaction():
        router.rows("set transaction read only")
        router.rows("select settle()")
    assert [shard.rows(STATE) for shard in shards] == before


TURNED = {"datestyle": "SQL, DMY", "intervalstyle": "sql_standard", "timezone": "Asia/Tokyo"}


def test_what_a_shard_tells_is_not_turned_by_its_settings(
    router: Database, session: Callable[[str], Database]
) -> None:
    router.rows("select create_segment('A')")
    start, end = datetime(2027, 2, 3, 4, tzinfo=UTC), datetime(2027, 5, 6, 7, tzinfo=UTC)
    servers = [session("s0"), session("s1")]
    for server, (name, value) in product(servers, TURNED.items()):
        server.rows(f"alter system set {name} = '{value}'")
        server.rows("select pg_reload_conf()")
    try:
        wait_until(
            lambda: all(Database(server.url).value("show datestyle") == "SQL, DMY" for server in servers)
        )
        # New sessions, also on the shards.
        asked = session("router")
        for user in users_of(router, "s0", 1) + users_of(router, "s1", 1):
            asked.rows(
                "select change_user_segments(%s, '{A}', expires_at => %s, starts_at => %s)", user, end, start
            )
            asked.rows(
                "select change_segment_members('A', %s, expires_at => %s, starts_at => %s)",
                [user],
                end,
                start,
            )
            plan = asked.row("select since, until from user_overrides(%s)", user)
            assert tuple(plan) == (start, end)
    finally:
        for server, name in product(servers, TURNED):
            server.rows(f"alter system reset {name}")
            server.rows("select pg_reload_conf()")


@pytest.fixture
def same_salts(db: Database, router: Database) -> Iterator[None]:
    """A segment's salt is the same on both, so that the same users are in."""
    salts_from_slugs(db)
    salts_from_slugs(router)
    yield
    router.rows("drop function segmentation_test.salt cascade")


@pytest.mark.parametrize(
    ("seed", "shards"),
    [(1, "three_servers"), (2, "three_servers"), (3, "one_server")],
    indirect=["shards"],
)
def test_the_same_calls_have_the_same_answers(
    seed: int, db: Database, clock: Clock, shards: Shards, router: Database, same_salts: None
) -> None:
    chance = random.Random(seed)
    now = NOON
    done: list[str] = []
    for _ in range(150):
        now += timedelta(minutes=chance.choice([0, 1, 1, 7, 60]))
        clock.set(now)
        shards.set_clock(now)
        query, args = change(chance, now)
        done.append(f"{query} {args}")
        assert told(router, query, *args) == told(db, query, *args), done[-3:]
    answers = [
        (query, args, told(db, query, *args), told(router, query, *args)) for query, args in questions(now)
    ]
    assert [answer for answer in answers if answer[2] != answer[3]] == []
    # Not because nothing happened.
    assert db.value("select count(*) from history_report('2026-11')") > 50
