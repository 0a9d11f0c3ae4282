"""OpenTelemetry tracing, from HTTP to SQL: imported only where the environment switches it on.

A request is one span by the template of its route, and goes on with the caller's trace. Each statement that it sends
to PostgreSQL is one inside it, by OpenTelemetry's own instrumentation of asyncpg. No span knows a path, a query, a
header, an argument, a body, or the message of an error, which may name a user.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from opentelemetry import propagate, trace
from opentelemetry.distro import OpenTelemetryConfigurator
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind, Status, StatusCode

from service.http.requests import REQUEST_ID


class Tracing:
    """Where spans go."""

    def __init__(self, provider: Any) -> None:
        """Make spans with this provider of the SDK; those of statements are named as OpenTelemetry has settled it."""
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "database")
        self.provider = provider

    def requests(self, app: ASGIApp) -> ASGIApp:
        """The app, each request to it a span."""
        return TracedRequests(app, self.provider.get_tracer("segmentation"))

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Meanwhile, trace statements too, and in the end send what is left; until then a thread sends."""
        instrumentor: Any = AsyncPGInstrumentor()  # type: ignore[no-untyped-call]
        instrumentor.instrument(tracer_provider=WithoutMessages(self.provider))
        try:
            yield
        finally:
            instrumentor.uninstrument()
            await asyncio.to_thread(self.provider.shutdown)


class WithoutMessages(trace.TracerProvider):
    """Makes tracers whose spans tell that an error came, but not its message."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        tracer: Any = self._provider.get_tracer(*args, **kwargs)
        tracer.start_as_current_span = partial(
            tracer.start_as_current_span, record_exception=False, set_status_on_exception=False
        )
        return tracer  # type: ignore[no-any-return]


def tracing_of_environment() -> Tracing:
    """Tracing as OpenTelemetry's standard variables say, which its SDK itself reads."""
    os.environ.setdefault("OTEL_SERVICE_NAME", "segmentation")
    os.environ.setdefault("OTEL_TRACES_EXPORTER", "otlp")
    os.environ.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    OpenTelemetryConfigurator().configure()  # type: ignore[no-untyped-call]
    return Tracing(trace.get_tracer_provider())


class TracedRequests:
    """Gives every request its span. By hand: OpenTelemetry's instrumentation for ASGI takes 150 µs of a request even
    where it is not sampled, most of what a hot read takes in all; this takes 20 µs."""

    def __init__(self, app: ASGIApp, tracer: trace.Tracer) -> None:
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
            # Its statements are not sampled either.
            with trace.use_span(span):
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
        wanted = key.lower().encode()
        return [value.decode("latin-1") for name, value in carrier if name == wanted] or None

    def keys(self, carrier: Any) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


HEADERS = Headers()
