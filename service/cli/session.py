"""A command's session: one role, one connection, one transaction, and every failure in a sentence."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import click
import msgspec

from service.cli.files import Failed, Upload, file_to_read, file_to_write, print_bytes, progress, say, size_of
from service.database import CANNOT_CONNECT, NEXT_STEP, Connection, Database, connect, why_unconnected
from service.http.problems import Problem
from service.http.transfers import Limits
from service.settings import MAX_ROWS, SettingsError, read_settings
from service.uploads import copy_in

T = TypeVar("T")

# Nobody else waits for a command, and Ctrl-C ends it: a day.
PATIENCE = 86400
# No such schema, no such function.
NOT_MIGRATED = ("3F000", "42883")


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
        except (asyncpg.PostgresError, *CANNOT_CONNECT) as error:
            raise Failed(*why_unconnected(error)) from error
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

    async def show(self, query: str, as_csv: bool, *arguments: object) -> list[Any]:
        """Print the rows of a query, in columns for people or as CSV, and return them."""
        statement = await self.connection.prepare(query)
        rows = await statement.fetch(*arguments)
        if as_csv:
            await self.copy(query, *arguments, header=True, to=print_bytes)
            return rows
        names = [column.name for column in statement.get_attributes()]
        lines = [names, *[[_shown(value) for value in row] for row in rows]]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            click.echo("  ".join(map(str.ljust, line, widths)).rstrip())
        return rows


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
    name = "standard output" if file == "-" else Path(file).name
    with file_to_write(file) as opened, progress(hidden=file == "-" and sys.stdout.isatty()) as bar:

        def write(part: bytes) -> None:
            opened.write(part)
            bar(f"writing {name}", len(part), None)

        rows = run(role, lambda database: database.copy(query, *arguments, to=write, **options))
    if file != "-":
        say(f"{rows} rows are in {file}.")


def show(role: str, query: str, as_csv: bool, *arguments: object) -> list[Any]:
    """Print the rows of a query, and return them."""
    return run(role, lambda database: database.show(query, as_csv, *arguments))


def value_of(role: str, query: str, *arguments: object) -> Any:
    """The only value of a query."""
    return run(role, lambda database: database.connection.fetchval(query, *arguments))


def copy_file_in(slug: str, file: str, finish: str, *arguments: object) -> Any:
    """Copy the user ids of a file into PostgreSQL, and return the row of the query that ends the import."""
    name = "standard input" if file == "-" else Path(file).name
    limits = Limits(PATIENCE, PATIENCE, bytes_per_second=1, rows=MAX_ROWS)
    with file_to_read(file) as opened, progress() as bar:
        upload = Upload(opened, lambda read: bar(f"reading {name}", read, size_of(opened)))

        async def work(database: Commanded) -> Any:
            await database.connection.execute("select segmentation.begin_import($1)", slug)
            await copy_in(database.connection, upload.stream(), is_zipped=upload.is_zipped, limits=limits)
            bar("changing memberships", 0, None)
            return await database.connection.fetchrow(finish, slug, *arguments)

        return run("editor", work)
