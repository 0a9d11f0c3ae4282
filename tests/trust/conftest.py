"""The app and its clients, as in tests/http; and the service as a process of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.http.conftest import admin, editor, reader, serve, service
from tests.trust.server import Server

__all__ = ["admin", "editor", "reader", "serve", "service"]


@pytest.fixture
def run_server(database_url: str) -> Iterator[Callable[..., Server]]:
    """Run the service on this test's database: run_server(EDITOR_POOL_SIZE="1", …)."""
    with ExitStack() as running:

        def run(**settings: str) -> Server:
            server = Server(database_url, None, **settings)
            running.callback(server.kill)
            return server

        yield run
