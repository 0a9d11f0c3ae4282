"""The README's operations as they stand there, tried on clusters of their own."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
JOBS = ["segmentation-job-log", "segmentation-partitions", "segmentation-purge", "segmentation-sweep"]


def block(heading: str, language: str, number: int = 1) -> str:
    """A code block of a section of the README; test_readme_commands.py sees that each is asked for."""
    section = readme_section(heading)
    return re.findall(rf"^```{language}\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)[number - 1]


def in_a_sentence(heading: str, begin: str) -> str:
    """The command that stands in a sentence of a section and begins so."""
    (found,) = re.findall(rf"`({re.escape(begin)}[^`]*)`", readme_section(heading))
    return found


def readme_section(heading: str) -> str:
    """The text under a heading, up to the next one."""
    fenced = re.compile(r"^```\w*\n.*?^```$|^##+ ([^\n]*)$", re.MULTILINE | re.DOTALL)
    text = (ROOT / "README.md").read_text()
    places = [(found.end(), found[1]) for found in fenced.finditer(text) if found[1]]
    names = [name for _, name in places]
    at = names.index(heading)
    return text[places[at][0] : places[at + 1][0]]


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
