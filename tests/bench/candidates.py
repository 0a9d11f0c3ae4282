"""Ways to answer the hot read, compared with the one in use: make bench ARGS=--candidates; tests/bench/README.md keeps what came of it."""

from collections.abc import Callable
from functools import partial
from statistics import median

from tests.bench import load
from tests.bench.data import connect, copy_of, data_set
from tests.bench.outcome import Row, interleaved, progress, ratio
from tests.bench.reads import ASSIGNMENTS_ONLY, HOT_CALL, pgbench
from tests.bench.server import HOT, ONE_QUERY, running
from tests.bench.sizes import Sizes

# Settings of the service, or of tests.bench.server, and the path that is asked.
SERVERS: dict[str, tuple[dict[str, object], str]] = {
    "HTTP: as it is": ({}, HOT),
    "HTTP: one query a request, through the pool": ({}, ONE_QUERY),
    "HTTP: SHARED_READS=1": ({"shared_reads": 1}, HOT),
    "HTTP: SHARED_READS=4": ({"shared_reads": 4}, HOT),
    "HTTP: WORKERS=2": ({"workers": 2}, HOT),
}

BODY = """
    create or replace function segmentation.{name} (user_id bigint)
      returns text
      language {language}
      security definer
      set search_path = pg_catalog, pg_temp
    as $$ {body} $$;
    alter function segmentation.{name}(bigint) owner to segmentation_owner;
"""
ANSWER = """
    declare moment timestamptz := segmentation.clock();
    begin
      return segmentation.segments_json({name}.user_id, array({query}));
    end
"""
# What is assigned, and what a rollout holds, joined to the segments.
JOINED = """
    select s.slug
    from (
      select m.segment_id
      from segmentation.memberships as m
      where m.user_id = {name}.user_id and m.included and m.starts_at <= moment and moment < m.ends_at
      union
      select r.segment_id
      from segmentation.rollouts as r
      {salts}
      where r.starts_at <= moment and moment < r.ends_at
        and segmentation.bucket({name}.user_id, {salt}) < r.threshold
        and not exists (
          select from segmentation.memberships as m
          where m.user_id = {name}.user_id and m.segment_id = r.segment_id
            and m.starts_at <= moment and moment < m.ends_at
        )
    ) as c
    join segmentation.segments as s on s.segment_id = c.segment_id
    where s.deleted_at > moment
    order by s.slug
"""
FROM_ALGEBRA = """
    select s.slug
    from segmentation.membership_periods(array[{name}.user_id], moment) as p
    join segmentation.segments as s on s.segment_id = p.segment_id
    where p.member @> moment
    order by s.slug
"""
REPLANNED = """
    select segmentation.segments_json(c.user_id, c.segments)
    from segmentation.current_segments(array[$1], pg_catalog.statement_timestamp()) as c
"""
SHAPES = {
    "bench_algebra": ("plpgsql", ANSWER, FROM_ALGEBRA, {}),
    "bench_joined": ("plpgsql", ANSWER, JOINED, {"salts": "", "salt": "r.salt"}),
    "bench_salt_apart": (
        "plpgsql",
        ANSWER,
        JOINED,
        {"salts": "join segmentation.segments as a on a.segment_id = r.segment_id", "salt": "a.salt"},
    ),
    "bench_replanned": ("sql", "{query}", REPLANNED, {}),
}
CALLS = {
    "SQL: as it is": HOT_CALL,
    "SQL: only assignments, no periods, no rollouts": "select segmentation.bench_assignments_only(:id)",
    "SQL: the algebra itself, all of the user's past": "select segmentation.bench_algebra(:id)",
    "SQL: assignments and rollouts joined to segments": "select segmentation.bench_joined(:id)",
    "SQL: the same, the salt looked up in segments": "select segmentation.bench_salt_apart(:id)",
    "SQL: as it is, but LANGUAGE sql (planned at each call)": "select segmentation.bench_replanned(:id)",
}


def compare(sizes: Sizes) -> list[Row]:
    """Answers per second of each candidate, taken in turns, and their ratio to the form in use."""
    with copy_of(data_set(sizes, sizes.users)) as database:
        return [*_in_sql(database, sizes), *_over_http(database, sizes)]


def _in_sql(database: str, sizes: Sizes) -> list[Row]:
    with connect(database) as dba:
        dba.execute(ASSIGNMENTS_ONLY)
        for name, (language, frame, query, parts) in SHAPES.items():
            body = frame.format(name=name, query=query.format(name=name, **parts))
            dba.execute(BODY.format(name=name, language=language, body=body).encode())
        expected = dba.execute(
            "select segmentation.http_user_segments(id) from generate_series(1, 500) as id"
        )
        answers = expected.fetchall()
        for name in SHAPES:
            same = dba.execute(f"select segmentation.{name}(id) from generate_series(1, 500) as id".encode())
            assert same.fetchall() == answers, f"{name} answers something else"
    calls: dict[str, Callable[[], float]] = {
        way: partial(pgbench, database, call, sizes.users, sizes.seconds) for way, call in CALLS.items()
    }
    return _rows(interleaved(sizes.rounds, calls))


def _over_http(database: str, sizes: Sizes) -> list[Row]:
    taken: dict[str, list[float]] = {way: [] for way in SERVERS}
    for number in range(sizes.rounds):
        for way, (settings, path) in SERVERS.items():
            progress(f"  round {number + 1} of {sizes.rounds}: {way}")
            with running(database, **settings) as server:  # type: ignore[arg-type]
                read = partial(load.throughput, server, path, sizes.users)
                read(1)
                taken[way].append(read(sizes.seconds))
    return _rows(taken)


def _rows(taken: dict[str, list[float]]) -> list[Row]:
    in_use = next(iter(taken.values()))
    return [
        Row(way, f"{ratio(each, in_use):.2f} ×  ({median(each):,.0f} a second)", ratio(each, in_use))
        for way, each in taken.items()
    ]
