"""The documentation: the OpenAPI description, and pages that need no internet."""

import inspect
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from html import escape
from http import HTTPStatus
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, Contact, Example, License, SecurityScheme, Tag
from litestar.response import Redirect
from litestar.routes import HTTPRoute

from service import __version__, project_path, schemas
from service.errors import KINDS, PROBLEM_JSON, problem_body
from service.http.files import File
from service.http.idempotency import KEY
from service.schemas import Body, ProblemDetails

HERE = Path(__file__).parent
TAGS = [
    Tag(name="Segments", description="Segments, their rollouts, their past"),
    Tag(name="Layers", description="Segments that exclude each other: a user is in at most one"),
    Tag(name="Users", description="Which segments a user is in, why, since when; and changes of that"),
    Tag(
        name="Members",
        description="Who is in a segment: counted, listed, exported, and changed by the million",
    ),
    Tag(name="Reports", description="Who got in and out in a month, as CSV"),
    Tag(name="Changes", description="Who got in and out, stretch after stretch, for those who follow"),
    Tag(
        name="OpenFeature",
        description="Segments as boolean flags, layers as string flags, for OpenFeature clients (OFREP 0.3)",
    ),
    Tag(
        name="Deletion",
        description="Of a segment, a layer, a report's link, a user and all that is known of them; try these last",
    ),
    Tag(name="Health", description="For load balancers and alarms"),
]
# By this policy browsers load nothing from elsewhere.
POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS = [
    ResponseHeader(name="Content-Security-Policy", value=POLICY),
    ResponseHeader(name="Referrer-Policy", value="no-referrer"),
]

# What the examples, called one after the other, are answered: by call and media type. A test writes it.
ANSWERS: dict[str, dict[str, Any]] = msgspec.json.decode((HERE / "answers.json").read_bytes())
EXAMPLE = """\
{"type":"/docs/errors#unknown_segments","title":"Segments do not exist","status":422,\
"detail":"unknown segments: NOPE","code":"unknown_segments",\
"hint":"Create them first, or correct the slugs; upper and lower case differ.","unknown_segments":["NOPE"]}"""
# Calls that only read, although they are sent as POST.
READS = {"getUsersSegments"}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "Any text of your choice, new for each new request, in quotes or bare. Repeated within a day with the same "
        "request, the answer of the first time comes again, and nothing is done twice."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 257, "pattern": f"^({KEY.pattern})$"},
}
RETRY_AFTER = {
    "description": "Seconds to wait before the next try",
    "schema": {"type": "integer", "minimum": 1},
}


# ----------------------------------------------------------------------------------------- the pages


def errors_page() -> str:
    """Explain every error; the type of each problem points here."""
    head, row, foot = (HERE / "errors.html").read_text().split("<!-- each error -->\n")
    rows = [
        Template(row).substitute({name: escape(str(value)) for name, value in kind._asdict().items()})
        for kind in KINDS
    ]
    return "".join([Template(head).substitute(example=escape(EXAMPLE)), *rows, foot])


# The files of the docs page, by path.
TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".md": "text/plain",
    ".svg": "image/svg+xml",
    ".yaml": "text/plain",
}
NAMES = ("alerts.yaml", "errors.css", "growth.svg", "grafana.json", "icon.svg", "page.css", "page.js")
UI = ("swagger-ui.css", "swagger-ui-bundle.js")
PLACES = {
    "/docs/CHANGELOG.md": project_path("CHANGELOG.md"),
    "/docs/README.md": project_path("README.md"),
    "/docs/service.md": HERE.parent / "README.md",
    "/favicon.ico": HERE / "icon.svg",
    **{f"/docs/{name}": HERE / name for name in NAMES},
    **{f"/docs/{name}": HERE / "swagger-ui" / name for name in UI},
}
FILES = {
    "/docs/errors": File(errors_page().encode(), "text/html"),
    **{path: File(place.read_bytes(), TYPES[place.suffix]) for path, place in PLACES.items()},
}
PAGE = File((HERE / "page.html").read_bytes(), "text/html")


@get("/", include_in_schema=False, sync_to_thread=False)
def root() -> Redirect:
    return Redirect("/docs")


@get(list(FILES), include_in_schema=False, sync_to_thread=False, response_headers=SAFE_HEADERS)
def docs_file(request: Request[Any, Any, Any]) -> Response[bytes | None]:
    return FILES[request.scope["path_template"]].answer(request)


@get("/openapi.json", media_type=MediaType.JSON, include_in_schema=False, sync_to_thread=False)
def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes | None]:
    description: Description = request.app.state.openapi
    return description.of_month(datetime.now(UTC).date().replace(day=1)).answer(request)


class DocsPage(OpenAPIRenderPlugin):
    """The interactive page: Swagger UI, all of it from this service."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> Any:
        """Send the page; it fetches the description. Its links are relative to /docs, without a slash behind."""
        if request.scope["raw_path"].endswith(b"/"):
            return Redirect("/docs")
        return PAGE.answer(request)


class DescriptionBesideIt(OpenAPIRenderPlugin):
    """The description once more, where Litestar would put one of its own."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> Any:
        return openapi_json.fn(request)


CONFIG = OpenAPIConfig(
    title="User segmentation",
    version=__version__,
    description=(HERE / "description.md").read_text(),
    contact=Contact(name="Whoever runs this service"),
    license=License(name="MIT", identifier="MIT"),
    tags=TAGS,
    components=Components(
        security_schemes={
            "apiKey": SecurityScheme(
                type="http",
                scheme="bearer",
                description="An API key. Its role is one of evaluator < reader < editor < admin",
            )
        }
    ),
    security=[{"apiKey": []}],
    render_plugins=[
        DocsPage(path="/"),
        DescriptionBesideIt(path="/openapi.json", media_type=MediaType.JSON),
    ],
    openapi_router=Router("/docs", route_handlers=[], include_in_schema=False, response_headers=SAFE_HEADERS),
)
HANDLERS: list[HTTPRouteHandler] = [root, openapi_json, docs_file]


# ----------------------------------------------------------------------------------- the description


class Description:
    """The description of all calls; its examples are of this month and plan for the next."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Take the description, whose examples are of November 2026 and plan for December."""
        self.schema = schema
        self.of_month = lru_cache(maxsize=1)(self._of_month)

    def _of_month(self, first: date) -> File:
        return File(in_month(msgspec.json.encode(self.schema), first), "application/json")


def in_month(description: bytes, first: date) -> bytes:
    """Let the examples be of the month that begins on this day, and plan for the next."""
    following = first + timedelta(days=31)
    return description.replace(b"2026-12-", f"{following:%Y-%m}-".encode()).replace(
        b"2026-11", f"{first:%Y-%m}".encode()
    )


def handlers_of(module: ModuleType, tag: str) -> list[HTTPRouteHandler]:
    """The handlers of a module in their order. Name and docstring of its function describe each in the docs."""
    found = [each for each in vars(module).values() if isinstance(each, HTTPRouteHandler)]
    for handler in found:
        summary, _, description = str(inspect.getdoc(handler.fn)).partition("\n\n")
        verb, *words = handler.fn.__name__.split("_")
        handler.operation_id = verb + "".join(map(str.title, words))
        handler.summary = summary.removesuffix(".")
        # The page would show a line break within a paragraph.
        handler.description = re.sub(r"(?<!\n)\n(?!\n)", " ", description)
        handler.tags = handler.tags or [tag]
    return found


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Errors that a call may answer beside those of errors_of."""
    return {
        status: ResponseSpec(ProblemDetails, media_type=PROBLEM_JSON, generate_examples=False)
        for status in statuses
    }


def csv_rows(example: str) -> dict[int, ResponseSpec]:
    """An answer of rows as CSV, such as these."""
    examples = [Example(value=example)]
    return {
        200: ResponseSpec(
            str, media_type="text/csv", description="The rows", generate_examples=False, examples=examples
        )
    }


def header(name: str, description: str) -> list[ResponseHeader]:
    """A header that a handler gives its answer."""
    return [ResponseHeader(name=name, description=description, documentation_only=True)]


def errors_of(path: str, operation: dict[str, Any], handler: HTTPRouteHandler) -> set[int]:
    """The errors that every call of this kind may answer."""
    found = set()
    if operation.get("security") != [{}]:
        found |= {401, 403}
    # OpenFeature's protocol has errors of its own.
    if not path.startswith("/ofrep/"):
        found |= {400, 500}
        if operation.get("security") != [{}]:
            found |= {429}
        if "requestBody" in operation:
            found |= {413, 415}
        if path.startswith("/v1/"):
            found |= {422, 503, 504}
        if "{slug}" in path:
            found |= {404}
        if takes_idempotency_key(path, handler):
            found |= {409, 413}
    return found


def takes_idempotency_key(path: str, handler: HTTPRouteHandler) -> bool:
    """Whether a call is a write that can be repeated."""
    return path.startswith("/v1/") and "GET" not in handler.http_methods and handler.operation_id not in READS


def describe(app: Litestar, handlers: Iterable[HTTPRouteHandler], root_path: str) -> Description:
    """The description of these calls, in this order; a proxy may serve them under a path."""
    schema = _without_lonely_choices(app.openapi_schema.to_schema())
    schema["servers"] = [{"url": f"{root_path}/", "description": "This service"}]
    components = schema["components"]["schemas"]
    for name, component in components.items():
        kind = getattr(schemas, name)
        component["description"] = kind.__doc__
        if issubclass(kind, Body):
            component["additionalProperties"] = False
    order = {handler.operation_id: place for place, handler in enumerate(handlers)}
    described = {
        handler.operation_id: handler
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
    }
    paths: dict[str, Any] = {}
    errors: set[int] = set()
    found = [
        (path, method, call) for path, calls in schema["paths"].items() for method, call in calls.items()
    ]
    for path, method, operation in sorted(found, key=lambda each: order[each[2]["operationId"]]):
        paths.setdefault(path, {})[method] = operation
        errors |= _describe_call(path, operation, described[operation["operationId"]], components)
    schema["paths"] = paths
    schema["components"]["responses"] = {_name_of(status): _error(status) for status in sorted(errors)}
    return Description(schema)


def _without_lonely_choices(part: Any) -> Any:
    """Replace oneOf and allOf with one member, as Litestar writes them, by that member."""
    if isinstance(part, list):
        return [_without_lonely_choices(each) for each in part]
    if not isinstance(part, dict):
        return part
    part = {name: _without_lonely_choices(each) for name, each in part.items()}
    match part:
        case {"oneOf": [only], **others} | {"allOf": [only], **others}:
            return {**only, **others}
    return part


def _error(status: int) -> dict[str, Any]:
    """The answer to all that goes wrong with this status."""
    kinds = [kind for kind in KINDS if kind.status == status]
    answer: dict[str, Any] = {
        "description": "\n\n".join(f"[`{k.code}`](docs/errors#{k.code}): {k.title}" for k in kinds),
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": "#/components/schemas/ProblemDetails"},
                "examples": {kind.code: {"value": problem_body(kind, kind.advice)} for kind in kinds},
            }
        },
    }
    if status in (429, 503):
        answer["headers"] = {"Retry-After": RETRY_AFTER}
    return answer


def _name_of(status: int) -> str:
    return f"Error{status}"


def _describe_call(
    path: str, operation: dict[str, Any], handler: HTTPRouteHandler, components: dict[str, Any]
) -> set[int]:
    """Complete a call, and say which of the errors that all calls share it may answer."""
    # OpenAPI describes the choice of a media type by the content of the answer.
    parameters = [each for each in operation.get("parameters", []) if each["name"] != "Accept"]
    for parameter in parameters:
        _describe_parameter(parameter)
    if takes_idempotency_key(path, handler):
        parameters.append(IDEMPOTENCY_KEY)
    operation["parameters"] = parameters
    responses = operation["responses"]
    named = {int(status) for status, each in responses.items() if PROBLEM_JSON in each.get("content", {})}
    errors = errors_of(path, operation, handler) | named
    for status in errors:
        responses.pop(str(status), None)
    for response in responses.values():
        _say_what_it_is(response, components)
        for header in response.get("headers", {}).values():
            header.setdefault("schema", {"type": "string"})
    shared = {str(status): {"$ref": f"#/components/responses/{_name_of(status)}"} for status in errors}
    operation["responses"] = dict(sorted({**responses, **shared}.items()))
    _show_examples(operation, handler)
    return errors


def _say_what_it_is(response: dict[str, Any], components: dict[str, Any]) -> None:
    """Describe an answer by its schema, instead of by the standard phrase of its status."""
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
        media["examples"] = {
            str(number): {"summary": example.summary, "value": example.value}
            for number, example in enumerate(examples, 1)
        }
    for media_type, answer in ANSWERS.get(operation["operationId"], {}).items():
        content = operation["responses"][str(handler.status_code)]["content"][media_type]
        content.pop("examples", None)
        content["example"] = answer
