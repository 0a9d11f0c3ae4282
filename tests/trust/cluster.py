"""A PostgreSQL cluster that keeps what it has confirmed, to be killed; and a standby of it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.launcher import ROOT, free_port


class Cluster:
    """A cluster of its own, made by .dev/cluster with fsync and all."""

    def __init__(self, directory: Path) -> None:
        """Make and start it."""
        self.directory = directory
        self.start()
        self.url = self._does("url")
        # The server program is that of the process that runs.
        self.programs = Path(os.readlink(f"/proc/{self.pid}/exe")).parent

    def _does(self, action: str) -> str:
        command = [str(ROOT / ".dev" / "cluster"), action, str(self.directory)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def start(self) -> None:
        """Start it; after a crash it recovers."""
        self._does("start")

    def stop(self) -> None:
        """Break off what runs and stop in order."""
        self._does("stop")

    def remove(self) -> None:
        """Stop it and delete it."""
        self._does("remove")

    @property
    def pid(self) -> int:
        """The process number of the postmaster."""
        return int(self._does("pid"))

    def kill(self) -> None:
        """End the postmaster without warning; its children notice and end."""
        os.kill(self.pid, signal.SIGKILL)

    def kill_one_backend(self) -> None:
        """End the process of one of the service's connections; PostgreSQL then begins anew by itself."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            pids = connection.execute(
                "select pid from pg_stat_activity"
                " where application_name ~ '^segmentation service ([^(]|[(]editor)'"
                " order by state = 'active' desc limit 1"
            ).fetchall()
        for (pid,) in pids:
            os.kill(pid, signal.SIGKILL)

    def cut_connections(self) -> None:
        """End all of the service's connections."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name like 'segmentation service%'"
            )


class Standby:
    """A read-only copy of a cluster that follows it."""

    def __init__(self, primary: Cluster) -> None:
        """Copy the primary and start to follow."""
        owner = pwd.getpwuid((primary.directory / "data").stat().st_uid)
        self._as_owner: dict[str, Any] = {"cwd": "/"}
        if os.geteuid() != owner.pw_uid:
            self._as_owner |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self.directory = tempfile.mkdtemp(prefix="segmentation-standby-")
        os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        port = free_port()
        origin = primary.url.rpartition("/")[0]
        self.url = f"{origin.rpartition(':')[0]}:{port}/segmentation"
        subprocess.run(
            [
                primary.programs / "pg_basebackup",
                "-d",
                f"{origin}/",
                "-D",
                self.directory,
                "-R",
                "-c",
                "fast",
            ],
            check=True,
            **self._as_owner,
        )
        self.process = subprocess.Popen(
            [primary.programs / "postgres", "-D", self.directory, "-p", str(port)],
            stderr=subprocess.DEVNULL,
            **self._as_owner,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def has_all_of(self, primary: Cluster) -> None:
        """Wait until all that the primary has confirmed is here."""
        with psycopg.connect(primary.url, autocommit=True) as connection:
            (position,) = connection.execute("select pg_current_wal_lsn()").fetchone() or ()
        deadline = time.monotonic() + 30
        with psycopg.connect(self.url, autocommit=True) as connection:
            while connection.execute("select pg_last_wal_replay_lsn() < %s", [position]).fetchone() != (
                False,
            ):
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def promote(self) -> None:
        """Make it a primary."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("select pg_promote()")

    def remove(self) -> None:
        """Stop it and delete it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)
        shutil.rmtree(self.directory)
