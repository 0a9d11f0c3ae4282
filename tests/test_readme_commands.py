"""Every command in the README is run, on what a real make run made, and gives what is printed there.

    ```console   "$ " begins a command of one long shell session, "segmentation=# " one of one long make psql;
                 what follows is what it must print. A line … stands for any number of lines. A longer command
                 goes on after "> ", or "segmentation-# ".
    ```sh        each line is run in that shell session and must succeed
    ```sql       each statement is run in that psql session and must succeed
    ```python    is run with KEY, an API key, and must succeed
    `select …`   in a sentence (call, grant, …): is run and rolled back, and must succeed

What cannot be run here stands in ELSEWHERE with the reason. Times of day and names of keys differ from run to
run and are not compared; the day is that of the README, and salts are made from slugs. After a change,
RENEW_README=1 make test ARGS=tests/test_readme_commands.py prints what the commands now give into the README.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.trust.server import free_port

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

# Where what cannot be run here is run: a test, a fixture, or the script of CI, which then holds the command itself.
ELSEWHERE = {
    # The fixture takes a copy of this checkout; all that follows runs on what make run made there.
    "make run": "tests/test_readme_commands.py::checkout",
    "make stop": "tests/test_readme_commands.py::checkout",
    "make clean": "tests/test_readme_commands.py::checkout",
    "make psql": "tests/test_readme_commands.py::test_every_block_gives_what_it_prints",
    "make help": "tests/test_readme_commands.py::test_make_help_lists_every_target",
    "make test": ".ci/run",
    "make lint": ".ci/run",
    # It takes minutes, and its figures are no test.
    "make bench": ".ci/run",
    # These write what they compare otherwise.
    "RENEW_README=1 make test ARGS=tests/test_readme_commands.py": "tests/test_readme_commands.py::test_every_block_gives_what_it_prints",
    "RENEW_ANSWERS=1 make test ARGS=tests/http/test_examples.py": "tests/http/test_examples.py::test_the_answers_shown_are_those_given",
    "REDRAW=1 make test ARGS=tests/sql/test_picture.py": "tests/sql/test_picture.py::test_the_picture_is_drawn_from_what_the_function_tells",
    "python -m service": "tests/http/test_server.py::test_the_server_serves_until_it_is_told_to_stop",
    "python -m service COMMAND": "tests/cli/conftest.py::start",
    "python -m service.migrate": "tests/cli/test_commands.py::test_the_old_way_to_migrate_says_the_same",
    "python -m service migrate": "tests/operations/test_backup.py::test_a_dump_restored_into_another_server_knows_all_of_it",
    "python -m service status": "tests/operations/test_backup.py::test_a_dump_restored_into_another_server_knows_all_of_it",
    "vacuumdb --all --analyze-in-stages": "tests/operations/test_backup.py::test_a_dump_restored_into_another_server_knows_all_of_it",
    "litestar --app service.app:create_app COMMAND": "tests/cli/test_commands.py::test_litestars_own_command_line_has_the_same_commands",
    # It asks a package registry, which a test does not.
    ".venv/bin/pip install -c requirements.txt '.[otel]'": ".ci/run",
}
# Sections whose blocks need another stage than one service. Who runs them reads them out of the README: Operations
# by block(), each (see below), the others as a whole.
STAGED_ELSEWHERE = {
    "Command line": ("tests/cli/test_commands.py::test_the_readmes_commands_do_what_they_say", ["console"]),
    "Operations": ("tests/operations/conftest.py::block", ["sh", "sql"]),
    "Watching it": ("tests/sql/test_picture.py::test_the_readme_shows_what_the_function_tells", ["console"]),
}
# Blocks that hold no commands.
NOT_COMMANDS = {"text", "json", "yaml", "ini", "promql", "mermaid"}

PROMPTS = {"$ ": "> ", "segmentation=# ": "segmentation-# "}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE_SQL = re.compile(
    r"`((?:select|call|grant|revoke|alter|create|drop|insert into|update|delete from|with|truncate) [^`]+)`",
    re.IGNORECASE,
)
INLINE_COMMAND = re.compile(
    r"`((?:[A-Z_]+=[^\s`]+ )*(?:make|python|pip|docker|litestar|psql|pg_\w+|vacuumdb|yoyo|curl|git|\.venv/\S+|\.dev/\S+|\.ci/\S+)"
    r" [^`]+)`"
)
MARK = "=== end of output ==="

# The README plays on one day. Its clock runs on from there, as each of the schema's functions sees it.
STAGE = """
    create schema readme;
    grant usage on schema readme to public;
    create function readme.shift() returns interval language sql stable
      return '{offset} seconds'::interval;
    create or replace function segmentation.clock() returns timestamptz language sql volatile
      as 'select pg_catalog.clock_timestamp() + readme.shift()';
    create or replace function segmentation.earliest_change() returns timestamptz language sql stable
      as 'select pg_catalog.transaction_timestamp() + readme.shift()';
    create function readme.salt() returns trigger language plpgsql
      as 'begin new.salt := pg_catalog.hashtextextended(new.slug, 0); return new; end';
    create trigger readme before insert on segmentation.segments for each row execute function readme.salt();
"""
OPENING = "2026-11-20 15:11:38+00"


@dataclass
class Step:
    """One command and what the README prints after it."""

    prompt: str
    command: str
    printed: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)


def section(name: str) -> str:
    """A section of the README with all that is under it."""
    found = re.search(rf"^## {name}\n.*?(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found, name
    return found[0]


def blocks() -> Iterator[tuple[str, str]]:
    """Language and text of every fenced block that is run here."""
    text = README.read_text()
    for name in STAGED_ELSEWHERE:
        text = text.replace(section(name), "")
    yield from FENCE.findall(text)


def steps(block: str) -> list[Step]:
    """The commands of a console block."""
    found: list[Step] = []
    for line in block.splitlines():
        if prompt := next((p for p in PROMPTS if line.startswith(p)), None):
            found.append(Step(prompt, line.removeprefix(prompt)))
        elif found and not found[-1].printed and line.startswith(PROMPTS[found[-1].prompt]):
            found[-1].command += "\n" + line.removeprefix(PROMPTS[found[-1].prompt])
        else:
            assert found, f"a console block begins with a prompt, not with {line!r}"
            found[-1].printed.append(line)
    for step in found:
        while step.printed and not step.printed[-1]:
            step.printed.pop()
    return found


def written(block: str, done: list[Step]) -> str:
    """The block with what the commands gave; blank lines between them stay."""
    kept = block.splitlines()
    text = ""
    for number, step in enumerate(done):
        command = step.command.replace("\n", "\n" + PROMPTS[step.prompt])
        output = step.printed if "…" in step.printed else step.given
        text += "\n".join([step.prompt + command, *output]) + "\n"
        if number + 1 < len(done):
            following = done[number + 1]
            at = kept.index(following.prompt + following.command.splitlines()[0])
            text += "\n" if kept[at - 1] == "" else ""
            kept = kept[at:]
    return text


def normal(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"(20\d\d-\d\d-\d\d)([T ])\d\d:\d\d:\d\d(\.\d+)?(Z|\+00)", r"\1\2<time>", line)
    line = re.sub(r"local-admin-[0-9a-f]{6}", "local-admin-<id>", line)
    line = re.sub(r"seg_[0-9a-f]{64}", "seg_<key>", line)
    line = re.sub(r"/v1/reports/[\w-]+", "/v1/reports/<id>", line)
    # Columns are as wide as the widest time in them.
    return re.sub(r"-{3,}", "---", re.sub(r" +", " ", line)).rstrip()


def agrees(printed: list[str], given: list[str]) -> bool:
    """Whether these are the same lines; … stands for any."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(normal(line)) + r"\n" for line in printed
    )
    return re.fullmatch(pattern, "".join(normal(line) + "\n" for line in given)) is not None


class Session:
    """A program that reads commands, one after the other."""

    def __init__(self, program: list[str], ask: str, **kwargs: Any) -> None:
        """Start it; ask is how a command and a mark after its output are written to it."""
        self.ask = ask
        self.process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **kwargs,
        )
        self.status = ""

    def does(self, command: str) -> list[str]:
        """Run a command and return what it prints; status is what the mark says besides."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(self.ask.format(command=command))
        self.process.stdin.flush()
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        lines: list[str] = []
        for line in self.process.stdout:
            if MARK in line:
                before, _, self.status = line.strip().partition(MARK)
                lines += [before] if before else []
                break
            lines.append(re.sub(r"^psql:<stdin>:\d+: ", "", line.rstrip()))
        else:
            raise AssertionError(f"{command}\nended the session, or took more than a minute: {lines}")
        watchdog.cancel()
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def close(self) -> None:
        """End it."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(timeout=30)


@dataclass
class Checkout:
    """A copy of this checkout in which make run serves."""

    path: Path
    port: int
    environment: dict[str, str]

    def here(self, text: str) -> str:
        """What the README says of its port, for this one."""
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")

    def there(self, text: str) -> str:
        """And the other way round."""
        return text.replace(f"127.0.0.1:{self.port}", "127.0.0.1:8080")

    def read(self, name: str) -> str:
        """One of the small files in .local."""
        return (self.path / ".local" / name).read_text().strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """What a newcomer has after make run; taken down with make stop and make clean."""
    path = tmp_path_factory.mktemp("readme") / "segmentation"
    shutil.copytree(
        ROOT,
        path,
        ignore=shutil.ignore_patterns(".git", ".venv", ".local", ".hypothesis", ".schemathesis", "*cache*"),
    )
    # Nothing is installed twice.
    (path / ".venv").symlink_to(Path(sys.prefix))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "TEST_DATABASE_URL", "MAKEFLAGS", "MAKELEVEL")
    }
    port = free_port()
    environment |= {"PORT": str(port), "no_proxy": "127.0.0.1"}
    made = Checkout(path, port, environment)
    log = path.parent / "make-run.log"

    def make(target: str) -> None:
        subprocess.run(["make", "-s", target], cwd=path, env=environment, check=True, capture_output=True)

    with log.open("w") as output:
        server = subprocess.Popen(
            ["make", "-s", "run"], cwd=path, env=environment, stdout=output, stderr=output, process_group=0
        )
        try:
            deadline = time.monotonic() + 120
            while "curl -s" not in log.read_text():
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            # The line that make run prints works as pasted.
            pasted = next(line for line in log.read_text().splitlines() if line.strip().startswith("curl -s"))
            answer = subprocess.run(
                ["bash", "-c", pasted], capture_output=True, text=True, cwd="/", env=environment
            )
            assert answer.stdout == '{"user_id":1000,"segments":[]}', answer
            with psycopg.connect(made.read("database.url"), autocommit=True) as connection:
                (offset,) = connection.execute(  # type: ignore[misc]
                    "select extract(epoch from %s::timestamptz - clock_timestamp())", [OPENING]
                ).fetchone()
                connection.execute(STAGE.format(offset=offset).encode())
                connection.execute("select segmentation.forget_user(1000)")
            yield made
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)
            make("stop")
            make("clean")


def test_every_block_gives_what_it_prints(checkout: Checkout) -> None:
    shell = Session(
        ["bash"],
        # From a file, so that a command that reads its input does not read the next command.
        "cat > .local/command <<'COMMAND'\n{command}\nCOMMAND\n"
        f"source .local/command < /dev/null; echo '{MARK}'$?\n",
        cwd=checkout.path,
        env=checkout.environment,
    )
    psql = Session(
        # psql keeps what it prints to a pipe until it is much.
        ["stdbuf", "-oL", "make", "-s", "psql"],
        "{command}\n\\echo " + MARK + "0\n",
        cwd=checkout.path,
        env=checkout.environment,
    )
    sessions = {"$ ": shell, "segmentation=# ": psql}
    psql.does("")  # the greeting
    text = README.read_text()
    wrong = []
    try:
        for language, block in blocks():
            if language == "console":
                done = steps(block)
                for step in done:
                    if step.command in ELSEWHERE:
                        step.given = step.printed
                        continue
                    given = sessions[step.prompt].does(checkout.here(step.command))
                    step.given = [checkout.there(line) for line in given]
                    if sessions[step.prompt].status != "0":
                        wrong.append(f"{step.command}\nfails: {step.given}")
                    if not agrees(step.printed, step.given):
                        wrong.append("\n".join([step.command, "prints", *step.given, "not", *step.printed]))
                text = text.replace(block, written(block, done))
            elif language == "sh":
                for line in block.splitlines():
                    command = re.sub(r"(^|\s+)#.*", "", line)
                    if command and command not in ELSEWHERE:
                        given = shell.does(checkout.here(command))
                        if shell.status != "0":
                            wrong.append(f"{command}\nfails: {given}")
            elif language == "sql":
                given = psql.does(block)
                if any(line.startswith(("ERROR:", "FATAL:")) for line in given):
                    wrong.append(f"{block}\nfails: {given}")
    finally:
        shell.close()
        psql.close()
    if os.environ.get("RENEW_README"):
        README.write_text(text)
    assert not wrong, "\n\n".join(wrong)


def test_every_python_block_runs(checkout: Checkout) -> None:
    programs = [block for language, block in blocks() if language == "python"]
    assert len(programs) >= 2
    for program in programs:
        subprocess.run(
            [sys.executable, "-c", f"KEY = {checkout.read('admin.key')!r}\n{checkout.here(program)}"],
            check=True,
            cwd=checkout.path,
            env=checkout.environment,
            timeout=60,
        )


def test_every_block_is_of_a_kind_that_is_run_or_holds_no_commands() -> None:
    assert {language for language, _ in blocks()} <= {"console", "sh", "sql", "python"} | NOT_COMMANDS


def prose() -> str:
    """The README without its blocks."""
    return FENCE.sub("", README.read_text())


def test_every_sentence_of_sql_runs(checkout: Checkout) -> None:
    statements = sorted(set(INLINE_SQL.findall(prose())))
    assert len(statements) >= 10
    with psycopg.connect(checkout.read("database.url"), autocommit=True) as connection:
        for statement in statements:
            if statement.startswith("call "):
                connection.execute(statement.encode())
                continue
            with connection.transaction(force_rollback=True):
                connection.execute("create role alice")
                connection.execute("select register_users(array[1000])")
                connection.execute(statement.encode())


def test_every_password_in_a_sentence_is_set(checkout: Checkout) -> None:
    names = re.findall(r"`\\password (\w+)`", prose())
    assert names
    url = checkout.read("database.url")
    passwords = "select rolname, rolpassword from pg_authid"
    with psycopg.connect(url, autocommit=True) as connection:
        before: dict[str, str | None] = dict(connection.execute(passwords).fetchall())
        connection.execute("create role alice login")
        try:
            for name in names:
                # With no terminal to ask on, psql reads what it asks for.
                subprocess.run(
                    ["psql", "-X", "-q", url],
                    input=f"\\password {name}\nsecret\nsecret\n",
                    text=True,
                    capture_output=True,
                    check=True,
                    start_new_session=True,
                )
            after: dict[str, str | None] = dict(connection.execute(passwords).fetchall())
            assert {name for name in after if after[name] != before.get(name)} == set(names)
        finally:
            connection.execute("drop role alice")
            for name in set(names) & set(before):
                connection.execute(f"alter role {name} password '{before[name]}'".encode())


def test_make_help_lists_every_target(checkout: Checkout) -> None:
    told = subprocess.run(
        ["make", "-s", "help"],
        cwd=checkout.path,
        env=checkout.environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [line.split()[1] for line in told.splitlines()] == targets.split()


def test_every_command_in_a_sentence_is_run_somewhere() -> None:
    commands = {command.strip() for command in INLINE_COMMAND.findall(prose())}
    shown = {step.command for language, block in blocks() if language == "console" for step in steps(block)}
    shown |= {
        line.partition("#")[0].strip()
        for language, block in blocks()
        if language == "sh"
        for line in block.splitlines()
    }
    assert commands - shown - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) - shown - commands == set(), "nobody asks for these any more"


def test_what_is_run_elsewhere_is_run_there() -> None:
    for command, place in ELSEWHERE.items():
        file, _, name = place.partition("::")
        line = rf"def {name}\(.*" if name else rf"(?:[A-Z_]+=\S+ )?{re.escape(command)}"
        assert re.search(f"^ *{line}$", (ROOT / file).read_text(), re.MULTILINE), command


def test_every_block_staged_elsewhere_is_read_there() -> None:
    for heading, (place, languages) in STAGED_ELSEWHERE.items():
        found = [language for language, _ in FENCE.findall(section(heading))]
        assert set(found) == set(languages), heading
        file, _, name = place.partition("::")
        assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(), re.MULTILINE), place
        if heading != "Operations":
            assert len(found) == 1, f"{place} runs one"
    # Of Operations, each by its number under its heading.
    there: set[tuple[str, str, int]] = set()
    for part in re.split(r"^### ", section("Operations"), flags=re.MULTILINE):
        counted: dict[str, int] = {}
        for language, _ in FENCE.findall(part):
            counted[language] = counted.get(language, 0) + 1
            there.add((part.splitlines()[0], language, counted[language]))
    run = {
        (heading, language, int(number or 1))
        for file in (ROOT / "tests" / "operations").glob("test_*.py")
        for heading, language, number in re.findall(
            r'\bblock\("([^"]+)", "(\w+)"(?:, (\d))?\)', file.read_text()
        )
    }
    assert run == there
