"""Serves: python -m service. Given a command, does that instead: python -m service --help."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.server import AppFactory


def command() -> None:
    """Serve, or do what the arguments say."""
    # By the variable a shell asks what completes a command: see "Command line" in README.md.
    if len(sys.argv) == 1 and "_SEGMENTATION_COMPLETE" not in os.environ:
        main()
        return
    # Ctrl-C ends the process at once and without a traceback, until a command handles it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imported here, as the server takes half a second to import and commands do without it.
    from service.cli.commands import commands

    commands(prog_name="segmentation" if sys.argv[0].endswith("segmentation") else "python -m service")


def main(factory: "AppFactory | None" = None) -> None:
    """Check the settings and the database, then serve until told to stop."""
    # Imported only here, so that a command need not wait for the server's libraries.
    import asyncio

    from service.app import create_app, load_tracing
    from service.health import NotFit, check_database
    from service.server import serve
    from service.settings import SettingsError, is_traced, read_settings

    try:
        settings = read_settings()
        if is_traced():
            load_tracing()
        asyncio.run(check_database(settings))
        with shared_metrics(settings.workers):
            serve(settings, factory or create_app)
    except (SettingsError, NotFit) as error:
        sys.exit(f"error: {error}")


@contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """Let several workers count into one directory, so that whichever is asked for metrics knows them all."""
    if workers == 1 or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="segmentation-metrics-") as directory:
        # Workers are new processes, which inherit it.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield


if __name__ == "__main__":
    command()
