"""One truth on every database: whatever version it comes from and whatever was done to it, it becomes like a new one.

dumps/ holds databases of released versions, with something of everything in them.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from service import versions
from service.migrate import MigrationError, migrate
from tests.catalog.shape import differences, shape
from tests.conftest import Database
from tests.readmes import block

DUMPS = sorted(Path(__file__).with_name("dumps").glob("*.sql"))
LAST_MIGRATION = f"applied migrations/{versions.migration_files()[-1].name}"
HISTORIES = """
    select u.user_id, h.* from segmentation.users as u, segmentation.user_history(u.user_id) as h
    order by u.user_id, h.at, h.segment, h.operation
"""
SEGMENTS = """
    select u.user_id, s.segment, s.source from segmentation.users as u, segmentation.user_segments(u.user_id) as s
    order by u.user_id, s.segment
"""


def query(url: str, statement: str) -> list[tuple]:
    """What one statement finds, whose names need no schema."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set search_path = segmentation")
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_a_database_of_an_earlier_version_becomes_like_a_new_one(
    dump: Path, fresh: str, empty_database: Callable[[], str]
) -> None:
    url = empty_database()
    query(url, dump.read_text())
    segments, histories = query(url, SEGMENTS), query(url, HISTORIES)
    assert segments and histories
    migrate(url)
    assert differences(shape(url), shape(fresh)) == []
    assert query(url, SEGMENTS) == segments
    # Events had no more than this at first.
    assert [event[:5] for event in query(url, HISTORIES)] == [event[:5] for event in histories]


WORKING = """
    select create_segment('A', 100);
    select change_user_segments(1, '{A}');
    select change_user_segments(1, remove => '{A}');
    select * from user_history(1);
    select http_user_segments(1, null);
    select * from service_status();
"""


@pytest.mark.usefixtures("fresh")  # the roles
def test_a_change_by_1_0_0_that_waits_while_functions_are_deployed_is_made(
    empty_database: Callable[[], str],
) -> None:
    """Its body calls functions that are there no more."""
    url = empty_database()
    query(url, (DUMPS[0].parent / "1.0.0.sql").read_text())
    ((user_id,),) = query(url, "select min(user_id) from users")
    ((slug,),) = query(url, "select max(slug) from living_segments")
    holder, caller, watcher = Database(url), Database(url), Database(url)
    with ThreadPoolExecutor() as pool:
        calls = []

        def say(line: str) -> None:
            if line == LAST_MIGRATION:
                holder.rows("begin")
                holder.rows("select from segmentation.users where user_id = %s for update", user_id)
                change = "select segmentation.change_user_segments(%s, array[%s], reason => 'begun before')"
                calls.append(pool.submit(caller.rows, change, user_id, slug))
                waits = "select exists (select from pg_locks where pid = %s and not granted)"
                while not watcher.value(waits, caller.connection.info.backend_pid):
                    pass
            if "waits for calls" in line:
                assert not calls[0].done()
                holder.rows("commit")

        try:
            migrate(url, say, patience=20)
        finally:
            holder.connection.close()
        assert calls[0].result()


# The deploy that makes a trigger of the table goes on when somebody waits for a lock.
WAIT_FOR_A_CALL = """
    create function public.wait_for_a_call() returns event_trigger language plpgsql as $$
    declare
      made regclass;
    begin
      select t.tgrelid into made
      from pg_event_trigger_ddl_commands() as c
      join pg_trigger as t on t.oid = c.objid;
      while made = {relation} and not exists (select from pg_locks as l where l.relation <> 0 and not l.granted) loop
        perform pg_sleep(0.001);
      end loop;
    end
    $$;
    create event trigger wait_for_a_call on ddl_command_end when tag in ('CREATE TRIGGER')
    execute function public.wait_for_a_call();
"""
IS_LOCKED = """
    select exists (
      select from pg_locks where relation = %s and mode in ('ShareRowExclusiveLock', 'AccessExclusiveLock') and granted
    )
"""


@pytest.mark.usefixtures("fresh")  # the roles
@pytest.mark.parametrize(
    ("relation", "call", "is_settled"),
    [
        # They have read the clock before, so the new triggers find their moment settled. Services try them again by
        # themselves.
        # An exclusion ends.
        ("memberships", "select change from segmentation.change_user_segments(7, '{Whole}')", True),
        ("memberships", "select change from segmentation.change_user_segments(7, '{None}')", True),
        ("rollouts", "select percent from segmentation.set_rollout('None', 5)", True),
        ("rollouts", "select percent from segmentation.set_rollout('Whole', 5)", True),
        # These ask for columns that are more afterwards.
        ("segments", "select slug from segmentation.create_segment('New', 10)", False),
        ("segments", "select slug from segmentation.update_segment('None', 'nobody')", False),
        ("segments", "select segmentation.delete_segment('None')", False),
    ],
)
def test_a_call_of_1_0_0_that_waits_while_triggers_are_deployed_is_made_or_to_be_made_again(
    empty_database: Callable[[], str], relation: str, call: str, is_settled: bool
) -> None:
    url = empty_database()
    query(url, (DUMPS[0].parent / "1.0.0.sql").read_text())
    query(url, "select create_segment('Whole', 100), create_segment('None', 0)")
    query(url, "select change_user_segments(7, remove => '{Whole}')")
    # Whoever has read this clock has waited for a second since.
    clock = "create or replace function clock() returns timestamptz language sql as"
    query(url, f"{clock} $$ select clock_timestamp() - interval '1 s' $$")
    ((relation_id,),) = query(url, f"select '{relation}'::regclass::oid")
    caller, watcher = Database(url), Database(url)
    calls = []

    def call_when_it_is_locked() -> list[tuple]:
        while not watcher.value(IS_LOCKED, relation_id):
            pass
        return caller.rows(call)

    with ThreadPoolExecutor() as pool:

        def say(line: str) -> None:
            if line == LAST_MIGRATION:
                query(url, WAIT_FOR_A_CALL.format(relation=relation_id))
                calls.append(pool.submit(call_when_it_is_locked))

        try:
            migrate(url, say)
        finally:
            watcher.connection.close()  # so that no call waits for ever
        if is_settled:
            with pytest.raises(errors.SerializationFailure):
                calls[0].result()
            assert caller.rows(call)
        else:
            assert calls[0].result()


@pytest.mark.usefixtures("fresh")  # the roles
@pytest.mark.parametrize("function", ["get_segment('New')", "list_segments()"])
def test_a_query_of_1_0_0_that_goes_on_after_the_deploy_has_its_columns(
    empty_database: Callable[[], str], function: str
) -> None:
    """Its function looks for the view only when the first row is asked for, and segments have a column more by then."""
    url = empty_database()
    query(url, (DUMPS[0].parent / "1.0.0.sql").read_text())
    query(url, "select create_segment('New', 10)")
    reader = Database(url)

    def say(line: str) -> None:
        if line == LAST_MIGRATION:
            page = f"select slug, percent from segmentation.{function} where slug = 'New'"
            reader.rows(f"begin; declare page cursor for {page}")

    migrate(url, say)
    assert reader.rows("fetch page") == [("New", 10)]


FAULTS = {
    "functions of earlier versions": [
        # A parameter more once: every call that gives fewer is "not unique".
        "create function user_segments(user_id bigint, at timestamptz default null, old int default 1) "
        "returns int language sql as 'select 1'",
        "create function old_name(user_id bigint) returns int language sql as 'select 1'",
        "grant execute on function old_name to segmentation_reader",
        "create procedure old_procedure() language sql as 'select 1'",
        "create aggregate old_aggregate(int) (sfunc = int4pl, stype = int)",
        'create function "Old (name"(int) returns int language sql as $$ select 1 $$',
        "create view old_view as select * from users; grant select on old_view to public",
        "create function of_old_view() returns setof old_view language sql as 'select * from segmentation.old_view'",
    ],
    "functions other than in sql/": [
        "create or replace function clock() returns timestamptz language sql as $$ select timestamptz '2000-01-01Z' $$",
        "alter function user_segments(bigint, timestamptz) reset search_path",
        "alter function users_segments(bigint[]) security invoker",
        "alter function rfc3339(timestamptz) rename to old_name",
        "alter function forget_user(bigint, text, text) owner to postgres",
        "drop function user_history(bigint, timestamptz, timestamptz)",
        "drop function rollout_steps; create function rollout_steps(slug text) returns int language sql as 'select 1'",
        "drop function delete_segment(text, text, text); create procedure delete_segment(text, text, text) "
        "language sql as 'select 1'",
    ],
    "rights": [
        "revoke execute on function user_segments(bigint, timestamptz) from segmentation_reader",
        "revoke usage on schema segmentation from segmentation_reader",
        "grant execute on function forget_user(bigint, text, text) to segmentation_reader with grant option",
        "grant execute on function delete_segment(text, text, text) to public",
        "grant create on schema segmentation to public",
        "grant select on api_keys to segmentation_reader",
        "grant update (key_digest) on api_keys to segmentation_editor",
        "grant select (salt) on listed_segments to segmentation_evaluator",
        "grant usage on sequence segments_segment_id_seq to public",
        "revoke usage on type rollout_step from public",
        'do $$ begin create role "an other"; exception when duplicate_object then null; end $$; '
        'grant execute on function clock() to "an other"',
        "alter default privileges for role segmentation_owner grant execute on functions to public",
        "alter default privileges for role segmentation_owner in schema segmentation grant select on tables to public",
    ],
    "triggers": [
        "drop trigger memberships_after_insert on memberships",
        "alter table memberships disable trigger memberships_after_delete",
        "alter table rollouts enable replica trigger rollouts_after_insert",
        "create or replace trigger memberships_refuse_truncate before update on memberships "
        "for each statement execute function refuse_truncate()",
        "create trigger old_trigger before truncate on users for each statement execute function refuse_truncate()",
        "drop trigger segments_refuse_truncate on segments; create constraint trigger segments_refuse_truncate "
        "after insert on segments for each row execute function refuse_truncate()",
    ],
    "rules and row security": [
        "create rule nobody as on delete to memberships do instead nothing",
        "create rule nobody as on update to listed_segments do instead nothing",
        "alter table segments enable row level security",
        "alter table segments force row level security",
        "create policy own on segments using (created_at < now())",
    ],
    "a view that says something else": [
        "create or replace view listed_segments as select s.slug, s.description, 0::numeric as percent, s.created_at, "
        "s.salt, null::text collate \"C\" as layer from segments as s where s.deleted_at = 'infinity'",
    ],
    "a view with a column more": [
        "do $$ begin execute 'create or replace view listed_segments as select l.*, 1 as more from ('"
        " || rtrim(pg_get_viewdef('listed_segments'::regclass), ';') || ') as l'; end $$",
    ],
    "a view with an option": ["alter view listed_segments set (security_barrier = true)"],
    "comments": [
        "comment on function user_segments(bigint, timestamptz) is 'something else'",
        "comment on function users_segments(bigint[]) is null",
        "comment on table memberships is 'ours'",
        "comment on column memberships.reason is 'why'",
        "comment on view overrides is 'all'",
        "comment on trigger memberships_after_delete on memberships is 'keeps'",
        "comment on constraint memberships_pkey on memberships is 'one'",
        "comment on index memberships_ends_at_idx is 'who is next'",
        "comment on type rollout_step is 'a step'",
        "comment on column rollout_step.percent is 'of all'",
        "comment on schema segmentation is null",
    ],
    "settings": [
        "do $$ begin execute format('alter database %I reset search_path', current_database()); end $$",
        "alter role segmentation_reader set search_path = public",
        "do $$ begin execute format('alter role segmentation_editor in database %I set work_mem = 64', current_database()); end $$",
    ],
    "roles": [
        "grant segmentation_reader to segmentation_jobs",
        "revoke segmentation_editor from segmentation_admin",
        "alter role segmentation_owner login",
        "alter role segmentation_service inherit",
    ],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_what_was_done_to_a_database_is_undone(faults: list[str], fresh: str, migrated: str) -> None:
    # Roles and what is set for them belong to the server, so the new database has them too.
    wanted, seen = shape(fresh), [""]
    for fault in faults:
        query(migrated, fault)
        now = differences(shape(migrated), wanted)
        assert now and now != seen, f"this test would not see: {fault}"
        seen = now
    migrate(migrated)
    assert differences(shape(migrated), wanted) == []
    query(migrated, WORKING)


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "migrated before"])
def test_what_new_objects_are_given_to_by_default_is_not_given(
    is_new: bool, fresh: str, migrated: str, empty_database: Callable[[], str]
) -> None:
    wanted = shape(fresh)
    url = empty_database() if is_new else migrated
    for by_default in (
        "create role analyst",
        "alter default privileges for role segmentation_owner grant select on tables to analyst",
        "alter default privileges for role segmentation_owner grant usage on sequences to public",
        "alter default privileges for role segmentation_owner grant execute on functions to analyst",
        "alter default privileges grant usage on schemas to analyst",
    ):
        query(url, by_default)
    try:
        migrate(url)
        assert differences(shape(url), wanted) == []
        told: list[str] = []
        migrate(url, told.append)
        assert [line for line in told if "analyst" in line or "public" in line] == []
    finally:
        query(url, "drop owned by analyst; drop role analyst")


def test_partitions_made_meanwhile_bear_the_triggers_of_their_table(migrated: str, checkout: Path) -> None:
    query(migrated, "select ensure_history_partition('2031-07-01Z')")
    query(migrated, "drop trigger history_is_append_only on membership_history_2031_07")
    query(migrated, "alter table membership_history disable trigger history_is_append_only")
    migrate(migrated)
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        query(migrated, "truncate membership_history_2031_07")
    # Another binding reaches them too.
    file = checkout / "sql" / "50_guards.sql"
    text = file.read_text()
    assert "before update or delete or truncate on segmentation.membership_history\n" in text
    file.write_text(
        text.replace(
            "before update or delete or truncate on segmentation.membership_history\n",
            "before update or truncate on segmentation.membership_history\n",
        )
    )
    migrate(migrated)
    query(migrated, "delete from membership_history_2031_07")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        query(migrated, "truncate membership_history_2031_07")


def test_a_function_is_deployed_with_another_head(migrated: str, checkout: Path) -> None:
    """A parameter more, one less, another name, another type, another result: there is always just one."""
    for head in (
        "(a integer) RETURNS integer",
        "(a integer, b integer DEFAULT 2) RETURNS integer",
        "(a integer DEFAULT 1) RETURNS integer",
        "(a integer) RETURNS integer",
        "(other integer) RETURNS integer",
        "(other bigint) RETURNS integer",
        "(other bigint) RETURNS bigint",
        "(other bigint) RETURNS TABLE(one integer)",
        "(other bigint) RETURNS TABLE(one integer, two integer)",
    ):
        # Something depends on it each time: a view, and a function on that.
        (checkout / "sql" / "61_new.sql").write_text(
            f"""create or replace function segmentation.new {head} language plpgsql as $$ begin end $$;
            create or replace view segmentation.using_new as select f::text from segmentation.new(1) as f;
            create or replace function segmentation.using_view() returns setof segmentation.using_new
            language sql as 'select * from segmentation.using_new';
            grant execute on function segmentation.using_view() to segmentation_reader;"""
        )
        migrate(migrated)
        ((made,),) = query(migrated, "select pg_get_functiondef(oid) from pg_proc where proname = 'new'")
        assert " ".join(made.split()).startswith(
            f"CREATE OR REPLACE FUNCTION segmentation.new{head} LANGUAGE"
        )
        assert query(
            migrated, "select has_function_privilege('segmentation_reader', 'using_view()', 'execute')"
        ) == [(True,)]


def test_a_view_is_deployed_with_other_columns(migrated: str, checkout: Path) -> None:
    for columns, row in (
        ("1 as a", {"a": 1}),
        ("1 as a, 2 as b", {"a": 1, "b": 2}),
        ("2 as b, 1 as a", {"b": 2, "a": 1}),
        ("'2' as b, 1 as a", {"b": "2", "a": 1}),
        ("'3' as b, 1 as a", {"b": "3", "a": 1}),
        ("1 as a", {"a": 1}),
    ):
        (checkout / "sql" / "61_new.sql").write_text(
            f"""create or replace view segmentation.new as select {columns};
            create or replace function segmentation.of_new () returns setof segmentation.new
            language sql as 'select * from segmentation.new';"""
        )
        migrate(migrated)
        assert query(migrated, "select row_to_json(n) from of_new() as n") == [(row,)]


def test_the_schema_goes_back_step_by_step_as_the_readme_says(migrated: str, checkout: Path) -> None:
    before = shape(migrated)
    steps = ("9998_new", "9999_new")
    column = "alter table segmentation.users {} column {};\n"
    for step in steps:
        file = checkout / "migrations" / f"{step}.sql"
        file.write_text(column.format("add", f"of_{step} int"))
        file.with_suffix(".rollback.sql").write_text(column.format("drop", f"of_{step} cascade"))
    view = checkout / "sql" / "61_new.sql"
    view.write_text(
        "create or replace view segmentation.new as select of_9998_new as a from segmentation.users;\n"
    )
    migrate(migrated)
    environment = {"DATABASE_URL": migrated, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for step in reversed(steps):
        undo = ["bash", "-euc", block("undo a step")]
        subprocess.run(undo, cwd=checkout, env={**environment, "STEP": step}, check=True, capture_output=True)
    view.unlink()
    for step in steps:
        (checkout / "migrations" / f"{step}.sql").unlink()
        (checkout / "migrations" / f"{step}.rollback.sql").unlink()
    migrate(migrated)
    assert differences(before, shape(migrated)) == []


def test_what_of_others_depends_on_a_dropped_function_stops_the_deploy_by_name(
    migrated: str, checkout: Path
) -> None:
    (checkout / "sql" / "61_new.sql").write_text(
        "create or replace function segmentation.new () returns int language sql as $$ select 1 $$;\n"
    )
    migrate(migrated)
    query(migrated, "create schema reports; create view reports.mine as select segmentation.new()")
    before = shape(migrated)
    (checkout / "sql" / "61_new.sql").unlink()
    with pytest.raises(MigrationError, match=r"segmentation\.new\(\).*view reports\.mine depends on"):
        migrate(migrated)
    assert differences(before, shape(migrated)) == []
    query(migrated, "drop view reports.mine")
    migrate(migrated)
    assert query(migrated, "select to_regproc('segmentation.new')") == [(None,)]


def test_what_of_others_depends_on_a_function_of_others_is_named_too(migrated: str) -> None:
    """And nobody is told to drop it."""
    query(migrated, "create function xx() returns int language sql as 'select 1'")
    query(migrated, "create function user_segments(a bigint) returns int language sql as 'select 1'")
    query(migrated, "create view public.mine as select xx()")
    with pytest.raises(MigrationError, match=r"segmentation\.xx\(\).*view public\.mine depends on") as caught:
        migrate(migrated)
    assert "CASCADE" not in str(caught.value)
    query(migrated, "drop view public.mine")
    migrate(migrated)


def test_what_was_given_to_another_owner_is_taken_back_whatever_depends_on_it(
    fresh: str, migrated: str
) -> None:
    wanted = shape(fresh)
    query(migrated, "create role dba")
    try:
        for thing in ("view listed_segments", "function clock()", "function refuse_truncate()"):
            query(migrated, f"alter {thing} owner to dba")
        migrate(migrated)
        assert differences(shape(migrated), wanted) == []
    finally:
        query(migrated, "drop owned by dba; drop role dba")


def test_what_cannot_be_taken_back_from_another_owner_is_named_with_the_way_out(
    empty_database: Callable[[], str],
) -> None:
    """As on a managed server, where nobody is a superuser."""
    url = empty_database()
    query(url, "create role low login createrole password 'secret'")
    # From PostgreSQL 16 on, who may create roles may not grant those of others.
    for role in ("owner", "reader", "editor", "admin", "evaluator", "jobs", "service"):
        query(url, f"grant segmentation_{role} to low with admin option")
    query(url, f"alter database {url.rpartition('/')[2]} owner to low")
    low = re.sub("//.*@", "//low:secret@", url)
    try:
        migrate(low)
        query(url, "alter function clock() owner to postgres")
        with pytest.raises(MigrationError) as caught:
            migrate(low)
        told = str(caught.value)
        assert "function segmentation.clock() belongs to postgres" in told
        assert "alter routine segmentation.clock() owner to segmentation_owner, and migrate again" in told
        assert "CASCADE" not in told
    finally:
        query(url, "reassign owned by low to postgres; drop owned by low; drop role low")


def test_tables_that_are_not_as_the_migrations_made_them_are_named(migrated: str) -> None:
    query(migrated, "drop index memberships_ends_at_idx")
    query(migrated, "alter table memberships drop constraint memberships_start_before_end")
    query(migrated, "alter table memberships drop column reason cascade")
    query(migrated, "alter table segments alter slug drop not null")
    query(migrated, "alter table report_links alter user_id type int")
    query(migrated, "drop table upkeep cascade")
    query(migrated, "alter table idempotency_keys set unlogged")
    query(migrated, "alter table rollouts disable trigger all")
    query(migrated, "alter table rollouts enable trigger user")
    query(migrated, "alter table segments alter segment_id set increment 10")
    query(migrated, "select ensure_history_partition('2031-07-01Z')")
    query(migrated, "alter table membership_history_2031_07 owner to postgres")
    before = shape(migrated)
    with pytest.raises(MigrationError) as caught:
        migrate(migrated)
    for named in (
        "index segmentation.memberships_ends_at_idx is missing",
        "constraint memberships_start_before_end on segmentation.memberships is missing",
        "column segmentation.memberships.reason is missing",
        "column segmentation.segments.slug is text",
        "column segmentation.report_links.user_id is integer",
        "table segmentation.upkeep is missing",
        "table segmentation.idempotency_keys is segmentation_owner unlogged",
        "(disabled), not: FOREIGN KEY",
        "sequence segmentation.segments_segment_id_seq is segmentation_owner steps of 10 from",
        "with partitions other than it: segmentation.membership_history_2031_07",
    ):
        assert named in str(caught.value)
    assert differences(before, shape(migrated)) == []


def test_what_somebody_has_tuned_stays(migrated: str) -> None:
    tuned = """
        alter table memberships set (autovacuum_vacuum_scale_factor = 0.02, fillfactor = 80);
        alter index memberships_ends_at_idx set (fillfactor = 70);
        alter index users_registered_at_idx set (pages_per_range = 64);
        alter table users alter user_id set statistics 500;
    """
    query(migrated, tuned)
    before = shape(migrated)
    migrate(migrated)
    assert differences(before, shape(migrated)) == []


def test_what_somebody_else_made_beside_ours_stays_and_is_told(migrated: str) -> None:
    query(migrated, "create index mine on memberships (starts_at); create table notes (note text)")
    query(migrated, "create operator <%> (leftarg = int, rightarg = int, function = int4pl)")
    query(migrated, "create text search configuration plain (copy = simple)")
    query(migrated, "create statistics together on user_id, segment_id from memberships")
    query(migrated, "alter view listed_segments alter percent set default 0")
    told: list[str] = []
    migrate(migrated, told.append)
    (line,) = (line for line in told if "left alone" in line)
    for thing in ("mine", "notes", "<%>", "plain", "together", "listed_segments.percent"):
        assert f"segmentation.{thing}" in line
    assert query(migrated, "select to_regclass('mine')") == [("mine",)]


def test_what_is_somebodys_own_keeps_its_rights_and_triggers(migrated: str) -> None:
    query(migrated, "create table notes (note text); grant select on notes to public")
    query(
        migrated,
        "create trigger old before truncate on notes for each statement execute function refuse_truncate()",
    )
    query(migrated, "set role segmentation_owner; create table ours (note text); reset role")
    query(migrated, "create table outdated_1_notes (note text)")
    # Which bring functions along.
    query(migrated, "create type span as range (subtype = int); create extension pg_trgm schema segmentation")
    before = shape(migrated)
    told: list[str] = []
    migrate(migrated, told.append)
    assert differences(before, shape(migrated)) == []
    assert not any(line.startswith(("revoked", "dropped")) for line in told)
    (line,) = (line for line in told if "left alone" in line)
    for thing in ("table segmentation.outdated_1_notes", "type segmentation.span"):
        assert thing in line


def test_what_was_done_to_a_partition_alone_is_undone_or_told(migrated: str) -> None:
    month = "membership_history_2031_07"
    query(migrated, "select ensure_history_partition('2031-07-01Z')")
    query(
        migrated, "create function public.nope() returns trigger language plpgsql as 'begin return null; end'"
    )
    for fault in (
        f"create trigger z before insert on {month} for each row execute function public.nope()",
        f"create rule z as on delete to {month} do instead nothing",
        f"alter table {month} enable row level security",
        f"create policy z on {month}",
        f"grant select (user_id) on {month} to public",
        f"alter table {month} add constraint odd check (user_id <> 7)",
        f"create unique index odd_idx on {month} (user_id)",
    ):
        query(migrated, fault)
    told: list[str] = []
    migrate(migrated, told.append)
    undone = {line.partition(f" on segmentation.{month}")[0] for line in told if month in line}
    assert undone >= {"dropped trigger z", "dropped rule z", "dropped row security", "dropped policy z"}
    assert any(line.startswith("revoked SELECT (user_id) on table") for line in told)
    (line,) = (line for line in told if "left alone" in line)
    assert f"constraint odd on segmentation.{month}" in line
    assert "index segmentation.odd_idx" in line
    query(migrated, f"alter table {month} drop constraint odd; drop index odd_idx")
    told.clear()
    migrate(migrated, told.append)
    assert not any(month in line for line in told)


def test_a_month_that_was_detached_stays_and_is_told(migrated: str) -> None:
    query(migrated, "select ensure_history_partition('2031-07-01Z')")
    query(migrated, "alter table membership_history detach partition membership_history_2031_07")
    told: list[str] = []
    migrate(migrated, told.append)
    (line,) = (line for line in told if "left alone" in line)
    assert "table segmentation.membership_history_2031_07" in line


def test_data_stays_in_every_row(migrated: str) -> None:
    database = Database(migrated)
    database.rows("select segmentation.create_segment('A', 50)")
    database.rows("select segmentation.change_user_segments(1, '{A}')")
    before = query(migrated, "select xmin, row_to_json(s) from segments as s")
    query(migrated, "drop function user_history(bigint, timestamptz, timestamptz)")
    migrate(migrated)
    assert query(migrated, "select xmin, row_to_json(s) from segments as s") == before


CALLS = """
    select format('prepare call as select segmentation.%I(%s); deallocate call', p.proname, a.arguments)
    from pg_proc as p
    cross join lateral (
      select string_agg(
        case when p.proname <> 'members_page' then format('%I => ', p.proargnames[t.position]) else '' end
          || format('null::%s', format_type(t.type, null)),
        ', ' order by t.position)
      from unnest(p.proargtypes) with ordinality as t (type, position)
    ) as a (arguments)
    where p.pronamespace = 'segmentation'::regnamespace and p.prokind = 'f'
      and (
        has_function_privilege('segmentation_admin', p.oid, 'execute')
        -- Called from page to page by reports and exports: one that has begun goes on in old functions.
        or p.proname in ('report_lines', 'members_page')
      )
      -- Granted, but called by other functions only.
      and p.proname <> 'expiry'
"""


@pytest.mark.usefixtures("fresh")  # the roles
def test_what_the_service_of_1_0_0_calls_is_there_still(empty_database: Callable[[], str]) -> None:
    """So the old service goes on, and people's scripts with it, when the new schema is there."""
    url = empty_database()
    query(url, (DUMPS[0].parent / "1.0.0.sql").read_text())
    calls = [call for (call,) in query(url, CALLS)]
    assert len(calls) > 50
    migrate(url)
    for call in calls:
        query(url, call)
