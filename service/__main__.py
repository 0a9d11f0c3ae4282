"""Serves: python -m service. Given a command, does that instead: python -m service --help."""

import asyncio
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from tempfile import TemporaryDirectory

import uvicorn

from service.app import load_tracing
from service.health import NotFit, check_database
from service.http.request_ids import log_config
from service.protocol import Protocol
from service.settings import Settings, SettingsError, is_traced, read_settings


def main() -> None:
    """Check the settings and the database, then serve until told to stop."""
    try:
        settings = read_settings()
        if is_traced():
            load_tracing().provider.shutdown()
        asyncio.run(check_database(settings))
    except (SettingsError, NotFit) as error:
        sys.exit(f"error: {error}")
    open_files_for(settings.max_connections)
    with shared_metrics(settings.workers):
        serve(settings)


def open_files_for(connections: int) -> None:
    """Take the right to so many files as connections need, and some for the rest, as far as the system gives it."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, min(most, connections + 1000)), most))


@contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """Let several workers count into one directory, so that whichever is asked for metrics knows them all."""
    if workers == 1 or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="segmentation-metrics-") as directory:
        # Workers are new processes, which take it over.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield


def serve(settings: Settings) -> None:
    """Serve until told to stop."""
    uvicorn.run(
        "service.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=Protocol,
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=settings.access_log,
        log_config=log_config(settings.log_level, settings.log_format),
        # It takes whole seconds: none gets less time than is set.
        timeout_graceful_shutdown=ceil(settings.shutdown_timeout),
        # Longer than the minute after which load balancers drop an idle connection themselves.
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from service.cli.commands import commands

        commands(prog_name="python -m service")
    main()
