"""Every command in the READMEs is run, on what a real make run made, and gives what is printed there.

    ```console   "$ " begins a command of one long shell session, "segmentation=# " one of one long make psql;
                 what follows is what it must print. A line … stands for any number of lines. A longer command
                 goes on after "> ", or "segmentation-# ".
    ```sh        each line is run in that shell session and must succeed
    ```sql       each statement is run in that psql session and must succeed
    ```python    is run with KEY, an API key, and must succeed
    `select …`   in a sentence (call, grant, …): is run and rolled back, and must succeed

Blocks that need another stage are marked, see readmes.py. Times of day and names of keys differ from run to run
and are not compared; the day is that of the README, and salts are made from slugs. After a change,
RENEW_README=1 make test ARGS=tests/test_readme_commands.py prints what the commands now give into the READMEs.
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

from tests.launcher import free_port
from tests.readmes import FENCE, PAGES, ROOT, block, text

# Blocks that hold no commands.
NOT_COMMANDS = {"text", "json", "yaml", "ini", "promql", "mermaid"}

PROMPTS = {"$ ": "> ", "segmentation=# ": "segmentation-# "}
INLINE_SQL = re.compile(
    r"`((?:select|call|grant|revoke|alter|create|drop|insert into|update|delete from|with|truncate) [^`]+)`",
    re.IGNORECASE,
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
    create or replace function segmentation.transaction_start() returns timestamptz language sql stable
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


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every block of a page that is run here."""
    return [(language, body) for mark, _, language, body in FENCE.findall(page.read_text()) if not mark]


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
        # What still agrees stays, so that only what has changed is a difference in git.
        output = step.printed if agrees(step.printed, step.given) else step.given
        text += "\n".join([step.prompt + command, *output]) + "\n"
        if number + 1 < len(done):
            following = done[number + 1]
            at = kept.index(following.prompt + following.command.splitlines()[0])
            text += "\n" if kept[at - 1] == "" else ""
            kept = kept[at:]
    return text


def normal(line: str) -> str:
    """A line, without what differs between runs."""
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
    # A path may hold what means something to a shell.
    path = tmp_path_factory.mktemp("readme") / """segmentation's "best" $HOME"""
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
    start, test = (line.partition("#")[0].split() for line in block("start").splitlines())
    assert test == ["make", "test"], "which is what runs this"

    def make(target: str) -> None:
        subprocess.run(["make", "-s", target], cwd=path, env=environment, check=True, capture_output=True)

    with log.open("w") as output:
        server = subprocess.Popen(
            ["make", "-s", *start[1:]],
            cwd=path,
            env=environment,
            stdout=output,
            stderr=output,
            process_group=0,
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
        # Into a pipe, psql writes only when its buffer is full; stdbuf makes it write each line.
        ["stdbuf", "-oL", "make", "-s", "psql"],
        "{command}\n\\echo " + MARK + "0\n",
        cwd=checkout.path,
        env=checkout.environment,
    )
    sessions = {"$ ": shell, "segmentation=# ": psql}
    psql.does("")  # the greeting
    wrong = []
    try:
        for page in PAGES:
            renewed = page.read_text()
            for language, body in blocks(page):
                if language == "console":
                    done = steps(body)
                    for step in done:
                        given = sessions[step.prompt].does(checkout.here(step.command))
                        step.given = [checkout.there(line) for line in given]
                        if sessions[step.prompt].status != "0":
                            wrong.append(f"{step.command}\nfails: {step.given}")
                        if not agrees(step.printed, step.given):
                            wrong.append(
                                "\n".join([step.command, "prints", *step.given, "not", *step.printed])
                            )
                    renewed = renewed.replace(body, written(body, done))
                elif language == "sh":
                    for line in body.splitlines():
                        if command := re.sub(r"(^|\s+)#.*", "", line):
                            given = shell.does(checkout.here(command))
                            if shell.status != "0":
                                wrong.append(f"{command}\nfails: {given}")
                elif language == "sql":
                    given = psql.does(body)
                    if any(line.startswith(("ERROR:", "FATAL:")) for line in given):
                        wrong.append(f"{body}\nfails: {given}")
            if os.environ.get("RENEW_README"):
                page.write_text(renewed)
    finally:
        shell.close()
        psql.close()
    assert not wrong, "\n\n".join(wrong)


def test_every_python_block_runs(checkout: Checkout) -> None:
    programs = [body for page in PAGES for language, body in blocks(page) if language == "python"]
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
    assert {language for page in PAGES for language, _ in blocks(page)} <= {
        "console",
        "sh",
        "sql",
        "python",
    } | NOT_COMMANDS


def prose() -> str:
    """All pages without their blocks."""
    return FENCE.sub("", text())


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


def test_every_command_in_a_sentence_is_one_that_there_is() -> None:
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(?:[A-Z_]+=[^\s`]+ )*make (\w+)[^`]*`", prose())) <= set(targets.split())
    commands = re.findall(r"`python -m service ([a-z]+)[^`]*`", prose())
    assert commands
    for command in sorted(set(commands)):
        subprocess.run(
            [sys.executable, "-m", "service", command, "--help"], cwd=ROOT, check=True, capture_output=True
        )


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", FENCE.sub("", page.read_text())):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", FENCE.sub("", target.read_text()), re.MULTILINE)
                assert anchor in {slug(heading) for heading in headings}, f"{page}: {link}"


def slug(heading: str) -> str:
    """The name that a forge gives to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_block_that_is_marked_is_asked_for_by_its_name() -> None:
    names = {name for how, name, _, _ in FENCE.findall(text()) if how == "run"}
    tests = [file.read_text() for file in (ROOT / "tests").rglob("test_*.py")]
    asking = "".join(test for test in tests if "block(" in test)
    assert {name for name in names if f'"{name}"' not in asking} == set()
