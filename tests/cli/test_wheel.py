"""What pip installs is whole: it migrates a database from a directory where nothing else is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service import __version__
from tests.cli.conftest import ROOT, environment


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an installed wheel; what it depends on is in the environment of the tests."""
    work = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    # A copy, since building writes beside the sources.
    source = work / "source"
    for folder in ("service", "sql", "migrations"):
        shutil.copytree(ROOT / folder, source / folder)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # pip makes a wheel of it, and installs that.
    options = ["--no-build-isolation", "--no-deps", "--target", str(work / "installed")]
    subprocess.run([*pip, "install", *options, source], check=True)
    return work / "installed"


def test_a_wheel_migrates_and_answers(installed: Path, empty: str, tmp_path: Path) -> None:
    settings = {**environment(empty), "PYTHONPATH": str(installed)}

    def segmentation(*arguments: str) -> str:
        done = subprocess.run(
            [installed / "bin" / "segmentation", *arguments],
            env=settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert segmentation("--version") == f"segmentation {__version__}\n"
    assert "applied migrations/0001_roles_and_schema.sql" in segmentation("migrate")
    assert segmentation("segments", "list").split() == [
        "slug",
        "percent",
        "description",
        "created_at",
        "layer",
    ]
    # A shell asks for what completes a command.
    settings |= {"_SEGMENTATION_COMPLETE": "bash_source"}
    assert "complete -o nosort -F" in segmentation()
    settings |= {
        "_SEGMENTATION_COMPLETE": "bash_complete",
        "COMP_WORDS": "segmentation keys cr",
        "COMP_CWORD": "2",
    }
    assert segmentation() == "plain,create\n"
    assert os.listdir(tmp_path) == []
    asked = "import service.docs.openapi as docs; print(len(docs.FILES), docs.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", asked], env=settings, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert str(installed) in done.stdout


def test_a_wheel_that_lacks_its_sql_refuses(installed: Path, empty: str, tmp_path: Path) -> None:
    (installed / "service" / "sql").rename(tmp_path / "sql")
    try:
        done = subprocess.run(
            [installed / "bin" / "segmentation", "migrate"],
            env={**environment(empty), "PYTHONPATH": str(installed)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    finally:
        (tmp_path / "sql").rename(installed / "service" / "sql")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: sql is missing: ")
