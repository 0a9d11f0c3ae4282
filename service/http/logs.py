"""The log: one line per event on standard error, as text for people or as JSON for machines."""

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec

from service.http.requests import REQUEST_ID

access = logging.getLogger("service.access")


def log_request(scope: Any, status: int, seconds: float) -> None:
    """Log a request that has ended: by its route, since a path may hold a secret or a line break."""
    fields = {
        "method": scope["method"],
        "route": scope.get("path_template"),
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "key": scope.get("user"),
    }
    access.info(
        "%(method)s %(route)s %(status)s %(milliseconds)s ms key=%(key)s", fields, extra={"fields": fields}
    )


class Lines(logging.Formatter):
    """One line per event, for people; the lines of a traceback are indented."""

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = REQUEST_ID.get()
        return super().format(record).replace("\n", "\n    ")


class JsonLines(logging.Formatter):
    """One JSON object per line, for machines.

    By hand: it takes as many lines to have Litestar and structlog format what granian and asyncpg log as well.
    """

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": REQUEST_ID.get(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(event).decode()


def log_config(level: str, log_format: str) -> dict[str, Any]:
    """The configuration for logging.config.dictConfig."""
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
