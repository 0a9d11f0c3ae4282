"""Health: live while the process lives, ready while every part is in place; and when it refuses to start."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from service.cli.files import Failed
from service.cli.session import Commanded
from service.database import Database as Connections
from service.health import NotFit, check_database
from service.schemas import Live, Ready
from service.settings import Settings
from service.versions import digest
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


@pytest.mark.parametrize(
    ("wrong", "next_step"),
    [
        (lambda url: url.rpartition("/")[0] + "/nowhere", "Is DATABASE_URL right"),
        (lambda url: re.sub(r"//[^@]*@", "//nobody@", url), "Is DATABASE_URL right"),
        (lambda url: f"{url}?target_session_attrs=standby", "target_session_attrs.*Is DATABASE_URL right"),
        (lambda url: f"{url}?options=-c%20work_mem%3Dmuch", "work_mem"),
    ],
)
def test_a_url_that_leads_to_no_such_database_is_told_so(
    wrong: Callable[[str], str], next_step: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refusal(Settings(database_url=wrong(database_url)))
    assert re.search(next_step, told)
    assert "migrate" not in told
    # A command says the same.
    monkeypatch.setenv("DATABASE_URL", wrong(database_url))
    with pytest.raises(Failed) as failed:
        asyncio.run(Commanded().do("admin", lambda _: asyncio.sleep(0)))
    assert re.search(next_step, failed.value.format_message(), re.DOTALL)


def test_a_role_that_is_missing_is_made_by_migrating(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(self: Connections, pool: str) -> dict[str, Any]:
        arguments = of_role(self, pool)
        arguments["server_settings"]["role"] = "segmentation_nobody"
        return arguments

    of_role = Connections.connect_arguments
    monkeypatch.setattr(Connections, "connect_arguments", asked)
    assert "python -m service migrate" in refusal(Settings(database_url=database_url))


def is_too_old(db: Database) -> None:
    """Make it a database that has not had the version of this service."""
    db.rows("delete from segmentation.deploys")
    db.rows(
        "insert into segmentation.deploys (digest, version) values ('0123456789ab', '1.0.0 (0123456789ab)')"
    )


def test_a_database_of_an_earlier_version_is_refused_and_not_ready(
    service: Service, database_url: str, db: Database
) -> None:
    db.rows("call sweep()")
    is_too_old(db)
    assert "python -m service.migrate" in refusal(Settings(database_url=database_url))
    problem = service.with_key(None).is_refused("GET", "/health/ready", 503, "not_ready")
    (part,) = [part for part in problem["parts"] if not part["ok"]]
    assert part["item"] == "schema version"
    assert digest() in part["hint"]


def test_a_database_of_1_0_0_is_refused_and_not_ready(
    service: Service, database_url: str, db: Database
) -> None:
    db.rows(
        "drop function service_status; create function service_status() "
        "returns table (item text, ok boolean, value text, hint text) language sql as $$ select 'x', true, '', '' $$; "
        "grant execute on function service_status to segmentation_reader"
    )
    assert "python -m service migrate" in refusal(Settings(database_url=database_url))
    problem = service.with_key(None).is_refused("GET", "/health/ready", 503, "not_ready")
    assert problem["parts"][0]["item"] == "schema version"


def test_a_database_of_a_later_version_is_served_from(
    service: Service, database_url: str, db: Database
) -> None:
    """So the old service goes on while the new one is deployed."""
    db.rows("call sweep()")
    db.rows(
        "insert into segmentation.deploys (digest, version) values ('0123456789ab', '9.0.0 (0123456789ab)')"
    )
    asyncio.run(check_database(Settings(database_url=database_url)))
    assert service.with_key(None).get("/health/ready", Ready)


def test_a_database_that_is_away_is_refused(serve: Callable[..., Service]) -> None:
    assert "DATABASE_URL" in refusal(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
