"""bucket(): which of 100,000 buckets a user falls into, the same for ever and everywhere."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import DataCorrupted

from tests.bucket import bucket
from tests.conftest import Database
from tests.expect import refuses

user_ids = st.integers(1, 2**63 - 1) | st.integers(1, 2**33) | st.sampled_from([2**31, 2**32, 2**63 - 1])
salts = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**63 - 1, -(2**63)])


def test_the_golden_vectors_are_what_they_always_were(db: Database) -> None:
    assert [tuple(row) for row in db.rows("select * from bucket_vectors()")] == [
        (1, 0, 24678),
        (1000, 0, 27156),
        (1000, 42, 48186),
        (1000, -1, 65323),
        (4294967295, 7, 52028),
        (4294967296, 7, 64510),
        (4294967297, 7, 67189),
        (1234567890123456789, 1311768467463790320, 47794),
        (9223372036854775807, 9223372036854775807, 38848),
        (9223372036854775807, -9223372036854775808, 18316),
    ]


def test_the_server_gives_the_golden_vectors(db: Database) -> None:
    assert db.rows("select * from bucket_vectors() where bucket(user_id, salt) <> bucket") == []
    db.rows("select assert_bucket_vectors()")


def test_plain_python_gives_the_golden_vectors(db: Database) -> None:
    for vector in db.rows("select * from bucket_vectors()"):
        assert bucket(vector.user_id, vector.salt) == vector.bucket


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(pairs=st.lists(st.tuples(user_ids, salts), min_size=20, max_size=40))
def test_plain_python_and_the_server_agree_on_every_user_and_salt(
    db: Database, pairs: list[tuple[int, int]]
) -> None:
    asked = [list(column) for column in zip(*pairs, strict=True)]
    answers = db.column(
        "select bucket(user_id, salt) from unnest(%s::bigint[], %s::bigint[]) with ordinality"
        " as asked (user_id, salt, position) order by position",
        *asked,
    )
    assert answers == [bucket(user_id, salt) for user_id, salt in pairs]
    assert all(0 <= answer < 100_000 for answer in answers)


def test_ids_whose_halves_fold_alike_have_buckets_of_their_own(db: Database) -> None:
    """hashint8extended alone gives 5 and its twin the same value under every salt."""
    same = db.value(
        "select count(*) from generate_series(1, 1000) as salt"
        " where bucket(5, salt) = bucket((7::bigint << 32) | (5 # 7), salt)"
    )
    assert same < 5


def test_every_bucket_is_as_full_as_any_other(db: Database) -> None:
    deciles = db.column(
        "select count(*) from generate_series(1, 100000) as user_id group by bucket(user_id, 4711) / 10000"
    )
    assert len(deciles) == 10
    assert all(9_700 < filled < 10_300 for filled in deciles)


def test_a_server_that_deals_otherwise_is_refused(db: Database) -> None:
    db.rows(
        "create or replace function segmentation.bucket(user_id bigint, salt bigint) returns integer"
        " language sql immutable parallel safe as 'select 0'"
    )
    with refuses(DataCorrupted):
        db.rows("select assert_bucket_vectors()")
