"""The command line: python -m service COMMAND, or the same commands under Litestar's own."""

from typing import Any

import click

from service import __version__

# What a command needs beyond this is imported when it runs, so that --help comes at once.

AS_CSV = click.option("--csv", "as_csv", is_flag=True, help="As CSV with a header line, for programs.")
SLUG = click.argument("slug")
FILE_OUT = click.argument("file", default="-")
MOMENT = "as PostgreSQL reads it: 2026-12-24T18:00Z, tomorrow."


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
        """Say it on standard error."""
        click.echo(f"error: {self.format_message()}", file=file, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="segmentation %(version)s")
def commands() -> None:
    """Look after the segmentation service; without a command, serve.

    Commands call the same SQL functions as the service, on DATABASE_URL, by a login that is a member of the role that
    a command needs: reader, editor or admin. Data goes to standard output, all else to standard error.
    """


@commands.command()
@click.option("--quiet", is_flag=True, help="Say only where it ended.")
def migrate(quiet: bool) -> None:
    """Bring the database up to date; again is harmless. By a login that may create roles."""
    from service.cli import session

    session.migrate(quiet)


@commands.command()
@AS_CSV
def status(as_csv: bool) -> None:
    """Show how things are; exit code 1 if a part is not in order. Role: reader."""
    from service.cli import session

    session.status(as_csv)


@commands.group()
def keys() -> None:
    """Create, list and revoke API keys. Role: admin."""


@keys.command("create")
@click.argument("name")
@click.argument("role")
@click.option("--expires-at", metavar="TIME", help=f"When it ends, {MOMENT} None: never.")
def create_key(name: str, role: str, expires_at: str | None) -> None:
    """Create a key with the role reader, editor or admin, and print it, this once."""
    from service.cli import session

    session.create_key(name, role, expires_at)


@keys.command("list")
@AS_CSV
def list_keys(as_csv: bool) -> None:
    """List all keys, revoked ones too, without the keys themselves."""
    from service.cli import session

    session.list_keys(as_csv)


@keys.command("revoke")
@click.argument("name")
def revoke_key(name: str) -> None:
    """Revoke a key: running services refuse it from the next request on."""
    from service.cli import session

    session.revoke_key(name)


@commands.group()
def segments() -> None:
    """List segments. Role: reader."""


@segments.command("list")
@AS_CSV
def list_segments(as_csv: bool) -> None:
    """List all segments with the percentage that holds now."""
    from service.cli import session

    session.list_segments(as_csv)


@commands.group()
def members() -> None:
    """Import and export the users of a segment."""


@members.command("import")
@SLUG
@click.argument("file", default="-")
@click.option(
    "--operation",
    type=click.Choice(["add", "remove", "replace"]),
    default="add",
    show_default=True,
    help="What to do with the users; replace: FILE is all whom this login has assigned.",
)
@click.option("--expires-at", metavar="TIME", help=f"When the memberships end, {MOMENT} None: never.")
@click.option("--starts-at", metavar="TIME", help="When they start. None: now.")
@click.option("--reason", help="Why; it is kept in the history.")
@click.option(
    "--max-removed",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Change nothing if more would be removed.",
)
@click.option("--dry-run", is_flag=True, help="Count what would change, and change nothing.")
@click.option("--all-actors", is_flag=True, help="Replace what everybody assigned, not only this login.")
def import_members(slug: str, file: str, **options: Any) -> None:
    """Add all users of FILE to the segment SLUG, remove them, or replace the list of before by FILE.

    FILE is text of any length, one user id a line, plain or gzip; a header line user_id is fine; - is standard input.
    All or nothing: a bad line is named, and nothing is changed. Role: editor.
    """
    from service.cli import session

    session.import_members(slug, file, **options)


@members.command("export")
@SLUG
@FILE_OUT
@click.option("--at", metavar="TIME", help=f"As it was or will be then, {MOMENT} None: now.")
def export_members(slug: str, file: str, at: str | None) -> None:
    """Write the ids of the segment's known members to FILE.

    A file is there when it is whole; *.gz is compressed; - is standard output. The import takes it as it is.
    Role: reader.
    """
    from service.cli import session

    session.export_members(slug, file, at)


@commands.command()
@click.argument("period")
@FILE_OUT
@click.option("--user-id", metavar="ID", help="Only this user.")
@click.option("--header", is_flag=True, help="Begin with a line of column names.")
def report(period: str, file: str, user_id: str | None, header: bool) -> None:
    """Write the report of a month (UTC), such as 2026-11, to FILE.

    Lines are user_id;segment;operation;at, by user and time. A file is there when it is whole; *.gz is compressed;
    - is standard output. Role: editor.
    """
    from service.cli import session

    session.report(period, file, user_id, header)
