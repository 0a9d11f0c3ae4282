"""The service as it runs, with two routes beside its own to compare with: python -m tests.bench.server."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from litestar import Litestar, Router, get

import service.__main__
import service.app
from service.http.answers import Json
from service.http.bodies import ApiRequest
from service.schemas import At, UserId, UserSegments
from tests.bench.data import connect, url_of, value
from tests.launcher import Server

HOT = "/v1/users/{}/segments"
CONSTANT = "/bench/constant/{}"
ONE_QUERY = "/bench/one-query/{}"
ANSWER = (
    '{"user_id":1000,"segments":["SEGMENT_0004","SEGMENT_0011","SEGMENT_0016","SEGMENT_0019","SEGMENT_0020"]}'
)
PASSWORD = "bench"
JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}


@get("/bench/constant/{user_id:str}")
async def constant(request: ApiRequest, user_id: UserId, at: At = None) -> Json[UserSegments]:
    """Answer without a database."""
    return Json(ANSWER)


@get("/bench/one-query/{user_id:str}")
async def one_query(request: ApiRequest, user_id: UserId, at: At = None) -> Json[UserSegments]:
    """Answer by one call for each request."""
    return Json(await request.auth.call("http_user_segments", user_id=user_id, at=at))


def create_app() -> Litestar:
    """The service and the two routes, which pass the same middleware as its own hot read."""
    app = service.app.create_app()
    (hot,) = (
        handler
        for route in app.routes
        for handler in getattr(route, "route_handlers", [])
        if route.path == HOT.format("{user_id:str}") and "GET" in handler.http_methods
    )
    (with_key,) = (layer for layer in hot.ownership_layers if isinstance(layer, Router) and layer is not app)
    app.register(Router("/", route_handlers=[constant, one_query], middleware=with_key.middleware))
    return app


class Running:
    """The service in a process of its own, and a key."""

    def __init__(self, pid: int, port: int, key: str) -> None:
        """Know where it runs."""
        self.pid = pid
        self.port = port
        self.key = key
        self.headers = {"Authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[bytes, int]:
        """Send a request that succeeds: the beginning of the answer and its length."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=900)
        try:
            connection.request(method, path, body, self.headers | headers)
            response = connection.getresponse()
            first = response.read(65536)
            length = len(first)
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {first[:500].decode()}")
            while part := response.read(1 << 20):
                length += len(part)
            return first, length
        finally:
            connection.close()

    def link_to_report(self, month: str) -> str:
        """The path of a new link to the report of a month, such as 2026-11."""
        link, _ = self.ask("POST", "/v1/reports", json.dumps({"period": month}), **JSON)
        return urlsplit(json.loads(link)["url"]).path

    def memory(self, which: str = "VmRSS") -> int:
        """Bytes of memory that the process and its workers have now (VmRSS) or had at most (VmHWM)."""
        return sum(_kilobytes(pid, which) for pid in _family(self.pid)) * 1024

    def forget_peak(self) -> None:
        """Let VmHWM begin anew."""
        for pid in _family(self.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _kilobytes(pid: int, which: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(which + ":")), 0)


@contextmanager
def running(
    database: str,
    command: tuple[str, ...] = (sys.executable, "-m", "tests.bench.server"),
    **settings: Any,
) -> Iterator[Running]:
    """Serve from this database with the service's own settings, but for those given."""
    with connect(database) as dba:
        dba.execute(f"alter role segmentation_service password '{PASSWORD}'")
        value(dba, "select clock()")
        name = f"bench-{os.getpid()}-{monotonic()}"
        key = value(dba, "select create_api_key(%s, 'admin')", name)
    address = urlsplit(url_of(database))
    given: dict[str, Any] = {name.upper(): str(setting) for name, setting in settings.items()}
    server = Server(
        f"postgresql://segmentation_service:{PASSWORD}@{address.hostname}:{address.port}{address.path}",
        command=command,
        LOG_LEVEL="warning",
        **given,
    )
    try:
        running = Running(server.process.pid, server.port, str(key))
        running.ask("GET", HOT.format(1))
        yield running
    finally:
        server.stop(signal.SIGINT)


if __name__ == "__main__":
    # As python -m service does, only with this app.
    service.__main__.main(create_app)
