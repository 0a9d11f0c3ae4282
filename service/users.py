"""Which segments a user is in, why, since when; and changes of that."""

from typing import Annotated

from litestar import delete, get, patch, post, put
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter

from service.docs.openapi import problems
from service.http.answers import Json
from service.http.bodies import ApiRequest
from service.http.idempotency import idempotent
from service.http.parameters import Digits, Moment
from service.schemas import (
    PAGE,
    At,
    EndingSoon,
    Explanation,
    ReasonInQuery,
    SlugInPath,
    UserChange,
    UserChanged,
    UserHistory,
    UserId,
    UserIds,
    UserOverrides,
    UserSegments,
    UsersSegments,
)

ADD = Example(
    summary="In for a week",
    value={"add": ["AVITO_VOICE_MESSAGES"], "ttl_seconds": 604800, "reason": "asked for it"},
)
REMOVE = Example(summary="Out again", value={"remove": ["AVITO_VOICE_MESSAGES"], "reason": "ticket 17"})
THREE = Example(summary="Three users", value={"user_ids": [1000, 1002, 1004]})


@get(
    "/v1/users/{user_id:str}/segments",
    operation_id="getUserSegments",
    summary="Segments of a user",
    description="Sorted by slug. A user never seen before is in what the rollouts give. Role: reader.",
    tags=["Users"],
)
async def get_user_segments(request: ApiRequest, user_id: UserId, at: At = None) -> Json[UserSegments]:
    """Answer the hot read; another moment than now is a call of its own."""
    if at is None:
        return Json(await request.app.state.reads.read(user_id))
    return Json(await request.auth.call("http_user_segments", user_id=user_id, at=at))


@patch(
    "/v1/users/{user_id:str}/segments",
    operation_id="changeUserSegments",
    summary="Put a user into segments, take a user out",
    description=(
        "All or nothing, and only what is named changes. Adding a segment again gives it the new end. Removing a "
        "user who is in by percentage excludes the user until added again. Role: editor."
    ),
    tags=["Users"],
)
@idempotent()
async def change_user_segments(
    request: ApiRequest, user_id: UserId, data: Annotated[UserChange, Body(examples=[ADD, REMOVE])]
) -> Json[UserChanged]:
    """Change a user's segments."""
    return Json(
        await request.auth.change(
            "http_change_user_segments",
            user_id=user_id,
            add=data.add,
            remove=data.remove,
            expires_at=data.expires_at,
            ttl_seconds=data.ttl_seconds,
            starts_at=data.starts_at,
            reason=data.reason,
        )
    )


@get(
    "/v1/users/{user_id:str}/segments/{slug:str}",
    operation_id="explainMembership",
    summary="Why a user is in a segment, or not",
    description="By what, since when and until when, who did it and why. Role: reader.",
    tags=["Users"],
)
async def explain_membership(
    request: ApiRequest, user_id: UserId, slug: SlugInPath, at: At = None
) -> Json[Explanation]:
    """Explain one membership."""
    return Json(await request.auth.call("http_explain_membership", user_id=user_id, slug=slug, at=at))


@get(
    "/v1/users/{user_id:str}/overrides",
    operation_id="getUserOverrides",
    summary="What was set by hand for a user",
    description="Assignments and exclusions, live and planned, each with its own end, whatever rollouts say. Role: reader.",
    tags=["Users"],
)
async def get_user_overrides(request: ApiRequest, user_id: UserId) -> Json[UserOverrides]:
    """List a user's overrides."""
    return Json(await request.auth.call("http_user_overrides", user_id=user_id))


@get(
    "/v1/ending-soon",
    operation_id="listEndingSoon",
    summary="What was set by hand and ends soon",
    description="Assignments and exclusions of all segments or of one, the first to end first. Role: reader.",
    tags=["Users"],
)
async def list_ending_soon(
    request: ApiRequest,
    within: Annotated[
        str,
        QueryParameter(
            description="ISO 8601 duration from now on: P7D is seven days, PT1H an hour",
            examples=[Example(value="P30D")],
        ),
    ] = "P7D",
    slug: Annotated[str | None, QueryParameter(description="Only of this segment")] = None,
    limit: Annotated[Digits, QueryParameter(description="At most so many: 1 to 10000")] = PAGE,
) -> Json[EndingSoon]:
    """List what ends soon."""
    return Json(await request.auth.call_heavy("http_ending_soon", within=within, slug=slug, max_rows=limit))


@get(
    "/v1/users/{user_id:str}/history",
    operation_id="getUserHistory",
    summary="When and why a user got in and out",
    description="Every effective change, by time, rollouts included. Role: reader.",
    tags=["Users"],
)
async def get_user_history(
    request: ApiRequest,
    user_id: UserId,
    from_time: Annotated[
        Moment | None, QueryParameter(name="from", description="From this time on (RFC 3339)")
    ] = None,
    to_time: Annotated[
        Moment | None, QueryParameter(name="to", description="Up to, not at, this time")
    ] = None,
) -> Json[UserHistory]:
    """Tell a user's history."""
    return Json(
        await request.auth.call_heavy(
            "http_user_history", user_id=user_id, from_time=from_time, to_time=to_time
        )
    )


@post(
    "/v1/users/segments",
    operation_id="getUsersSegments",
    summary="Segments of many users",
    description="At most 10,000 users, answered in the order asked for. Role: reader.",
    tags=["Users"],
    status_code=200,
)
async def get_users_segments(
    request: ApiRequest, data: Annotated[UserIds, Body(examples=[THREE])]
) -> Json[UsersSegments]:
    """Answer the hot read for many users at once."""
    return Json(await request.auth.call("http_users_segments", user_ids=data.user_ids))


@put(
    "/v1/users/{user_id:str}",
    operation_id="registerUser",
    summary="Make a user known",
    description="Reading or changing a user does the same. Repeating it changes nothing. Role: editor.",
    tags=["Users"],
    status_code=204,
)
@idempotent()
async def register_user(request: ApiRequest, user_id: UserId) -> None:
    """Register a user."""
    await request.auth.call("register_users", user_ids=[user_id])


@delete(
    "/v1/users/{user_id:str}",
    operation_id="forgetUser",
    summary="Forget a user",
    description="Erases the user and the user's whole past, for good. Role: admin.",
    tags=["Deletion"],
    responses=problems(404),
)
@idempotent()
async def forget_user(request: ApiRequest, user_id: UserId, reason: ReasonInQuery = None) -> None:
    """Erase a user."""
    await request.auth.change("forget_user", user_id=user_id, reason=reason)


HANDLERS = [
    get_user_segments,
    change_user_segments,
    explain_membership,
    get_user_overrides,
    list_ending_soon,
    get_user_history,
    get_users_segments,
    register_user,
    forget_user,
]
