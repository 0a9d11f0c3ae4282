"""GET /metrics: what Prometheus is told."""

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.schemas import UserSegments
from tests.conftest import NOON, Clock, Database
from tests.http.conftest import Api, Service
from tests.launcher import Server


class Metrics:
    """The samples of one answer; asked for by name and labels."""

    def __init__(self, api: Api) -> None:
        """Ask now."""
        response = api.send("GET", "/metrics")
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/plain")
        self.text = response.text
        self.samples = [s for family in text_string_to_metric_families(response.text) for s in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum over all samples of this name that have these labels."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())


@pytest.fixture
def metrics(reader: Api) -> Callable[[], Metrics]:
    """Ask for the metrics."""
    return lambda: Metrics(reader)


HOT = "/v1/users/{user_id}/segments"


def test_requests_are_counted_by_route_and_status(reader: Api, metrics: Callable[[], Metrics]) -> None:
    before = metrics()
    for user_id in (1, 2, 3):
        reader.get(f"/v1/users/{user_id}/segments", UserSegments)
    reader.is_refused("GET", "/v1/users/0/segments", 422, "invalid_value")
    Api(reader.client, "wrong").is_refused("GET", "/v1/users/1/segments", 401, "unauthorized")
    after = metrics()
    for status, number in {"200": 3, "422": 1, "401": 1, "500": 0}.items():
        labels = {"path": HOT, "method": "GET", "status_code": status}
        for name in ("litestar_requests_total", "litestar_request_duration_seconds_count"):
            assert after(name, **labels) - before(name, **labels) == number, (name, status)
    assert "/v1/users/1/" not in after.text
    assert after("litestar_requests_in_progress", path=HOT) == 0


def test_errors_of_the_service_are_counted_apart(
    reader: Api, metrics: Callable[[], Metrics], db: Database
) -> None:
    before = metrics()
    db.rows("alter function segmentation.http_user_segments_each rename to hidden")
    reader.is_refused("GET", "/v1/users/1/segments", 500, "internal_error")
    db.rows("alter function segmentation.hidden rename to http_user_segments_each")
    after = metrics()
    assert (
        after("litestar_requests_error_total", path=HOT) - before("litestar_requests_error_total", path=HOT)
        == 1
    )


def test_shared_reads_and_pools_are_shown(reader: Api, metrics: Callable[[], Metrics]) -> None:
    before = metrics()
    for user_id in (1, 2, 3):
        reader.get(f"/v1/users/{user_id}/segments", UserSegments)
    after = metrics()
    assert after("segmentation_shared_reads_total") - before("segmentation_shared_reads_total") == 3
    assert after("segmentation_shared_read_calls_total") - before("segmentation_shared_read_calls_total") >= 1
    for pool in ("reader", "editor", "admin", "bulk"):
        size = after("segmentation_pool_connections", pool=pool)
        assert 0 <= after("segmentation_pool_idle_connections", pool=pool) <= size
        assert size <= after("segmentation_pool_max_connections", pool=pool) >= 1
    assert after("segmentation_pool_connections", pool="reader") >= 1


def test_bytes_of_imports_and_reports_are_counted(
    editor: Api, metrics: Callable[[], Metrics], db: Database
) -> None:
    db.rows("select create_segment('A')")
    before = metrics()
    members = "/v1/segments/{slug}/members"
    body = b"1\n2\n3\n"
    sent = editor.send("POST", "/v1/segments/A/members", content=body, headers={"Content-Type": "text/csv"})
    assert sent.status_code == 200
    link = editor.send("POST", "/v1/reports", json={"period": f"{NOON:%Y-%m}"}).json()["url"]
    report = editor.client.get(link)
    after = metrics()

    def grown(**labels: str) -> float:
        name = "segmentation_transfer_bytes_total"
        return after(name, **labels) - before(name, **labels)

    assert grown(path=members, direction="in") == len(body)
    assert grown(path="/v1/reports/{file_name}", direction="out") > 0
    assert report.status_code == 200


def test_the_lag_of_the_sweep_is_shown(metrics: Callable[[], Metrics], db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1, '{A}', expires_at => %s)", NOON + timedelta(minutes=1))
    db.rows("delete from segmentation.upkeep")
    assert "segmentation_sweep_age_seconds" not in metrics().text
    assert metrics()("segmentation_sweep_lag_seconds") == 0
    clock.advance(minutes=3)
    assert metrics()("segmentation_sweep_lag_seconds") == 120
    assert metrics()("segmentation_segments") == 1
    db.rows("call sweep()")
    clock.advance(seconds=5)
    assert metrics()("segmentation_sweep_lag_seconds") == 0
    assert metrics()("segmentation_sweep_age_seconds") == 5
    assert metrics()("segmentation_database_up") == 1


def test_without_the_database_a_known_key_still_gets_metrics(
    serve: Callable[..., Service], db: Database
) -> None:
    service = serve(api_key_cache_seconds=60)
    api = service.as_role("reader")
    Metrics(api)
    db.rows("alter function segmentation.service_metrics rename to hidden")
    assert Metrics(api)("segmentation_database_up") == 0


def test_metrics_need_a_key(service: Service) -> None:
    service.with_key(None).is_refused("GET", "/metrics", 401, "unauthorized")


def test_all_workers_are_counted_together(run_server: Callable[..., Server], db: Database) -> None:
    server = run_server(WORKERS="2")
    key = db.value("select create_api_key('prometheus', 'reader')")
    # Each request is a new connection, which either worker accepts.
    headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        for _ in range(40):
            assert client.get("/v1/users/1/segments").status_code == 200
        told = [client.get("/metrics").text for _ in range(5)]
    for text in told:
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        (counted,) = (s.value for s in samples if s.name == "segmentation_shared_reads_total")
        assert counted == 40
