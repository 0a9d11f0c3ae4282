"""The documentation: the OpenAPI description, and pages that need no internet."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html import escape
from http import HTTPStatus
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
from litestar.routes import HTTPRoute
from litestar.static_files import create_static_files_router

from service import __version__, schemas
from service.errors import KINDS, PROBLEM_JSON, problem_body
from service.schemas import Body, ProblemDetails

DESCRIPTION = """
Which features does a user have right now? Segments of users: by hand, for a time, or for a percentage of all.

**Try it here:** press *Authorize*, enter an API key (`make run` leaves an admin's in `.local/admin.key`), then

1. [create a segment](#/Segments/createSegment) that 30 % of all users are in,
2. [put user 1000 in](#/Users/changeUserSegments) by hand, for a week,
3. [ask which segments the user is in](#/Users/getUserSegments), and [why](#/Users/explainMembership).

Each example works as it stands, from the top of the page to its end; only the link of a report is yours to copy.

**Times** are RFC 3339 with an offset; answers are in UTC. **Errors** are `application/problem+json` (RFC 9457):
branch on `code`; [all codes](/docs/errors). A 503 says in `Retry-After` when to try again.
**Every answer** carries `X-Request-ID`, yours if you sent one: the service's log names it.
**Writes** accept an `Idempotency-Key`: repeated within a day, they are answered again and not done again.
"""
TAGS = [
    Tag(name="Segments", description="Segments, their rollouts, their past, their counts"),
    Tag(name="Users", description="Which segments a user is in, why, since when; and changes of that"),
    Tag(name="Members", description="Who is in a segment: listed, exported, and changed by the million"),
    Tag(name="Reports", description="Who got in and out in a month, as CSV"),
    Tag(name="OpenFeature", description="Segments as boolean flags, for OpenFeature clients (OFREP 0.3)"),
    Tag(name="Deletion", description="Of a segment, of a user and all that is known of them; try these last"),
    Tag(name="Health", description="For load balancers and alarms"),
]
# A link of the description opens its call, here and not in a new window.
SCRIPT = """
window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
});
addEventListener("click", (event) => {
  const link = event.target.closest(".info a[href^='#/']");
  if (!link) return;
  event.preventDefault();
  window.ui.layoutActions.parseDeepLinkHash(link.hash);
});
"""
STYLE = """
body { margin: 0; background: #fff }
.swagger-ui .wrapper { max-width: 1100px }
.swagger-ui .info { margin: 2rem 0 1rem }
.swagger-ui .info .title small pre { padding: 0 }
.swagger-ui .info p, .swagger-ui .info li { font-size: 15px; line-height: 1.55 }
.swagger-ui .info ol { padding-left: 1.6em }
.swagger-ui .markdown code, .swagger-ui .renderedMarkdown code { color: #37517e; padding: 1px 5px }
.swagger-ui .scheme-container { box-shadow: none; padding: .5rem 0 }
.swagger-ui .opblock-tag { font-size: 22px }
.swagger-ui .parameters-col_name { width: 30% }
.swagger-ui textarea.body-param__text { min-height: 160px }
.swagger-ui .response-col_links, .swagger-ui .responses-table .col_header.response-col_links { display: none }
.swagger-ui .response-col_description__inner p { margin: 0 0 .3em }
/* Of errors the name, which leads to its explanation, says enough. */
.swagger-ui .response[data-code^="4"] > td > section, .swagger-ui .response[data-code^="5"] > td > section,
.swagger-ui .response[data-code^="4"] .model-example, .swagger-ui .response[data-code^="5"] .model-example {
  display: none
}
@media (max-width: 640px) {
  .swagger-ui .info .title { font-size: 28px }
  .swagger-ui .opblock .opblock-summary-method { min-width: 62px; padding: 6px 0 }
  .swagger-ui .opblock-tag { flex-wrap: wrap; font-size: 20px }
  .swagger-ui .opblock-tag small { flex-basis: 80%; order: 3; padding: 0 }
  .swagger-ui .response-col_status { min-width: 3em; width: 3em }
  .swagger-ui .responses-inner { padding: 10px }
  .swagger-ui table.parameters, .swagger-ui table.parameters tbody, .swagger-ui table.parameters tr,
  .swagger-ui table.parameters td { display: block; width: auto; max-width: 100% }
  .swagger-ui table.parameters thead { display: none }
  .swagger-ui .parameters-col_description input, .swagger-ui .parameters-col_description select { max-width: 100% }
}
@media (prefers-color-scheme: dark) {
  body { background: #16181b }
  .swagger-ui { color-scheme: light; filter: invert(.9) hue-rotate(180deg) }
  .swagger-ui .microlight, .swagger-ui img { filter: invert(1) hue-rotate(180deg) }
}
"""
ICON = (
    "data:image/svg+xml;base64,"
    + b64encode(
        b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><circle cx='16' cy='16' r='15' fill='#dbe4f0'/>"
        b"<path d='M16 16V1a15 15 0 0 1 14.3 19.6z' fill='#2f6fd0'/></svg>"
    ).decode()
)
PAGE = f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>User segmentation: try the API</title>
<link rel="icon" href="{ICON}">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<style>{STYLE}</style>
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

# What the examples, called one after the other, are answered: by call and media type. A test writes it.
ANSWERS: dict[str, dict[str, Any]] = msgspec.json.decode(
    Path(__file__).with_name("answers.json").read_bytes()
)
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
EXAMPLE = """\
{"type":"/docs/errors#unknown_segments","title":"Segments do not exist","status":422,\
"detail":"unknown segments: NOPE","code":"unknown_segments",\
"hint":"Create them first, or correct the slugs; upper and lower case differ.","unknown_segments":["NOPE"]}"""
ROWS = "".join(
    f'<tr id="{kind.code}"><td>{kind.status}<td><code>{kind.code}</code><td>{escape(kind.title)}'
    f"<td>{escape(kind.advice)}\n"
    for kind in KINDS
)
ERRORS_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Errors - User segmentation</title>
<link rel="icon" href="{ICON}">
<style>
body {{ font: 16px/1.4 sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }}
td, th {{ padding: .4em .8em .4em 0; text-align: left; vertical-align: top }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere }}
@media (max-width: 640px) {{
  tr, td {{ display: block; padding: 0 }}
  tr {{ margin-bottom: 1.2em }}
  th {{ display: none }}
}}
:target {{ background: #ffc; color: #000 }}
</style>
<h1>Errors</h1>
<p>Each is <code>application/problem+json</code> (RFC 9457), such as this one. Branch on <code>code</code>. <a href="/docs">All calls</a></p>
<pre>{escape(EXAMPLE)}</pre>
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
    return in_month(bytes(state.openapi), datetime.now(UTC))


def in_month(description: bytes, now: datetime) -> bytes:
    """Let the examples, which are of November 2026 and plan for December, be of this month and plan for the next."""
    following = now.replace(day=1) + timedelta(days=31)
    return description.replace(b"2026-12-", f"{following:%Y-%m}-".encode()).replace(
        b"2026-11", f"{now:%Y-%m}".encode()
    )


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
    version=__version__,
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
            media_type=PROBLEM_JSON,
            description="\n\n".join(
                f"[`{kind.code}`](/docs/errors#{kind.code}): {kind.title}"
                for kind in KINDS
                if kind.status == status
            ),
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
    del schema["servers"]  # it is where the page comes from
    handlers = {
        handler.operation_id: handler
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
    }
    for name, component in schema["components"]["schemas"].items():
        kind = getattr(schemas, name)
        component["description"] = kind.__doc__
        if issubclass(kind, Body):
            component["additionalProperties"] = False
    modules = list(dict.fromkeys(handler.fn.__module__ for handler in handlers.values()))

    def place(path: str) -> tuple[int, int]:
        first = min((handlers[call["operationId"]] for call in schema["paths"][path].values()), key=_line)
        return modules.index(first.fn.__module__), _line(first)

    schema["paths"] = {path: schema["paths"][path] for path in sorted(schema["paths"], key=place)}
    for path, calls in schema["paths"].items():
        # As in the source: what is done first comes first.
        calls = dict(sorted(calls.items(), key=lambda call: _line(handlers[call[1]["operationId"]])))
        schema["paths"][path] = calls
        for method, operation in calls.items():
            if method != "get" and operation["operationId"] not in READS:
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
                for status in ("409", "413"):
                    operation["responses"].setdefault(status, refusals[status])
            if operation.get("security") != [{}]:
                operation["responses"].setdefault("429", refusals["429"])
            for parameter in operation.get("parameters", []):
                _describe_parameter(parameter)
            for response in operation["responses"].values():
                _say_what_it_is(response, schema["components"]["schemas"])
            # Which type is wanted is chosen beside the answer, as OpenAPI will have it.
            operation["parameters"] = [p for p in operation.get("parameters", []) if p["name"] != "Accept"]
            _show_examples(operation, handlers[operation["operationId"]])
    return msgspec.json.encode(schema)


def _line(handler: HTTPRouteHandler) -> int:
    return handler.fn.__code__.co_firstlineno


def _say_what_it_is(response: dict[str, Any], components: dict[str, Any]) -> None:
    """Instead of what HTTP says of a status."""
    if response["description"] not in {status.description for status in HTTPStatus}:
        return
    response["description"] = "Done"
    for media in response.get("content", {}).values():
        name = media["schema"].get("$ref", "").rpartition("/")[2]
        response["description"] = components.get(name, response)["description"]


def _describe_parameter(parameter: dict[str, Any]) -> None:
    # A parameter is there or not, but never null.
    kinds = parameter["schema"].pop("oneOf", [{}])
    parameter["schema"].update(kinds[0])
    # One example needs no list to choose from.
    for example in parameter.pop("examples", {}).values():
        parameter["example"] = example["value"]


def _show_examples(operation: dict[str, Any], handler: HTTPRouteHandler) -> None:
    """Name the examples of the body, and show what was really answered."""
    body = handler.parsed_data_field and handler.parsed_data_field.kwarg_definition
    examples = getattr(body, "examples", None) or []
    for media in operation.get("requestBody", {}).get("content", {}).values() if examples else ():
        media["schema"] = media["schema"]["allOf"][0]
        media["examples"] = {
            str(number): {"summary": example.summary, "value": example.value}
            for number, example in enumerate(examples, 1)
        }
    for media_type, answer in ANSWERS.get(operation["operationId"], {}).items():
        content = operation["responses"][str(handler.status_code)]["content"][media_type]
        content.pop("examples", None)
        content["example"] = answer
