"""The service as its clients see it: the app on this test's database, and keys of each role."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import msgspec
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.testing import TestClient

from service.app import create_app
from service.docs import openapi
from service.settings import Settings
from tests.conftest import Database
from tests.expect import physically

T = TypeVar("T")
TABLES = ["users", "segments", "rollouts", "memberships", "membership_history", "segment_history"]


class Api:
    """A client that sends its key with every request and holds each answer to its schema."""

    def __init__(self, client: TestClient, key: str | None) -> None:
        """Use this client and this key."""
        self.client = client
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def send(self, method: str, path: str, **kwargs: Any) -> Any:
        """Send a request and return the response, whatever it is."""
        headers = self.headers | kwargs.pop("headers", {})
        return self.client.request(method, path, headers=headers, **kwargs)

    def get(self, path: str, schema: type[T]) -> T:
        """Get an answer of this schema."""
        return self.does("GET", path, schema)

    def does(self, method: str, path: str, schema: type[T], body: Any = None, status: int = 200) -> T:
        """Send a request that succeeds, and return its answer, strictly decoded."""
        response = self.send(method, path, json=body)
        assert response.status_code == status, response.text[:500]
        assert response.headers["content-type"] == "application/json"
        return msgspec.json.decode(response.content, type=schema, strict=True)

    def does_silently(self, method: str, path: str) -> None:
        """Send a request that succeeds and has nothing to say."""
        response = self.send(method, path)
        assert (response.status_code, response.content) == (204, b"")

    def is_refused(self, method: str, path: str, status: int, code: str, **kwargs: Any) -> dict[str, Any]:
        """Send a request that fails with this status and code, and return the problem."""
        response = self.send(method, path, **kwargs)
        assert response.headers["content-type"] == "application/problem+json", response.text[:500]
        problem: dict[str, Any] = response.json()
        assert (response.status_code, problem["status"], problem["code"]) == (status, status, code), problem
        assert problem["type"] == f"/docs/errors#{code}"
        assert problem["title"]
        assert problem["detail"]
        assert response.headers.get("retry-after", "0").isdigit()
        assert ("retry-after" in response.headers) == (status == 503)
        return problem


class Service:
    """The app with some settings, running on this test's database."""

    def __init__(self, client: TestClient, db: Database) -> None:
        """Take the client of an app that runs."""
        self.client = client
        self.db = db

    def key(self, role: str, name: str | None = None) -> str:
        """Make a key."""
        return str(self.db.value("select create_api_key(%s, %s)", name or f"test-{role}", role))

    def as_role(self, role: str) -> Api:
        """A client with a new key of this role."""
        return Api(self.client, self.key(role))

    def with_key(self, key: str | None) -> Api:
        """A client with this key, or none."""
        return Api(self.client, key)


@pytest.fixture(scope="session", autouse=True)
def described_once() -> Iterator[None]:
    """Describe the calls once and not for each app, which is most of its start: nothing but the path differs."""
    describe = openapi.describe
    described: dict[str, openapi.Description] = {}

    def once(app: Litestar, handlers: Iterable[HTTPRouteHandler], root_path: str) -> openapi.Description:
        if root_path not in described:
            described[root_path] = describe(app, handlers, root_path)
        return described[root_path]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(openapi, "describe", once)
        yield


@pytest.fixture
def serve(database_url: str, db: Database) -> Iterator[Callable[..., Service]]:
    """Run the app: serve(api_key_cache_seconds=0, …)."""
    with ExitStack() as running:

        def serve_(**settings: Any) -> Service:
            app = create_app(Settings(**{"database_url": database_url, **settings}))
            client = running.enter_context(TestClient(app, raise_server_exceptions=False))
            return Service(client, db)

        yield serve_


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    """The app with its ordinary settings."""
    return serve()


@pytest.fixture
def admin(service: Service) -> Api:
    """A client that may do everything."""
    return service.as_role("admin")


@pytest.fixture
def editor(service: Service) -> Api:
    """A client that may ask, and change users."""
    return service.as_role("editor")


@pytest.fixture
def reader(service: Service) -> Api:
    """A client that may ask."""
    return service.as_role("reader")


@pytest.fixture
def unchanged(db: Database) -> Callable[[], bool]:
    """Whether the data is, row for row, what it was when the test began asking."""
    before: list[Any] = []

    def unchanged_() -> bool:
        now = physically(db, *TABLES)
        before.append(now)
        return before[0] == now

    return unchanged_
