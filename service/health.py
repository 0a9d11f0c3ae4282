"""Whether the process lives and whether the service is ready; and the check before it serves at all."""

import logging
from typing import Any

import asyncpg
import msgspec
from litestar import get
from litestar.datastructures import State

from service.database import STATUS, Database
from service.docs.openapi import problems
from service.errors import CANNOT_CONNECT, CONNECTION_LOST, NEXT_STEP, NOT_READY, Problem
from service.http.answers import Json
from service.schemas import Live, Ready
from service.settings import Settings

log = logging.getLogger(__name__)

ASSERT_BUCKETS = "select segmentation.assert_bucket_vectors()"


class NotFit(Exception):
    """The service must not start; the message says why and what to do."""


@get(
    "/health/live",
    operation_id="getLive",
    summary="Does the process answer?",
    description="It does, also while the database is away.",
    tags=["Health"],
    security=[{}],
)
async def live() -> Json[Live]:
    """Answer."""
    return Json('{"status":"live"}')


@get(
    "/health/ready",
    operation_id="getReady",
    summary="Is everything in place?",
    description="The database answers, migrations are applied, rollouts deal as ever, the sweep ran lately.",
    tags=["Health"],
    security=[{}],
    responses=problems(503),
)
async def ready(state: State) -> Json[Ready]:
    """Look at every part."""
    database: Database = state.database
    try:
        rows = await database.fetch("reader", STATUS)
    except (Problem, asyncpg.PostgresError, *CONNECTION_LOST) as error:
        parts = [_away(error)]
    else:
        parts = [{"item": "database", "ok": True, "value": "answers", "hint": None}, *map(dict, rows)]
    missing = [part["item"] for part in parts if not part["ok"]]
    if missing:
        raise Problem(NOT_READY, f"Not in order: {', '.join(missing)}.", parts=parts)
    return Json(msgspec.json.encode({"status": "ready", "parts": parts}).decode())


def _away(error: Exception) -> dict[str, Any]:
    """The part that is missing when nothing can be asked: the database itself, or what is to be in it."""
    log.warning("not ready: %s", error.__cause__ or error)
    if isinstance(error, asyncpg.SyntaxOrAccessError | asyncpg.InvalidSchemaNameError):
        return {"item": "schema version", "ok": False, "value": None, "hint": NEXT_STEP}
    return {
        "item": "database",
        "ok": False,
        "value": error.detail if isinstance(error, Problem) else "The connection was lost.",
        "hint": "Is PostgreSQL running, and does DATABASE_URL still lead to it?",
    }


async def check_database(settings: Settings) -> None:
    """Refuse a database that does not answer, is not migrated, or would deal users of rollouts anew."""
    try:
        connection = await asyncpg.connect(**Database(settings).connect_arguments("reader"))
        try:
            await connection.execute(ASSERT_BUCKETS)
        finally:
            await connection.close()
    except asyncpg.PostgresError as error:
        raise NotFit(f"{error.args[0]}. {error.hint or NEXT_STEP}") from error
    except CANNOT_CONNECT as error:
        raise NotFit(f"the database does not answer: {error}. Is DATABASE_URL right?") from error


HANDLERS = [live, ready]
