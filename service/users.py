"""Which segments a user is in, why, since when; and changes of that."""

from typing import Annotated

from litestar import delete, get, patch, post, put
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter
from msgspec.structs import asdict

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


@get("/v1/users/{user_id:str}/segments")
async def get_user_segments(request: ApiRequest, user_id: UserId, at: At = None) -> Json[UserSegments]:
    """Segments of a user.

    Sorted by slug. A user never seen before is in what the rollouts give. With `at`, a reader's key is needed.
    Role: evaluator.
    """
    if at is None:
        return Json(await request.app.state.reads.read(user_id))
    return Json(await request.auth.call("http_user_segments", user_id=user_id, at=at))


@patch("/v1/users/{user_id:str}/segments")
@idempotent()
async def change_user_segments(
    request: ApiRequest, user_id: UserId, data: Annotated[UserChange, Body(examples=[ADD, REMOVE])]
) -> Json[UserChanged]:
    """Put a user into segments, take a user out.

    All or nothing, and only what is named changes. Adding a segment again gives it the new end. Removing a user
    who is in by percentage excludes the user until added again. Role: editor.
    """
    return Json(await request.auth.change("http_change_user_segments", user_id=user_id, **asdict(data)))


@get("/v1/users/{user_id:str}/segments/{slug:str}")
async def explain_membership(
    request: ApiRequest, user_id: UserId, slug: SlugInPath, at: At = None
) -> Json[Explanation]:
    """Why a user is in a segment, or not.

    By what, since when and until when, who did it and why. Role: reader.
    """
    return Json(await request.auth.call("http_explain_membership", user_id=user_id, slug=slug, at=at))


@get("/v1/users/{user_id:str}/overrides")
async def get_user_overrides(request: ApiRequest, user_id: UserId) -> Json[UserOverrides]:
    """What was set by hand for a user.

    Assignments and exclusions, live and planned, each with its own end, whatever rollouts say. Role: reader.
    """
    return Json(await request.auth.call("http_user_overrides", user_id=user_id))


@get("/v1/ending-soon", responses=problems(404))
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
    """What was set by hand and ends soon.

    Assignments and exclusions of all segments or of one, the first to end first. Role: reader.
    """
    return Json(await request.auth.call_heavy("http_ending_soon", within=within, slug=slug, max_rows=limit))


@get("/v1/users/{user_id:str}/history")
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
    """When and why a user got in and out.

    Every effective change, by time, rollouts included. Role: reader.
    """
    return Json(
        await request.auth.call_heavy(
            "http_user_history", user_id=user_id, from_time=from_time, to_time=to_time
        )
    )


@post(
    "/v1/users/segments",
    status_code=200,
)
async def get_users_segments(
    request: ApiRequest, data: Annotated[UserIds, Body(examples=[THREE])]
) -> Json[UsersSegments]:
    """Segments of many users.

    At most 10,000 users, answered in the order asked for. Role: reader.
    """
    return Json(await request.auth.call("http_users_segments", user_ids=data.user_ids))


@put(
    "/v1/users/{user_id:str}",
    status_code=204,
)
@idempotent()
async def register_user(request: ApiRequest, user_id: UserId) -> None:
    """Make a user known.

    Reading or changing a user does the same. Repeating it changes nothing. Role: editor.
    """
    await request.auth.call("register_users", user_ids=[user_id])


@delete(
    "/v1/users/{user_id:str}",
    tags=["Deletion"],
    responses=problems(404),
)
@idempotent()
async def forget_user(request: ApiRequest, user_id: UserId, reason: ReasonInQuery = None) -> None:
    """Forget a user.

    Erases the user and the user's whole past, for good. Role: admin.
    """
    await request.auth.change("forget_user", user_id=user_id, reason=reason)
