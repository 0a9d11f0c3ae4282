"""Which migrations were applied: yoyo's tables, in a schema of their own."""

from collections.abc import Callable
from typing import Any

import psycopg
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.internalmigrations import needs_upgrading
from yoyo.migrations import Migration, default_migration_table

from service.migrate.attempts import LOCK_TIMEOUT

SCHEMA = "segmentation_migrations"
TABLE = f"{SCHEMA}.{default_migration_table}"


# Limits lock_timeout to the patience that is left; 0 would be no limit.
AT_MOST = """
    select pg_catalog.set_config('lock_timeout', %s::text, false)
    from pg_catalog.pg_settings as s
    where s.name = 'lock_timeout' and s.setting::integer not between 1 and %s
"""


class Bookkeeping(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo on a connection that is there already, whose search path leads to none of its tables."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Make the tables if they are missing."""
        self.given = connection
        super().__init__(None, default_migration_table)
        if needs_upgrading(self):
            self.create_lock_table()
            # A row in it is of a run that was killed: whoever gets here holds the lock of PostgreSQL.
            self.break_lock()
            self.ensure_internal_schema_updated()

    def connect(self, dburi: None) -> psycopg.Connection:
        """Take the connection there is."""
        return self.given

    def list_tables(self, **_: Any) -> list[str]:
        """Its tables, without their schema."""
        found = self.execute(f"select tablename from pg_catalog.pg_tables where schemaname = '{SCHEMA}'")
        return [name for (name,) in found]

    def quote_identifier(self, s: str) -> str:
        """Its tables, with their schema; a column as it is."""
        quoted = super().quote_identifier(s)
        return f"{SCHEMA}.{quoted}" if "yoyo" in s else quoted

    def apply(self, migration: Migration, patience: Callable[[], float]) -> None:
        """Apply a migration and note it, in one transaction: killed in between, neither has happened.

        One that is made concurrently sets a longer lock_timeout, as nobody waits behind it; no longer than patience lasts.
        """
        if migration.use_transactions:
            with self.transaction():
                migration.process_steps(self, "apply")
                self.given.execute("reset role")  # as the file may have left it
                self._note(migration)
            return
        # "-- transactional: false": a statement that PostgreSQL allows in no transaction. What was done before it failed
        # stays, and the next attempt goes on from there; yoyo's own way would undo it, with locks that others wait for.
        with self.disable_transactions():
            try:
                for step in migration.steps:
                    step.apply(self)
                    self.given.execute(AT_MOST, [max(50, int(patience() * 1000))] * 2)
            finally:
                # The next attempt begins as this one did.
                self.given.execute("reset role")
                self.given.execute(LOCK_TIMEOUT)
        self._note(migration)

    def _note(self, migration: Migration) -> None:
        with self.transaction():
            self.log_migration(migration, "apply")
            self.mark_one(migration, log=False)
