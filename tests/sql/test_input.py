"""Whatever goes into a public function, the caller can act on each error that comes out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import code_of
from tests.conftest import NOON, Clock, Database
from tests.expect import histories_add_up, periods_never_overlap

TEXT = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "A", "B", "a", "X", "add", "remove", "2026-11", "0001-01", "9999-12", "reader", "-1", "'"]
    ),
    # Beyond every limit; a line end, a byte order mark, a combining letter, a change of direction.
    st.sampled_from(
        ["x" * 300, "ü" * 2500, "x" * 100_000, "A\n", "\ufeffA", "A\u0308", "\u202eA", "\U0010ffff"]
    ),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=120),
)
IDS = st.one_of(
    st.none(),
    st.sampled_from([-(2**63), -1, 0, 1, 2, 2**31, 2**32, 2**63 - 1]),
    st.integers(-(2**63), 2**63 - 1),
)
MOMENTS = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "-infinity",
            "infinity",
            "4714-11-24 00:00Z BC",
            "294276-12-31 23:59:59.999999Z",
            "0001-01-01Z",
            NOON,
        ]
    ),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda moment: moment.replace(tzinfo=UTC)),
    st.integers(-(10**9), 10**9).map(lambda seconds: NOON + timedelta(seconds=seconds)),
)
NUMBERS = st.one_of(
    st.none(),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "0", "100", "-0.0", "1e-16383", "1e131071", "50.000"]),
    st.decimals(-1000, 1000, places=4).map(str),
)
ROWS = st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1), st.sampled_from([1, 2, 100]))
INTERVALS = st.one_of(
    st.none(),
    st.sampled_from(
        ["0", "-1 day", "1 hour", "31 days", "31 days 1 us", "178000000 years", "-178000000 years"]
    ),
)
KINDS = {
    "tstzrange": st.sampled_from([None, "empty", "(,)", "(,2026-11-01Z)", "[2026-11-01Z,2026-12-01Z)"]),
    "text": TEXT,
    "text[]": st.one_of(
        st.none(),
        st.lists(TEXT, max_size=5),
        # More than any list may hold; and arrays with two dimensions or other bounds.
        st.sampled_from(
            [
                [f"S{number}" for number in range(2000)],
                ["A"] * 2000,
                "{{A,B},{B,A}}",
                "[7:8]={A,B}",
                "[-1:-1]={A}",
                "{{A},{NULL}}",
            ]
        ),
    ),
    "bigint": IDS,
    "bigint[]": st.one_of(
        st.none(),
        st.lists(IDS, max_size=5),
        st.sampled_from(
            [
                list(range(1, 2001)),
                [1] * 2000,
                [*range(1, 2000), None],
                "{{1,2},{3,4}}",
                "{{1},{NULL}}",
                "[7:8]={1,2}",
            ]
        ),
    ),
    "integer": ROWS,
    "numeric": NUMBERS,
    "timestamp with time zone": MOMENTS,
    "interval": INTERVALS,
    "bytea": st.one_of(st.none(), st.binary(max_size=40)),
    "boolean": st.one_of(st.none(), st.booleans()),
    "double precision": st.one_of(st.none(), st.floats()),
    "json": st.none(),
    "jsonb": st.none(),
}
# Makes so many partitions that the test would take long.
BEYOND = {"ensure_history_partitions", "layer_json"}


def is_expected(sqlstate: str | None) -> bool:
    """Whether this is an error that the README lists, and one that a caller's values can cause."""
    assert sqlstate is not None
    return code_of(sqlstate) != "internal_error" and sqlstate[:2] in ("22", "23", "54", "55", "P0")


@pytest.mark.parametrize("role", ["reader", "editor", "admin"])
def test_only_expected_errors_come_out_of_the_functions_of(db: Database, role: str) -> None:
    db.rows("select create_segment('A', 50)")
    db.rows("select create_segment('B')")
    db.rows("select change_user_segments(1, '{A,B}')")
    below = {"reader": "segmentation_jobs", "editor": "segmentation_reader", "admin": "segmentation_editor"}[
        role
    ]
    functions = db.rows(
        "select proname as name,"
        " array(select format_type(t, null)"
        " from unnest(proargtypes) with ordinality as a (t, n) order by n) as kinds"
        " from pg_proc where pronamespace = 'segmentation'::regnamespace and prokind = 'f' and pronargs > 0"
        " and (obj_description(oid) is not null or proname ~ '^(http|ofrep)_')"
        " and has_function_privilege(%s, oid, 'execute') and not has_function_privilege(%s, oid, 'execute')"
        " order by proname",
        f"segmentation_{role}",
        below,
    )
    functions = [function for function in functions if function.name not in BEYOND]
    assert len(functions) > 3

    @settings(max_examples=40 * len(functions), deadline=None, suppress_health_check=list(HealthCheck))
    @given(function=st.sampled_from(functions), data=st.data())
    def call(function: Any, data: st.DataObject) -> None:
        arguments = [data.draw(KINDS[kind]) for kind in function.kinds]
        holes = ", ".join(f"%s::{kind}" for kind in function.kinds)
        try:
            with db.connection.transaction(force_rollback=True):
                db.rows(f"select {function.name}({holes})::text", *arguments)
        except psycopg.DatabaseError as error:
            assert is_expected(error.sqlstate), (function.name, arguments, error)
            if error.sqlstate in {"22023", "P0002", "55000"}:
                assert error.diag.message_hint, (function.name, arguments, error)

    call()


@pytest.mark.parametrize(
    "call",
    [
        "select ensure_history_partitions(%s)",
        "call sweep(%s, 1)",
        "call sweep(100, %s)",
        "select expire_memberships(%s)",
    ],
)
def test_the_upkeep_bears_any_number(db: Database, call: str) -> None:
    for number in (None, -(2**31), -1, 0, 1, 2**31 - 1):
        try:
            db.rows(call, number)
        except psycopg.DatabaseError as error:
            assert error.sqlstate == "22023", (call, number, error)
            assert error.diag.message_hint


# Calls that change something, with values that often fit.
OFTEN_KNOWN = st.sampled_from(["A", "B", "C", "A", "B", "nope", None])
OFTEN_SLUGS = st.one_of(st.none(), st.lists(st.sampled_from(["A", "B", "C", "A", "nope"]), max_size=3))
FEW = st.one_of(st.integers(1, 4), st.none(), st.just(0), st.just(2**63 - 1))
SOON = st.one_of(
    st.none(), st.none(), st.integers(-2, 5).map(lambda hours: NOON + timedelta(hours=hours)), MOMENTS
)
PERCENT = st.one_of(st.sampled_from(["0", "30", "50", "99.999", "100"]), NUMBERS)
CHANGES = st.one_of(
    st.tuples(st.just("change_user_segments"), FEW, OFTEN_SLUGS, OFTEN_SLUGS, SOON, SOON),
    st.tuples(
        st.just("change_segment_members"),
        OFTEN_KNOWN,
        st.lists(FEW, max_size=6),
        st.sampled_from(["add", "add", "remove", "x"]),
        SOON,
        SOON,
    ),
    st.tuples(st.just("set_rollout"), OFTEN_KNOWN, PERCENT, SOON),
    st.tuples(st.just("cancel_rollout_step"), OFTEN_KNOWN, SOON),
    st.tuples(st.just("create_segment"), OFTEN_KNOWN, PERCENT),
    st.tuples(st.just("delete_segment"), OFTEN_KNOWN),
    st.tuples(st.just("forget_user"), FEW),
    st.tuples(st.just("register_users"), st.lists(FEW, max_size=3)),
    st.tuples(st.just("expire_memberships"), ROWS),
    st.tuples(st.just("advance"), st.integers(1, 7200)),
)
CASTS = {
    "change_user_segments": ("bigint", "text[]", "text[]", "timestamptz", "timestamptz"),
    "change_segment_members": ("text", "bigint[]", "text", "timestamptz", "timestamptz"),
    "set_rollout": ("text", "numeric", "timestamptz"),
    "cancel_rollout_step": ("text", "timestamptz"),
    "create_segment": ("text", "numeric"),
    "delete_segment": ("text",),
    "forget_user": ("bigint",),
    "register_users": ("bigint[]",),
    "expire_memberships": ("integer",),
}


def test_whatever_is_called_the_state_stays_consistent(db: Database, clock: Clock) -> None:
    for slug in ("A", "B"):
        db.rows("select create_segment(%s, 50)", slug)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(CHANGES, min_size=10, max_size=25))
    def call(changes: list[Any]) -> None:
        for name, *arguments in changes:
            if name == "advance":
                clock.advance(seconds=arguments[0])
                continue
            holes = ", ".join(f"%s::{kind}" for kind in CASTS[name])
            try:
                db.rows(f"select {name}({holes})", *arguments)
            except psycopg.DatabaseError as error:
                assert is_expected(error.sqlstate), (name, arguments, error)
        is_consistent(db)

    call()


def is_consistent(db: Database) -> None:
    """Assert that no periods overlap, that ins and outs alternate, and that they add up to the present."""
    periods_never_overlap(db)
    assert (
        db.rows(
            "select segment_id from (select *, lead(starts_at, 1, 'infinity') over"
            " (partition by segment_id order by starts_at) as next from segmentation.rollouts) as r"
            " join segmentation.segments as s using (segment_id) where ends_at <> least(next, s.deleted_at)"
        )
        == []
    )
    for user_id, segments in db.rows(
        "select * from users_segments(array(select user_id from segmentation.users))"
    ):
        assert segments == db.column("select segment from user_segments(%s)", user_id)
    histories_add_up(db)
