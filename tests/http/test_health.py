"""Health: live while the process lives, ready while every part is in place; and when it refuses to start."""

import asyncio
from collections.abc import Callable

import pytest

from service.health import NotFit, check_database
from service.schemas import Live, Ready
from service.settings import Settings
from tests.conftest import Clock, Database
from tests.http.conftest import Service


def test_live_needs_no_key_and_no_database(service: Service) -> None:
    assert service.with_key(None).get("/health/live", Live) == Live(status="live")


def test_ready_lists_every_part(service: Service, db: Database) -> None:
    db.rows("call sweep()")
    ready = service.with_key(None).get("/health/ready", Ready)
    assert all(part.ok for part in ready.parts)
    parts = {part.item: part.value for part in ready.parts}
    assert next(iter(parts)) == "database"
    version = db.value("select obj_description('segmentation'::regnamespace, 'pg_namespace')")
    assert parts["schema version"] == version.rpartition("version ")[2]


def test_ready_ends_when_the_sweep_stops(service: Service, db: Database, clock: Clock) -> None:
    db.rows("call sweep()")
    clock.advance(hours=1)
    problem = service.with_key(None).is_refused("GET", "/health/ready", 503, "not_ready")
    assert "last sweep" in problem["detail"]
    (part,) = [part for part in problem["parts"] if not part["ok"]]
    assert part["hint"]


def test_a_database_that_is_not_migrated_is_not_ready_for_want_of_its_schema(
    service: Service, db: Database
) -> None:
    db.rows("drop schema segmentation cascade")
    problem = service.with_key(None).is_refused("GET", "/health/ready", 503, "not_ready")
    (part,) = problem["parts"]
    assert (part["item"], part["ok"]) == ("schema version", False)
    assert "python -m service migrate" in part["hint"]


def test_a_sound_database_is_served_from(database_url: str) -> None:
    asyncio.run(check_database(Settings(database_url=database_url)))


def refusal(settings: Settings) -> str:
    """Why the service would not start."""
    with pytest.raises(NotFit) as caught:
        asyncio.run(check_database(settings))
    return str(caught.value)


def test_a_database_that_deals_users_otherwise_is_refused(database_url: str, db: Database) -> None:
    db.rows(
        "create or replace function segmentation.bucket(user_id bigint, salt bigint) returns integer"
        " language sql immutable as 'select 7'"
    )
    assert "rollouts" in refusal(Settings(database_url=database_url))


def test_a_database_that_is_not_migrated_is_refused(database_url: str, db: Database) -> None:
    db.rows("drop schema segmentation cascade")
    assert "python -m service migrate" in refusal(Settings(database_url=database_url))


def test_a_database_that_is_away_is_refused(serve: Callable[..., Service]) -> None:
    assert "DATABASE_URL" in refusal(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
