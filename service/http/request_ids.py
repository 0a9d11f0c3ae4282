"""Request ids and the log: which line belongs to which request."""

import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from random import getrandbits
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

VALID_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
# The link of a report is its permission.
SECRET = re.compile(r"(/v1/reports/)[^\s?\"']+")

# What an answer says it is, it is: no browser is to guess and run it.
NO_SNIFFING = (b"x-content-type-options", b"nosniff")

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")


def new_request_id() -> bytes:
    """An id for a request that brought none."""
    return b"%032x" % getrandbits(128)


class RequestIds:
    """Gives every request an id, its own X-Request-ID if that is a good one, and says it in every answer."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap all of the app, so that no answer is left out."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on under its id."""
        if scope["type"] != ScopeType.HTTP:
            return await self._app(scope, receive, send)
        request_id = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and VALID_ID.fullmatch(value):
                request_id = value
        if not request_id:
            request_id = new_request_id()
        REQUEST_ID.set(request_id.decode())

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], NO_SNIFFING, (b"x-request-id", request_id)]
            await send(message)

        await self._app(scope, receive, send_on)


class Lines(logging.Formatter):
    """One line an event, for people; a traceback has more."""

    def format(self, record: logging.LogRecord) -> str:
        """Put the line together."""
        record.request_id = REQUEST_ID.get()
        return SECRET.sub(r"\1***", super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """Put the object together."""
        event = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": REQUEST_ID.get(),
            "message": SECRET.sub(r"\1***", record.getMessage()),
        }
        if record.exc_info:
            event["exception"] = SECRET.sub(r"\1***", self.formatException(record.exc_info))
        return msgspec.json.encode(event).decode()


def log_config(level: str, log_format: str) -> dict[str, Any]:
    """Everything to standard error, as text or as JSON."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {
                "()": Lines,
                "format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s",
            },
            "json": {"()": JsonLines},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": log_format}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
    }
