"""docker-compose.yaml as tests read it, and its scripts as they run without Docker."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.readmes import ROOT

FILE = ROOT / "docker-compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def script(name: str) -> str:
    """The shell script of a service, as the shell gets it."""
    text: str = SERVICES[name]["command"][-1]
    return text.replace("$$", "$")


def run(name: str, volume: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the script of a service on this directory; files keep their owner."""
    given = {
        name: setting.replace("/secrets", str(volume))
        for name, setting in SERVICES[name].get("environment", {}).items()
    }
    text = f'chown() {{ echo "$@" >> {volume}.owners; }}\n' + script(name).replace("/secrets", str(volume))
    return subprocess.run(
        ["bash" if name == "secrets" else "sh", "-euc", text],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **given,
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
