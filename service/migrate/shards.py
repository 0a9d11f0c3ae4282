"""Puts shards behind a router: logins, the subscription to the catalog, slots.

The router and all shards are migrated first, each as what it is (migrate --kind). Run again for the same shards, it
changes nothing but passwords. It needs superusers' logins, as PL/Proxy and subscriptions do.

A URL may be wrong: a typo, another shard, a copy. So the router goes on calling the database that it has called until now
until the given one is known to be the shard: it holds the shard's slots, and a change of the catalog has come to it.
"""

import re
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import click
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.urls import for_psycopg

Say = Callable[[str], None]

# Longer than this, nobody is waited for.
MINUTES = 10

CLUSTER = "segmentation_shards"
# The same with a limit: for reads that are answered together, and for health.
READS = "segmentation_reads"
LIMIT = " options='-clock_timeout=900ms -cstatement_timeout=1s'"
# The foreign server by which the router calls itself, for decisions in transactions of their own.
ITSELF = "segmentation_router"
# The role by which it logs in, to shards and to itself.
LOGIN = "segmentation_router"
PUBLICATION = "segmentation_catalog"
PASSWORD = """
    select split_part(o, '=', 2)
    from pg_user_mappings, unnest(umoptions) as o
    where srvname = %s and o ~ '^password='
"""
NAMES = "select shard from segmentation.slots group by shard order by shard"
OPTIONS = "select split_part(o, '=', 1) from pg_foreign_server, unnest(srvoptions) as o where srvname = %s"
KIND = "select kind from segmentation.place"
# No row, if there is none.
SUBSCRIPTION = """
    select s.subenabled from pg_subscription as s join pg_database as d on d.oid = s.subdbid
    where d.datname = current_database() and s.subname = %s
"""
# Each subscription of a server needs a worker for good, and one more copies tables.
WORKERS = """
    select current_setting('max_logical_replication_workers')::int, count(*) + 2 from pg_subscription where subenabled
"""
IS_APPLIED = "select bool_and(srsubstate = 'r') from pg_subscription_rel"
SLOTS_OF = "select string_agg((shard = %s)::int::text, '' order by slot) from segmentation.slots having bool_or(shard = %s)"
HELD_SLOTS = """
    select substring(pg_get_constraintdef(c.oid), '[01]{200,}') from pg_constraint as c
    where c.conrelid = 'segmentation.users'::regclass and c.conname = 'users_are_of_this_shard'
"""
USERS = "select 1 from segmentation.users limit 1"
USED = "select 1 from segmentation.users union all select 1 from segmentation.segments limit 1"
# Seconds; the first copy of the catalog is a part of it.
ARRIVES_WITHIN = 60
# A change of the catalog that changes nothing.
CHANGE = """
    insert into segmentation.catalog_version as v (version) values (1)
    on conflict (one_row) do update set version = v.version + 1 returning version
"""
PUBLISHED = """
    select p.tablename, string_agg(quote_ident(a.attname), ', ' order by a.attnum)
    from pg_publication_tables as p
    join pg_attribute as a on a.attrelid = format('%I.%I', p.schemaname, p.tablename)::regclass
      and a.attname = any (p.attnames) and a.attgenerated = ''
    where p.pubname = 'segmentation_catalog' group by p.tablename
"""
HAS_CHANGE = "select 1 from segmentation.catalog_version where version >= %s"


class ShardsError(Exception):
    """Nothing can be done so; the message says why."""


def named(given: str) -> tuple[str, str]:
    """The name and the URL of a shard, as the command line takes them: NAME=URL."""
    name, _, url = given.partition("=")
    if not re.fullmatch("[a-z][a-z0-9_]{0,30}", name) or not url:
        raise click.BadParameter(f"{given} is no NAME=URL, with a name such as s2")
    return name, url


def add_shards(
    router_url: str,
    shards: dict[str, str],
    say: Say = lambda line: None,
    *,
    copy_catalog: bool = False,
) -> None:
    """Put these databases, by their names, behind a router; the first ones share out all slots.

    With copy_catalog, shards that have users get the catalog anew, as is needed after a restore.
    """
    try:
        with ExitStack() as sessions:
            router = sessions.enter_context(connect(router_url, "router"))
            opened = {name: sessions.enter_context(connect(url, "shard")) for name, url in shards.items()}
            for name, shard in opened.items():
                _check(router, shard, name, copy_catalog)
            _add(router, router_url, shards, opened, say, copy_catalog)
    except psycopg.Error as error:
        raise ShardsError(str(error).strip()) from error


def check_router(url: str, asked: str | None) -> None:
    """Refuse a database that is no router, and does not become one; before any shard is touched."""
    with _open(url, "router") as connection:
        found = _kind(connection)
        may_become = not found or (found == "single" and not connection.execute(USED).fetchone())
        if found != "router" and not (asked == "router" and may_become):
            raise ShardsError(
                f"{_place(connection)} is no router, and what has users or segments becomes none: make a new database one by "
                "--kind router"
            )


def _check(router: psycopg.Connection, shard: psycopg.Connection, name: str, copy_catalog: bool) -> None:
    """Refuse a database that cannot be this shard of this router."""
    given = f"the database given for shard {name} ({_place(shard)})"
    dealt = router.execute(SLOTS_OF, [name, name]).fetchone()
    if not dealt:
        if shard.execute(USERS).fetchone():
            raise ShardsError(
                f"{given} has users, and the router has no shard {name} with users: take an empty one"
            )
        return
    held = shard.execute(HELD_SLOTS).fetchone()
    if held != dealt:
        raise ShardsError(
            f"{given} is another one: it holds {'other' if held else 'no'} slots. A shard that is lost is restored first"
        )
    enabled = shard.execute(SUBSCRIPTION, [follower_of(name)]).fetchone()
    if enabled != (True,) and not copy_catalog:
        raise ShardsError(
            f"{given} does not follow the router: its subscription is {'disabled' if enabled else 'missing'}, "
            "as in a restored copy. If this is to be the shard from now on: --copy-catalog"
        )


def _add(
    router: psycopg.Connection,
    router_url: str,
    urls: dict[str, str],
    shards: dict[str, psycopg.Connection],
    say: Say,
    copy_catalog: bool,
) -> None:
    password = _login(router)
    new = [name for name in shards if not router.execute(SLOTS_OF, [name, name]).fetchone()]
    try:
        for name, shard in shards.items():
            shard.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(LOGIN), password))
            if copy_catalog and name not in new:
                _copy_catalog(router, router_url, shard, name, password)
                say(f"shard {name} has a new copy of the catalog")
            else:
                _follow_catalog(router, router_url, shard, name, password)
        _wait_for(router, shards)
    except BaseException:
        for name in new:
            leave(router, shards[name], name)
        raise
    for name in shards:
        say(f"shard {name} follows the catalog")
    # dblink and PL/Proxy never call different databases.
    with router.transaction():
        places = {ITSELF: router_url, **{server_of(name): url for name, url in urls.items()}}
        for server, url in places.items():
            _server(router, server, "dblink_fdw", place_of(url))
            _map_user(router, server, password)
        if not router.execute(NAMES).fetchone():
            deal(router, urls)
            say(f"256 slots are dealt to {', '.join(urls)}")
        point(router)


def deal(router: psycopg.Connection, shards: dict[str, str]) -> None:
    """Share out all slots among these, who have no users yet."""
    names = list(shards)
    with router.transaction():
        router.execute(
            "insert into segmentation.slots select s, (%s::text[])[s * %s / 256 + 1] from generate_series(0, 255) as s",
            [names, len(names)],
        )
        for name in names:
            slots = router.execute(SLOTS_OF, [name, name]).fetchone()
            assert slots
            with connect(shards[name], "shard") as shard:
                hold_slots(shard, of_slots(slots[0], slot_expression(router)))


def slot_expression(router: psycopg.Connection) -> str:
    """The slot of the column user_id, in PostgreSQL's own functions."""
    ((body,),) = router.execute("select prosrc from pg_proc where proname = 'slot_of'").fetchall()
    return str(body).replace("select", "", 1)


def of_slots(slots: str, slot: str) -> str:
    """The condition for users of these slots: 256 digits, of which 1 says that it is one of them."""
    return f"pg_catalog.get_bit(B'{slots}', {slot}) = 1"


def hold_slots(shard: psycopg.Connection, condition: str) -> None:
    """Let a shard refuse users of whom this does not hold."""
    with shard.transaction():
        shard.execute("set local role segmentation_owner")
        for table in ("users", "memberships"):
            # Not for the rows there are, so that they are not read. Of those, no call makes more.
            shard.execute(
                f"""
                alter table segmentation.{table}
                  drop constraint if exists {table}_are_of_this_shard,
                  add constraint {table}_are_of_this_shard
                    check ({condition} or segmentation.refuse_user_of_another_shard(user_id)) not valid
                """.encode()
            )


def point(router: psycopg.Connection) -> None:
    """Let PL/Proxy know where each slot is now, within the transaction that the connection is in."""
    rows = router.execute(
        """
        select s.slot, string_agg(o, ' ' order by o) as place
        from segmentation.slots as s
        join pg_foreign_server as f on f.srvname = 'segmentation_shard_' || s.shard
        cross join unnest(f.srvoptions) as o
        group by s.slot order by s.slot
        """
    ).fetchall()
    ((password,),) = router.execute(PASSWORD, [ITSELF]).fetchall()
    for cluster, limit, options in ((CLUSTER, "", {}), (READS, LIMIT, {"query_timeout": "1"})):
        _server(router, cluster, "plproxy", options | {f"p{slot}": place + limit for slot, place in rows})
        _map_user(router, cluster, password)


def server_of(name: str) -> str:
    """What dblink calls a shard."""
    return f"segmentation_shard_{name}"


def follower_of(name: str) -> str:
    """What the subscription of a shard to the catalog is called, and its replication slot."""
    return f"segmentation_{name}"


def connect(url: str, kind: str) -> psycopg.Connection:
    """A session on a database that is what it should be."""
    connection = _open(url, kind)
    connection.execute(f"set lock_timeout = '{MINUTES}min'".encode())
    if _kind(connection) != kind:
        place = _place(connection)
        connection.close()
        raise ShardsError(f"{place} is no {kind}: migrate it with --kind {kind}")
    return connection


def _open(url: str, kind: str) -> psycopg.Connection:
    try:
        return psycopg.connect(for_psycopg(url), autocommit=True)
    except psycopg.OperationalError as error:
        raise ShardsError(f"a {kind} does not answer: {error}") from error


def _kind(connection: psycopg.Connection) -> str | None:
    """What a database is; nothing, if it was never migrated."""
    with suppress(psycopg.errors.UndefinedTable):
        ((kind,),) = connection.execute(KIND).fetchall()
        return str(kind)
    return None


def _place(connection: psycopg.Connection) -> str:
    return f"{connection.info.dbname} on port {connection.info.port}"


def _login(router: psycopg.Connection) -> str:
    """The password of the router's login, the same everywhere; made at the first time."""
    kept = router.execute(PASSWORD, [ITSELF]).fetchone()
    password = str(kept[0]) if kept else secrets.token_hex(24)
    router.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(LOGIN), password))
    return password


def place_of(url: str) -> dict[str, str]:
    """What libpq needs to find a database, without who asks."""
    given = conninfo_to_dict(for_psycopg(url))
    place = {key: str(given[key]) for key in ("host", "port", "dbname", "sslmode") if given.get(key)}
    # A machine that has vanished does not say no. PL/Proxy knows no connect_timeout.
    return {**place, "connect_timeout": "3", "tcp_user_timeout": "3000"}


def _server(router: psycopg.Connection, name: str, wrapper: str, options: dict[str, str]) -> None:
    there = router.execute(OPTIONS, [name]).fetchall()
    told = sql.SQL(", ").join(
        sql.SQL("{} {} {}").format(
            sql.SQL(("set" if (key,) in there else "add") if there else ""), sql.Identifier(key), value
        )
        for key, value in options.items()
    )
    if there:
        router.execute(sql.SQL("alter server {} options ({})").format(sql.Identifier(name), told))
        return
    router.execute(
        sql.SQL("create server {} foreign data wrapper {} options ({})").format(
            sql.Identifier(name), sql.Identifier(wrapper), told
        )
    )
    router.execute(sql.SQL("alter server {} owner to segmentation_owner").format(sql.Identifier(name)))


def _map_user(router: psycopg.Connection, server: str, password: str) -> None:
    router.execute(
        sql.SQL("drop user mapping if exists for segmentation_owner server {}").format(sql.Identifier(server))
    )
    router.execute(
        sql.SQL("create user mapping for segmentation_owner server {} options (user {}, password {})").format(
            sql.Identifier(server), LOGIN, password
        )
    )


def _follow_catalog(
    router: psycopg.Connection, router_url: str, shard: psycopg.Connection, name: str, password: str
) -> None:
    slot = follower_of(name)
    connection = make_conninfo(**place_of(router_url), user=LOGIN, password=password)
    if shard.execute(SUBSCRIPTION, [slot]).fetchone():
        shard.execute(sql.SQL("alter subscription {} connection {}").format(sql.Identifier(slot), connection))
        # A migration may have given the catalog another table.
        shard.execute(sql.SQL("alter subscription {} refresh publication").format(sql.Identifier(slot)))
        return
    subscribe(shard, slot, router, connection, PUBLICATION, slot)


def _copy_catalog(
    router: psycopg.Connection, router_url: str, shard: psycopg.Connection, name: str, password: str
) -> None:
    """Let a shard follow from now on, with the catalog as it is now: in one transaction, so that reads go on."""
    slot = follower_of(name)
    let_changes_wait(router, but=name)
    drop_subscription(shard, slot)
    drop_slot(router, slot)
    url = for_psycopg(router_url)
    with (
        psycopg.connect(url, autocommit=True, replication="database") as walsender,
        psycopg.connect(url) as source,
        shard.transaction(),
    ):
        # The snapshot of the moment from which the slot has changes.
        made = walsender.execute(
            f"CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput (SNAPSHOT 'export')".encode()
        ).fetchone()
        assert made
        source.execute("set transaction isolation level repeatable read")
        source.execute(f"set transaction snapshot '{made[2]}'".encode())
        # As replication does it: no trigger, and no foreign key.
        shard.execute("set local session_replication_role = replica")
        for table, columns in source.execute(PUBLISHED).fetchall():
            shard.execute(f"delete from segmentation.{table}".encode())
            with (
                source.cursor().copy(f"copy segmentation.{table} ({columns}) to stdout".encode()) as rows,
                shard.cursor().copy(f"copy segmentation.{table} ({columns}) from stdin".encode()) as copied,
            ):
                for row in rows:
                    copied.write(row)
    connection = make_conninfo(**place_of(router_url), user=LOGIN, password=password)
    _create_subscription(shard, slot, connection, PUBLICATION, slot, copy_data=False)


def subscribe(
    shard: psycopg.Connection,
    name: str,
    publisher: psycopg.Connection,
    connection: str,
    publication: str,
    slot: str,
) -> None:
    """Let a shard follow a publication of another database."""
    # PostgreSQL itself would say nothing, and never begin.
    ((there, needed),) = shard.execute(WORKERS).fetchall()
    if there < needed:
        raise ShardsError(
            f"the server of {_place(shard)} has max_logical_replication_workers = {there}:"
            f" {needed} are needed"
        )
    # Of a run that was killed: there is no subscription to it.
    drop_slot(publisher, slot)
    try:
        # Made apart: on one and the same server, creating a subscription would wait for itself.
        publisher.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    except psycopg.errors.LockNotAvailable:
        raise ShardsError(
            f"at {_place(publisher)}, a transaction that writes has been open for {MINUTES} minutes: see"
            " pg_stat_activity and pg_prepared_xacts"
        ) from None
    _create_subscription(shard, name, connection, publication, slot, copy_data=True)


def _create_subscription(
    shard: psycopg.Connection, name: str, connection: str, publication: str, slot: str, *, copy_data: bool
) -> None:
    shard.execute(
        sql.SQL(
            "create subscription {} connection {} publication {}"
            " with (create_slot = false, slot_name = {}, copy_data = {})"
        ).format(sql.Identifier(name), connection, sql.Identifier(publication), slot, copy_data)
    )


def _wait_for(router: psycopg.Connection, shards: dict[str, psycopg.Connection]) -> None:
    """Until each has the catalog; from then on a change of it waits for all that are there."""
    change = router.execute(CHANGE).fetchone()
    until = time.monotonic() + ARRIVES_WITHIN
    for name, shard in shards.items():
        while (
            shard.execute(IS_APPLIED).fetchone() != (True,)
            or not shard.execute(HAS_CHANGE, change).fetchone()
        ):
            if time.monotonic() > until:
                raise ShardsError(
                    f"shard {name} does not get the catalog: see the log of {_place(shard)}; "
                    "a copy of it that runs elsewhere may get it instead"
                )
            time.sleep(0.1)
    let_changes_wait(router)


def let_changes_wait(router: psycopg.Connection, but: str = "") -> None:
    """Let changes of the catalog wait for all shards that follow it, but one whose slot is about to go."""
    slots = router.execute(
        "select slot_name from pg_replication_slots where slot_name ~ '^segmentation_' and database = current_database()"
        " and slot_name <> %s order by 1",
        [follower_of(but)],
    ).fetchall()
    names = ", ".join(name for (name,) in slots)
    any_of_them = f"ANY {len(slots)} ({names})" if slots else ""
    router.execute(f"alter system set synchronous_standby_names = '{any_of_them}'".encode())
    # All else that is committed here waits for nobody.
    router.execute("alter system set synchronous_commit = local")
    router.execute("select pg_reload_conf()")


def leave(router: psycopg.Connection, shard: psycopg.Connection, name: str) -> None:
    """Let a shard that has no slots be one no longer; its database stays as it is."""
    let_changes_wait(router, but=name)
    drop_subscription(shard, follower_of(name))
    drop_slot(router, follower_of(name))
    router.execute(sql.SQL("drop server if exists {} cascade").format(sql.Identifier(server_of(name))))


def drop_subscription(shard: psycopg.Connection, name: str) -> None:
    """Drop it, if it is there; its replication slot is dropped apart, where it may be the same server."""
    if shard.execute(SUBSCRIPTION, [name]).fetchone():
        for action in ("alter subscription {} disable", "alter subscription {} set (slot_name = none)"):
            shard.execute(sql.SQL(action).format(sql.Identifier(name)))
        shard.execute(sql.SQL("drop subscription {}").format(sql.Identifier(name)))


def drop_slot(publisher: psycopg.Connection, name: str) -> None:
    """Drop it, if it is there, as soon as nobody uses it."""
    for _ in range(200):
        found = publisher.execute(
            "select active from pg_replication_slots where slot_name = %s", [name]
        ).fetchone()
        if found is None:
            return
        if found == (False,):
            with suppress(psycopg.errors.ObjectInUse):
                publisher.execute("select pg_drop_replication_slot(%s)", [name])
                return
        time.sleep(0.05)
    raise ShardsError(f"replication slot {name} stays in use")
