"""Migrates, as the command migrate does: python -m service.migrate --help."""

from service.cli.commands import migrate

migrate(prog_name="python -m service.migrate")
