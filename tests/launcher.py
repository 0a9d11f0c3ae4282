"""The service as it is run, in a process of its own: the one way in which tests start it.

To import the service takes longer than to start it. So a server is a fork of a process that has imported it and done
nothing else. With several workers, or if a test gives the command, it is begun as in production: python -m service.
"""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PYTHON = (sys.executable, "-m", "service")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.launcher", "service.app", "service.server"])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Fork:
    """A forked server, with as much of subprocess.Popen as tests ask for."""

    def __init__(self, environment: dict[str, str], log: int) -> None:
        """Fork it."""
        self._process = FORKS.Process(target=self._serve, args=(environment, DupFd(log)))
        self._process.start()
        self.pid = self._process.pid or 0

    @staticmethod
    def _serve(environment: dict[str, str], log: Any) -> None:
        from service.__main__ import main

        os.dup2(log.detach(), sys.stderr.fileno())
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(ROOT)
        main()

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it without warning."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(PYTHON, timeout or 0)
        return self.returncode


class Server:
    """A process that serves a database; killed and started again on the same port."""

    def __init__(
        self,
        database_url: str,
        *,
        live: bool = True,
        port: int | None = None,
        pass_fds: Sequence[int] = (),
        command: Sequence[str] | None = None,
        **settings: str,
    ) -> None:
        """Start it, and wait until it answers unless live is false."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = command or PYTHON
        self._is_forked = command is None and "WORKERS" not in settings
        self.pass_fds = pass_fds
        self.environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            **settings,
        }
        # A file: nobody reads it meanwhile, and a full pipe would stop the server.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self.start(live=live)

    def start(self, *, live: bool = True) -> None:
        """Start the process."""
        self.process: Fork | subprocess.Popen = (
            Fork(self.environment, self._log.fileno())
            if self._is_forked
            else subprocess.Popen(
                self.command, env=self.environment, stderr=self._log, cwd=ROOT, pass_fds=self.pass_fds
            )
        )
        if live:
            self.wait_until_live()

    def wait_until_live(self) -> None:
        """Return when it answers."""
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, f"the server has ended: {self.said}"
            with suppress(OSError, HTTPException):
                connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health/live")
                if connection.getresponse().read():
                    connection.close()
                    return
            assert time.monotonic() < deadline, f"the server does not answer: {self.said}"
            time.sleep(0.02)

    def wait_until_ready(self) -> None:
        """Return when each worker has said so: where several listen on one port, any of them may answer."""
        deadline = time.monotonic() + 60
        while self.said.count("ready on port") < int(self.environment.get("WORKERS", "1")):
            assert self.process.poll() is None, f"the server has ended: {self.said}"
            assert time.monotonic() < deadline, f"the server is not ready: {self.said}"
            time.sleep(0.02)

    @property
    def said(self) -> str:
        """All that it has written to standard error."""
        return os.pread(self._log.fileno(), 2**30, 0).decode()

    def kill(self) -> None:
        """End it without warning."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Ask it to end, wait until it has, and return what it said."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> str:
        """Wait for its end, and return what it said."""
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.said
