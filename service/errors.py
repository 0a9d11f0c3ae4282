"""The table that maps SQLSTATEs to HTTP statuses, and every error as application/problem+json (RFC 9457)."""

import logging
import re
from typing import Any, NamedTuple

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from service.database import CONNECTION_LOST
from service.http.problems import Problem, malformed_at

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"


class Kind(NamedTuple):
    """A kind of error: what a client branches on, which SQLSTATEs mean it, and what /docs/errors says of it."""

    status: int
    code: str
    sqlstates: str
    title: str
    advice: str


# fmt: off
KINDS = [Kind(*row) for row in (
    (400, "malformed_request", "", "The request is malformed",
        "The body is not JSON, or a member or parameter is not what its schema says; errors lists each place."),
    (401, "unauthorized", "", "A valid API key is needed",
        "Send the header Authorization: Bearer KEY, with a key that is neither revoked nor expired."),
    (403, "forbidden", "42501", "The key's role may not do this",
        "PostgreSQL refused the call to the role of this key. An evaluator asks what one user is in right now, a reader"
        " asks anything, an editor also changes users, an admin also changes segments and erases users."),
    (404, "not_found", "P0002", "There is no such thing",
        "What the path names does not exist, or no longer. Slugs are case-sensitive."),
    (404, "route_not_found", "", "There is no such path", "See /docs for the paths there are."),
    (405, "method_not_allowed", "", "The path has no such method",
        "The header Allow lists the methods there are."),
    (409, "already_exists", "23505", "It exists already",
        "The name is taken: choose another, or use what is there."),
    (409, "in_progress", "55006", "The same request is still running",
        "A request with this Idempotency-Key has not ended yet: send it again in a moment to get its answer."),
    (413, "payload_too_large", "54", "The body is too large",
        "Send less at a time: the service sets a limit."),
    (415, "unsupported_media_type", "", "The body has the wrong type",
        "Send the type that /docs names for this call."),
    (422, "invalid_value", "22 23514", "A value is not possible",
        "The request was understood, but a value in it cannot be. Nothing was changed."),
    (422, "unknown_segments", "23503", "Segments do not exist",
        "unknown_segments names them. Nothing was changed; create them first, or leave them out."),
    (422, "unknown_layer", "", "The layer does not exist",
        "layer names it. Nothing was changed; create it first, or correct the slug."),
    (422, "layer_full", "", "The layer does not have that much free",
        "free_percent says how much of the layer the segment can have, held who has the rest, planned steps included."
        " Nothing was changed: ask for less, or lower what the others hold first."),
    (422, "exclusive_segments", "", "Assigned to another segment of the layer",
        "exclusive_segments names the segments that exclude the added one. users says how many users are concerned, and"
        " user_ids names ten of them at most. Nothing was changed: remove the assignment in the same call, or leave"
        " these users out."),
    (422, "impossible_now", "55000", "Not possible as things stand",
        "The present state does not allow this change: detail and hint say why, and what to do first."),
    (422, "too_many_removed", "", "More users would be removed than allowed",
        "removed says how many, max_removed how many may be. Nothing was changed: send the whole list, or allow more."),
    (422, "idempotency_key_reused", "", "The Idempotency-Key belongs to another request",
        "It was used with another method, path, query or body within a day. Nothing was changed: take a new key."),
    (429, "rate_limited", "", "Too many requests",
        "This API key has sent as many as it may in a minute: wait as many seconds as Retry-After says."),
    (500, "internal_error", "", "The service failed",
        "A fault of the service; its log says more. Nothing was changed."),
    (503, "conflict_retry", "40001 40P01 23P01", "Another change came in between",
        "It was tried twice, and broken off both times. Nothing was changed: send it again."),
    (503, "busy", "55P03", "Locked for too long",
        "Something else is changing the same rows. Nothing was changed: send it again."),
    (503, "read_only", "25006", "The database is read-only now",
        "The service reads from a standby: changes have to wait."),
    (503, "database_unavailable", "25P03 08 28 3D 53 57P", "The database does not answer",
        "It is away, or all connections were in use for too long. Send it again later."),
    (503, "disk_full", "53100", "The database's disk is full",
        "Nothing was changed. Make room on the server of PostgreSQL; reads go on."),
    (503, "not_ready", "", "The service is not ready", "parts lists what is missing, and what to do."),
    (504, "statement_timeout", "57014", "The call took too long",
        "PostgreSQL stopped it; nothing was changed. Ask for less."),
)]
# fmt: on

BY_CODE = {kind.code: kind for kind in KINDS}
BY_SQLSTATE = {sqlstate: kind for kind in KINDS for sqlstate in kind.sqlstates.split()}
# Errors of Litestar, before a handler is called.
BY_STATUS = {
    400: "malformed_request",
    404: "route_not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
}
MISSING = re.compile(r"Missing required \w+ parameter '([^']+)'")


def code_of(sqlstate: str | None) -> str:
    """The code of an SQLSTATE: looked up whole, then by its first three characters, then by its class."""
    for length in (5, 3, 2):
        if kind := BY_SQLSTATE.get((sqlstate or "")[:length]):
            return kind.code
    return "internal_error"


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer any error."""
    problem = problem_of(request, error)
    kind = BY_CODE[problem.code]
    # The route, not the path: a path may hold a secret or a line break.
    where = f"{request.method} {request.scope.get('path_template')}"
    if kind.status == 500:
        if context := getattr(error, "context", None):
            # Where it happened in SQL, which PostgreSQL's own log leaves out.
            error.add_note(f"CONTEXT: {context}")
        log.error("%s failed", where, exc_info=error)
    elif kind.status > 500:
        log.warning("%s: %s: %s", where, kind.code, error.__cause__ or error)
    standard = problem_body(kind, problem.detail) | ({"hint": problem.hint} if problem.hint else {})
    standard["type"] = f"{request.scope.get('app_root_path', '')}{standard['type']}"
    return Response(
        msgspec.json.encode({**standard, **problem.members, **standard}),
        status_code=kind.status,
        headers=problem_headers(kind) | problem.headers,
        media_type=PROBLEM_JSON,
    )


def problem_headers(kind: Kind) -> dict[str, str]:
    """The headers that every problem of a kind has, beside its type."""
    passes_soon = kind.status == 503 or kind.code == "in_progress"
    return {"Cache-Control": "no-store", **({"Retry-After": "1"} if passes_soon else {})}


def problem_body(kind: Kind, detail: str) -> dict[str, Any]:
    """The members that every problem has; its type opens in a browser, wherever the service runs."""
    return {
        "type": f"/docs/errors#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
    }


def problem_of(request: Request[Any, Any, Any], error: Exception) -> Problem:
    """Any error as a problem."""
    match error:
        case Problem():
            return error
        case asyncpg.PostgresError():
            return _of_postgresql(request, error)
        case _ if isinstance(error, CONNECTION_LOST):
            return Problem("database_unavailable", "The connection to the database was lost.")
        case HTTPException(status_code=status) if status in BY_STATUS:
            return _of_litestar(request, error)
        case _:
            return Problem("internal_error", "The service failed to answer this request.")


def _of_postgresql(request: Request[Any, Any, Any], error: asyncpg.PostgresError) -> Problem:
    members = _json_object(error.detail)
    code = code_of(error.sqlstate)
    if code in ("internal_error", "database_unavailable"):
        return Problem(code, f"{BY_CODE[code].title}.")
    if code == "forbidden":
        caller = request.auth
        # Some calls may be made by fewer roles with a parameter than without.
        call = f"{request.scope['path_template']}?{'&'.join(f'{name}=' for name in request.query_params)}"
        return Problem(
            code,
            f"The API key {caller.name} has the role {caller.role}, which may not"
            f" {request.method} {call.removesuffix('?')}.",
            hint="Use a key with a higher role: evaluator < reader < editor < admin.",
            role=caller.role,
        )
    # DETAIL may name a kind of its own.
    named = members.pop("code", code)
    return Problem(named if named in BY_CODE else code, str(error.args[0]), hint=error.hint, **members)


def _json_object(text: str | None) -> dict[str, Any]:
    """What the functions of this schema say in DETAIL; PostgreSQL's own DETAIL is prose, and stays here."""
    try:
        return msgspec.json.decode(text or "", type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _of_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Problem:
    kind = BY_CODE[BY_STATUS[error.status_code]]
    # Litestar's own message names Python classes.
    detail = f"{kind.title}: {request.method} {request.url.path}."
    if kind.status == 413:
        limit = request.route_handler.resolve_request_max_body_size()
        return Problem(kind.code, detail, hint=f"Send at most {limit} bytes at a time.", at_most=limit)
    if kind.status != 400:
        return Problem(kind.code, detail, headers=error.headers, hint=kind.advice)
    if missing := MISSING.match(error.detail):
        return malformed_at([{"detail": "It is missing", "parameter": missing[1]}])
    wrong = error.extra if isinstance(error.extra, list) else []
    return malformed_at(
        [
            # ApiRequest reads bodies. All that Litestar can find is that there is none.
            {"detail": "A JSON body is missing", "pointer": "#"}
            if place.get("source") == "body"
            else {"detail": place["message"], "parameter": _name_of_parameter(request, place["key"])}
            for place in wrong
        ]
        or [{"detail": error.detail}]
    )


def _name_of_parameter(request: Request[Any, Any, Any], key: str) -> str:
    """The name in the URL; it may be a keyword of Python, such as from."""
    field = request.route_handler.parsed_fn_signature.parameters.get(key)
    return getattr(field and field.kwarg_definition, "name", None) or key
