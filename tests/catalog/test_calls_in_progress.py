"""Calls that began before a deploy, or come while it is made: each finds the functions and views that it asks for."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest

from service.migrate import migrate
from tests.catalog.conftest import going_on
from tests.conftest import Database


def test_calls_of_a_function_whose_head_changes_do_not_fail(migrated: str, checkout: Path) -> None:
    """A call that has found the old one still finds it, and the next finds the new."""
    file = checkout / "sql" / "61_new.sql"
    texts = [
        f"create or replace function segmentation.new ({head}) returns int language plpgsql as $$ begin return 1; end $$;"
        for head in ("a int", "a int, b int default 2")
    ]
    file.write_text(texts[0])
    migrate(migrated)
    callers = [psycopg.connect(migrated, autocommit=True, prepare_threshold=0) for _ in range(2)]
    with going_on(*(partial(caller.execute, "select segmentation.new(a => 1)") for caller in callers)):
        for text in [*reversed(texts)] * 2:
            file.write_text(text)
            migrate(migrated)
    assert Database(migrated).column("select proname::text from pg_proc where proname ~ 'outdated'") == []


@pytest.mark.parametrize("language", ["plpgsql", "sql"])
def test_a_query_in_progress_goes_on_with_the_function_that_it_began_with(
    language: str, migrated: str, checkout: Path
) -> None:
    """Its body calls a parameter by the function's name."""
    file = checkout / "sql" / "61_new.sql"
    body = {"plpgsql": "begin return new.a; end", "sql": "select new.a"}[language]
    texts = [
        f"create or replace function segmentation.new ({head}) returns int language {language} as $$ {body} $$;"
        for head in ("a int", "a int, b int default 2")
    ]
    file.write_text(texts[0])
    migrate(migrated)
    reader = Database(migrated)
    reader.rows("begin; declare ten cursor for select segmentation.new(i) from generate_series(1, 10) as i")
    numbers = reader.column("fetch 2 from ten")
    file.write_text(texts[1])
    migrate(migrated)
    # Whoever locks a table hears of what has changed.
    reader.rows("select from segmentation.users")
    assert numbers + reader.column("fetch all from ten") == [*range(1, 11)]
    reader.rows("commit")
    migrate(migrated)
    assert reader.column("select proname::text from pg_proc where proname ~ 'outdated'") == []


INNER = """
    create or replace function segmentation.inner_{} returns {} language plpgsql as $$ begin return {}; end $$;
    grant execute on function segmentation.inner_{} to segmentation_reader;
"""
OUTER = """
    create or replace function segmentation.outer_one () returns text language plpgsql as $$
    begin
      perform pg_advisory_xact_lock_shared(1);
      return {};
    end $$;
    grant execute on function segmentation.outer_one to segmentation_reader;
"""
VIEW_OF_ONE = """
    create or replace view segmentation.inner_view as select 1 as a;
    grant select on segmentation.inner_view to segmentation_reader;
"""
# What a version may do to the functions that its own functions call: one goes, one gets a parameter with a default, one
# loses it, one gets a parameter without, one gets another result.
BEFORE = (
    ("gone ()", "text", "'gone'"),
    ("more (a int)", "text", "'more'"),
    ("fewer (a int, b int default 1)", "text", "'fewer'"),
    ("needs (a int)", "text", "'needs'"),
    ("other (a int)", "int", "1"),
)
AFTER = (
    ("more (a int, b int default 2)", "text", "'more now'"),
    ("fewer (a int)", "text", "'fewer now'"),
    ("needs (a int, b int)", "text", "'needs now'"),
    ("other (a int)", "text", "'other now'"),
)


def inner(*functions: tuple[str, str, str]) -> str:
    """The SQL that makes functions for others to call."""
    return "".join(INNER.format(*each, each[0].partition(" ")[0]) for each in functions)


def wait_until_it_waits(session: Database, watcher: Database) -> None:
    """Until a session waits for a lock."""
    waits = "select exists (select from pg_locks where pid = %s and not granted)"
    while not watcher.value(waits, session.connection.info.backend_pid):
        pass


def test_a_call_in_progress_still_finds_what_its_body_asks_for_after_the_deploy(
    migrated: str, checkout: Path
) -> None:
    """PL/pgSQL looks for a name only when it comes to it, and the deploy may have come first."""
    file = checkout / "sql" / "61_new.sql"
    asks = (
        "concat_ws(', ', segmentation.inner_gone(), segmentation.inner_more(1), segmentation.inner_fewer(1), "
        "segmentation.inner_needs(1), segmentation.inner_other(1), (select a from segmentation.inner_view))"
    )
    file.write_text(inner(*BEFORE) + VIEW_OF_ONE + OUTER.format(asks))
    migrate(migrated)
    holder, caller = Database(migrated), Database(migrated)
    holder.rows("select pg_advisory_lock(1)")
    caller.rows("set role segmentation_reader")
    told: list[str] = []
    with ThreadPoolExecutor() as pool:
        call = pool.submit(caller.value, "select segmentation.outer_one()")
        wait_until_it_waits(caller, holder)
        file.write_text(inner(*AFTER) + OUTER.format("segmentation.inner_more(1)"))
        try:
            migrate(migrated, told.append, patience=0)
            # Whoever begins now finds one of each name.
            assert holder.value("select segmentation.inner_more(1)") == "more now"
        finally:
            holder.rows("select pg_advisory_unlock(1)")
        assert call.result() == "gone, more now, fewer now, needs, other now, 1"
    # The deploy does not wait for ever, and leaves what that call may need.
    (left,) = (line for line in told if "left for the next deploy" in line)
    assert f"pid {caller.connection.info.backend_pid}" in left
    for name in (
        "inner_gone()",
        "inner_more(integer)",
        "inner_other(integer)",
        "view segmentation.inner_view",
    ):
        assert name in left
    migrate(migrated)
    names = "select oid::regprocedure::text from pg_proc where proname ~ '^(inner|outdated)_' order by 1"
    assert Database(migrated).column(names) == [
        "inner_fewer(integer)",
        "inner_more(integer,integer)",
        "inner_needs(integer,integer)",
        "inner_other(integer)",
    ]
    assert Database(migrated).value("select to_regclass('segmentation.inner_view')") is None


def test_a_statement_in_progress_calls_to_its_end_what_it_has_found(migrated: str, checkout: Path) -> None:
    file = checkout / "sql" / "61_new.sql"
    file.write_text(inner(BEFORE[1]))
    migrate(migrated)
    holder, caller, cursor = Database(migrated), Database(migrated), Database(migrated)
    holder.rows("select pg_advisory_lock(1)")
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        if "waits for calls in progress" in line:
            holder.rows("select pg_advisory_unlock(1)")

    each_row = (
        "select concat(segmentation.inner_more(i), case i when 1 then pg_advisory_xact_lock_shared(1) end) "
        "from generate_series(1, 2) as i"
    )
    with ThreadPoolExecutor() as pool:
        call = pool.submit(caller.column, each_row)
        wait_until_it_waits(caller, holder)
        file.write_text(inner(AFTER[0]))
        migrate(migrated, say)
        assert call.result() == ["more", "more"]
    waits = f"what is outdated waits for calls in progress: pid {caller.connection.info.backend_pid}"
    assert [line for line in told if line.startswith(waits)]
    assert Database(migrated).column("select proname::text from pg_proc where proname ~ '^outdated_'") == []
    # Nobody waits for a transaction in which nothing runs; but it may have a cursor open.
    cursor.rows(f"begin; declare page cursor for {each_row}")
    cursor.rows("fetch page")
    file.write_text("")
    migrate(migrated, told.append)
    assert "left for the next deploy" in told[-2] and "idle in transaction" in told[-2]
    assert cursor.column("fetch page") == ["more now"]
    cursor.rows("commit")
    migrate(migrated, told.append)
    assert "dropped routine segmentation.inner_more(integer,integer)" in told
