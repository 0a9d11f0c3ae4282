"""The tables and the functions hold the same rules: a table takes what a function lets in, and no more."""

from typing import Any

import psycopg
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from psycopg.errors import CheckViolation, FeatureNotSupported, InvalidParameterValue, NotNullViolation

from tests.conftest import Clock, Database

SLUGS = st.one_of(
    st.none(),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,110}", fullmatch=True),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
    st.sampled_from(["a\n", "\na", "a" * 100, "a" * 101, "Ａ", "é", "٣", "a b"]),
)
PERCENTS = st.one_of(
    st.none(),
    st.decimals(-1, 101, places=4).map(str),
    st.sampled_from(
        ["NaN", "Infinity", "-Infinity", "0", "100", "100.0", "100.001", "1e-4", "99.9990", "-0"]
    ),
)
IDS = st.one_of(st.none(), st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
FAST = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def takes(db: Database, statement: str, value: Any) -> bool:
    """Whether the database takes this value, by a function or by plain DML; it is rolled back."""
    try:
        with db.connection.transaction(force_rollback=True):
            db.rows(statement, value)
    # NaN has no threshold: it fails before its constraint is asked.
    except (InvalidParameterValue, CheckViolation, NotNullViolation, FeatureNotSupported):
        return False
    return True


def test_slugs(db: Database) -> None:
    @FAST
    @given(SLUGS)
    def alike(slug: str | None) -> None:
        assert takes(db, "select segmentation.require_slug(%s)", slug) == takes(
            db, "insert into segmentation.segments (slug) values (%s)", slug
        )

    alike()


def test_descriptions(db: Database) -> None:
    for length in (0, 1999, 2000, 2001, 5000):
        assert takes(db, "select segmentation.require_description(%s)", "ü" * length) == takes(
            db, "insert into segmentation.segments (slug, description) values ('A', %s)", "ü" * length
        )


def test_percentages(db: Database) -> None:
    db.rows("select create_segment('A')")

    @FAST
    @given(PERCENTS)
    def alike(percent: str | None) -> None:
        assert takes(db, "select segmentation.require_percent(%s::numeric)", percent) == takes(
            db,
            "insert into segmentation.rollouts (segment_id, salt, percent)"
            " select segment_id, salt, %s::numeric from segmentation.segments",
            percent,
        )

    alike()


def test_user_ids(db: Database) -> None:
    db.rows("select create_segment('A')")
    db.rows("set role segmentation_owner")

    @FAST
    @given(IDS)
    def alike(user_id: int | None) -> None:
        expected = takes(db, "select segmentation.require_user_ids(array[%s::bigint])", user_id)
        for statement in (
            "insert into segmentation.users (user_id) values (%s)",
            "insert into segmentation.memberships (user_id, segment_id) values (%s, 1)",
        ):
            assert takes(db, statement, user_id) == expected

    alike()


def test_names_of_keys(db: Database) -> None:
    @FAST
    @given(SLUGS)
    def alike(name: str | None) -> None:
        assert takes(db, "select create_api_key(%s, 'reader')", name) == takes(
            db,
            "insert into segmentation.api_keys (name, role, key_digest) values (%s, 'reader', sha256('x'))",
            name,
        )

    alike()


def test_months(db: Database, clock: Clock) -> None:
    periods = st.one_of(
        st.from_regex(r"[0-9]{4}-[0-9]{2}", fullmatch=True),
        st.text("0123456789-٣", max_size=8),
        st.sampled_from(["2026-11", "2026-13", "2026-00", "0001-01", "0000-01", "2026-11\n", "٢٠٢٦-11"]),
    )

    @FAST
    @given(periods)
    def alike(period: str) -> None:
        assume(not period.startswith("0000"))  # No such year; only the function says so.
        assert takes(db, "select segmentation.month_start(%s)", period) == takes(
            db,
            "insert into segmentation.report_links (id_digest, period, expires_at, actor)"
            " values (sha256('x'), %s, 'infinity', 'ann')",
            period,
        )

    alike()


def test_every_constraint_has_a_name_that_says_what_it_wants(db: Database) -> None:
    """The name is what a DBA who breaks a constraint reads first."""
    named_by_postgresql = db.column(
        "select conrelid::regclass || ': ' || conname from pg_constraint"
        " where connamespace = 'segmentation'::regnamespace and contype = 'c'"
        " and conname ~ '_check\\d*$'"
    )
    assert named_by_postgresql == []


def test_a_plain_insert_of_nonsense_is_refused_by_the_tables_alone(db: Database) -> None:
    db.rows("set role segmentation_owner")
    for statement in (
        "insert into segmentation.users (user_id, registered_at) values (1, 'infinity')",
        "insert into segmentation.segments (slug, created_at) values ('A', '-infinity')",
        "insert into segmentation.segments (slug, deleted_at) values ('A', '-infinity')",
        "insert into segmentation.segments (slug, swept) values ('A', true)",
        "insert into segmentation.api_keys (name, role, key_digest) values ('a', 'owner', sha256('x'))",
        "insert into segmentation.api_keys (name, role, key_digest) values ('a', 'reader', 'short')",
        "insert into segmentation.retention (one_row) values (false)",
    ):
        try:
            db.rows(statement)
        except psycopg.Error as error:
            assert isinstance(error, CheckViolation), (statement, error)
        else:
            raise AssertionError(statement)
