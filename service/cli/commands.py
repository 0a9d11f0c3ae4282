"""The command line: python -m service COMMAND, or the same commands under Litestar's own."""

from typing import Any

import click

from service import __version__
from service.cli.files import Failed, say

AS_CSV = click.option("--csv", "as_csv", is_flag=True, help="As CSV with a header line, for programs.")
SLUG = click.argument("slug")
DESCRIPTION = click.option("--description", default="", help="What it is for.")
REASON = click.option("--reason", help="Why; it is kept in the history.")
FILE_OUT = click.argument("file", default="-")
MOMENT = "as PostgreSQL reads it: 2026-12-24T18:00Z, tomorrow."

NEW_KEY = "select segmentation.create_api_key($1, $2, $3::text::timestamptz)"
KEYS = """
    select name, role, segmentation.rfc3339(created_at) as created_at,
      segmentation.rfc3339(expires_at) as expires_at, segmentation.rfc3339(revoked_at) as revoked_at
    from segmentation.list_api_keys()"""
NEW_SEGMENT = (
    "select slug from segmentation.create_segment($1, $2::text::numeric, $3, reason => $4, layer => $5)"
)
SEGMENTS = """
    select slug, percent, description, segmentation.rfc3339(created_at) as created_at, layer
    from segmentation.list_segments(max_rows => 2147483647)"""
NEW_LAYER = "select slug from segmentation.create_layer($1, $2, reason => $3)"
LAYERS = """
    select slug, array_to_string(segments, ' ') as segments, allocated_percent, free_percent, description
    from segmentation.list_layers()"""
LAYER_SEGMENTS = """
    select slug, percent, description, segmentation.rfc3339(created_at) as created_at
    from segmentation.layer_segments($1)"""
FINISH_IMPORT = """
    select received, changed, unchanged, added, removed, rescheduled
    from segmentation.finish_import(
      $1, $2, expires_at => $3::text::timestamptz, starts_at => $4::text::timestamptz, reason => $5,
      max_removed => $6, dry_run => $7, all_actors => $8)"""
IN_ORDER = ("operation", "expires_at", "starts_at", "reason", "max_removed", "dry_run", "all_actors")
MEMBERS = "select user_id from segmentation.segment_members($1, $2::text::timestamptz)"
REPORT = "select * from segmentation.history_report($1, $2::text::bigint)"


def session() -> Any:
    """What a command needs of the database, imported when it runs, so that --help comes at once."""
    from service.cli import session

    return session


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="segmentation %(version)s")
def commands() -> None:
    """Look after the segmentation service; without a command, serve.

    Commands call the same SQL functions as the service, on DATABASE_URL, by a login that is a member of the role that
    a command needs: reader, editor or admin. Data goes to standard output, all else to standard error.
    """


@commands.command()
@click.option(
    "--existing", is_flag=True, help="Make no new schema: there is to be one, such as after a restore."
)
@click.option(
    "--wait",
    type=click.IntRange(min=0),
    default=300,
    show_default=True,
    help="Seconds to try again, at each step, while somebody else is in the way.",
)
@click.option(
    "--kind",
    type=click.Choice(["router", "shard"]),
    help="Make it the router of several databases, or a shard of one; it stays what it is.",
)
@click.option(
    "shards",
    "--shard",
    multiple=True,
    metavar="NAME=URL",
    help="Before it, migrate this database as a shard, and put it behind the router; once for each.",
)
@click.option(
    "--copy-catalog",
    is_flag=True,
    help="Copy the catalog anew to these shards, as is needed after one of them or the router was restored.",
)
@click.option("--quiet", is_flag=True, help="Say only where it ended.")
@click.pass_context
def migrate(
    context: click.Context,
    existing: bool,
    wait: int,
    kind: str | None,
    shards: tuple[str, ...],
    copy_catalog: bool,
    quiet: bool,
) -> None:
    """Bring the database DATABASE_URL up to date; run again, it changes nothing. The login must be allowed to create roles."""
    from service.migrate import MigrationError
    from service.migrate import migrate as bring_up_to_date
    from service.migrate.shards import ShardsError, add_shards, check_router, named
    from service.settings import SettingsError, read_settings

    urls = dict(named(shard) for shard in shards)
    if copy_catalog and not urls:
        raise click.UsageError("--copy-catalog goes with --shard, once for each shard that gets it.")
    # As a program of its own, python -m service.migrate, it says to standard output what it does.
    tell = say if context.parent else click.echo
    step = (lambda _: None) if quiet else tell
    try:
        url = read_settings().database_url
        if urls:
            check_router(url, kind)
        # A router calls what its shards have, so they come first.
        for name, shard_url in urls.items():
            step(f"shard {name}:")
            bring_up_to_date(shard_url, step, patience=wait, existing=existing, kind="shard")
        version = bring_up_to_date(url, step, patience=wait, existing=existing, kind=kind)
        if urls:
            add_shards(url, urls, step, copy_catalog=copy_catalog)
    except (SettingsError, MigrationError, ShardsError, FileNotFoundError) as error:
        raise Failed(str(error)) from error
    if quiet:
        tell(f"the database is at version {version}")


@commands.command()
@AS_CSV
def status(as_csv: bool) -> None:
    """Show how things are; exit code 1 if a part is not in order. Role: reader."""
    from service.database import STATUS
    from service.versions import digest

    parts = session().show("reader", STATUS, as_csv, digest())
    if missing := [part["item"] for part in parts if not part["ok"]]:
        raise Failed(f"not in order: {', '.join(missing)}")


@commands.group()
def keys() -> None:
    """Create, list and revoke API keys. Role: admin."""


@keys.command("create")
@click.argument("name")
@click.argument("role")
@click.option("--expires-at", metavar="TIME", help=f"When it ends, {MOMENT} None: never.")
def create_key(name: str, role: str, expires_at: str | None) -> None:
    """Create a key with the role evaluator, reader, editor or admin, and print it, this once."""
    click.echo(session().value_of("admin", NEW_KEY, name, role, expires_at))
    say(f"This is the key {name}, with the role {role}. It is shown this once.")


@keys.command("list")
@AS_CSV
def list_keys(as_csv: bool) -> None:
    """List all keys, revoked ones too, without the keys themselves."""
    session().show("admin", KEYS, as_csv)


@keys.command("revoke")
@click.argument("name")
def revoke_key(name: str) -> None:
    """Revoke a key: running services refuse it from the next request on."""
    session().value_of("admin", "select segmentation.revoke_api_key($1)", name)
    say(f"The key {name} is revoked.")


@commands.group()
def segments() -> None:
    """Create and list segments."""


@segments.command("create")
@SLUG
@click.option("--percent", default="0", show_default=True, help="Of all users, from now on.")
@click.option("--layer", metavar="LAYER", help="Its users are in no other segment of this layer.")
@DESCRIPTION
@REASON
def create_segment(slug: str, percent: str, layer: str | None, description: str, reason: str | None) -> None:
    """Create the segment SLUG. Role: admin."""
    session().value_of("admin", NEW_SEGMENT, slug, percent, description, reason, layer)
    say(f"The segment {slug} is created.")


@segments.command("list")
@AS_CSV
def list_segments(as_csv: bool) -> None:
    """List all segments with the percentage that holds now. Role: reader."""
    session().show("reader", SEGMENTS, as_csv)


@commands.group()
def layers() -> None:
    """Create, list, show and delete layers, whose segments exclude each other."""


@layers.command("create")
@SLUG
@DESCRIPTION
@REASON
def create_layer(slug: str, description: str, reason: str | None) -> None:
    """Create the layer SLUG. Role: admin."""
    session().value_of("admin", NEW_LAYER, slug, description, reason)
    say(f"The layer {slug} is created.")


@layers.command("list")
@AS_CSV
def list_layers(as_csv: bool) -> None:
    """List all layers: their segments, what these hold now, and what is free. Role: reader."""
    session().show("reader", LAYERS, as_csv)


@layers.command("show")
@SLUG
@AS_CSV
def show_layer(slug: str, as_csv: bool) -> None:
    """Show the segments of the layer SLUG with the percentage that each holds now. Role: reader."""
    session().show("reader", LAYER_SEGMENTS, as_csv, slug)


@layers.command("delete")
@SLUG
@REASON
def delete_layer(slug: str, reason: str | None) -> None:
    """Delete the layer SLUG, which must have no segments. Role: admin."""
    session().value_of("admin", "select segmentation.delete_layer($1, reason => $2)", slug, reason)
    say(f"The layer {slug} is deleted.")


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
@REASON
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
    counts = session().copy_file_in(slug, file, FINISH_IMPORT, *(options[name] for name in IN_ORDER))
    click.echo(", ".join(f"{name}: {count}" for name, count in counts.items()))
    if options["dry_run"]:
        say("a dry run: nothing was changed.")


@members.command("export")
@SLUG
@FILE_OUT
@click.option("--at", metavar="TIME", help=f"As it was or will be then, {MOMENT} None: now.")
def export_members(slug: str, file: str, at: str | None) -> None:
    """Write the ids of the segment's known members to FILE.

    A file is there when it is whole; *.gz is compressed; - is standard output. The import takes it as it is.
    Role: reader.
    """
    session().copy_out("reader", file, MEMBERS, slug, at, header=True)


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
    session().copy_out("editor", file, REPORT, period, user_id, header=header, delimiter=";")
