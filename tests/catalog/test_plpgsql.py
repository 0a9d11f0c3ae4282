"""plpgsql_check reads every plpgsql function and finds nothing."""

import pytest
from psycopg.errors import FeatureNotSupported, UndefinedFile

from tests.conftest import Database
from tests.expect import MOCK_CRON


@pytest.fixture
def checker(db: Database) -> Database:
    """A session that has plpgsql_check."""
    try:
        db.rows("create extension plpgsql_check")
    except (FeatureNotSupported, UndefinedFile):
        pytest.fail(
            "The test server lacks the extension plpgsql_check: .dev/install installs it"
            " (Debian and Ubuntu: apt-get install postgresql-<version>-plpgsql-check)."
        )
    db.rows(MOCK_CRON)
    # begin_import makes it.
    db.rows("create temporary table import (user_id bigint)")
    return db


FINDINGS = """
    select distinct f.function, c.lineno, c.level, c.message
    from ({functions}) as f (function, relation, old_rows, new_rows)
    cross join lateral plpgsql_check_function_tb(
      f.function, f.relation, fatal_errors => false, extra_warnings => true,
      performance_warnings => false, security_warnings => true,
      oldtable => f.old_rows, newtable => f.new_rows) as c
    where (f.function::text, c.message) not in (
      -- PostgreSQL itself wrote that text: pg_get_triggerdef.
      ('guard_history_partition(regclass)', 'text type variable is not sanitized'))
    order by 1, 2
"""


def test_nothing_is_found_in_any_function(checker: Database) -> None:
    functions = """
        select p.oid::regprocedure, 0::regclass, null::name, null::name
        from pg_proc as p
        join pg_language as l on l.oid = p.prolang
        where p.pronamespace = 'segmentation'::regnamespace and l.lanname = 'plpgsql'
          and p.prorettype <> 'trigger'::regtype
    """
    assert checker.value(f"select count(*) from ({functions}) as f") > 30
    assert checker.rows(FINDINGS.format(functions=functions)) == []


def test_nothing_is_found_in_any_trigger_function_on_each_table_it_serves(checker: Database) -> None:
    functions = """
        select t.tgfoid::regprocedure, t.tgrelid::regclass, t.tgoldtable, t.tgnewtable
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        where c.relnamespace = 'segmentation'::regnamespace and not t.tgisinternal
    """
    assert checker.value(f"select count(*) from ({functions}) as f") > 13
    assert checker.rows(FINDINGS.format(functions=functions)) == []


def test_every_trigger_function_serves_a_table(checker: Database) -> None:
    assert (
        checker.column(
            "select proname from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " and prorettype = 'trigger'::regtype and oid not in (select tgfoid from pg_trigger)"
        )
        == []
    )


def test_a_mistake_would_be_found(checker: Database) -> None:
    checker.rows(
        "create function segmentation.mistaken() returns void language plpgsql set search_path = ''"
        " as 'begin perform nothing_there from segmentation.users; end'"
    )
    found = checker.rows(
        FINDINGS.format(
            functions="select 'segmentation.mistaken()'::regprocedure, 0::regclass, null::name, null::name"
        )
    )
    assert "nothing_there" in found[0].message
