"""register_users and forget_user: since when an id is known, and how it is erased."""

from datetime import UTC, datetime

from psycopg.errors import InvalidParameterValue

from tests.conftest import Clock, Database
from tests.expect import physically, refuses, where_mentioned

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)
USER = 98765432101


def test_registered_users_are_known_from_now_on(db: Database, clock: Clock) -> None:
    db.rows("select register_users('{3,1,3,9223372036854775807}')")
    assert [tuple(row) for row in db.rows("select * from segmentation.users order by 1")] == [
        (1, clock.now),
        (3, clock.now),
        (2**63 - 1, clock.now),
    ]


def test_known_users_stay_as_they_are(db: Database, clock: Clock) -> None:
    db.rows("select register_users('{1,2}')")
    before = physically(db, "users")
    clock.advance(hours=1)
    db.rows("select register_users('{2,1}')")
    assert physically(db, "users") == before
    db.rows("select register_users('{1,3}')")
    assert db.value("select registered_at from segmentation.users where user_id = 3") == clock.now


def test_a_rollout_that_holds_a_registered_user_is_an_event_of_that_moment(
    db: Database, clock: Clock
) -> None:
    db.rows("select create_segment('A', 100)")
    seen = clock.advance(days=1)
    db.rows("select register_users('{1}')")
    assert db.rows("select at from user_history(1)") == [(seen,)]


def test_nobody_to_register_is_fine(db: Database) -> None:
    db.rows("select register_users('{}')")
    assert db.rows("select * from segmentation.users") == []


def test_wrong_ids_register_nobody(db: Database) -> None:
    for user_ids in ([1, 0], [1, -1], [1, None], None):
        with refuses(InvalidParameterValue):
            db.rows("select register_users(%s::bigint[])", user_ids)
    assert db.rows("select * from segmentation.users") == []


def live_through_everything(db: Database, clock: Clock) -> None:
    """USER assigned, excluded, expired, planned, removed, swept and reported on; 7 a neighbour."""
    for slug, percent in (("A", 0), ("B", 100), ("C", 0), ("D", 0), ("E", 0)):
        db.rows("select create_segment(%s, %s)", slug, percent)
    for user_id in (USER, 7):
        db.rows("select change_user_segments(%s, '{A,E}', '{B}', actor => 'ann')", user_id)
        db.rows("select change_user_segments(%s, '{C}', expires_at => %s)", user_id, FRIDAY)
    clock.advance(hours=1)
    for user_id in (USER, 7):
        db.rows("select change_user_segments(%s, remove => '{A}', reason => 'over')", user_id)
        db.rows("select create_report_link('2026-11', %s)", user_id)
        # Whatever way the request spelled the id.
        for spelling in (f"/v1/users/{user_id}/segments", f"/v1/users/000{user_id}/segments"):
            db.rows(
                "select keep_answer('shop', %s, sha256(''), %s, 200, null,"
                " http_change_user_segments(%s, '{A}', null, null, null, null, 'ann', null)::text)",
                f"order-{spelling[::-1]}",
                spelling,
                user_id,
            )
    clock.set(FRIDAY)
    db.rows("call sweep()")
    for user_id in (USER, 7):
        db.rows("select change_user_segments(%s, '{D}', starts_at => '2100-01-01Z')", user_id)
    db.rows("select delete_segment('E')")


def test_forgetting_a_user_leaves_nothing_anywhere(db: Database, clock: Clock) -> None:
    live_through_everything(db, clock)
    assert len(where_mentioned(db, str(USER))) >= 5
    assert db.value("select forget_user(%s, 'ann', 'asked for it')", USER) is True
    assert where_mentioned(db, str(USER)) == set()
    db.rows("call sweep()")
    assert where_mentioned(db, str(USER)) == set()


def test_the_answer_of_forgetting_is_kept_without_saying_whom(db: Database, clock: Clock) -> None:
    live_through_everything(db, clock)
    with db.connection.transaction():
        db.rows("select forget_user(%s)", USER)
        db.rows(
            "select keep_answer('shop', 'forget', sha256('DELETE'), %s, 204, null, '')", f"/v1/users/{USER}"
        )
    assert where_mentioned(db, str(USER)) == set()
    assert db.value("select status from claim_idempotency_key('shop', 'forget')") == 204


def test_kept_answers_of_a_user_are_found_by_index(db: Database) -> None:
    db.rows(
        "insert into segmentation.idempotency_keys (api_key, idempotency_key, fingerprint, status, answer, user_id)"
        " select 'shop', n::text, sha256(''), 200, '{}', n from generate_series(1, 20000) as n"
    )
    db.rows("analyze segmentation.idempotency_keys")
    plan = db.column("explain delete from segmentation.idempotency_keys as i where i.user_id = 7")
    assert any("idempotency_keys_user_id_idx" in line for line in plan), plan


def test_forgetting_a_user_touches_nobody_else(db: Database, clock: Clock) -> None:
    live_through_everything(db, clock)
    before = [db.rows("select * from user_history(7)"), db.rows("select * from user_segments(7)")]
    db.rows("select forget_user(%s)", USER)
    assert [db.rows("select * from user_history(7)"), db.rows("select * from user_segments(7)")] == before


def test_a_forgotten_user_seen_again_begins_anew(db: Database, clock: Clock) -> None:
    live_through_everything(db, clock)
    db.rows("select forget_user(%s)", USER)
    seen = clock.advance(days=1)
    assert db.segments_of(USER) == ["B"]
    assert [tuple(event)[:4] for event in db.rows("select * from user_history(%s)", USER)] == [
        ("B", "add", seen, "rollout")
    ]


def test_forgetting_a_user_not_known_is_no_error_and_leaves_it_unknown(db: Database) -> None:
    assert db.value("select forget_user(user_id => 5, actor => 'ann', reason => 'r')") is False
    assert db.rows("select * from segmentation.users") == []


def test_forgetting_a_wrong_id_is_refused(db: Database) -> None:
    for user_id in (0, -1, None):
        with refuses(InvalidParameterValue):
            db.rows("select forget_user(%s)", user_id)


def test_a_user_known_only_by_an_override_is_forgotten_too(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows(
        "insert into segmentation.memberships (user_id, segment_id)"
        " select %s, segment_id from segmentation.segments",
        USER,
    )
    assert db.value("select forget_user(%s)", USER) is True
    assert where_mentioned(db, str(USER)) == set()
