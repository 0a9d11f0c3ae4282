"""The OpenFeature Remote Evaluation Protocol (OFREP 0.3): segments and layers as flags, a user as targeting key."""

import hashlib
from typing import Annotated, Any

from litestar import Request, Response, post
from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Body, HeaderParameter, PathParameter
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import UnsetType

from service.docs.openapi import header
from service.errors import answer_problem, problem_of
from service.http.answers import Json
from service.http.bodies import ApiRequest
from service.http.files import is_matched
from service.http.problems import Problem
from service.schemas import Evaluation, EvaluationContext, EvaluationOfMany, Flag, FlagFailure, Flags

USER = Example(summary="A user", value={"context": {"targetingKey": "1000"}})
USER_AND_FLAGS = Example(
    summary="A user, and only these flags",
    value={"context": {"targetingKey": "1000", "flags": ["AVITO_VOICE_MESSAGES"]}},
)
NO_USER_ID = "targetingKey is missing: it is the id of a user"
NOT_A_USER_ID = (
    "targetingKey is the id of a user: a whole number from 1 to 9223372036854775807, as digits or a number"
)


def failures(codes: dict[int, str]) -> dict[int, ResponseSpec]:
    """The errors that a call may answer, with the values of errorCode, for the documentation."""
    return {
        status: ResponseSpec(FlagFailure, description=text, generate_examples=False)
        for status, text in codes.items()
    }


FAILURES = failures(
    {
        400: "PARSE_ERROR, TARGETING_KEY_MISSING, INVALID_CONTEXT, GENERAL",
        429: "GENERAL; with Retry-After",
        500: "GENERAL; with Retry-After if it passes by itself",
    }
)


def _user_id(context: EvaluationContext) -> int:
    if isinstance(context.targeting_key, UnsetType):
        raise Problem("malformed_request", NO_USER_ID, error_code="TARGETING_KEY_MISSING")
    return int(context.targeting_key)


def answer_failure(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer an error in OFREP's own shape: 400, 404, 429 or 500. 401 and 403 stay as they are."""
    answer = answer_problem(request, error)
    if answer.status_code in (401, 403):
        return answer
    problem = problem_of(request, error)
    key: str | None = request.path_params.get("key")
    # A path may hold a slash, which comes with one in front.
    key = key and str(key).removeprefix("/")
    status = answer.status_code or 500
    code, details = _code_and_details(problem)
    return Response(
        {
            **({} if key is None else {"key": key}),
            "errorCode": code,
            "errorDetails": details,
        },
        status_code=status if status in (404, 429) else 400 if status < 500 else 500,
        headers=answer.headers,
        media_type="application/json",
    )


def _code_and_details(problem: Problem) -> tuple[str, str]:
    pointer = problem.members.get("errors", [{}])[0].get("pointer", "")
    match problem.code:
        case _ if "error_code" in problem.members:
            return problem.members["error_code"], problem.detail
        case "not_found":
            return "FLAG_NOT_FOUND", problem.detail
        case "invalid_value":
            return "INVALID_CONTEXT", problem.detail
        case "malformed_request" if pointer == "#/context/targetingKey":
            return "INVALID_CONTEXT", NOT_A_USER_ID
        case "malformed_request" if pointer.startswith("#/context"):
            return "INVALID_CONTEXT", problem.detail
        case "malformed_request" | "unsupported_media_type":
            return "PARSE_ERROR", problem.detail
        case _:
            return "GENERAL", problem.detail


@post(
    "/ofrep/v1/evaluate/flags/{key:path}",
    status_code=200,
    exception_handlers={Exception: answer_failure},
    responses=FAILURES | failures({404: "FLAG_NOT_FOUND"}),
)
async def evaluate_flag(
    request: ApiRequest,
    key: Annotated[
        str,
        PathParameter(
            description="Slug of the segment, or of the layer",
            examples=[Example(summary="A segment", value="AVITO_VOICE_MESSAGES")],
        ),
    ],
    data: Annotated[Evaluation, Body(examples=[USER])],
) -> Json[Flag]:
    """Is a user in a segment? As a boolean flag; a layer as a string flag.

    What OpenFeature clients on a server call. The value of a layer is the segment of it that the user is in, or
    `off`. `metadata` tells by what, and since and until when the assignment, exclusion or rollout step behind the
    value is in force. Role: evaluator.
    """
    user_id = _user_id(data.context)
    return Json(await request.auth.call("ofrep_flag", user_id=user_id, slug=key.removeprefix("/")))


@post(
    "/ofrep/v1/evaluate/flags",
    status_code=200,
    exception_handlers={Exception: answer_failure},
    response_headers=header("ETag", "Of this very answer"),
    responses=FAILURES
    | {304: ResponseSpec(None, description="As the client has it", generate_examples=False)},
)
async def evaluate_flags(
    request: ApiRequest,
    data: Annotated[EvaluationOfMany, Body(examples=[USER, USER_AND_FLAGS])],
    if_none_match: Annotated[
        str, HeaderParameter(name="If-None-Match", description="The ETag of the answer that the client has")
    ] = "",
) -> Response[Flags]:
    """All segments as boolean flags of a user, all layers as string flags.

    What OpenFeature clients in browsers and apps call. A list `flags` in the context asks for only those. Send
    the `ETag` back as `If-None-Match`: 304 means that nothing has changed. Role: evaluator.
    """
    user_id = _user_id(data.context)
    text = await request.auth.call("ofrep_flags", user_id=user_id, slugs=data.context.flags)
    # Of the answer itself, so that an expiry or a planned step changes it like any other change.
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    if is_matched(etag, if_none_match):
        headers = {"ETag": etag, "Cache-Control": "no-store"}
        return Response(None, status_code=304, headers=headers)  # type: ignore[arg-type]
    return Json(text, (b"etag", etag.encode()))


def cors(origins: str, headers: str) -> CORSConfig | None:
    """What browsers of these origins may do."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=["POST"],
        allow_headers=[
            *("Authorization", "X-API-Key", "Content-Type", "If-None-Match", "X-Request-ID"),
            # A page that is traced sends these with every request.
            *("traceparent", "tracestate", "baggage"),
            *(header.strip() for header in headers.split(",") if header.strip()),
        ],
        expose_headers=["ETag", "Retry-After", "X-Request-ID"],
    )


def cors_for_ofrep_only(with_cors: Any) -> ASGIApp:
    """Let browsers of other origins evaluate flags only: Litestar's middleware lets them call whatever there is."""

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        is_ofrep = scope["type"] == ScopeType.HTTP and scope["path"].startswith("/ofrep/")
        await (with_cors if is_ofrep else with_cors.app)(scope, receive, send)

    return choose
