"""Health and metrics, and the check of the database before the service starts."""

import logging
from typing import Any

import asyncpg
import msgspec
from litestar import Response, get
from litestar.datastructures import State
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example

from service import __version__, versions
from service.database import (
    CANNOT_CONNECT,
    CONNECTION_LOST,
    NEXT_STEP,
    STATUS,
    Database,
    connect,
    why_unconnected,
)
from service.docs.openapi import problems
from service.http.answers import Json
from service.http.auth import OPEN
from service.http.bodies import ApiRequest
from service.http.metrics import Gauges, exposition
from service.http.problems import Problem
from service.schemas import Live, Ready
from service.settings import Settings
from service.urls import for_asyncpg

log = logging.getLogger(__name__)

READY = "select missing, parts, status from segmentation.http_service_status($1)"
SERVICE_METRICS = "select metric, help, value from segmentation.service_metrics()"
EXAMPLE = """\
litestar_requests_total{app_name="segmentation",method="GET",path="/v1/users/{user_id}/segments",status_code="200"} 42.0
segmentation_sweep_lag_seconds 0.0
"""
# Read once: the files of a running service may be replaced by those of the next.
NEEDED = versions.digest()
ASSERT_BUCKETS = "select segmentation.assert_bucket_vectors()"


class NotFit(Exception):
    """The service must not start; the message says why and what to do."""


@get("/health/live", **OPEN)
async def get_live() -> Json[Live]:
    """Does the process answer?

    It does, also while the database is away.
    """
    return Json('{"status":"live"}')


@get(
    "/health/ready",
    **OPEN,
    responses=problems(503),
)
async def get_ready(state: State) -> Json[Ready]:
    """Is everything in place?

    The database answers, migrations are applied, rollouts deal as ever, the sweep ran lately. Of a router, `degraded` says
    that a shard is not in order: `parts` names it, and the users of all others are served.
    """
    database: Database = state.database
    try:
        ((missing, parts, status),) = await database.fetch("keys", READY, NEEDED)
    except (Problem, asyncpg.PostgresError, *CONNECTION_LOST) as error:
        part = _away(error)
        raise Problem("not_ready", f"Not in order: {part['item']}.", parts=[part]) from None
    if missing:
        raise Problem("not_ready", f"Not in order: {missing}.", parts=msgspec.Raw(parts.encode()))
    return Json(f'{{"status":"{status}","parts":{parts}}}')


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


@get(
    "/metrics",
    responses={
        **problems(503),
        200: ResponseSpec(
            str,
            media_type="text/plain",
            description="In the text format of Prometheus",
            generate_examples=False,
            examples=[Example(value=EXAMPLE)],
        ),
    },
)
async def get_metrics(request: ApiRequest, state: State) -> Response[bytes]:
    """Metrics for Prometheus.

    Requests by route, use of the connection pools, shared reads, bytes of transfers, lag of the sweep. While
    the database is away, `segmentation_database_up` is 0, as long as the key is still known. Role: reader.
    """
    database: Database = state.database
    gauges = Gauges()
    for name, pool in database.pools.items():
        for gauge, help_text, number in (
            ("connections", "Open connections of this process", pool.get_size()),
            ("idle_connections", "Those not in use", pool.get_idle_size()),
            ("max_connections", "How many there may be", pool.get_max_size()),
        ):
            gauges.set(f"segmentation_pool_{gauge}", help_text, number, pool=name)
    try:
        rows = await database.fetch(request.auth.role, SERVICE_METRICS)
    except asyncpg.InsufficientPrivilegeError:
        raise
    except (Problem, asyncpg.PostgresError, *CONNECTION_LOST):
        rows = []
    gauges.set("segmentation_build_info", "The release that runs", 1, version=__version__)
    gauges.set("segmentation_database_up", "Whether the database answered just now", bool(rows))
    for name, help_text, value in rows:
        gauges.set(f"segmentation_{name}", help_text, value)
    text, content_type = exposition(gauges)
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


async def check_database(settings: Settings) -> None:
    """Refuse a database that does not answer, has too old a schema, or has other bucket values than the golden vectors."""
    for warning in for_asyncpg(settings.database_url).warnings:
        log.warning("DATABASE_URL: %s", warning)
    try:
        connection = await connect(**Database(settings).connect_arguments("reader"))
        try:
            await connection.execute(ASSERT_BUCKETS)
            (version, *_) = await connection.fetch(STATUS, NEEDED)
            if not version["ok"]:
                raise NotFit(f"the database is at version {version['value']}. {version['hint']}")
        finally:
            await connection.close()
    except (asyncpg.PostgresError, *CANNOT_CONNECT) as error:
        what, next_step = why_unconnected(error)
        raise NotFit(f"{what}. {next_step or ''}".rstrip()) from error
