"""What commands read and write: files of any size, a bar for whoever looks on, sentences when something fails."""

import asyncio
import gzip
import io
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import click

if TYPE_CHECKING:
    from rich.progress import TaskID

READ_AT_ONCE = 256 * 1024
GZIP_BEGINS = b"\x1f\x8b"


class Failed(click.ClickException):
    """Why a command did not do its work, and what to do next; exit code 1."""

    def __init__(self, sentence: str, hint: str | None = None) -> None:
        """Take the sentence, which libpq tells in several lines, and the hint."""
        super().__init__(f"{' '.join(sentence.split()).removesuffix('.')}.")
        self.hint = hint

    def format_message(self) -> str:
        """The sentence, and the hint on a line of its own."""
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.format_message()}", file=file, err=True)


def say(line: str) -> None:
    click.echo(line, err=True)


def print_bytes(part: bytes) -> None:
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
