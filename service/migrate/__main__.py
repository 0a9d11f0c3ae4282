"""Migrates: python -m service.migrate --help."""

import sys

import click

from service.migrate import MigrationError, migrate
from service.migrate.shards import ShardsError, add_shards, named
from service.settings import SettingsError, read_settings


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--existing", is_flag=True, help="Make no new schema: there is to be one, such as after a restore."
)
@click.option(
    "--wait",
    default=300.0,
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
def main(existing: bool, wait: float, kind: str | None, shards: tuple[str, ...], copy_catalog: bool) -> None:
    """Bring the database DATABASE_URL up to date; run again, it changes nothing. The login must be allowed to create roles."""
    urls = dict(named(shard) for shard in shards)
    try:
        url = read_settings().database_url
        # A router calls what its shards have, so they come first.
        for name, shard_url in urls.items():
            print(f"shard {name}:")
            migrate(shard_url, print, patience=wait, existing=existing, kind="shard")
        migrate(url, print, patience=wait, existing=existing, kind=kind)
        if urls:
            add_shards(url, urls, print, copy_catalog=copy_catalog)
    except (SettingsError, MigrationError, ShardsError) as failure:
        sys.exit(f"error: {failure}")


main(prog_name="python -m service.migrate")
