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
def main(existing: bool, wait: float) -> None:
    """Bring the database DATABASE_URL up to date; run again, it changes nothing. The login must be allowed to create roles."""
    try:
        migrate(read_settings().database_url, print, patience=wait, existing=existing)
    except (SettingsError, MigrationError) as failure:
        sys.exit(f"error: {failure}")


main(prog_name="python -m service.migrate")
