"""The one table that says which error is which HTTP answer, and every error as application/problem+json."""

import logging
import re
from typing import Any, NamedTuple

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

log = logging.getLogger(__name__)


# Errors of a connection that is gone. The second is what asyncpg says to a call on a connection that
# PostgreSQL has just ended, before its end is noticed.
CONNECTION_LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# Errors of a connection that cannot be made, be it that the URL leads nowhere or names no address at all.
CANNOT_CONNECT = (asyncpg.InterfaceError, OSError, ValueError, OverflowError)
PROBLEM_JSON = "application/problem+json"
# What to do where something of ours is missing in the database.
NEXT_STEP = "Is it migrated? Run python -m service migrate."


class Kind(NamedTuple):
    """A kind of error: what a client branches on, and what /docs/errors says of it."""

    status: int
    code: str
    title: str
    advice: str


MALFORMED_REQUEST = Kind(
    400,
    "malformed_request",
    "The request is malformed",
    "The body is no JSON, or a member or parameter is not what its schema says; errors lists each place.",
)
UNAUTHORIZED = Kind(
    401,
    "unauthorized",
    "A valid API key is needed",
    "Send the header Authorization: Bearer KEY, with a key that is neither revoked nor expired.",
)
FORBIDDEN = Kind(
    403,
    "forbidden",
    "The key's role may not do this",
    "PostgreSQL refused the call to the role of this key. A reader asks, an editor also changes users, an"
    " admin also changes segments and erases.",
)
NOT_FOUND = Kind(
    404,
    "not_found",
    "There is no such thing",
    "What the path names does not exist, or no longer. Slugs are case-sensitive.",
)
ROUTE_NOT_FOUND = Kind(404, "route_not_found", "There is no such path", "See /docs for the paths there are.")
METHOD_NOT_ALLOWED = Kind(
    405, "method_not_allowed", "The path has no such method", "The header Allow lists the methods there are."
)
ALREADY_EXISTS = Kind(
    409, "already_exists", "It exists already", "The name is taken: choose another, or use what is there."
)
IN_PROGRESS = Kind(
    409,
    "in_progress",
    "The same request is still running",
    "A request with this Idempotency-Key has not ended yet: send it again in a moment to get its answer.",
)
PAYLOAD_TOO_LARGE = Kind(
    413, "payload_too_large", "The body is too large", "Send less at a time: the service sets a limit."
)
UNSUPPORTED_MEDIA_TYPE = Kind(
    415,
    "unsupported_media_type",
    "The body has the wrong type",
    "Send the type that /docs names for this call.",
)
INVALID_VALUE = Kind(
    422,
    "invalid_value",
    "A value is not possible",
    "The request was understood, but a value in it cannot be. Nothing was changed.",
)
UNKNOWN_SEGMENTS = Kind(
    422,
    "unknown_segments",
    "Segments do not exist",
    "unknown_segments names them. Nothing was changed; create them first, or leave them out.",
)
IMPOSSIBLE_NOW = Kind(
    422,
    "impossible_now",
    "Not possible as things stand",
    "The present state does not allow this change: detail and hint say why, and what to do first.",
)
IDEMPOTENCY_KEY_REUSED = Kind(
    422,
    "idempotency_key_reused",
    "The Idempotency-Key belongs to another request",
    "It was used with another method, path or body within a day. Nothing was changed: take a new key.",
)
RATE_LIMITED = Kind(
    429,
    "rate_limited",
    "Too many requests",
    "This API key has sent as many as it may in a minute: wait as many seconds as Retry-After says.",
)
INTERNAL_ERROR = Kind(
    500,
    "internal_error",
    "The service failed",
    "A fault of the service; its log says more. Nothing was changed.",
)
CONFLICT_RETRY = Kind(
    503,
    "conflict_retry",
    "Another change came in between",
    "Twice in a row. Nothing was changed: send it again.",
)
BUSY = Kind(
    503,
    "busy",
    "Locked for too long",
    "Something else is changing the same rows. Nothing was changed: send it again.",
)
READ_ONLY = Kind(
    503,
    "read_only",
    "The database is read-only now",
    "The service reads from a standby: changes have to wait.",
)
DATABASE_UNAVAILABLE = Kind(
    503,
    "database_unavailable",
    "The database does not answer",
    "It is away, or all connections were in use for too long. Send it again later.",
)
NOT_READY = Kind(503, "not_ready", "The service is not ready", "parts lists what is missing, and what to do.")
STATEMENT_TIMEOUT = Kind(
    504,
    "statement_timeout",
    "The call took too long",
    "PostgreSQL stopped it; nothing was changed. Ask for less.",
)

KINDS = [kind for kind in globals().values() if isinstance(kind, Kind)]

# Looked up by the whole SQLSTATE, then by its first three characters, then by its class, the first two.
# What is not here is INTERNAL_ERROR.
BY_SQLSTATE = {
    "P0002": NOT_FOUND,
    "23505": ALREADY_EXISTS,
    "23503": UNKNOWN_SEGMENTS,
    "22": INVALID_VALUE,
    "23514": INVALID_VALUE,
    "55000": IMPOSSIBLE_NOW,
    "42501": FORBIDDEN,
    "40001": CONFLICT_RETRY,
    "40P01": CONFLICT_RETRY,
    "55006": IN_PROGRESS,
    "55P03": BUSY,
    "54": PAYLOAD_TOO_LARGE,
    "57014": STATEMENT_TIMEOUT,
    "25006": READ_ONLY,
    "25P03": DATABASE_UNAVAILABLE,
    "08": DATABASE_UNAVAILABLE,
    "28": DATABASE_UNAVAILABLE,
    "3D": DATABASE_UNAVAILABLE,
    "53": DATABASE_UNAVAILABLE,
    "57P": DATABASE_UNAVAILABLE,
}

# What Litestar refuses before anything is called.
BY_STATUS = {
    400: MALFORMED_REQUEST,
    404: ROUTE_NOT_FOUND,
    405: METHOD_NOT_ALLOWED,
    413: PAYLOAD_TOO_LARGE,
    429: RATE_LIMITED,
}


class Problem(Exception):
    """An error as the client gets to know it."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        """Say what is wrong with this very request; members become members of the body."""
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.hint = hint
        self.headers = headers or {}
        self.members = members


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer an error, whichever it is, with its problem+json."""
    problem = error if isinstance(error, Problem) else _problem_of(request, error)
    kind = problem.kind
    if kind is INTERNAL_ERROR:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    elif kind.status > 500:
        log.warning(
            "%s %s: %s: %s",
            request.method,
            request.scope["path_template"],
            kind.code,
            error.__cause__ or error,
        )
    standard = problem_body(kind, problem.detail) | ({"hint": problem.hint} if problem.hint else {})
    return Response(
        msgspec.json.encode({**standard, **problem.members, **standard}),
        status_code=kind.status,
        headers={**problem_headers(kind), **problem.headers},
        media_type=PROBLEM_JSON,
    )


def problem_headers(kind: Kind) -> dict[str, str]:
    """The headers that every problem of a kind has, beside its type."""
    passes_soon = kind.status == 503 or kind is IN_PROGRESS
    return {"Cache-Control": "no-store", **({"Retry-After": "1"} if passes_soon else {})}


def problem_body(kind: Kind, detail: str) -> dict[str, Any]:
    """The members that every problem has."""
    return {
        # Opens in a browser, wherever the service runs, without any internet.
        "type": f"/docs/errors#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
    }


def _problem_of(request: Request[Any, Any, Any], error: Exception) -> Problem:
    match error:
        case asyncpg.PostgresError():
            return _database_problem(request, error)
        case _ if isinstance(error, CONNECTION_LOST):
            return Problem(DATABASE_UNAVAILABLE, "The connection to the database was lost.")
        case HTTPException(status_code=status) if status in BY_STATUS:
            return _litestar_problem(request, error)
        case _:
            return Problem(INTERNAL_ERROR, "The service failed to answer this request.")


def kind_of_sqlstate(sqlstate: str) -> Kind:
    """Look an SQLSTATE up in the table."""
    for length in (5, 3, 2):
        if kind := BY_SQLSTATE.get(sqlstate[:length]):
            return kind
    return INTERNAL_ERROR


def _database_problem(request: Request[Any, Any, Any], error: asyncpg.PostgresError) -> Problem:
    kind = kind_of_sqlstate(error.sqlstate or "")
    if kind in (INTERNAL_ERROR, DATABASE_UNAVAILABLE):
        return Problem(kind, f"{kind.title}.")
    if kind is FORBIDDEN:
        caller = request.auth
        return Problem(
            kind,
            f"The API key {caller.name} has the role {caller.role}, which may not"
            f" {request.method} {request.scope['path_template']}.",
            hint="Use a key with a higher role: reader < editor < admin.",
            role=caller.role,
        )
    return Problem(kind, str(error.args[0]), hint=error.hint, **_json_object(error.detail))


def _json_object(text: str | None) -> dict[str, Any]:
    """What the functions of this schema say in DETAIL; PostgreSQL's own DETAIL is prose, and stays here."""
    try:
        return msgspec.json.decode(text or "", type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _litestar_problem(request: Request[Any, Any, Any], error: HTTPException) -> Problem:
    kind = BY_STATUS[error.status_code]
    if kind is RATE_LIMITED:
        headers = error.headers or {}
        seconds = max(1, int(headers["RateLimit-Reset"]))
        return Problem(
            kind,
            f"The API key {request.auth.name} may send {headers['RateLimit-Limit']} requests a minute.",
            hint=f"Wait {seconds} seconds, and spread requests; POST /v1/users/segments asks for many users.",
            headers={**headers, "Retry-After": str(seconds)},
        )
    if kind is not MALFORMED_REQUEST:
        return Problem(
            kind,
            f"{kind.title}: {request.method} {request.url.path}.",
            headers=error.headers,
            hint=kind.advice,
        )
    wrong = error.extra if isinstance(error.extra, list) else []
    errors = [
        # A body that is there is read by wire.ApiRequest; Litestar only notices that none came.
        {"detail": "A JSON body is missing", "pointer": "#"}
        if place.get("source") == "body"
        else {"detail": place["message"], "parameter": _name_of_parameter(request, place["key"])}
        for place in wrong
    ] or [{"detail": error.detail}]
    return malformed(errors)


def _name_of_parameter(request: Request[Any, Any, Any], key: str) -> str:
    """The name in the URL, which may be a word that Python keeps for itself, such as from."""
    field = request.route_handler.parsed_fn_signature.parameters.get(key)
    return getattr(field and field.kwarg_definition, "name", None) or key


def malformed(errors: list[dict[str, Any]]) -> Problem:
    """Say at which places a request is malformed."""
    detail = "; ".join(
        f"{error.get('parameter') or error.get('pointer', '')}: {error['detail']}".removeprefix(": ")
        for error in errors
    )
    return Problem(MALFORMED_REQUEST, detail, errors=errors)


def late_body(seconds: float) -> Problem:
    """Say that a client began a body and did not go on."""
    return malformed([{"detail": f"The body did not come within {seconds:g} seconds", "pointer": "#"}])


def malformed_body(error: ValueError) -> Problem:
    """Say where a body departs from its schema, as a JSON pointer."""
    message, _, path = str(error).partition(" - at `$")
    pointer = re.sub(r"\.(\w+)|\[(\d+)\]", r"/\1\2", path.rstrip("`"))
    return malformed([{"detail": message, "pointer": f"#{pointer}"}])
