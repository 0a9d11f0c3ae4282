"""Moves the users of shards to new ones, while all is in use: python -m service.migrate.move --help.

The new shards are filled by logical replication of the old ones' users, overrides, history and kept answers, as they
are; nobody asks them meanwhile, and a trigger keeps their own jobs off. Then, for less than a second, writes on the old
shards wait: what was written before arrives, the router's slots change hands, and the old shards refuse writes from then
on. Who waited is refused as if by a lock, and tries again where the users are now. Reads never wait: until the switch
the old shards answer them, and one that is on its way in that moment still finds all there.

The switch is one transaction of the router. The old shards have prepared theirs before it, as lists do (sql/router/40_lists.sql),
and the row of segmentation.decisions is a part of it: whatever ends in between, settle() and --undo know
what was decided. Until the switch nothing is lost by giving up, and what was made is taken back. After it the way back
is to move again; the old databases keep what they had, for reads of their own and as long as one likes.
"""

import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import click
import psycopg
from psycopg.conninfo import make_conninfo

from service.migrate import LOCK, MigrationError, migrate
from service.migrate.shards import (
    IS_APPLIED,
    ITSELF,
    LOGIN,
    MINUTES,
    NAMES,
    PASSWORD,
    SUBSCRIPTION,
    USERS,
    Say,
    ShardsError,
    add_shards,
    connect,
    drop_slot,
    drop_subscription,
    follower_of,
    hold_slots,
    leave,
    named,
    of_slots,
    place_of,
    point,
    slot_expression,
    subscribe,
)
from service.settings import SettingsError, read_settings

TABLES = ("users", "memberships", "membership_history", "idempotency_keys")
# What each change writes to, besides the history.
WRITTEN = ("users", "memberships", "idempotency_keys")
TRIGGER = "users_are_on_another_shard"
# Writers wait for as long as we wait for them, and then for as long as it takes until all has arrived.
LOCK_TIMEOUT = "300ms"
ARRIVES_WITHIN = 0.5
# If we are gone without a word before anything is prepared, PostgreSQL lets the writers go on.
IDLE_TIMEOUT = "3s"
GID = "segmentation-move-"
# How often copying may fail: PostgreSQL tries again and again.
MAX_ERRORS = 10
MARK = """
    insert into segmentation.upkeep as u (task, finished_at, rows) values (%s, clock_timestamp(), 0)
    on conflict (task) do update set finished_at = excluded.finished_at
    returning task, finished_at
"""
MARKED = "select 1 from segmentation.upkeep where (task, finished_at) = (%s, %s)"
BEHIND = """
    select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)), 0)
    from pg_replication_slots where slot_name ~ '^segmentation_move_' and database = current_database()
"""
ERRORS = """
    select coalesce(sum(e.apply_error_count + e.sync_error_count), 0)
    from pg_stat_subscription_stats as e join pg_subscription as s on s.oid = e.subid
    join pg_database as d on d.oid = s.subdbid
    where d.datname = current_database()
"""
COPIED = """
    select
      (select count(*) from pg_subscription_rel where srsubstate = 'r'),
      (select sum(tuples_processed) from pg_stat_progress_copy where datname = current_database())
"""
CONFIRMED = """
    select array_agg(confirmed_flush_lsn::text order by slot_name)
    from pg_replication_slots where slot_name ~ '^segmentation_move_' and database = current_database()
"""
IDENTITY = "select relreplident::text from pg_class where oid = 'segmentation.idempotency_keys'::regclass"
IS_AS_TOLD = "select last_value, kept_since::text from segmentation.told_until, segmentation.retention"
TELL = """
    with told as (
      select setval('segmentation.told_until', greatest(t.last_value, %s)) from segmentation.told_until as t
    )
    update segmentation.retention set kept_since = greatest(kept_since, %s::timestamptz) where exists (select from told)
"""
IS_OURS = """
    select not exists (select from segmentation.users)
      or exists (
        select from pg_subscription as s join pg_database as d on d.oid = s.subdbid
        where d.datname = current_database() and s.subname = any (%s)
      )
"""
LEFT_BEHIND = """
    select gid from pg_prepared_xacts where database = current_database() and starts_with(gid, %s)
"""
UNSCHEDULE = """
    do $$
    begin
      if to_regclass('cron.job') is not null then
        perform cron.unschedule(j.jobid) from cron.job as j
        where j.database = current_database() and j.jobname ~ '^segmentation-';
      end if;
    end
    $$
"""
SLOTS = "select slot from segmentation.slots where shard = any (%s) order by slot"
CATALOG = """
    select string_agg(quote_ident(schemaname) || '.' || quote_ident(tablename), ', ')
    from pg_publication_tables where pubname = 'segmentation_catalog'
"""
MONTHS = "select month_start from segmentation.history_partitions()"


class NotNowError(Exception):
    """Somebody writes for longer than others are to wait for us."""


class Move:
    """One move: its databases, each with a session of a superuser."""

    def __init__(
        self, router_url: str, sources: dict[str, str], targets: dict[str, str], say: Say, sessions: ExitStack
    ) -> None:
        """Connect to all of them."""
        self.router_url = router_url
        self.source_urls, self.target_urls = sources, targets
        self.say = say
        self.router = sessions.enter_context(connect(router_url, "router"))
        self.sources = {name: sessions.enter_context(connect(url, "shard")) for name, url in sources.items()}
        self.targets = {name: sessions.enter_context(connect(url, "shard")) for name, url in targets.items()}
        # Held as long as the sessions last: nobody migrates meanwhile, nor moves.
        for session in (self.router, *self.sources.values(), *self.targets.values()):
            if not _value(session, "select pg_try_advisory_lock(%s)", [LOCK]):
                raise ShardsError(f"somebody migrates or moves in database {session.info.dbname} just now")

    def check(self) -> None:
        """Refuse what cannot be meant."""
        names = {name for (name,) in self.router.execute(NAMES)}
        if unknown := set(self.sources) - names:
            raise ShardsError(f"the router has no shard {', '.join(sorted(unknown))}")
        for name, source in self.sources.items():
            if not source.execute(SUBSCRIPTION, [follower_of(name)]).fetchone():
                raise ShardsError(f"the database given for {name} is another one: {source.info.dbname}")
        if known := set(self.targets) & names:
            raise ShardsError(f"{', '.join(sorted(known))} has users already: move them to new shards")
        for name, target in self.targets.items():
            if target.execute(USERS).fetchone():
                raise ShardsError(
                    f"there are users in the database of {name}: take an empty one, or --undo first"
                )
        pairs = [_slot_of(source, target) for source in self.sources for target in self.targets]
        if len(set(pairs)) < len(pairs):
            raise ShardsError("the names of these shards are too long and too much alike")
        slots = [slot for (slot,) in self.router.execute(SLOTS, [list(self.sources)])]
        place_of_slot = {slot: place * len(self.targets) // len(slots) for place, slot in enumerate(slots)}
        self.shares = {
            name: [slot for slot in slots if place_of_slot[slot] == place]
            for place, name in enumerate(self.targets)
        }

    def fill(self) -> None:
        """Let the new shards follow the catalog and the old shards, until they have what those have."""
        expression = slot_expression(self.router)
        share_of = {
            name: of_slots("".join(str(int(slot in slots)) for slot in range(256)), expression)
            for name, slots in self.shares.items()
        }
        for name, target in self.targets.items():
            hold_slots(target, share_of[name])
            _refuse_writes(target)
            for source in self.sources.values():
                for (month,) in source.execute(MONTHS):
                    target.execute("select segmentation.ensure_history_partition(%s)", [month])
        add_shards(self.router_url, self.target_urls, self.say)
        for source_name, source in self.sources.items():
            self._identify_keys(source, "full")
            for name in self.targets:
                self._publish(source_name, name, share_of[name])
                self._subscribe(source_name, name)
        self._wait_until_filled()
        self.say("all users are copied, and changes follow")

    def _wait_until_filled(self) -> None:
        """For as long as it goes on, which may be hours."""
        sources, targets = self.sources.values(), self.targets.values()
        last, until = None, 0.0
        while not all(_value(target, IS_APPLIED) for target in targets) or any(
            _value(source, BEHIND) > 2**20 for source in sources
        ):
            now = [
                *(target.execute(COPIED).fetchone() for target in targets),
                *(source.execute(CONFIRMED).fetchone() for source in sources),
            ]
            if now != last:
                last, until = now, time.monotonic() + 60 * MINUTES
            if time.monotonic() > until:
                raise ShardsError(
                    f"nothing was copied for {MINUTES} minutes: the logs of the new shards say why"
                )
            if any(_value(target, ERRORS) > MAX_ERRORS for target in targets):
                raise ShardsError("copying fails again and again: the logs of the new shards say why")
            time.sleep(0.1)

    def _identify_keys(self, source: psycopg.Connection, by: str) -> None:
        """Between others: who asks for a table queues behind whoever waits to alter it."""
        until = time.monotonic() + 60 * MINUTES
        while _value(source, IDENTITY) != by[0]:
            try:
                with source.transaction():
                    source.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'".encode())
                    source.execute(
                        f"alter table segmentation.idempotency_keys replica identity {by}".encode()
                    )
            except psycopg.errors.LockNotAvailable:
                if time.monotonic() > until:
                    raise ShardsError(
                        f"somebody has held segmentation.idempotency_keys for {MINUTES} minutes, such as a pg_dump"
                    ) from None
                time.sleep(1)

    def _publish(self, source: str, target: str, condition: str) -> None:
        tables = [f"segmentation.{table} where ({condition})" for table in TABLES]
        tables.append(f"segmentation.upkeep where (task = '{_mark_of(source)}')")
        self.sources[source].execute(
            f"create publication {_slot_of(source, target)} for table {', '.join(tables)}"
            " with (publish_via_partition_root = true)".encode()
        )

    def _subscribe(self, source: str, target: str) -> None:
        password = _value(self.router, PASSWORD, [ITSELF])
        place = make_conninfo(**place_of(self.source_urls[source]), user=LOGIN, password=password)
        slot = _slot_of(source, target)
        subscribe(self.targets[target], _subscription_to(source), self.sources[source], place, slot, slot)

    def switch(self) -> None:
        """Let the slots change hands, in a moment in which nobody writes for long."""
        until = time.monotonic() + 60 * MINUTES
        while True:
            try:
                self._switch_now()
                return
            except (NotNowError, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                if time.monotonic() > until:
                    raise ShardsError(
                        f"somebody has been writing for {MINUTES} minutes without a pause"
                    ) from None
                time.sleep(1)

    def _switch_now(self) -> None:
        gid = f"{GID}{uuid.uuid4()}"
        began = time.monotonic()
        try:
            self.prepare(gid)
            self._open_targets()
            with self.router.transaction():
                if self.router.execute("select segmentation.decide(%s, true)", [gid]).fetchone() != (True,):
                    raise NotNowError
                for name, slots in self.shares.items():
                    self.router.execute(
                        "update segmentation.slots set shard = %s where slot = any (%s)", [name, slots]
                    )
                point(self.router)
        finally:
            # What the router says counts, not what we believe: the answer may have been lost.
            moved = _value(self.router, "select segmentation.decide(%s, false)", [gid])
            for name, source in self.sources.items():
                if source.closed:
                    continue
                if source.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    source.execute("rollback")
                else:
                    _finish(source, f"{gid}-{name}", committed=moved)
            if not moved:
                # Their own jobs stay off until the next time.
                for target in self.targets.values():
                    _refuse_writes(target)
        self.say(f"the slots are the new shards' now; writes waited {time.monotonic() - began:.2f} s")

    def prepare(self, gid: str) -> None:
        """Hold all writes, let what was written arrive, and prepare that the old shards refuse them."""
        for source in self.sources.values():
            source.execute("begin")
            source.execute(f"set local idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'".encode())
            source.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'".encode())
            _refuse_writes(source)
        self._wait_until_arrived()
        for name, source in self.sources.items():
            # Only who has prepared it may finish it, and settle() comes as the router.
            source.execute(f"set local role {LOGIN}".encode())
            source.execute(f"prepare transaction '{gid}-{name}'".encode())

    def _wait_until_arrived(self) -> None:
        """Until the new shards have all that was written: what is written last comes last."""
        until = time.monotonic() + ARRIVES_WITHIN
        for name, url in self.source_urls.items():
            with connect(url, "shard") as other:
                # Only what is written to disk is sent.
                other.execute("set synchronous_commit = local")
                mark = other.execute(MARK, [_mark_of(name)]).fetchone()
            for target in self.targets.values():
                while not target.execute(MARKED, mark).fetchone():
                    if time.monotonic() > until:
                        raise NotNowError
                    time.sleep(0.002)

    def _open_targets(self) -> None:
        """Let them be written to, and know what the old shards have told and dropped."""
        told = [source.execute(IS_AS_TOLD).fetchone() for source in self.sources.values()]
        for target in self.targets.values():
            with target.transaction():
                target.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'".encode())
                _accept_writes(target)
                target.execute("set local role segmentation_owner")
                for each in told:
                    target.execute(TELL, each)

    def tidy(self) -> bool:
        """Take away what the move needed, and whoever has no slots: whether they have moved."""
        names = {name for (name,) in self.router.execute(NAMES)}
        moved = set(self.targets) <= names and not set(self.sources) & names
        if not moved and (set(self.targets) & names or not set(self.sources) <= names):
            raise ShardsError("these are not the shards of one move: look at the view segmentation.shards")
        for name, target in self.targets.items():
            if not moved and not _value(target, IS_OURS, [[_subscription_to(each) for each in self.sources]]):
                raise ShardsError(f"the users in the database of {name} are of no move: take an empty one")
            for source_name in self.sources:
                drop_subscription(target, _subscription_to(source_name))
                target.execute("delete from segmentation.upkeep where task = %s", [_mark_of(source_name)])
        for name, source in self.sources.items():
            for target_name in self.targets:
                drop_slot(source, _slot_of(name, target_name))
                source.execute(f"drop publication if exists {_slot_of(name, target_name)}".encode())
            # Left behind by a run that was ended around the switch.
            for (gid,) in source.execute(LEFT_BEHIND, [GID]).fetchall():
                committed = _value(
                    self.router, "select segmentation.decide(%s, false)", [gid[: -len(name) - 1]]
                )
                _finish(source, gid, committed=committed)
            if moved:
                source.execute(UNSCHEDULE)
            else:
                self._identify_keys(source, "default")
        for name, shard in (self.sources if moved else self.targets).items():
            leave(self.router, shard, name)
        if not moved:
            for target in self.targets.values():
                with target.transaction():
                    _accept_writes(target)
                    target.execute("set local session_replication_role = replica")
                    catalog = _value(self.router, CATALOG)
                    users = ", ".join(f"segmentation.{table}" for table in TABLES)
                    target.execute(f"truncate {users}, {catalog}".encode())
        return moved


def _subscription_to(source: str) -> str:
    return f"segmentation_move_{source}"


def _slot_of(source: str, target: str) -> str:
    # Both names: slots are the server's, which may have several shards.
    return f"segmentation_move_{source}_{target}"[:63]


def _mark_of(name: str) -> str:
    return f"move from {name}"


def _value(connection: psycopg.Connection, query: str, arguments: Sequence[object] = ()) -> Any:
    ((value,),) = connection.execute(query, arguments).fetchall()
    return value


def _refuse_writes(shard: psycopg.Connection) -> None:
    """From the commit on. Until then they wait, and reads go on: the lock is SHARE ROW EXCLUSIVE."""
    for table in WRITTEN:
        shard.execute(
            f"create or replace trigger {TRIGGER} before insert or update or delete on segmentation.{table}"
            " for each statement execute function segmentation.refuse_users_elsewhere()".encode()
        )


def _accept_writes(shard: psycopg.Connection) -> None:
    for table in WRITTEN:
        shard.execute(f"drop trigger if exists {TRIGGER} on segmentation.{table}".encode())


def _finish(source: psycopg.Connection, gid: str, *, committed: bool) -> None:
    with suppress(psycopg.errors.UndefinedObject):
        source.execute(f"{'commit' if committed else 'rollback'} prepared '{gid}'".encode())


def move(
    router_url: str, sources: dict[str, str], targets: dict[str, str], say: Say = lambda line: None
) -> None:
    """Let the slots of these shards be those of the others, which are migrated and empty."""
    with ExitStack() as sessions:
        moving = Move(router_url, sources, targets, say, sessions)
        moving.check()
        try:
            moving.fill()
            moving.switch()
        finally:
            moved = moving.tidy()
            say(
                f"{', '.join(sources)}: no shards any more, and kept as they are"
                if moved
                else "all is as it was before"
            )


def undo(
    router_url: str, sources: dict[str, str], targets: dict[str, str], say: Say = lambda line: None
) -> None:
    """Take back what a move that was killed has left; what has moved already stays so."""
    with ExitStack() as sessions:
        moved = Move(router_url, sources, targets, say, sessions).tidy()
        say("the users had moved already: the rest is done now" if moved else "all is as it was before")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "old", "--from", multiple=True, required=True, metavar="NAME=URL", help="A shard that is given up."
)
@click.option(
    "new",
    "--to",
    multiple=True,
    required=True,
    metavar="NAME=URL",
    help="A new, empty database for its users.",
)
@click.option("--undo", "is_undone", is_flag=True, help="Take back what a run that was killed has left.")
def main(old: tuple[str, ...], new: tuple[str, ...], is_undone: bool) -> None:
    """Let new shards take over the slots of old ones, while all is in use; DATABASE_URL is the router's."""
    sources, targets = (dict(named(each) for each in given) for given in (old, new))
    try:
        url = read_settings().database_url
        if is_undone:
            undo(url, sources, targets, print)
            return
        for name, target in targets.items():
            print(f"shard {name}:")
            migrate(target, print, kind="shard")
        move(url, sources, targets, print)
    except (SettingsError, MigrationError, ShardsError, psycopg.OperationalError) as failure:
        sys.exit(f"error: {failure}")


if __name__ == "__main__":
    main(prog_name="python -m service.migrate.move")
