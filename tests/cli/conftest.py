"""The command line as people run it, on this test's database.

command() and what stands on it run a command in a fork of this process, which has imported already what python -m
service would import anew each time. start() runs python itself: for signals, terminals and memory.
"""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

# All that commands import, some of it only when they need it.
from service import migrate  # noqa: F401
from service.__main__ import command as run_command
from service.cli import commands, session  # noqa: F401
from tests.conftest import SERVER, Database

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[bytes]]


def environment(database_url: str | None) -> dict[str, str]:
    """A command's environment: this URL, and nothing that changes what it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "COLUMNS")}
    return {**kept, "COLUMNS": "120", "PYTHONPATH": str(ROOT)} | (
        {} if database_url is None else {"DATABASE_URL": database_url}
    )


def run_forked(
    program: Callable[[], object],
    *arguments: str,
    url: str | None,
    stdin: str | bytes = b"",
    umask: int = -1,
) -> subprocess.CompletedProcess[str]:
    """Run a program's main function to its end, in a fork of this process with files of its own."""
    settings = environment(url)

    def run() -> None:
        """Do this in the place of executing a file."""
        # subprocess waits until the fork has closed these.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(settings)
        sys.argv = list(arguments)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, "rww"[n], closefd=False) for n in range(3))
        status: Any = 1
        try:
            status = program()
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status or 0)

    done = subprocess.run(
        arguments,
        preexec_fn=run,
        # Python ignores SIGPIPE, and so it is to stay.
        restore_signals=False,
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        umask=umask,
    )
    return subprocess.CompletedProcess(
        arguments, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()
    )


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    """Start a command: start("status", stdin=…, url=…)."""
    with ExitStack() as running:

        def start_(
            *arguments: str, url: str | None = database_url, **options: Any
        ) -> subprocess.Popen[bytes]:
            usual: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen(
                [sys.executable, "-m", "service", *arguments],
                env=environment(url),
                **{"cwd": ROOT, **usual, **options},
            )
            running.callback(process.wait)
            running.callback(process.kill)
            return process

        yield start_


@pytest.fixture
def command(database_url: str) -> Command:
    """Run a command to its end: command("members", "import", "A", stdin="1\n")."""

    def command_(*arguments: str, url: str | None = database_url, **options: Any) -> Any:
        return run_forked(run_command, "service", *arguments, url=url, **options)

    return command_


@pytest.fixture
def does(command: Command) -> Callable[..., str]:
    """Run a command that succeeds, and return what it wrote to standard output."""

    def does_(*arguments: str, **options: Any) -> str:
        done = command(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    return does_


@pytest.fixture
def fails(command: Command) -> Callable[..., str]:
    """Run a command that fails with a sentence, a hint if there is one, and nothing else; return them."""

    def fails_(*arguments: str, **options: Any) -> str:
        done = command(*arguments, **options)
        assert (done.returncode, done.stdout) == (1, ""), done
        lines = done.stderr.splitlines()
        assert lines[0].startswith("error: ")
        assert lines[0].endswith(".")
        assert all(line.startswith("hint: ") for line in lines[1:])
        assert len(lines) <= 2
        return str(done.stderr)

    return fails_


@pytest.fixture
def login(db: Database) -> Iterator[Callable[..., str]]:
    """Make a person's login that is a member of these roles; the URL it connects with."""
    names: list[str] = []

    def login_(*roles: str) -> str:
        name = f"segmentation_test_person_{len(names)}"
        db.rows(f"drop role if exists {name}")
        db.rows(f"create role {name} login password 'secret'")
        names.append(name)
        for role in roles:
            db.rows(f"grant {role} to {name}")
        dbname = db.value("select current_database()")
        return f"postgresql://{name}:secret@{SERVER['host']}:{SERVER['port']}/{dbname}"

    yield login_
    for name in names:
        db.rows(f"drop role {name}")
