"""Traces from HTTP to SQL: what spans there are, how they hang together, and what is not in them."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from service.app import create_app
from service.database import SETTINGS
from service.http.tracing import Tracing
from service.settings import Settings, is_traced
from tests.conftest import Database
from tests.http.conftest import Api, Service
from tests.launcher import Server

FUNCTIONS = ("http_user_history", "http_create_segment", "http_segment_growth", "http_change_user_segments")
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Spans:
    """The spans of one request after the other."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        """Take what this one was given."""
        self._exporter = exporter

    def take(self) -> list[ReadableSpan]:
        """The spans that ended since the last call, by their start, without look-ups of keys and new connections."""
        found = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        self._exporter.clear()
        return [
            span
            for span in found
            if not calls(span, "authenticate_api_key")
            and (span.attributes or {}).get("db.query.text") != SETTINGS
        ]

    def one_request(self) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """The span of the one request, and those of its statements."""
        spans = self.take()
        (server,) = (span for span in spans if span.kind is SpanKind.SERVER)
        assert server.context
        # What the service asks for itself, such as to be told of changed keys, is of no request.
        statements = [span for span in spans if span.parent and span is not server]
        for span in statements:
            assert span.kind is SpanKind.CLIENT
            assert span.parent and span.parent.span_id == server.context.span_id
            assert span.context and span.context.trace_id == server.context.trace_id
        return server, statements


def calls(span: ReadableSpan, function: str) -> bool:
    """Whether this is the span of a statement that calls a function."""
    return f"segmentation.{function}(" in str((span.attributes or {}).get("db.query.text"))


@pytest.fixture
def spans() -> Spans:
    """All spans that the app of this test made."""
    return Spans(InMemorySpanExporter())


@pytest.fixture
def api(spans: Spans, database_url: str, db: Database) -> Iterator[Api]:
    """An admin, whose requests are traced."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans._exporter))
    app = create_app(Settings(database_url=database_url, shared_reads=1), Tracing(provider))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Service(client, db).as_role("admin")


def test_a_request_is_a_span_by_its_route_with_its_statements_inside(api: Api, spans: Spans) -> None:
    for method, path, route, statements, sent in [
        ("GET", "/v1/users/77/history", "/v1/users/{user_id}/history", ["http_user_history"], None),
        ("POST", "/v1/segments", "/v1/segments", ["http_create_segment"], {"slug": "SECRET"}),
        ("GET", "/v1/segments/SECRET/growth", "/v1/segments/{slug}/growth", ["http_segment_growth"], None),
        (
            "PATCH",
            "/v1/users/77/segments",
            "/v1/users/{user_id}/segments",
            ["http_change_user_segments"],
            {"add": ["SECRET"]},
        ),
        ("GET", "/health/live", "/health/live", [], None),
    ]:
        assert api.send(method, path, json=sent).is_success
        server, inside = spans.one_request()
        assert server.name == f"{method} {route}"
        assert server.attributes
        assert server.attributes["http.route"] == route
        # A call that may take long is a transaction of several statements.
        assert [name for span in inside for name in FUNCTIONS if calls(span, name)] == statements


def test_transfers_and_transactions_are_traced_statement_by_statement(api: Api, spans: Spans) -> None:
    api.send("POST", "/v1/segments", json={"slug": "A"})
    spans.take()
    headers = {"Content-Type": "text/csv", "Idempotency-Key": "once"}
    assert api.send("POST", "/v1/segments/A/members", content=b"1\n2\n", headers=headers).is_success
    told = spans.one_request()[1]
    functions = ["claim_idempotency_key", "http_begin_import", "http_finish_import", "keep_answer"]
    assert [name for span in told for name in functions if calls(span, name)] == functions
    assert (told[0].name, told[-1].name) == ("BEGIN;", "COMMIT;")


def test_the_trace_of_the_caller_goes_on(api: Api, spans: Spans) -> None:
    api.send("GET", "/v1/segments", headers={"traceparent": CALLER, "X-Request-ID": "checkout-7"})
    server, (statement,) = spans.one_request()
    assert server.parent and server.context and statement.context
    assert f"{server.parent.span_id:x}" == "b7ad6b7169203331"
    assert f"{server.context.trace_id:032x}" == f"{statement.context.trace_id:032x}" == CALLER[3:35]
    assert server.attributes and server.attributes["segmentation.request_id"] == "checkout-7"


def test_a_caller_who_does_not_sample_is_obeyed(api: Api, spans: Spans) -> None:
    assert api.send("GET", "/v1/users/1/history", headers={"traceparent": f"{CALLER[:-1]}0"}).is_success
    assert [
        span for span in spans.take() if calls(span, "http_user_history") or span.kind is SpanKind.SERVER
    ] == []


def test_a_shared_read_is_a_trace_of_its_own_since_it_answers_many_requests(api: Api, spans: Spans) -> None:
    assert api.send("GET", "/v1/users/1/segments").is_success
    found = spans.take()
    (server,) = (span for span in found if span.kind is SpanKind.SERVER)
    (statement,) = (span for span in found if calls(span, "http_user_segments_each"))
    assert statement.parent is None
    assert server.context and statement.context
    assert statement.context.trace_id != server.context.trace_id


def test_errors_are_told_by_their_code_and_nothing_else(api: Api, spans: Spans, db: Database) -> None:
    api.send("PATCH", "/v1/users/1/segments", json={"add": ["SECRET"]})
    server, (statement,) = spans.one_request()
    assert statement.attributes and statement.attributes["error.type"] == "ForeignKeyViolationError"
    assert not statement.status.is_ok
    assert server.attributes and server.attributes["http.response.status_code"] == 422
    assert statement.events == () == server.events
    db.rows("alter function segmentation.http_user_segments_each rename to hidden")
    api.send("GET", "/v1/users/1/segments")
    (server,) = (span for span in spans.take() if span.kind is SpanKind.SERVER)
    assert not server.status.is_ok


def test_no_span_holds_a_key_a_path_a_query_a_body_or_an_argument(api: Api, spans: Spans) -> None:
    headers = {"X-Api-Key": "SECRET", "Cookie": "SECRET", "Idempotency-Key": "SECRET"}
    for method, path, sent in [
        ("POST", "/v1/segments", {"slug": "SECRET", "description": "SECRET", "reason": "SECRET"}),
        ("PATCH", "/v1/users/987654321/segments?SECRET", {"add": ["SECRET"], "reason": "SECRET"}),
        ("GET", "/v1/segments/SECRET/growth?from=2026-11-01T00:00:00Z&step=P9876D", None),
        ("GET", "/v1/users/987654321/segments/SECRET?at=2026-11-01T00:00:00Z", None),
        ("GET", "/v1/users/98765432198765432198765/segments", None),
        ("GET", "/v1/reports/SECRET.csv?header=true", None),
        ("GET", "/v1/reports/SECRET/SECRET", None),
        ("GET", "/SECRET?SECRET", None),
        ("GET", "/v1/segments?after=%FF%FE", None),
        ("POST", "/ofrep/v1/evaluate/flags/SECRET", {"context": {"targetingKey": "987654321"}}),
    ]:
        assert api.send(method, path, json=sent, headers=headers).status_code < 500
    found = spans.take()
    assert len([span for span in found if span.kind is SpanKind.SERVER]) == 10
    text = "\n".join(span.to_json() for span in found)
    for secret in ("SECRET", "987654321", "9876D", "2026-11-01T00", api.headers["Authorization"].split()[1]):
        assert secret not in text


def test_the_standard_variables_switch_it_on_and_off() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    for environment, is_on in [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        (endpoint, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({**endpoint, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**endpoint, "OTEL_SDK_DISABLED": "true"}, False),
        ({**endpoint, "OTEL_SDK_DISABLED": "false"}, True),
    ]:
        assert is_traced(environment) is is_on, environment


class Collector:
    """A receiver of OTLP over HTTP, for one test."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A receiver that listens."""
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_server_sends_its_spans_to_where_the_environment_says(
    run_server: Callable[..., Server], db: Database, collector: Collector
) -> None:
    server = run_server(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_SERVICE_NAME="shop-segments",
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
        OTEL_PYTHON_EXCLUDED_URLS="health",
    )
    key = db.value("select create_api_key('shop', 'reader')")
    headers = {"Authorization": f"Bearer {key}", "traceparent": CALLER}
    for path in ("/v1/users/1000/segments", "/health/ready"):
        httpx.get(f"{server.url}{path}", headers=headers)
    said = server.stop()
    assert "Traceback" not in said, said
    resources = [spans for request in collector.requests for spans in request.resource_spans]
    names = {
        a.value.string_value for r in resources for a in r.resource.attributes if a.key == "service.name"
    }
    assert names == {"shop-segments"}
    spans = [span for r in resources for scope in r.scope_spans for span in scope.spans]
    (request,) = (span for span in spans if span.kind == 2)
    assert request.name == "GET /v1/users/{user_id}/segments"
    assert request.trace_id.hex() == CALLER[3:35]
    assert any("authenticate_api_key" in str(span) for span in spans if span.trace_id == request.trace_id)


def test_a_collector_that_is_away_is_no_trouble(run_server: Callable[..., Server], db: Database) -> None:
    server = run_server(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", SHUTDOWN_TIMEOUT="2")
    key = db.value("select create_api_key('shop', 'reader')")
    url = f"{server.url}/v1/users/1000/segments"
    assert httpx.get(url, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    server.stop()


def test_an_exporter_that_is_not_there_is_told_in_one_line(run_server: Callable[..., Server]) -> None:
    server = run_server(live=False, OTEL_TRACES_EXPORTER="jaeger")
    said = server.ended()
    assert said.startswith("error: the settings of tracing (OTEL_…) are not valid: ")
    assert "jaeger" in said
    assert len(said.splitlines()) == 1
    assert server.process.returncode == 1
