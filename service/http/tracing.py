"""OpenTelemetry tracing, from HTTP to SQL: imported only where the environment switches it on.

A request is one span by the template of its route, and goes on with the caller's trace; each statement sent to
PostgreSQL is one inside it, by the name of the function. No span knows a path, a query, a header, an argument
or a body.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from importlib.metadata import entry_points
from typing import Any

import asyncpg
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from opentelemetry import context, propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from service.database import Database
from service.http.request_ids import REQUEST_ID
from service.settings import Settings, SettingsError
from service.shared_reads import SharedReads, Waiting

# The other requests that the next statement answers as well: see TracedReads.
SHARED_BY: ContextVar[tuple[Span, ...]] = ContextVar("shared_by", default=())


class Tracing:
    """Where spans go, and the parts of the service that make them."""

    def __init__(self, provider: TracerProvider) -> None:
        """Make spans with this provider."""
        self.provider = provider
        self._tracer = provider.get_tracer("segmentation")
        self._connection_class = traced_connection(self._tracer)

    def database(self, settings: Settings) -> Database:
        """A database that each statement to is a span."""
        return TracedDatabase(settings, self._connection_class)

    def reads(self, database: Database) -> SharedReads:
        """The hot read, linked with the requests it answers."""
        return TracedReads(database)

    def requests(self, app: ASGIApp) -> ASGIApp:
        """The app, each request to it a span."""
        return TracedRequests(app, self._tracer)

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncIterator[None]:
        """Send what is left in the end; meanwhile a thread sends."""
        try:
            yield
        finally:
            await asyncio.to_thread(self.provider.shutdown)


def tracing_of_environment() -> Tracing:
    """Tracing as the standard variables say, which the SDK itself reads but for the choice of exporters."""
    os.environ.setdefault("OTEL_SERVICE_NAME", "segmentation")
    provider = TracerProvider()
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    for name in (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(","):
        wanted = name.strip()
        if wanted == "otlp":
            wanted = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
        found = [*entry_points(group="opentelemetry_traces_exporter", name=wanted)]
        if not found:
            raise SettingsError(
                f"OTEL_TRACES_EXPORTER={name.strip()!r} is not installed: pip install the exporter {wanted}, or choose "
                "otlp or console."
            )
        provider.add_span_processor(BatchSpanProcessor(found[0].load()()))
    return Tracing(provider)


class TracedRequests:
    """Gives every request its span. By hand, since the instrumentation for ASGI costs more than a hot read."""

    def __init__(self, app: ASGIApp, tracer: trace.Tracer) -> None:
        """Wrap all of the app."""
        self._app = app
        self._tracer = tracer
        excluded = os.environ.get("OTEL_PYTHON_EXCLUDED_URLS", "").split(",")
        self._excluded = re.compile("|".join(filter(None, map(str.strip, excluded))) or "(?!)")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace a request, unless it is not sampled or its path is in OTEL_PYTHON_EXCLUDED_URLS."""
        if scope["type"] != ScopeType.HTTP or self._excluded.search(scope["path"]):
            return await self._app(scope, receive, send)
        method = scope["method"]
        span = self._tracer.start_span(
            method, propagate.extract(scope["headers"], getter=HEADERS), kind=SpanKind.SERVER
        )
        if not span.is_recording():
            return await self._app(scope, receive, send)
        span.set_attributes(
            {
                "http.request.method": method,
                "url.scheme": scope["scheme"],
                "segmentation.request_id": REQUEST_ID.get(),
            }
        )

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                # Known once it is answered; to an unknown path there is none.
                if route := scope.get("path_template"):
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
                if message["status"] >= 500:
                    span.set_status(Status(StatusCode.ERROR))
            await send(message)

        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            await self._app(scope, receive, send_on)


class Headers(Getter[Any]):
    """How propagators find the caller's trace."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        """All values of a header."""
        wanted = key.lower().encode()
        return [value.decode("latin-1") for name, value in carrier if name == wanted] or None

    def keys(self, carrier: Any) -> list[str]:
        """All names there are."""
        return [name.decode("latin-1") for name, _ in carrier]


HEADERS = Headers()


class TracedDatabase(Database):
    """The database, each statement a span."""

    def __init__(self, settings: Settings, connection_class: type[asyncpg.Connection]) -> None:
        """Make connections of this class."""
        super().__init__(settings)
        self._connection_class = connection_class

    def connect_arguments(self, role: str) -> dict[str, Any]:
        """As ever, but of the other class."""
        return {**super().connect_arguments(role), "connection_class": self._connection_class}


class TracedReads(SharedReads):
    """The hot read. One statement answers many requests: it is a span of one of them, and linked with the others."""

    def __init__(self, database: Database) -> None:
        """Read from this database."""
        super().__init__(database)
        self._asking: dict[int, list[Span]] = {}

    async def read(self, user_id: int) -> str:
        """Remember whose request it is, and read."""
        span = trace.get_current_span()
        if not span.is_recording():
            return await super().read(user_id)
        spans = self._asking.setdefault(user_id, [])
        spans.append(span)
        try:
            return await super().read(user_id)
        finally:
            spans.remove(span)
            if not spans and self._asking.get(user_id) is spans:
                del self._asking[user_id]

    def _take(self) -> Waiting:
        """Take what waits, and name the requests to what is done next in this task."""
        asked = super()._take()
        spans = [span for user_id in asked for span in self._asking.pop(user_id, [])]
        first, *others = spans or [trace.INVALID_SPAN]
        context.attach(trace.set_span_in_context(first))
        SHARED_BY.set(tuple(others))
        return asked


def traced_connection(tracer: trace.Tracer) -> type[asyncpg.Connection]:
    """A connection whose every statement is a span of the request that sends it; without a request, none."""

    @contextmanager
    def span_of(statement: str) -> Iterator[None]:
        name = name_of(statement)
        if not name or not trace.get_current_span().is_recording():
            yield
            return
        others = SHARED_BY.get()
        with tracer.start_as_current_span(
            name,
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.operation.name": name},
            links=[Link(other.get_span_context()) for other in others],
            # Its message may name values.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            for other in others:
                other.add_link(span.get_span_context())
            try:
                yield
            except asyncpg.PostgresError as error:
                span.set_attribute("db.response.status_code", error.sqlstate or "")
                span.set_status(Status(StatusCode.ERROR))
                raise
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise

    def traced(method: Callable[..., Any], verb: str = "") -> Any:
        @wraps(method)
        async def send(self: Any, statement: str, *args: Any, **kwargs: Any) -> Any:
            with span_of(f"{verb}{statement}"):
                return await method(self, statement, *args, **kwargs)

        return send

    plain = asyncpg.Connection
    methods = {name: traced(getattr(plain, name)) for name in ("execute", "fetch", "fetchrow", "fetchval")}
    methods["copy_from_query"] = traced(plain.copy_from_query)
    methods["copy_to_table"] = traced(plain.copy_to_table, "copy ")
    return type("TracedConnection", (plain,), {"__slots__": (), **methods})


@cache
def name_of(statement: str) -> str | None:
    """The function that a statement calls, or what it does to a transaction; none for what asyncpg asks for itself."""
    if found := re.search(r"segmentation\.(?!clock\()(\w+)\(", statement):
        return f"segmentation.{found[1]}"
    found = re.match(r"(begin|commit|rollback|copy \w+)", statement, re.IGNORECASE)
    return found[1].lower() if found else None
