"""Rules that hold for every function: documented, with an example that runs, pinned, never overloaded."""

import re
from contextlib import ExitStack

import psycopg
import pytest
from psycopg.errors import NoDataFound

from tests.conftest import Clock, Database

ROLES = ("segmentation_reader", "segmentation_editor", "segmentation_admin")
# An example shows what a link looks like; no link in a comment can open a report.
NEEDS_A_REAL_LINK = ("close_report_link", "linked_pages", "open_report_link", "revoke_report_link")
# What must run before it in the same transaction.
BEFORE = {
    "finish_import": ["select begin_import('AVITO_DISCOUNT_30')", "insert into pg_temp.import values (1)"],
    "create_segment": ["select create_layer('AVITO_DISCOUNTS')"],
}


def public_functions(db: Database) -> dict[str, str | None]:
    """What people and the service may call, each with its COMMENT."""
    return dict(
        db.rows(
            "select p.oid::regprocedure::text, obj_description(p.oid, 'pg_proc') from pg_proc as p"
            " where p.pronamespace = 'segmentation'::regnamespace"
            " and exists (select from unnest(%s::text[]) as role"
            " where has_function_privilege(role, p.oid, 'execute'))"
            " order by 1",
            list(ROLES),
        )
    )


def is_for_people(comment: str | None) -> bool:
    """Whether people call it, and not only the service."""
    return not (comment or "").startswith("For the service: ")


def test_every_public_function_has_a_comment(db: Database) -> None:
    assert [function for function, comment in public_functions(db).items() if not comment] == []


def test_every_comment_shows_an_example_of_its_own_function(db: Database) -> None:
    without = [
        function
        for function, comment in public_functions(db).items()
        if is_for_people(comment)
        and not re.search(rf"Example: .*\b{re.escape(function.split('(')[0])}\s*\(", comment or "")
    ]
    assert without == []


def test_every_function_named_after_a_route_is_for_the_service(db: Database) -> None:
    assert [
        function
        for function, comment in public_functions(db).items()
        if function.startswith(("http_", "ofrep_")) and is_for_people(comment)
    ] == []


def test_every_http_function_is_named_after_the_function_that_it_calls(db: Database) -> None:
    # One answer for many who wait; the present alone; and what version 1 of the service calls.
    others = {"http_user_segments_each", "http_user_segments_now", "http_segment", "http_segments"}
    helpers = {"http_expiry", "http_duration"}
    without = db.column(
        "select p.proname::text from pg_proc as p where p.pronamespace = 'segmentation'::regnamespace"
        " and p.proname ~ '^http_' and not exists (select from pg_proc as called"
        " where called.pronamespace = p.pronamespace and 'http_' || called.proname = p.proname)"
    )
    assert set(without) == others | helpers


def run(db: Database, example: str) -> None:
    """Run an example as psql would, and leave no trace."""
    with ExitStack() as opened:
        if not example.startswith("call "):
            opened.enter_context(db.connection.transaction(force_rollback=True))
        for statement in re.split(r"; (?=\w|\\)", example):
            if copied := re.fullmatch(r"\\copy (.+) (to|from) '[^']+' (csv.*)", statement):
                end = "stdout" if copied[2] == "to" else "stdin"
                with db.connection.cursor().copy(f"copy {copied[1]} {copied[2]} {end} {copied[3]}") as copy:
                    copy.write("1000\n") if end == "stdin" else list(copy)
            elif statement not in ("begin", "commit"):
                db.connection.execute(statement.encode())


def furnish(db: Database) -> None:
    """Make what the examples name."""
    db.rows("select create_layer('AVITO_DISCOUNTS')")
    for slug in ("AVITO_VOICE_MESSAGES", "AVITO_DISCOUNT_30", "AVITO_DISCOUNT_50"):
        db.rows("select create_segment(%s)", slug)
    db.rows("select set_rollout('AVITO_VOICE_MESSAGES', 50, '2027-01-01 00:00Z')")
    db.rows("select change_user_segments(1000, '{AVITO_DISCOUNT_50}')")
    db.rows("select create_api_key('web-shop', 'reader')")


def test_every_example_runs_as_it_stands_on_an_empty_service_or_a_furnished_one(
    db: Database, clock: Clock
) -> None:
    clock.set(None)
    failed: dict[str, str] = {}
    waiting = {
        function: comment.split("Example: ", 1)[1]
        for function, comment in public_functions(db).items()
        if comment and "Example: " in comment
    }
    assert len(waiting) > 20
    for prepare in (lambda _: None, furnish):
        prepare(db)
        failed = {}
        for function, example in waiting.items():
            try:
                run(db, "; ".join([*BEFORE.get(function.split("(")[0], []), example]))
            except NoDataFound as error:
                if not function.startswith(NEEDS_A_REAL_LINK):
                    failed[function] = str(error)
            except psycopg.Error as error:
                failed[function] = str(error)
        waiting = {function: waiting[function] for function in failed}
    assert failed == {}


def test_no_function_is_overloaded(db: Database) -> None:
    assert (
        db.rows(
            "select proname, count(*) from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " group by proname having count(*) > 1"
        )
        == []
    )


def test_no_function_hides_one_of_postgresql(db: Database) -> None:
    """PostgreSQL looks into pg_catalog first: a function of ours by such a name would never be called."""
    assert (
        db.column(
            "select proname from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " and exists (select from pg_proc as other where other.proname = pg_proc.proname"
            " and other.pronamespace = 'pg_catalog'::regnamespace)"
        )
        == []
    )


def test_every_definer_function_pins_its_search_path_to_nothing(db: Database) -> None:
    definers = dict(
        db.rows(
            "select oid::regprocedure::text, coalesce(proconfig, '{}') from pg_proc"
            " where pronamespace = 'segmentation'::regnamespace and prosecdef"
        )
    )
    assert len(definers) > 15
    assert [
        function
        for function, settings in definers.items()
        if "search_path=pg_catalog, pg_temp" not in settings
    ] == []


def test_temporary_tables_of_a_caller_shadow_nothing(db: Database, clock: Clock) -> None:
    """An empty search_path still looks into pg_temp first, for tables and types."""
    relations = db.column(
        "select relname from pg_class where relnamespace = 'segmentation'::regnamespace"
        " and relkind in ('r', 'p', 'v', 'c')"
    )
    db.rows("set role segmentation_admin")
    for relation in relations:
        db.rows(f"create temporary table {relation} (user_id text, segment_id text, slug text)")
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(1, '{A}')")
    db.rows("select set_rollout('A', 100)")
    db.rows("select change_segment_members('A', '{1,2}', 'remove')")
    db.rows("select forget_user(2)")
    db.rows("select ensure_history_partitions(6)")
    db.rows("call sweep()")
    assert db.segments_of(3) == ["A"]
    assert db.column("select segment from user_segments(3)") == ["A"]
    assert db.value("select member from explain_membership(3, 'A')") is True
    assert db.column("select user_id from segment_members('A')") == [3]
    assert db.value("select members from segment_stats('A')") == 1
    assert db.rows("select * from history_report('2026-11')") != []
    db.rows("select delete_segment('A')")


def test_functions_that_commit_or_inline_have_no_settings(db: Database) -> None:
    """A procedure that commits may have no SET; a function with one is never inlined."""
    for function in ("sweep", "bucket", "member", "membership_periods", "membership_events"):
        assert db.row("select prosecdef, proconfig from pg_proc where proname = %s", function) == (
            False,
            None,
        )


def test_the_algebra_is_inlined_into_its_caller(db: Database) -> None:
    for call in (
        "membership_periods(array[1::bigint], 'infinity')",
        "membership_events(array[1::bigint], 'infinity')",
        "report_lines('2026-11-01Z', '2026-12-01Z', 0, 100, 'infinity')",
        "current_segments(array[1::bigint], 'infinity')",
        "current_segments_of(1::bigint, 'infinity')",
    ):
        plan = "\n".join(db.column(f"explain (verbose) select * from segmentation.{call}"))
        assert "Function Scan on segmentation." not in plan, plan
        assert "hashint8extended" in plan


def test_no_caller_hands_the_algebra_a_volatile_argument(db: Database) -> None:
    """PostgreSQL does not inline a set-returning function that is called with a volatile argument: use a variable."""
    callers = db.column(
        "select oid::regprocedure::text from pg_proc where pronamespace = 'segmentation'::regnamespace"
        " and prosrc ~ '(current_segments|current_segments_of|membership_(periods|events)|report_lines)\\([^;]*?clock\\(\\)'"
    )
    assert callers == []


@pytest.mark.parametrize("function", ["set_rollout", "change_user_segments", "delete_segment", "forget_user"])
def test_every_change_takes_an_actor_and_a_reason(db: Database, function: str) -> None:
    names = db.value("select proargnames from pg_proc where proname = %s", function)
    assert {"actor", "reason"} <= set(names)
