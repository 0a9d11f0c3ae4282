"""What the commands do: each as one role, on one connection, in one transaction, from and to files."""

import asyncio
import gzip
import io
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import asyncpg
import click
import msgspec

from service.cli.commands import Failed
from service.database import STATUS, Connection, Database, connect
from service.errors import CANNOT_CONNECT, NEXT_STEP
from service.http.problems import Problem
from service.settings import MAX_ROWS, SettingsError, read_settings
from service.versions import digest

if TYPE_CHECKING:
    from rich.progress import TaskID

T = TypeVar("T")

# Nobody else waits for a command, and Ctrl-C ends it: a day.
PATIENCE = 86400
READ_AT_ONCE = 256 * 1024
GZIP_BEGINS = b"\x1f\x8b"
# No such schema, no such function; and while connecting, no such role.
NOT_MIGRATED = ("3F000", "42883")
NO_ROLE = "22023"

KEYS = """
    select name, role, segmentation.rfc3339(created_at) as created_at,
      segmentation.rfc3339(expires_at) as expires_at, segmentation.rfc3339(revoked_at) as revoked_at
    from segmentation.list_api_keys()"""
SEGMENTS = """
    select slug, percent, description, segmentation.rfc3339(created_at) as created_at
    from segmentation.list_segments(max_rows => 2147483647)"""
FINISH_IMPORT = """
    select received, changed, unchanged, added, removed, rescheduled
    from segmentation.finish_import(
      $1, $2, expires_at => $3::text::timestamptz, starts_at => $4::text::timestamptz, reason => $5,
      max_removed => $6, dry_run => $7, all_actors => $8)"""
MEMBERS = "select user_id from segmentation.segment_members($1, $2::text::timestamptz)"
REPORT = "select * from segmentation.history_report($1, $2::text::bigint)"


def migrate(quiet: bool) -> None:
    """Migrate, and say each step."""
    from service.migrate import MigrationError, migrate

    try:
        version = migrate(read_settings().database_url, (lambda _: None) if quiet else say)
    except (SettingsError, MigrationError, FileNotFoundError) as error:
        raise Failed(str(error)) from error
    if quiet:
        say(f"the database is at version {version}")


def status(as_csv: bool) -> None:
    """Print the parts; fail if one is not in order."""

    async def work(database: "Commanded") -> list[str]:
        needed = digest()
        await database.show(STATUS, as_csv, needed)
        return [row["item"] for row in await database.connection.fetch(STATUS, needed) if not row["ok"]]

    if missing := run("reader", work):
        raise Failed(f"not in order: {', '.join(missing)}")


def create_key(name: str, role: str, expires_at: str | None) -> None:
    """Print a new key."""

    async def work(database: "Commanded") -> str:
        key: str = await database.connection.fetchval(
            "select segmentation.create_api_key($1, $2, $3::text::timestamptz)", name, role, expires_at
        )
        return key

    click.echo(run("admin", work))
    say(f"This is the key {name}, with the role {role}. It is shown this once.")


def list_keys(as_csv: bool) -> None:
    """Print the names of all keys."""
    run("admin", lambda database: database.show(KEYS, as_csv))


def revoke_key(name: str) -> None:
    """Revoke a key."""
    run("admin", lambda database: database.connection.execute("select segmentation.revoke_api_key($1)", name))
    say(f"The key {name} is revoked.")


def list_segments(as_csv: bool) -> None:
    """Print all segments."""
    run("reader", lambda database: database.show(SEGMENTS, as_csv))


def import_members(
    slug: str,
    file: str,
    *,
    operation: str,
    expires_at: str | None,
    starts_at: str | None,
    reason: str | None,
    max_removed: int | None,
    dry_run: bool,
    all_actors: bool,
) -> None:
    """Copy a file into PostgreSQL and change all its users at once."""
    from service.http.bodies import Limits
    from service.uploads import copy_in

    name = "standard input" if file == "-" else Path(file).name
    with file_to_read(file) as opened, progress() as bar:
        upload = Upload(opened, lambda read: bar(f"reading {name}", read, size_of(opened)))

        async def work(database: "Commanded") -> Any:
            connection = database.connection
            await connection.execute("select segmentation.begin_import($1)", slug)
            limits = Limits(PATIENCE, PATIENCE, bytes_per_second=1, rows=MAX_ROWS)
            await copy_in(connection, upload.stream(), is_zipped=upload.is_zipped, limits=limits)
            bar("changing memberships", 0, None)
            return await connection.fetchrow(
                FINISH_IMPORT,
                slug,
                operation,
                expires_at,
                starts_at,
                reason,
                max_removed,
                dry_run,
                all_actors,
            )

        counts = run("editor", work)
    click.echo(", ".join(f"{name}: {count}" for name, count in counts.items()))
    if dry_run:
        say("a dry run: nothing was changed.")


def export_members(slug: str, file: str, at: str | None) -> None:
    """Write the ids of a segment's members."""
    copy_out("reader", file, MEMBERS, slug, at, header=True)


def report(period: str, file: str, user_id: str | None, header: bool) -> None:
    """Write a month's report, as GET /v1/reports gives it."""
    copy_out("editor", file, REPORT, period, user_id, header=header, delimiter=";")


def say(line: str) -> None:
    """Tell a person something."""
    click.echo(line, err=True)


class Commanded(Database):
    """The database as a command sees it: one connection, one role, as much time as it takes."""

    connection: Connection

    def __init__(self) -> None:
        """Read the settings, but wait as long as a person likes."""
        super().__init__(
            msgspec.structs.replace(
                read_settings(), statement_timeout=PATIENCE, lock_timeout=PATIENCE, stall_timeout=PATIENCE
            )
        )

    def connect_arguments(self, pool: str, *, is_retried: bool = False) -> dict[str, Any]:
        """What every connection of a role is made with, under a name of its own."""
        arguments = super().connect_arguments(pool, is_retried=is_retried)
        arguments["server_settings"]["application_name"] = f"segmentation command ({pool})"
        return arguments

    async def do(self, role: str, work: Callable[["Commanded"], Awaitable[T]]) -> T:
        """Do one piece of work as a role, all of it or nothing."""
        try:
            self.connection = await connect(**self.connect_arguments(role))
        except asyncpg.PostgresError as error:
            raise Failed(error.args[0], NEXT_STEP if error.sqlstate == NO_ROLE else error.hint) from error
        except CANNOT_CONNECT as error:
            raise Failed(
                f"the database does not answer: {error or 'it took too long'}", "Is DATABASE_URL right?"
            ) from error
        try:
            async with self.connection.transaction():
                return await work(self)
        finally:
            await self.connection.close(timeout=5)

    async def copy(self, query: str, *arguments: Any, to: Callable[[bytes], None], **options: Any) -> int:
        """Copy the rows of a query as CSV, and say how many there were."""

        async def take(part: bytes) -> None:
            to(part)

        done = await self.connection.copy_from_query(query, *arguments, output=take, format="csv", **options)
        return int(done.removeprefix("COPY "))

    async def show(self, query: str, as_csv: bool, *arguments: object) -> None:
        """Print the rows of a query: in columns for people, or as CSV."""
        if as_csv:
            await self.copy(query, *arguments, header=True, to=print_bytes)
            return
        statement = await self.connection.prepare(query)
        names = [column.name for column in statement.get_attributes()]
        lines = [names, *[[_shown(value) for value in row] for row in await statement.fetch(*arguments)]]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            click.echo("  ".join(map(str.ljust, line, widths)).rstrip())


def _shown(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def run(role: str, work: Callable[[Commanded], Awaitable[T]]) -> T:
    """Do one piece of work as a role; whatever goes wrong is told in a sentence."""
    # What asyncio has to say of a lost connection, the sentence says.
    logging.disable()
    try:
        return asyncio.run(_until_stopped(Commanded().do(role, work)))
    except SettingsError as error:
        raise Failed(str(error)) from error
    except Problem as problem:
        raise Failed(problem.detail, problem.hint) from problem
    except asyncpg.PostgresError as error:
        hint = NEXT_STEP if error.sqlstate in NOT_MIGRATED else error.hint
        raise Failed(error.args[0], hint) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionResetError) as error:
        raise Failed(
            "the connection to the database was lost",
            "A change is made as a whole or not at all: look which it is before you repeat it.",
        ) from error


async def _until_stopped(work: Coroutine[Any, Any, T]) -> T:
    """Do it; a signal takes back what is half done, and then the exit code says which it was."""
    task = asyncio.ensure_future(work)
    got: list[int] = []

    def stop(number: int) -> None:
        got.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        say("stopped: nothing was changed.")
        sys.exit(128 + got[0])


def copy_out(role: str, file: str, query: str, *arguments: Any, **options: Any) -> None:
    """Write the rows of a query to a file."""
    name = "standard output" if file == "-" else Path(file).name
    with file_to_write(file) as opened, progress(hidden=file == "-" and sys.stdout.isatty()) as bar:

        def write(part: bytes) -> None:
            opened.write(part)
            bar(f"writing {name}", len(part), None)

        rows = run(role, lambda database: database.copy(query, *arguments, to=write, **options))
    if file != "-":
        say(f"{rows} rows are in {file}.")


def print_bytes(part: bytes) -> None:
    """Write to standard output."""
    sys.stdout.buffer.write(part)


class Upload:
    """A file, as copy_in reads an upload."""

    def __init__(self, file: io.BufferedReader, tell: Callable[[int], None]) -> None:
        """Look whether it is gzip, which may mean to wait for it: before anything waits for us."""
        self._file = file
        self._tell = tell
        self.is_zipped = file.peek(2)[:2] == GZIP_BEGINS

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield all of it, as it comes."""
        while part := self._file.read1(READ_AT_ONCE):
            self._tell(len(part))
            yield part
            await self._more()

    async def _more(self) -> None:
        """Wait for more in a way that a signal can end."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._file, ready.set)
        except PermissionError:
            return  # a plain file never makes anybody wait
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._file)


def size_of(file: IO[bytes]) -> int | None:
    """How long a file is, if it is one."""
    return os.fstat(file.fileno()).st_size or None


@contextmanager
def file_to_read(name: str) -> Iterator[io.BufferedReader]:
    """Open a file, or standard input."""
    if name == "-":
        yield cast("io.BufferedReader", sys.stdin.buffer)
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise Failed(f"cannot read {name}: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def file_to_write(name: str) -> Iterator[BinaryIO]:
    """A file that gets its name when it is whole; until then, and if it never is, what was there stays."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name).resolve()
    # A pipe or a device cannot be put in place.
    is_special = path.exists() and not path.is_file()
    part = path if is_special else path.with_name(f".segmentation-{os.getpid()}.part")
    try:
        with ExitStack() as opened:
            file: Any = opened.enter_context(part.open("wb" if is_special else "xb"))
            if name.endswith(".gz"):
                file = opened.enter_context(gzip.GzipFile("", "wb", 1, file, mtime=0))
            yield file
        if not is_special:
            part.replace(path)
    except OSError as error:
        raise Failed(f"cannot write {name}: {error.strerror or error}") from error
    finally:
        if not is_special:
            part.unlink(missing_ok=True)


Bar = Callable[[str, int, int | None], None]


@contextmanager
def progress(*, hidden: bool = False) -> Iterator[Bar]:
    """A bar on standard error, if a person looks on: bar(what, bytes more, bytes in all if known)."""
    if hidden or not sys.stderr.isatty():
        yield lambda what, more, total: None
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[size]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        tasks: dict[str, TaskID] = {}
        sizes: dict[str, int] = {}

        def bar(what: str, more: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total, size="")
            sizes[what] = sizes.get(what, 0) + more
            shown.update(tasks[what], advance=more, size=decimal(sizes[what]) if sizes[what] else "")

        yield bar
