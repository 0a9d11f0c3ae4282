"""Who may do what: PostgreSQL itself refuses the rest, also to a thief of the service's login."""

from collections.abc import Callable

import pytest
from psycopg.errors import InsufficientPrivilege, UndefinedFunction

from tests.conftest import Database

READER, EDITOR, ADMIN = "segmentation_reader", "segmentation_editor", "segmentation_admin"
LEAST_ROLE = {
    READER: [
        "authenticate_api_key",
        "bucket",
        "explain_membership",
        "get_segment",
        "list_segments",
        "manual",
        "ofrep_flag",
        "ofrep_flags",
        "rollout_steps",
        "segment_growth",
        "segment_history",
        "segment_members",
        "segment_stats",
        "service_metrics",
        "service_status",
        "user_history",
        "user_segments",
        "users_segments",
    ],
    EDITOR: [
        "begin_import",
        "change_segment_members",
        "change_user_segments",
        "claim_idempotency_key",
        "create_report_link",
        "finish_import",
        "history_report",
        "keep_answer",
        "linked_pages",
        "register_users",
        "report_page",
    ],
    ADMIN: [
        "cancel_rollout_step",
        "create_api_key",
        "create_segment",
        "delete_segment",
        "drop_history_before",
        "ensure_history_partitions",
        "expire_memberships",
        "forget_user",
        "list_api_keys",
        "revoke_api_key",
        "schedule_jobs",
        "set_rollout",
        "sweep",
        "update_segment",
    ],
}
BELOW = {READER: "segmentation_service", EDITOR: READER, ADMIN: EDITOR}


@pytest.fixture
def login(connect: Callable[..., Database]) -> Callable[[str], Database]:
    """Act as another login, as on a connection of its own."""

    def login_(role: str) -> Database:
        session = connect()
        session.rows(f"set session authorization {role}")
        return session

    return login_


@pytest.mark.parametrize("role", [READER, EDITOR, ADMIN])
def test_each_role_may_call_its_own_and_the_one_below_may_not(db: Database, role: str) -> None:
    rows = db.rows(
        "select proname, has_function_privilege(%s, oid, 'execute') as here,"
        " has_function_privilege(%s, oid, 'execute') as below"
        " from pg_proc where pronamespace = 'segmentation'::regnamespace and proname = any (%s)",
        role,
        BELOW[role],
        LEAST_ROLE[role],
    )
    assert sorted(row.proname for row in rows) == LEAST_ROLE[role]
    # segmentation_service inherits nothing: below a reader there is nobody.
    assert {row.proname: (row.here, row.below) for row in rows} == dict.fromkeys(
        LEAST_ROLE[role], (True, False)
    )


def test_no_public_function_is_left_out_of_the_list_above(db: Database) -> None:
    listed = {function for functions in LEAST_ROLE.values() for function in functions}
    with_example = set(
        db.column(
            "select proname from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " and obj_description(oid, 'pg_proc') like '%%Example: %%' and proname !~ '^(http|ofrep)_'"
        )
    )
    known_to_all = {"assert_bucket_vectors", "bucket_vectors", "clock"}
    upkeep = {"history_partitions", "note_upkeep", "purge_expired", "service_metrics"}
    helpers = {"expiry", "require_at_most", "rfc3339", "rollout_json"}
    assert with_example - listed - known_to_all - upkeep - helpers == set()


def test_a_role_that_holds_another_may_do_what_that_may(db: Database) -> None:
    for role, held in ((EDITOR, READER), (ADMIN, EDITOR)):
        assert db.value("select pg_has_role(%s, %s, 'usage')", role, held) is True
    assert db.value("select pg_has_role(%s, %s, 'member')", READER, EDITOR) is False


def test_public_may_execute_nothing_and_see_nothing(db: Database) -> None:
    assert (
        db.column(
            "select oid::regprocedure::text from pg_proc where pronamespace = 'segmentation'::regnamespace"
            " and has_function_privilege('public', oid, 'execute')"
        )
        == []
    )
    assert db.value("select has_schema_privilege('public', 'segmentation', 'usage')") is False


def test_a_new_function_of_the_owner_is_nobodys_until_granted(db: Database) -> None:
    db.rows("set role segmentation_owner")
    db.rows("create function segmentation.new_one() returns integer language sql as 'select 1'")
    db.rows("reset role")
    for role in ("public", READER, EDITOR, ADMIN):
        assert (
            db.value("select has_function_privilege(%s, 'segmentation.new_one()', 'execute')", role) is False
        )


def test_nobody_but_the_owner_has_a_privilege_on_a_table_view_or_sequence(db: Database) -> None:
    assert (
        db.rows(
            "select c.oid::regclass::text, a.grantee::regrole::text, a.privilege_type from pg_class as c"
            " cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as a"
            " where c.relnamespace = 'segmentation'::regnamespace"
            " and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')"
            " and a.grantee <> c.relowner"
        )
        == []
    )
    assert (
        db.rows(
            "select attrelid::regclass, attname from pg_attribute join pg_class on pg_class.oid = attrelid"
            " where relnamespace = 'segmentation'::regnamespace and attacl is not null"
        )
        == []
    )


def test_everything_belongs_to_the_owner_who_cannot_log_in(db: Database) -> None:
    assert (
        db.rows(
            "select kind, name, owner::regrole::text from ("
            "  select 'relation' as kind, oid::regclass::text as name, relowner as owner,"
            "    relnamespace as namespace from pg_class"
            "  union all select 'function', oid::regprocedure::text, proowner, pronamespace from pg_proc"
            "  union all select 'type', oid::regtype::text, typowner, typnamespace from pg_type"
            "  union all select 'schema', nspname, nspowner, oid from pg_namespace"
            ") as o where namespace = 'segmentation'::regnamespace and owner <> 'segmentation_owner'::regrole"
        )
        == []
    )
    assert db.rows(
        "select rolname from pg_roles where rolname ~ '^segmentation_' and rolcanlogin order by 1"
    ) == [("segmentation_jobs",), ("segmentation_service",)]
    assert (
        db.rows(
            "select rolname from pg_roles where rolname ~ '^segmentation_'"
            " and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)"
        )
        == []
    )


def test_the_services_login_can_do_nothing_before_it_takes_a_role(login: Callable[[str], Database]) -> None:
    service = login("segmentation_service")
    for query in ("select users_segments('{1}')", "select clock()", "select segmentation.clock()"):
        with pytest.raises((InsufficientPrivilege, UndefinedFunction)):
            service.rows(query)


def test_the_services_login_can_take_the_three_roles_and_no_other(login: Callable[[str], Database]) -> None:
    service = login("segmentation_service")
    for role in (READER, EDITOR, ADMIN):
        service.rows(f"set role {role}")
        assert service.segments_of(1) == []
    for role in ("segmentation_owner", "segmentation_jobs", "postgres"):
        with pytest.raises(InsufficientPrivilege):
            service.rows(f"set role {role}")


def test_no_role_touches_a_table_or_makes_one(db: Database, login: Callable[[str], Database]) -> None:
    tables = db.column(
        "select oid::regclass::text from pg_class"
        " where relnamespace = 'segmentation'::regnamespace and relkind in ('r', 'p')"
    )
    assert len(tables) > 10
    service = login("segmentation_service")
    for role in (READER, EDITOR, ADMIN):
        service.rows(f"set role {role}")
        for table in tables:
            for statement in (f"table segmentation.{table}", f"delete from segmentation.{table}"):
                with pytest.raises(InsufficientPrivilege):
                    service.rows(statement)
        with pytest.raises(InsufficientPrivilege):
            service.rows("create table segmentation.mine ()")


def test_the_services_login_owns_nothing(db: Database) -> None:
    assert (
        db.value(
            "select count(*) from pg_shdepend"
            " where refobjid = 'segmentation_service'::regrole and deptype = 'o'"
        )
        == 0
    )


def test_a_reader_cannot_change_and_an_editor_cannot_administer(login: Callable[[str], Database]) -> None:
    service = login("segmentation_service")
    for role, calls in (
        (READER, ["change_user_segments(1, '{A}')", "register_users('{1}')", "history_report('2026-11')"]),
        (
            EDITOR,
            ["create_segment('A')", "set_rollout('A', 1)", "forget_user(1)", "create_api_key('a', 'admin')"],
        ),
    ):
        service.rows(f"set role {role}")
        for call in calls:
            with pytest.raises(InsufficientPrivilege):
                service.rows(f"select {call}")


def test_the_jobs_login_may_tend_and_nothing_else(db: Database, login: Callable[[str], Database]) -> None:
    assert db.column(
        "select proname from pg_proc where pronamespace = 'segmentation'::regnamespace"
        " and has_function_privilege('segmentation_jobs', oid, 'execute') order by 1"
    ) == ["ensure_history_partitions", "expire_memberships", "note_upkeep", "purge_expired", "sweep"]
    jobs = login("segmentation_jobs")
    jobs.rows("call sweep()")
    with pytest.raises(InsufficientPrivilege):
        jobs.rows("select users_segments('{1}')")
    with pytest.raises(InsufficientPrivilege):
        jobs.rows("select * from segmentation.memberships")


def test_the_history_names_the_login_not_the_owner_of_a_definer_function(
    db: Database, login: Callable[[str], Database]
) -> None:
    db.rows("select create_segment('A')")
    service = login("segmentation_service")
    service.rows("set role segmentation_editor")
    service.rows("select change_user_segments(1, '{A}')")
    assert service.value("select actor from user_history(1)") == "segmentation_service"
