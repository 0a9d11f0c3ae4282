"""Serves: python -m service."""

import asyncio
import logging
import sys

import uvicorn

from service.health import NotFit, check_database
from service.settings import SettingsError, read_settings


def main() -> None:
    """Check the settings and the database, then serve until told to stop."""
    try:
        settings = read_settings()
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
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
        access_log=settings.access_log,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.shutdown_timeout),
    )


if __name__ == "__main__":
    main()
