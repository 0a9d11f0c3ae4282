"""The month as a CSV file: a link is made with a key, and opens without one."""

import hashlib
import re
from functools import partial
from typing import Annotated

from litestar import delete, get, post
from litestar.datastructures import State
from litestar.openapi.spec import Example
from litestar.params import Body, PathParameter, QueryParameter

from service.docs.openapi import csv_rows, problems
from service.http.answers import Csv, Json
from service.http.auth import OPEN
from service.http.bodies import ApiRequest
from service.http.idempotency import idempotent
from service.http.negotiation import GZIP
from service.http.problems import Problem
from service.schemas import NewReport, Report

ALL_USERS = Example(summary="All users", value={"period": "2026-11"})
ONE_USER = Example(summary="One user", value={"period": "2026-11", "user_id": 1000})
LINK = re.compile(r"([0-9a-f]{64})\.csv")
FileName = Annotated[
    str, PathParameter(description="The last part of the link that createReport has made: {id}.csv")
]


@post("/v1/reports")
@idempotent(secret=True)
async def create_report(
    request: ApiRequest,
    data: Annotated[NewReport, Body(examples=[ALL_USERS, ONE_USER])],
) -> Json[Report]:
    """Make a link to a month's report.

    Who got in or out of which segment in a month (UTC), of all users or of one. The link needs no key, cannot
    be guessed and works for a day. Role: editor.
    """
    settings = request.auth.database.settings
    return Json(
        await request.auth.change(
            "http_create_report_link",
            period=data.period,
            user_id=data.user_id,
            base_url=(settings.public_url or str(request.base_url)).rstrip("/"),
        )
    )


@get(
    "/v1/reports/{file_name:str}",
    **OPEN,
    middleware=[GZIP],
    responses=problems(404) | csv_rows("1000;AVITO_VOICE_MESSAGES;add;2026-11-20T12:00:00.000000Z\n"),
)
async def get_report(
    state: State,
    file_name: FileName,
    header: Annotated[bool, QueryParameter(description="Begin with a line of column names")] = False,
) -> Csv:
    """A month's report as CSV.

    `user_id;segment;operation;at` by user, time, segment; streamed as PostgreSQL finds the rows. The link is
    the permission: no key is needed.
    """
    caller, report = await state.database.find_link(_digest(file_name))
    copy = partial(caller.copy, "report_rows", "*", report, delimiter=";", header=header)
    return Csv(copy, file_name=f"report-{report['period']}.csv")


@delete(
    "/v1/reports/{file_name:str}",
    tags=["Deletion"],
    responses=problems(404),
)
@idempotent()
async def revoke_report(request: ApiRequest, file_name: FileName) -> None:
    """End a report's link before its time.

    From then on the link opens nothing. Whoever has a link may end it. Role: editor.
    """
    await request.auth.call("close_report_link", id_digest=_digest(f"{file_name.removesuffix('.csv')}.csv"))


def _digest(file_name: str) -> bytes:
    """What the database knows of a link. What cannot be one costs it nothing."""
    link = LINK.fullmatch(file_name)
    if not link:
        raise Problem(
            "not_found", "This report link is unknown.", hint="Ask for a new one: POST /v1/reports."
        )
    return hashlib.sha256(link[1].encode()).digest()
