"""Segments: what there is, their rollouts, their past, their counts."""

from typing import Annotated

from litestar import delete, get, patch, post, put
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter
from msgspec.structs import asdict

from service.docs.openapi import header
from service.http.answers import Json
from service.http.bodies import ApiRequest
from service.http.idempotency import idempotent
from service.http.parameters import Digits, Moment
from service.schemas import (
    PAGE,
    NewRolloutStep,
    NewSegment,
    ReasonInQuery,
    Rollout,
    Segment,
    SegmentGrowth,
    SegmentHistory,
    Segments,
    SegmentStats,
    SegmentUpdate,
    SlugInPath,
)

NEW = Example(
    summary="For 30 % of all users",
    value={
        "slug": "AVITO_VOICE_MESSAGES",
        "percent": 30,
        "description": "Voice messages in chats",
        "reason": "experiment 17",
    },
)
DESCRIBED = Example(
    summary="What it is now",
    value={"description": "Voice messages in chats and calls", "reason": "calls as well"},
)
PLANNED = Example(
    summary="50 % from the first of next month on",
    value={"percent": 50, "starts_at": "2026-12-01T00:00:00Z", "reason": "if the first 30 % go well"},
)
NOW = Example(summary="50 % now", value={"percent": 50, "reason": "the first 30 % went well"})


@post(
    "/v1/segments",
    response_headers=header("Location", "Path of the new segment"),
)
@idempotent()
async def create_segment(
    request: ApiRequest, data: Annotated[NewSegment, Body(examples=[NEW])]
) -> Json[Segment]:
    """Create a segment.

    Its rollout starts at once, with percent of all users, also of those never seen before. Role: admin.
    """
    text = await request.auth.change("http_create_segment", **asdict(data))
    return Json(text, (b"location", f"/v1/segments/{data.slug}".encode()))


@get("/v1/segments")
async def list_segments(
    request: ApiRequest,
    after: Annotated[str | None, QueryParameter(description="Slugs after this one")] = None,
    limit: Annotated[Digits, QueryParameter(description="At most so many: 1 to 1000")] = PAGE,
    search: Annotated[
        str | None, QueryParameter(description="Only slugs that have this in them, in upper or lower case")
    ] = None,
) -> Json[Segments]:
    """List segments.

    By slug, a page at a time: next_after of one page is after of the next. Role: reader.
    """
    return Json(await request.auth.call("http_list_segments", after=after, max_rows=limit, search=search))


@get("/v1/segments/{slug:str}")
async def get_segment(request: ApiRequest, slug: SlugInPath) -> Json[Segment]:
    """One segment.

    With all steps of its rollout. Role: reader.
    """
    return Json(await request.auth.call("http_get_segment", slug=slug))


@patch("/v1/segments/{slug:str}")
@idempotent()
async def update_segment(
    request: ApiRequest, slug: SlugInPath, data: Annotated[SegmentUpdate, Body(examples=[DESCRIBED])]
) -> Json[Segment]:
    """Describe a segment anew.

    The slug itself never changes. Role: admin.
    """
    return Json(await request.auth.change("http_update_segment", slug=slug, **asdict(data)))


@delete(
    "/v1/segments/{slug:str}",
    tags=["Deletion"],
)
@idempotent()
async def delete_segment(request: ApiRequest, slug: SlugInPath, reason: ReasonInQuery = None) -> None:
    """Delete a segment.

    All its members are out at once; its past stays. The slug may be used again, for a new segment. Role: admin.
    """
    await request.auth.change("delete_segment", slug=slug, reason=reason)


@put("/v1/segments/{slug:str}/rollout")
@idempotent()
async def set_rollout(
    request: ApiRequest, slug: SlugInPath, data: Annotated[NewRolloutStep, Body(examples=[PLANNED, NOW])]
) -> Json[Rollout]:
    """Roll out to a percentage.

    From starts_at on, or now. Raising it only adds users, lowering it only removes the last added. Planned
    steps make a ramp: each holds until the next one starts. Role: admin.
    """
    return Json(await request.auth.change("http_set_rollout", slug=slug, **asdict(data)))


@delete(
    "/v1/segments/{slug:str}/rollout",
    status_code=200,
)
@idempotent()
async def cancel_rollout_step(
    request: ApiRequest,
    slug: SlugInPath,
    starts_at: Annotated[
        Moment,
        QueryParameter(
            description="Start of the step: RFC 3339, such as 2026-12-01T00:00:00Z",
            examples=[Example(value="2026-12-01T00:00:00Z")],
        ),
    ],
    reason: ReasonInQuery = None,
) -> Json[Rollout]:
    """Cancel a planned step of a rollout.

    Only a step that has not begun can be cancelled. Role: admin.
    """
    return Json(
        await request.auth.change("http_cancel_rollout_step", slug=slug, starts_at=starts_at, reason=reason)
    )


@get(
    "/v1/segments/{slug:str}/stats",
    tags=["Members"],
)
async def get_segment_stats(request: ApiRequest, slug: SlugInPath) -> Json[SegmentStats]:
    """Count a segment's members.

    Exact counts over all known users: assigned, excluded, in by percentage, and all members. Role: reader.
    """
    return Json(await request.auth.call_heavy("http_segment_stats", slug=slug))


@get(
    "/v1/segments/{slug:str}/growth",
    tags=["Members"],
)
async def get_segment_growth(
    request: ApiRequest,
    slug: SlugInPath,
    from_time: Annotated[
        Moment | None,
        QueryParameter(
            name="from",
            description="First moment (RFC 3339); none: its creation",
            examples=[Example(value="2026-11-01T00:00:00Z")],
        ),
    ] = None,
    to_time: Annotated[
        Moment | None,
        QueryParameter(
            name="to",
            description="Last moment (RFC 3339); none: now",
            examples=[Example(value="2026-12-01T00:00:00Z")],
        ),
    ] = None,
    step: Annotated[
        str,
        QueryParameter(
            description="ISO 8601 duration: P1D is a day (UTC), PT1H an hour, P1W a week, P1M a month",
            examples=[Example(value="P10D")],
        ),
    ] = "P1D",
) -> Json[SegmentGrowth]:
    """How a segment grew, and a rollout's plan against reality.

    Exact counts at `from` and each step after it, up to `to`: at most 10,000. For a moment in the future it
    counts what is planned for the users known now.

    ![A ramp from 10 to 100 %, with testers put in by hand for three weeks](docs/growth.svg)

    Role: reader.
    """
    return Json(
        await request.auth.call_heavy(
            "http_segment_growth", slug=slug, from_time=from_time, to_time=to_time, step=step
        )
    )


@get("/v1/segments/{slug:str}/history")
async def get_segment_history(request: ApiRequest, slug: SlugInPath) -> Json[SegmentHistory]:
    """What was done to a segment.

    Created, described, rolled out, deleted: by whom and why; earlier segments of this slug included. Role: reader.
    """
    return Json(await request.auth.call_heavy("http_segment_history", slug=slug))
