"""Whatever goes into a public function, only errors that a caller can act on come out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import NOON, Database

TEXT = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "A", "B", "a", "X", "add", "remove", "2026-11", "0001-01", "9999-12", "reader", "-1", "'"]
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
    "text": TEXT,
    "text[]": st.one_of(st.none(), st.lists(TEXT, max_size=5)),
    "bigint": IDS,
    "bigint[]": st.one_of(st.none(), st.lists(IDS, max_size=5)),
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
# Makes so many partitions that the test would take long; get their values from the service alone.
BEYOND = {"ensure_history_partitions", "keep_answer", "note_upkeep"}


def is_expected(sqlstate: str | None) -> bool:
    """Whether this is an error that the README lists."""
    assert sqlstate is not None
    return sqlstate in {"P0002", "23503", "23505", "54000", "55000"} or sqlstate.startswith("22")


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

    @settings(max_examples=100 * len(functions), deadline=None, suppress_health_check=list(HealthCheck))
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
