"""How busy the service is, for Prometheus; counted so cheaply that the hot read does not notice."""

import os
from collections.abc import Iterable
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple, cast

import asyncpg
from litestar import Response, get
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example
from litestar.plugins.prometheus import PrometheusConfig, PrometheusMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from service.database import Database
from service.docs.openapi import problems
from service.errors import Problem, kind_of_sqlstate
from service.http.bodies import ApiRequest

SERVICE_METRICS = "select metric, help, value from segmentation.service_metrics()"
SHARED_READS = Counter("segmentation_shared_reads", "Hot reads answered")
SHARED_READ_CALLS = Counter("segmentation_shared_read_calls", "SQL calls that answered them, many at once")
TRANSFER_BYTES = Counter(
    "segmentation_transfer_bytes",
    "Bytes of imports (in), exports and reports (out), as they went over the wire",
    ["path", "direction"],
)
EXAMPLE = """\
litestar_requests_total{app_name="segmentation",method="GET",path="/v1/users/{user_id}/segments",status_code="200"} 42.0
segmentation_sweep_lag_seconds 0.0
"""


class Series(NamedTuple):
    """What is counted of all requests to one route with one status."""

    number: Any
    errors: Any
    seconds: Any


class CountRequests(PrometheusMiddleware):
    """Litestar's own metrics, by the template of the route; each series is looked up only once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count and time a request."""
        scope = cast("HTTPScope", scope)
        method, path, status = scope["method"], scope["path_template"], 200

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = perf_counter()
        in_progress = self._in_progress(method, path)
        in_progress.inc()
        try:
            await self.app(scope, receive, send_on)
        except Exception as error:
            # Raised by another middleware, such as for a missing key: answered further out.
            status = _status_of(error)
            raise
        finally:
            in_progress.dec()
            series = self._series(method, path, status)
            series.number.inc()
            series.seconds.observe(perf_counter() - began)
            if status >= 500:
                series.errors.inc()

    @cache  # noqa: B019 - it lives as long as the app
    def _in_progress(self, method: str, path: str) -> Any:
        return self._labelled(self.requests_in_progress, method, path, 200)

    @cache  # noqa: B019
    def _series(self, method: str, path: str, status: int) -> Series:
        return Series(
            self._labelled(self.request_count, method, path, status),
            self._labelled(self.requests_error_count, method, path, status) if status >= 500 else None,
            self._labelled(self.request_time, method, path, status),
        )

    def _labelled(self, metric: Any, method: str, path: str, status: int) -> Any:
        labels = {"method": method, "path": path, "status_code": status, "app_name": self._config.app_name}
        return metric(labels).labels(*labels.values())


def _status_of(error: Exception) -> int:
    match error:
        case Problem(kind=kind):
            return kind.status
        case HTTPException(status_code=status):
            return status
        case asyncpg.PostgresError(sqlstate=sqlstate):
            return kind_of_sqlstate(sqlstate or "").status
        case _:
            return 500


CONFIG = PrometheusConfig(
    app_name="segmentation", group_path=True, middleware_class=CountRequests, scopes={ScopeType.HTTP}
)


class CountBytes(ASGIMiddleware):
    """Counts what imports, exports and reports weigh."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Let the bytes pass, and count them."""
        came, went = (TRANSFER_BYTES.labels(scope["path_template"], way) for way in ("in", "out"))

        async def receive_on() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                came.inc(len(message["body"]))
            return message

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.body":
                went.inc(len(message["body"]))
            await send(message)

        await next_app(scope, receive_on, send_on)


class Gauges:
    """Metrics that are read off when they are asked for."""

    def __init__(self) -> None:
        """None yet."""
        self._families: dict[str, GaugeMetricFamily] = {}

    def set(self, name: str, help_text: str, value: float, **labels: str) -> None:
        """Say how much it is now."""
        name = f"segmentation_{name}"
        if name not in self._families:
            self._families[name] = GaugeMetricFamily(name, help_text, labels=list(labels))
        self._families[name].add_metric(list(labels.values()), value)

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families.values()


@get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics for Prometheus",
    description=(
        "Requests by route, use of the connection pools, shared reads, bytes of transfers, lag of the sweep. "
        "While the database is away, `segmentation_database_up` is 0, as long as the key is still known. Role: reader."
    ),
    tags=["Health"],
    responses={
        **problems(401, 503),
        200: ResponseSpec(
            str,
            media_type="text/plain",
            description="In the text format of Prometheus",
            generate_examples=False,
            examples=[Example(value=EXAMPLE)],
        ),
    },
)
async def metrics(request: ApiRequest, state: State) -> Response[bytes]:
    """Sum up."""
    gauges = Gauges()
    _add_pools(gauges, state.database)
    try:
        rows = await request.auth.database.fetch(request.auth.role, SERVICE_METRICS)
    except (Problem, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        rows = []
    gauges.set("database_up", "Whether the database answered just now", bool(rows))
    for name, help_text, value in rows:
        gauges.set(name, help_text, value)
    now = CollectorRegistry()
    now.register(gauges)
    return Response(
        generate_latest(_counted()) + generate_latest(now),
        headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"},
    )


def _add_pools(gauges: Gauges, database: Database) -> None:
    for name, pool in database.pools.items():
        gauges.set("pool_connections", "Open connections of this process", pool.get_size(), pool=name)
        gauges.set("pool_idle_connections", "Those not in use", pool.get_idle_size(), pool=name)
        gauges.set("pool_max_connections", "How many there may be", pool.get_max_size(), pool=name)


def _counted() -> CollectorRegistry:
    """The counters of this process; or of all of them, where they write to one directory."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


HANDLERS = [metrics]
