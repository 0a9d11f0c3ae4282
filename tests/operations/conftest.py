"""The operations of migrations/README.md as they stand there, tried on clusters of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.readmes import ROOT

JOBS = ["segmentation-job-log", "segmentation-partitions", "segmentation-purge", "segmentation-sweep"]


def shell(script: str, folder: Path, **environment: str) -> str:
    """Run a block as it stands; it has to succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**kept, "PATH": path, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def query(url: str, statement: str) -> list[tuple]:
    """What one statement finds."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Make a server with pg_cron, and the empty database segmentation in it; its superuser's URL."""
    program = ROOT / ".dev" / "cluster"
    with ExitStack() as running:

        def make() -> str:
            directory = tmp_path / f"cluster{len(list(tmp_path.glob('cluster*')))}"
            subprocess.run([program, "start", directory, "--cron", "--fast"], check=True)
            running.callback(lambda: subprocess.run([program, "remove", directory], check=True))
            url = subprocess.run([program, "url", directory], check=True, capture_output=True, text=True)
            return url.stdout.strip()

        yield make
