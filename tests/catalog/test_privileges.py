"""Who may do what: PostgreSQL itself refuses the rest, also to a thief of the service's login."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.errors import InsufficientPrivilege, UndefinedFunction, UniqueViolation

from tests.conftest import Clock, Database

EVALUATOR = "segmentation_evaluator"
READER, EDITOR, ADMIN = "segmentation_reader", "segmentation_editor", "segmentation_admin"
SQL_PAGE = Path(__file__).parents[2] / "sql" / "README.md"
BELOW = {READER: EVALUATOR, EDITOR: READER, ADMIN: EDITOR}


@pytest.fixture
def login(connect: Callable[..., Database]) -> Callable[[str], Database]:
    """Act as another login, as on a connection of its own."""

    def login_(role: str) -> Database:
        session = connect()
        session.rows(f"set session authorization {role}")
        return session

    return login_


def documented() -> dict[str, str]:
    """The least role for each function that people call, as sql/README.md says it."""
    rows = re.findall(r"^\| `(\w+)\([^|]*` \| (\w+) \|", SQL_PAGE.read_text(), re.M)
    return {function: f"segmentation_{role}" for function, role in rows}


def test_every_function_that_people_call_is_documented(db: Database) -> None:
    assert sorted(documented()) == db.column(
        'select function from segmentation.functions_for_people() order by function collate "C"'
    )


@pytest.mark.parametrize("role", [READER, EDITOR, ADMIN])
def test_each_role_may_call_its_own_and_the_one_below_may_not(db: Database, role: str) -> None:
    own = sorted(function for function, least in documented().items() if least == role)
    assert len(own) > 5
    rows = db.rows(
        "select proname, has_function_privilege(%s, oid, 'execute') as here,"
        " has_function_privilege(%s, oid, 'execute') as below"
        " from pg_proc where pronamespace = 'segmentation'::regnamespace and proname = any (%s)",
        role,
        BELOW[role],
        own,
    )
    assert {row.proname: (row.here, row.below) for row in rows} == dict.fromkeys(own, (True, False))


def test_a_role_that_holds_another_may_do_what_that_may(db: Database) -> None:
    for role, held in ((READER, EVALUATOR), (EDITOR, READER), (ADMIN, EDITOR)):
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
    for role in ("public", EVALUATOR, READER, EDITOR, ADMIN):
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


def test_the_services_login_can_take_the_four_roles_and_no_other(login: Callable[[str], Database]) -> None:
    service = login("segmentation_service")
    for role in (READER, EDITOR, ADMIN):
        service.rows(f"set role {role}")
        assert service.segments_of(1) == []
    service.rows(f"set role {EVALUATOR}")
    assert service.value("select http_user_segments_now(1)") == '{"user_id":1,"segments":[]}'
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
    ) == [
        "ensure_history_partitions",
        "expire_memberships",
        "note_upkeep",
        "purge_expired",
        "settled_until",
        "sweep",
    ]
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


def test_an_evaluator_asks_what_one_user_is_in_now_and_nothing_else(
    db: Database, login: Callable[[str], Database]
) -> None:
    db.rows("select create_segment('A', 100)")
    page = login("segmentation_service")
    page.rows(f"set role {EVALUATOR}")
    assert page.value("select http_user_segments_now(7)") == '{"user_id":7,"segments":["A"]}'
    assert page.value("select ofrep_flag(7, 'A')")["value"] is True
    assert [flag["key"] for flag in page.value("select ofrep_flags(7)")["flags"]] == ["A"]
    for call in (
        "http_user_segments(7)",
        "http_user_segments(7, '2026-11-01Z')",
        "http_user_segments_each('{1,2}')",
        "user_segments(7)",
        "users_segments('{1,2}')",
        "user_history(7)",
        "explain_membership(7, 'A')",
        "segment_members('A')",
        "list_segments()",
        "register_users('{1}')",
    ):
        with pytest.raises(InsufficientPrivilege):
            page.rows(f"select {call}")
    # Executable: these three and nothing else.
    assert db.column(
        "select proname::text from pg_proc where pronamespace = 'segmentation'::regnamespace"
        " and has_function_privilege(%s, oid, 'execute') order by 1",
        EVALUATOR,
    ) == ["http_user_segments_now", "ofrep_flag", "ofrep_flags"]


# Who the history names.

CHANGES = [
    "change_user_segments(1, '{{A}}', actor => {actor})",
    "change_segment_members('A', '{{1}}', actor => {actor})",
    "create_segment('B', actor => {actor})",
    "update_segment('A', 'described', actor => {actor})",
    "set_rollout('A', 5, actor => {actor})",
    "delete_segment('A', actor => {actor})",
    "forget_user(1, actor => {actor})",
    "create_report_link('2026-11', actor => {actor})",
]


@pytest.fixture
def alice(db: Database, clock: Clock, login: Callable[[str], Database]) -> Iterator[Database]:
    """A person with a login of her own, who may do everything."""
    db.rows("select create_segment('A')")
    db.rows("create role alice login in role segmentation_admin")
    session = login("alice")
    yield session
    session.connection.close()
    db.rows("drop role alice")


@pytest.mark.parametrize("change", CHANGES)
def test_a_person_is_who_the_login_says(alice: Database, clock: Clock, change: str) -> None:
    for actor in ("'bob'", "'postgres'", "' '"):
        with pytest.raises(InsufficientPrivilege) as refused:
            alice.rows(f"select {change.format(actor=actor)}")
        assert refused.value.diag.message_hint
    for actor in ("'alice'", "null", "session_user", "''"):
        with alice.connection.transaction(force_rollback=True):
            alice.rows(f"select {change.format(actor=actor)}")


def test_the_history_names_the_login_whatever_is_given(alice: Database, clock: Clock) -> None:
    for number, actor in enumerate(["'alice'", "null", "''"], start=1):
        alice.rows(f"select change_user_segments({number}, '{{A}}', actor => {actor})")
        assert alice.value(f"select actor from user_history({number})") == "alice"
    clock.advance(hours=1)
    alice.rows("set segmentation.actor = 'bob'")
    alice.rows("select change_user_segments(1, remove => '{A}')")
    assert alice.column("select actor from user_history(1)") == ["alice", "alice"]


def test_the_service_names_the_owner_of_the_key(db: Database, login: Callable[[str], Database]) -> None:
    db.rows("select create_segment('A')")
    db.rows("create role app login noinherit in role segmentation_service")
    for number, name in enumerate(["segmentation_service", "app"], start=1):
        service = login(name)
        service.rows("set role segmentation_editor")
        service.rows(f"select change_user_segments({number}, '{{A}}', actor => 'web-shop')")
        assert service.value(f"select actor from user_history({number})") == "web-shop"
        service.connection.close()
    db.rows("drop role app")


def test_no_key_has_the_name_of_a_login_and_no_login_that_of_a_key(
    db: Database, alice: Database, clock: Clock
) -> None:
    for name in ("alice", "postgres", "segmentation_reader"):
        with pytest.raises(UniqueViolation):
            db.rows("select create_api_key(%s, 'reader')", name)
    alice.rows("select change_user_segments(1, '{A}')")
    db.rows("select create_api_key('bob', 'editor')")
    db.rows("alter role alice rename to bob")
    for change in CHANGES:
        with pytest.raises(InsufficientPrivilege):
            alice.rows(f"select {change.format(actor='null')}")
    db.rows("alter role bob rename to alice")


def test_only_a_login_of_the_service_keeps_answers(alice: Database, login: Callable[[str], Database]) -> None:
    """Otherwise anybody at psql could read what a key was answered, or plant what it will be."""
    claim = "select * from claim_idempotency_key('web-shop', 'order-17')"
    keep = "select keep_answer('web-shop', 'order-17', sha256('x'), null, 200, null, '{}')"
    service = login("segmentation_service")
    service.rows("set role segmentation_editor")
    service.rows(keep)
    assert service.row(claim).answer == "{}"
    for call in (claim, keep):
        with pytest.raises(InsufficientPrivilege) as refused:
            alice.rows(call)
        assert refused.value.diag.message_hint
