"""Serves: python -m service."""

import asyncio
import sys
from typing import Any

import uvicorn

from service.health import NotFit, check_database
from service.settings import SettingsError, read_settings


def main() -> None:
    """Check the settings and the database, then serve until told to stop."""
    try:
        settings = read_settings()
        asyncio.run(check_database(settings))
    except (SettingsError, NotFit) as error:
        sys.exit(f"error: {error}")
    uvicorn.run(
        "service.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=settings.access_log,
        log_config=log_config(settings.log_level),
        timeout_graceful_shutdown=round(settings.shutdown_timeout),
        # Longer than the minute after which load balancers drop an idle connection themselves.
        timeout_keep_alive=75,
    )


def log_config(level: str) -> dict[str, Any]:
    """Everything to standard error, one line an event."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
    }


if __name__ == "__main__":
    main()
