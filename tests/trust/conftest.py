"""The app and its clients, as in tests/http."""

from tests.http.conftest import admin, editor, reader, serve, service

__all__ = ["admin", "editor", "reader", "serve", "service"]
