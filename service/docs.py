"""The documentation: the OpenAPI description, and pages that need no internet."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import msgspec
import swagger_ui
from litestar import Litestar, MediaType, Request, Router, get
from litestar.datastructures import CacheControlHeader, ResponseHeader, State
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, Example, SecurityScheme, Tag
from litestar.static_files import create_static_files_router

from service.errors import KINDS, problem_body
from service.schemas import Body, ProblemDetails

DESCRIPTION = """
Which features does a user have right now? Segments of users: by hand, for a time, or for a percentage of all.

**Try it here:** press *Authorize*, enter an API key, open a call, press *Execute*.
`make run` leaves an admin key in `.local/admin.key`.

**Times** are RFC 3339 with an offset; answers are in UTC. **Errors** are `application/problem+json` (RFC 9457):
branch on `code`; [all codes](/docs/errors). A 503 says in `Retry-After` when to try again.
**Every answer** carries `X-Request-ID`, yours if you sent one: the service's log names it.
**Writes** accept an `Idempotency-Key`: repeated within a day, they are answered again and not done again.
"""
TAGS = [
    Tag(name="Users", description="Which segments a user is in, why, since when; and changes of that"),
    Tag(name="Segments", description="Segments, their rollouts, their past, their counts"),
    Tag(name="Members", description="Who is in a segment: listed, exported, and changed by the million"),
    Tag(name="Reports", description="Who got in and out in a month, as CSV"),
    Tag(name="OpenFeature", description="Segments as boolean flags, for OpenFeature clients (OFREP 0.3)"),
    Tag(name="Health", description="For load balancers and alarms"),
]
SCRIPT = """
window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
"""
PAGE = f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>User segmentation</title>
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<body style="margin: 0">
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script>{SCRIPT}</script>
</html>
"""
# The browser itself sees to it that nothing comes from elsewhere.
POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    f"script-src 'self' 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'; frame-ancestors 'none'"
)

# After a deploy the old description would be a wrong one.
ASKED_AGAIN = ResponseHeader(name="Cache-Control", value="no-cache")

READS = {"getUsersSegments", "evaluateFlag", "evaluateFlags"}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "Any text of your choice, new for each new request, in quotes or bare. Repeated within a day with the same "
        "request, the answer of the first time comes again, and nothing is done twice."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]+$"},
}
ROWS = "".join(
    f'<tr id="{kind.code}"><td>{kind.status}<td><code>{kind.code}</code><td>{escape(kind.title)}'
    f"<td>{escape(kind.advice)}\n"
    for kind in KINDS
)
ERRORS_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Errors - User segmentation</title>
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<style>
body {{ font: 16px/1.4 sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }}
td, th {{ padding: .4em .8em .4em 0; text-align: left; vertical-align: top }}
:target {{ background: #ffc }}
</style>
<h1>Errors</h1>
<p>Each is <code>application/problem+json</code> (RFC 9457). <a href="/docs">All calls</a></p>
<table>
<tr><th>Status<th>Code<th>Title<th>What it means, what to do
{ROWS}</table>
</html>
"""


class DocsPage(OpenAPIRenderPlugin):
    """The interactive page: Swagger UI, all of it from this service."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Send the page; it fetches the description."""
        return PAGE.encode()


@get("/errors", media_type=MediaType.HTML, sync_to_thread=False)
def errors_page() -> str:
    """Explain every error; the type of each problem points here."""
    return ERRORS_PAGE


@get(
    "/openapi.json",
    media_type=MediaType.JSON,
    include_in_schema=False,
    sync_to_thread=False,
    response_headers=[ASKED_AGAIN],
)
def openapi_json(state: State) -> bytes:
    """Send the description."""
    return bytes(state.openapi)


PICTURE = (Path(__file__).parent / "growth.svg").read_bytes()


@get("/docs/growth.svg", media_type="image/svg+xml", include_in_schema=False, sync_to_thread=False)
def growth_picture() -> bytes:
    """Show how a segment grows."""
    return PICTURE


ASSETS = create_static_files_router(
    "/docs/assets",
    directories=[Path(swagger_ui.__file__).parent / "static"],
    include_in_schema=False,
    cache_control=CacheControlHeader(max_age=3600),
)
CONFIG = OpenAPIConfig(
    title="User segmentation",
    version="1.0.0",
    description=DESCRIPTION,
    tags=TAGS,
    components=Components(
        security_schemes={
            "apiKey": SecurityScheme(
                type="http",
                scheme="bearer",
                description="An API key: reader asks, editor changes users, admin all",
            ),
            "xApiKey": SecurityScheme(
                type="apiKey",
                name="X-API-Key",
                security_scheme_in="header",
                description="The same key, for OpenFeature clients",
            ),
        }
    ),
    security=[{"apiKey": []}],
    render_plugins=[DocsPage(path="/")],
    openapi_router=Router(
        "/docs",
        route_handlers=[errors_page],
        include_in_schema=False,
        response_headers=[
            ResponseHeader(name="Content-Security-Policy", value=POLICY),
            ResponseHeader(name="Referrer-Policy", value="no-referrer"),
            ASKED_AGAIN,
        ],
    ),
)
HANDLERS: list[HTTPRouteHandler | Router] = [openapi_json, growth_picture, ASSETS]


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The errors that a call may answer, for its documentation."""
    return {
        status: ResponseSpec(
            ProblemDetails,
            media_type="application/problem+json",
            description=", ".join(kind.code for kind in KINDS if kind.status == status),
            generate_examples=False,
            examples=[
                Example(summary=kind.code, value=problem_body(kind, kind.advice))
                for kind in KINDS
                if kind.status == status
            ],
        )
        for status in (*statuses, 500)
    }


def describe(app: Litestar) -> bytes:
    """The OpenAPI description of all calls, as JSON."""
    schema = app.openapi_schema.to_schema()
    refusals = schema["paths"]["/v1/segments"]["post"]["responses"]
    for path in schema["paths"].values():
        for method, operation in path.items():
            if method != "get" and operation["operationId"] not in READS:
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
                for status in ("409", "413"):
                    operation["responses"].setdefault(status, refusals[status])
            if operation.get("security") != [{}]:
                operation["responses"].setdefault("429", refusals["429"])
            for parameter in operation.get("parameters", []):
                # A parameter is there or not, but never null.
                kinds = parameter["schema"].pop("oneOf", [{}])
                parameter["schema"].update(kinds[0])
    for body in Body.__subclasses__():
        schema["components"]["schemas"][body.__name__]["additionalProperties"] = False
    return msgspec.json.encode(schema)
