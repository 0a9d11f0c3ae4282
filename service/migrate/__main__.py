"""Migrates: python -m service.migrate --help."""

import sys

import click

from service.migrate import MigrationError, migrate
from service.settings import SettingsError, read_settings


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--existing", is_flag=True, help="Make no new schema: there is to be one, such as after a restore."
)
@click.option(
    "--wait", default=300.0, show_default=True, help="Seconds to try again while somebody else is in the way."
)
@click.option(
    "--kind",
    type=click.Choice(["router", "shard"]),
    help="Make it the router of several databases, or a shard of one; it stays what it is.",
)
def main(existing: bool, wait: float, kind: str | None) -> None:
    """Bring the database DATABASE_URL up to date; run again, it changes nothing. The login must be allowed to create roles."""
    try:
        migrate(read_settings().database_url, print, patience=wait, existing=existing, kind=kind)
    except (SettingsError, MigrationError) as failure:
        sys.exit(f"error: {failure}")


main(prog_name="python -m service.migrate")
