"""OpenTelemetry tracing, from HTTP to SQL: imported only where the environment switches it on.

A request is one span by the template of its route, and goes on with the caller's trace; each statement sent to
PostgreSQL is one inside it, by the name of the function. No span knows a path, a query, a key, an argument or
a body: the instrumentation is shown a request without them.
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
from litestar.middleware import DefineMiddleware
from litestar.plugins.opentelemetry import OpenTelemetryConfig, OpenTelemetryInstrumentationMiddleware
from litestar.types import Message, Receive, Scope, Send
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.util.http import get_excluded_urls

from service.database import Database
from service.logs import REQUEST_ID
from service.reads import SharedReads, Waiting
from service.settings import Settings, SettingsError

# What the instrumentation may see of a request.
HEADERS = {b"traceparent", b"tracestate", b"baggage", b"host", b"user-agent", b"content-length"}

# The other requests that the next statement answers as well: see TracedReads.
SHARED_BY: ContextVar[tuple[Span, ...]] = ContextVar("shared_by", default=())


class Tracing:
    """Where spans go, and the parts of the service that make them."""

    def __init__(self, provider: TracerProvider) -> None:
        """Make spans with this provider."""
        # Attributes by the names that are settled now.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        self.provider = provider
        self.connection_class = traced_connection(provider.get_tracer("segmentation"))

    def database(self, settings: Settings) -> Database:
        """A database that each statement to is a span."""
        return TracedDatabase(settings, self.connection_class)

    def reads(self, database: Database) -> SharedReads:
        """The hot read, linked with the requests it answers."""
        return TracedReads(database)

    @property
    def middleware(self) -> DefineMiddleware:
        """What gives every request its span; Litestar puts it around all else."""
        return OpenTelemetryConfig(
            tracer_provider=self.provider,
            middleware_class=TracedRequests,
            scope_span_details_extractor=lambda shown: (shown["method"], {}),  # type: ignore[typeddict-item]
            exclude_spans=["receive", "send"],
        ).middleware

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


class TracedRequests(OpenTelemetryInstrumentationMiddleware):
    """Litestar's own middleware, which sees only the harmless parts of a request; around all of the app."""

    def __init__(self, app: Any, config: OpenTelemetryConfig) -> None:
        """Wrap the app."""
        super().__init__(self.answer, config)
        self._whole_app = app
        self._excluded = get_excluded_urls("LITESTAR")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace a request, unless its path is in OTEL_PYTHON_EXCLUDED_URLS."""
        if scope["type"] != ScopeType.HTTP or self._excluded.url_disabled(scope["path"]):
            return await self._whole_app(scope, receive, send)  # type: ignore[no-any-return]
        shown: Any = {
            "type": "http",
            "method": scope["method"],
            "scheme": scope["scheme"],
            "http_version": scope["http_version"],
            "server": scope["server"],
            "path": "",
            "query_string": b"",
            "headers": [(name, value) for name, value in scope["headers"] if name in HEADERS],
            "whole": scope,
        }
        await super().__call__(shown, receive, send)

    async def answer(self, shown: Any, receive: Receive, send: Send) -> None:
        """Answer the whole request; which route it takes is known once it is answered."""
        scope = shown["whole"]
        span = trace.get_current_span()
        span.set_attribute("segmentation.request_id", REQUEST_ID.get())

        async def send_on(message: Message) -> None:
            route = scope.get("path_template")
            if message["type"] == "http.response.start" and route:
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
            await send(message)

        await self._whole_app(scope, receive, send_on)


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
        spans = [span for user_id in asked for span in self._asking.pop(user_id, []) if span.is_recording()]
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
