"""The service of a released version, to compare with: its files from the history, and an environment of its own."""

import subprocess
from pathlib import Path

from tests.bench.outcome import progress
from tests.launcher import ROOT

# The last commit of each.
COMMITS = {"1.0.0": "c933e543"}


def command_of(version: str) -> tuple[str, ...] | None:
    """What starts the service of this version; None where the history does not reach back to it."""
    files = ROOT / ".local" / "bench" / version
    if not (files / ".venv").exists():
        progress(f"installing version {version}")
        archive = subprocess.run(["git", "archive", COMMITS[version]], cwd=ROOT, capture_output=True)
        if archive.returncode:
            return None
        files.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-x", "-C", str(files)], input=archive.stdout, check=True)
        subprocess.run([str(files / ".dev" / "install")], check=True, stdout=subprocess.DEVNULL)
    # env -C starts it where its files are.
    return "env", "-C", str(files), str(Path(".venv") / "bin" / "python"), "-m", "service"
