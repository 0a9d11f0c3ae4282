"""Who is in a segment: listed, exported as CSV, and changed by uploading CSV."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from litestar import get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import HeaderParameter, QueryParameter

from service.docs.openapi import csv_rows
from service.http.answers import Csv, Json
from service.http.bodies import ApiRequest
from service.http.connections import while_connected
from service.http.idempotency import idempotent
from service.http.negotiation import GZIP, preferred_type
from service.http.parameters import Digits, Moment
from service.http.problems import Problem
from service.http.transfers import is_zipped
from service.schemas import NO_ID, PAGE, At, Imported, Members, ReasonInQuery, SlugInPath
from service.uploads import copy_in

LINES = Example(summary="User ids", value="user_id\n1000\n1002\n")


@dataclass
class CsvBody(Operation):
    """A call whose body is CSV. The handler reads it as a stream, so Litestar does not know it, and it is described here."""

    def __post_init__(self) -> None:
        """Describe the body."""
        self.request_body = RequestBody(content={"text/csv": _csv()}, required=True)


@dataclass
class CsvAnswer(Operation):
    """A call that answers CSV as well."""

    def __post_init__(self) -> None:
        """Describe that answer beside the JSON."""
        answer = (self.responses or {})["200"]
        if isinstance(answer, OpenAPIResponse) and answer.content:
            answer.content["text/csv"] = _csv()


def _csv() -> OpenAPIMediaType:
    return OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING), examples={"ids": LINES})


@post(
    "/v1/segments/{slug:str}/members",
    status_code=200,
    request_max_body_size=None,
    operation_class=CsvBody,
)
@idempotent(upload=True)
async def import_members(
    request: ApiRequest,
    slug: SlugInPath,
    operation: Annotated[
        str,
        QueryParameter(
            description="What to do with them", schema_extra={"enum": ["add", "remove", "replace"]}
        ),
    ] = "add",
    expires_at: Annotated[Moment | None, QueryParameter(description="When they end; none: never")] = None,
    ttl_seconds: Annotated[
        Digits | None,
        QueryParameter(description="Instead of expires_at: they end after so many seconds, at least 1"),
    ] = None,
    starts_at: Annotated[Moment | None, QueryParameter(description="When they start; none: now")] = None,
    reason: ReasonInQuery = None,
    max_removed: Annotated[
        Digits | None, QueryParameter(description="Change nothing if more would be removed; none: any number")
    ] = None,
    dry_run: Annotated[
        bool, QueryParameter(description="Count what would change, and change nothing")
    ] = False,
    all_actors: Annotated[
        bool, QueryParameter(description="For replace: the list takes the place of what everybody assigned")
    ] = False,
) -> Json[Imported]:
    """Add or remove many users, or replace the list of them.

    The body is `text/csv`, one user id a line, of any length; a header line `user_id` and gzip
    (`Content-Encoding`) are fine. All or nothing: a bad line is named by its number. Duplicates and users who
    need no change count as unchanged. With `operation=replace` the list is all whom this key has assigned in
    the segment: who is missing is no longer assigned, who is new is added, who stays is not touched. What
    others assigned, exclusions and rollouts stay. An empty list, or more removals than `max_removed`, is
    refused (`too_many_removed`). Role: editor.
    """
    if request.content_type[0] != "text/csv":
        raise Problem(
            "unsupported_media_type",
            f"The body has the type {request.content_type[0] or 'unknown'}.",
            hint="Send one user id a line and say Content-Type: text/csv.",
        )
    zipped = is_zipped(request.headers.get("content-encoding", "identity"))
    limits = request.app.state.limits
    change: dict[str, Any] = {
        "slug": slug,
        "operation": operation,
        "expires_at": expires_at,
        "ttl_seconds": ttl_seconds,
        "starts_at": starts_at,
        "reason": reason,
        "max_removed": max_removed,
        "all_actors": all_actors,
    }
    async with request.auth.transaction("bulk") as caller:
        # Refuses what can be refused before the body comes.
        await caller.change("http_begin_import", **change)
        await copy_in(caller.connection, request.upload(), is_zipped=zipped, limits=limits)
        finish = caller.change("http_finish_import", **change, dry_run=dry_run)
        return Json(await while_connected(request.receive, finish))


@get(
    "/v1/segments/{slug:str}/members",
    middleware=[GZIP],
    operation_class=CsvAnswer,
    responses={200: ResponseSpec(Members, description="A page", generate_examples=False)},
)
async def list_members(
    request: ApiRequest,
    slug: SlugInPath,
    after: Annotated[Digits, QueryParameter(description="Ids above this one")] = NO_ID,
    limit: Annotated[Digits, QueryParameter(description="At most so many on a page: 1 to 10000")] = PAGE,
    at: At = None,
    accept: Annotated[
        str, HeaderParameter(name="Accept", description="application/json, or text/csv for all ids")
    ] = "application/json",
) -> Any:
    """Members of a segment.

    The known users in a segment, now or at a moment, by id: a page as JSON; or, with `Accept: text/csv`, the
    ids of all of them, streamed, in the form that the import takes. Role: reader.
    """
    page = partial(request.auth.call_heavy, "http_segment_members", slug=slug, at=at, after=after)
    if preferred_type(request, "application/json", "text/csv") == "text/csv":
        copy = partial(
            request.auth.copy,
            "segment_members",
            "user_id",
            {"slug": slug, "at": at, "after": after},
            header=True,
        )
        return Csv(copy, file_name=f"{slug}.csv", check=partial(page, max_rows=1))
    return Json(await page(max_rows=limit))


@get(
    "/v1/segments/{slug:str}/periods",
    middleware=[GZIP],
    responses=csv_rows("1000;rollout;2026-11-20T12:00:00.000000Z;2026-11-24T09:30:00.000000Z\n"),
)
async def list_periods(
    request: ApiRequest,
    slug: SlugInPath,
    from_time: Annotated[
        Moment | None,
        QueryParameter(
            name="from",
            description="Stays that go on after this moment (RFC 3339); none: all that are kept",
            examples=[Example(value="2026-11-01T00:00:00Z")],
        ),
    ] = None,
    to_time: Annotated[
        Moment | None, QueryParameter(name="to", description="Stays that began before this moment; none: now")
    ] = None,
) -> Csv:
    """Stays in a segment.

    `user_id;source;since;until` by user and time: every stay of every known user that overlaps the window, rollout members
    included; `until` is empty where no end is known. Streamed, for joins with events of your own. Role: editor.
    """
    window = {"slug": slug, "from_time": from_time, "to_time": to_time}
    copy = partial(request.auth.copy, "period_rows", "*", window, delimiter=";")
    check = partial(request.auth.call, "http_periods_window", **window)
    return Csv(copy, file_name=f"{slug}-periods.csv", check=check)
