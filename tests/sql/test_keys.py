"""API keys: shown once, kept as a digest, expiring, revoked, announced to the services that run."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from psycopg.errors import InvalidParameterValue, NoDataFound, UniqueViolation

from tests.conftest import NOON, Clock, Database
from tests.expect import FOREVER, refuses, where_mentioned

FRIDAY = datetime(2026, 11, 27, tzinfo=UTC)


def holder(db: Database, key: str) -> list[tuple]:
    """Whose key this is, as the service asks: by its digest."""
    digest = hashlib.sha256(key.encode()).digest()
    return [tuple(row) for row in db.rows("select * from authenticate_api_key(%s)", digest)]


def test_a_key_opens_what_its_role_may_do(db: Database, clock: Clock) -> None:
    for role in ("reader", "editor", "admin"):
        key = db.value("select create_api_key(name => %s, role => %s)", f"shop-{role}", role)
        assert holder(db, key) == [(f"shop-{role}", role, FOREVER)]


def test_keys_are_long_random_and_easy_to_recognise(db: Database) -> None:
    keys = db.column("select create_api_key('key-' || n, 'reader') from generate_series(1, 20) as n")
    assert len(set(keys)) == 20
    assert all(key.startswith("seg_") and len(key) == 4 + 64 for key in keys)


def test_only_the_digest_is_kept(db: Database) -> None:
    key = db.value("select create_api_key('shop', 'reader')")
    assert where_mentioned(db, "shop") == {"api_keys"}
    assert where_mentioned(db, key) == where_mentioned(db, key.removeprefix("seg_")) == set()
    assert db.value("select key_digest from segmentation.api_keys") == hashlib.sha256(key.encode()).digest()


def test_another_key_opens_nothing(db: Database) -> None:
    key = db.value("select create_api_key('shop', 'reader')")
    assert holder(db, key[:-1]) == holder(db, key.upper()) == holder(db, "") == []
    assert db.rows("select * from authenticate_api_key(null)") == []


def test_a_key_expires_to_the_microsecond(db: Database, clock: Clock) -> None:
    key = db.value("select create_api_key('shop', 'reader', %s)", FRIDAY)
    clock.set(FRIDAY)
    clock.advance(microseconds=-1)
    assert holder(db, key) == [("shop", "reader", FRIDAY)]
    clock.set(FRIDAY)
    assert holder(db, key) == []


def test_a_revoked_key_stays_dead_when_the_clock_goes_back(db: Database, clock: Clock) -> None:
    key = db.value("select create_api_key('shop', 'admin')")
    clock.advance(hours=1)
    db.rows("select revoke_api_key('shop')")
    clock.advance(hours=-1, seconds=1)
    assert holder(db, key) == []


def test_a_revoked_key_opens_nothing_at_once(db: Database, clock: Clock) -> None:
    key, other = (db.value("select create_api_key(%s, 'admin')", name) for name in ("shop", "other"))
    clock.advance(hours=1)
    db.rows("select revoke_api_key(name => 'shop')")
    assert holder(db, key) == []
    assert holder(db, other) == [("other", "admin", FOREVER)]


def test_revoking_again_keeps_the_first_moment(db: Database, clock: Clock) -> None:
    db.rows("select create_api_key('shop', 'reader')")
    revoked = clock.advance(hours=1)
    db.rows("select revoke_api_key('shop')")
    clock.advance(hours=1)
    db.rows("select revoke_api_key('shop')")
    assert db.value("select revoked_at from list_api_keys()") == revoked


def test_a_key_that_is_not_there_cannot_be_revoked(db: Database) -> None:
    for name in ("shop", "", None):
        with refuses(NoDataFound, name=name):
            db.rows("select revoke_api_key(%s)", name)


def test_keys_are_listed_by_name_revoked_ones_too_without_the_keys(db: Database, clock: Clock) -> None:
    keys = [db.value("select create_api_key(%s, 'reader')", name) for name in ("b", "a")]
    db.rows("select create_api_key('c', 'admin', %s)", FRIDAY)
    db.rows("select revoke_api_key('b')")
    listed = db.rows("select * from list_api_keys()")
    assert [tuple(row) for row in listed] == [
        ("a", "reader", NOON, FOREVER, FOREVER),
        ("b", "reader", NOON, FOREVER, NOON),
        ("c", "admin", NOON, FRIDAY, FOREVER),
    ]
    assert not any(key in str(listed) for key in keys)


def test_a_name_is_never_used_again(db: Database) -> None:
    db.rows("select create_api_key('shop', 'reader')")
    db.rows("select revoke_api_key('shop')")
    with refuses(UniqueViolation, name="shop"):
        db.rows("select create_api_key('shop', 'reader')")


def test_wrong_names_roles_and_ends_are_refused(db: Database, clock: Clock) -> None:
    for name in ("", " ", "-a", "a b", "a\n", "x" * 101, "ä", None):
        with refuses(InvalidParameterValue, name=name):
            db.rows("select create_api_key(%s, 'reader')", name)
    for role in ("", "Admin", "owner", None):
        with refuses(InvalidParameterValue, role=role):
            db.rows("select create_api_key('shop', %s)", role)
    for expires_at in (NOON, "-infinity"):
        with refuses(InvalidParameterValue):
            db.rows("select create_api_key('shop', 'reader', %s::timestamptz)", expires_at)
    assert db.rows("select * from list_api_keys()") == []


def test_every_change_is_announced(db: Database, connect: Callable[..., Database]) -> None:
    service = connect()
    service.rows("listen segmentation_api_keys")
    for change in (
        "select create_api_key('shop', 'reader')",
        "select revoke_api_key('shop')",
        "update segmentation.api_keys set expires_at = now() + interval '1 day'",
        "delete from segmentation.api_keys",
    ):
        db.rows(change)
        (heard,) = service.connection.notifies(timeout=10, stop_after=1)
        assert (heard.channel, heard.payload) == ("segmentation_api_keys", "")
