"""Every SQL error has its HTTP error; faults of the database are survived, and never leak."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from service.schemas import Segments, UserSegments
from tests.conftest import Database
from tests.expect import LOCK, held, replace_list, wait_until, waiting
from tests.http.conftest import Api, Service

SECRET = "secret_table"


def replace_shared_read(db: Database, body: str) -> None:
    """Replace what shared reads call by this plpgsql."""
    db.rows("drop function segmentation.http_user_segments_each(bigint[])")
    db.rows(
        f"""create function segmentation.http_user_segments_each(user_ids bigint[]) returns text[]
        language plpgsql security definer as $$ begin {body} end $$"""
    )


# What the table in service/errors.py promises.
STATUS_OF_SQLSTATE = [
    ("P0002", 404, "not_found"),
    ("23505", 409, "already_exists"),
    ("23503", 422, "unknown_segments"),
    ("22023", 422, "invalid_value"),
    ("22P02", 422, "invalid_value"),
    ("23514", 422, "invalid_value"),
    ("55000", 422, "impossible_now"),
    ("42501", 403, "forbidden"),
    ("28000", 503, "database_unavailable"),
    ("3D000", 503, "database_unavailable"),
    ("40001", 503, "conflict_retry"),
    ("40P01", 503, "conflict_retry"),
    ("55P03", 503, "busy"),
    ("57014", 504, "statement_timeout"),
    ("25006", 503, "read_only"),
    ("25P03", 503, "database_unavailable"),
    ("53300", 503, "database_unavailable"),
    ("53100", 503, "disk_full"),
    ("57P01", 503, "database_unavailable"),
    ("57P03", 503, "database_unavailable"),
    ("08006", 503, "database_unavailable"),
    ("XX000", 500, "internal_error"),
    ("42P01", 500, "internal_error"),
    ("42883", 500, "internal_error"),
    ("P0001", 500, "internal_error"),
    ("SG001", 500, "internal_error"),
]


def test_each_sqlstate_has_its_status(serve: Callable[..., Service], db: Database) -> None:
    # What is locked is tried again until then.
    reader = serve(lock_timeout=0.1).as_role("reader")
    for sqlstate, status, code in STATUS_OF_SQLSTATE:
        replace_list(
            db,
            f"""raise exception 'the message'
            using errcode = '{sqlstate}', hint = 'the hint', detail = '{{"name": ["the value"], "status": 1}}';""",
        )
        problem = reader.is_refused("GET", "/v1/segments", status, code)
        told = (problem["detail"], problem.get("hint"), problem.get("name"))
        # What the schema says of itself is told; what PostgreSQL says of its insides is not.
        inside = code in ("internal_error", "database_unavailable", "forbidden")
        assert (told == ("the message", "the hint", ["the value"])) is not inside


def test_detail_that_is_prose_stays_inside(reader: Api, db: Database) -> None:
    replace_list(db, f"raise exception 'x' using errcode = '23505', detail = 'Key in {SECRET} exists';")
    assert SECRET not in str(reader.is_refused("GET", "/v1/segments", 409, "already_exists"))


def test_an_internal_error_says_nothing_of_the_inside(reader: Api, db: Database) -> None:
    replace_list(db, f"execute 'select * from {SECRET}';")
    problem = reader.is_refused("GET", "/v1/segments", 500, "internal_error")
    assert SECRET not in str(problem)
    assert set(problem) == {"type", "title", "status", "detail", "code"}


def test_a_call_that_meets_another_is_tried_twice(reader: Api, db: Database) -> None:
    db.rows("create sequence segmentation.attempts")
    db.rows("grant usage on sequence segmentation.attempts to segmentation_reader")
    replace_list(
        db,
        "if nextval('segmentation.attempts') = 1 then raise exception 'x' using errcode = '40001'; end if;",
    )
    reader.get("/v1/segments", Segments)
    assert db.value("select last_value from segmentation.attempts") == 2
    replace_list(db, "perform nextval('segmentation.attempts'); raise exception 'x' using errcode = '40P01';")
    reader.is_refused("GET", "/v1/segments", 503, "conflict_retry")
    assert db.value("select last_value from segmentation.attempts") == 4


def test_a_lock_is_waited_for_only_so_long(serve: Callable[..., Service], db: Database) -> None:
    reader = serve(lock_timeout=0.05).as_role("reader")
    replace_list(db, f"perform pg_advisory_xact_lock({LOCK});")
    with held(db):
        reader.is_refused("GET", "/v1/segments", 503, "busy")
    reader.get("/v1/segments", Segments)


def test_a_call_takes_only_so_long(serve: Callable[..., Service], db: Database) -> None:
    reader = serve(statement_timeout=0.05).as_role("reader")
    replace_list(db, f"perform pg_advisory_xact_lock({LOCK});")
    with held(db):
        reader.is_refused("GET", "/v1/segments", 504, "statement_timeout")
    reader.get("/v1/segments", Segments)


def test_a_pool_that_stays_full_is_not_waited_for_for_ever(
    serve: Callable[..., Service], db: Database
) -> None:
    service = serve(reader_pool_size=1, acquire_timeout=0.1, api_key_cache_seconds=60)
    reader = service.as_role("reader")
    reader.get("/v1/segments", Segments)
    # A call that does not end when it has waited for a lock as long as it may.
    replace_list(
        db,
        f"loop begin perform pg_advisory_xact_lock({LOCK}); exit;"
        " exception when lock_not_available then end; end loop;",
    )
    with ThreadPoolExecutor() as pool, held(db):
        first = pool.submit(reader.send, "GET", "/v1/segments")
        wait_until(lambda: waiting(db) == 1)
        problem = reader.is_refused("GET", "/v1/segments", 503, "database_unavailable")
        assert "connection" in problem["detail"]
        db.rows("select pg_advisory_unlock(%s)", LOCK)
        assert first.result().status_code == 200
        db.rows("select pg_advisory_lock(%s)", LOCK)


def test_the_pools_of_the_roles_are_apart(serve: Callable[..., Service], db: Database) -> None:
    service = serve(reader_pool_size=1, acquire_timeout=0.1, api_key_cache_seconds=60)
    reader, editor = service.as_role("reader"), service.as_role("editor")
    reader.get("/v1/segments", Segments)
    editor.get("/v1/segments", Segments)
    replace_list(db, f"perform pg_advisory_xact_lock({LOCK});")
    with ThreadPoolExecutor() as pool, held(db):
        pool.submit(reader.send, "GET", "/v1/segments")
        wait_until(lambda: waiting(db) == 1)
        editor.does_silently("PUT", "/v1/users/1")


def test_lost_connections_are_replaced(reader: Api, db: Database) -> None:
    reader.get("/v1/segments", Segments)
    db.rows(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and application_name like 'segmentation service%'"
    )
    # A connection that was lost unnoticed fails one request at most.
    wait_until(lambda: reader.send("GET", "/v1/segments").status_code == 200)


def test_a_call_whose_connection_is_lost_meanwhile_says_so(reader: Api, db: Database) -> None:
    replace_list(db, f"perform pg_advisory_xact_lock({LOCK});")
    with ThreadPoolExecutor() as pool, held(db):
        call = pool.submit(reader.send, "GET", "/v1/segments")
        wait_until(lambda: waiting(db) == 1)
        db.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        response = call.result()
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")


def test_while_the_database_is_away_the_process_lives_and_says_so(serve: Callable[..., Service]) -> None:
    away = serve(database_url="postgresql://nobody@127.0.0.1:1/none", acquire_timeout=2)
    assert away.client.get("/health/live").json() == {"status": "live"}
    assert away.client.get("/docs").status_code == 200
    anybody = away.with_key("seg_any")
    problem = anybody.is_refused("GET", "/health/ready", 503, "not_ready")
    (part,) = problem["parts"]
    assert (part["item"], part["ok"]) == ("database", False)
    assert part["hint"]
    assert "127.0.0.1" not in str(problem)
    problem = anybody.is_refused("GET", "/v1/users/1000/segments", 503, "database_unavailable")
    assert "127.0.0.1" not in str(problem)


def test_reads_that_wait_share_one_call_and_each_gets_its_own_answer(
    serve: Callable[..., Service], db: Database
) -> None:
    service = serve(shared_reads=1, lock_timeout=60, statement_timeout=60, api_key_cache_seconds=60)
    reader = service.as_role("reader")
    reader.get("/v1/users/1/segments", UserSegments)
    db.rows("create sequence segmentation.calls")
    replace_shared_read(
        db,
        f"""perform nextval('segmentation.calls'), pg_advisory_xact_lock_shared({LOCK});
        return array(
          select json_build_object('user_id', u, 'segments', array['S' || u]) from unnest(user_ids) as u);""",
    )
    with ThreadPoolExecutor(max_workers=40) as pool, held(db):

        def ask(user_id: int) -> Future[UserSegments]:
            return pool.submit(reader.get, f"/v1/users/{user_id}/segments", UserSegments)

        answers = {1: ask(1)}
        wait_until(lambda: waiting(db) == 1)
        answers |= {user_id: ask(user_id) for user_id in range(2, 31)}
        wait_until(lambda: service.client.app.state.reads.waiting == 29)
        db.rows("select pg_advisory_unlock(%s)", LOCK)
        for user_id, answer in answers.items():
            assert answer.result() == UserSegments(user_id=user_id, segments=[f"S{user_id}"])
        db.rows("select pg_advisory_lock(%s)", LOCK)
    assert db.value("select last_value from segmentation.calls") == 2


def test_a_shared_read_that_fails_fails_for_all_who_share_it_and_for_nobody_else(
    reader: Api, db: Database
) -> None:
    replace_shared_read(db, "raise exception 'x' using errcode = '55P03';")
    for _ in range(3):
        reader.is_refused("GET", "/v1/users/1/segments", 503, "busy")
    reader.get("/v1/segments", Segments)


def stall_reads_of_user_7(db: Database) -> None:
    """Let a shared call that asks for user 7 wait for the lock."""
    replace_shared_read(
        db,
        f"""if 7 = any (user_ids) then perform pg_advisory_xact_lock_shared({LOCK}); end if;
        return array(
          select json_build_object('user_id', u, 'segments', array['S' || u]) from unnest(user_ids) as u);""",
    )


def test_nobody_waits_long_for_a_call_that_takes_long(serve: Callable[..., Service], db: Database) -> None:
    service = serve(shared_reads=2, lock_timeout=60, statement_timeout=60, api_key_cache_seconds=60)
    reader = service.as_role("reader")
    stall_reads_of_user_7(db)
    with ThreadPoolExecutor() as pool, held(db):
        stalled = pool.submit(reader.get, "/v1/users/7/segments", UserSegments)
        wait_until(lambda: waiting(db) == 1)
        for user_id in range(1, 4):
            answer = reader.get(f"/v1/users/{user_id}/segments", UserSegments)
            assert answer.segments == [f"S{user_id}"]
        assert not stalled.done()
        db.rows("select pg_advisory_unlock(%s)", LOCK)
        assert stalled.result().segments == ["S7"]
        db.rows("select pg_advisory_lock(%s)", LOCK)


def test_when_all_calls_take_long_a_read_waits_only_so_long(
    serve: Callable[..., Service], db: Database
) -> None:
    service = serve(
        shared_reads=1, acquire_timeout=0.2, lock_timeout=60, statement_timeout=60, api_key_cache_seconds=60
    )
    reader = service.as_role("reader")
    stall_reads_of_user_7(db)
    with ThreadPoolExecutor() as pool, held(db):
        stalled = pool.submit(reader.get, "/v1/users/7/segments", UserSegments)
        wait_until(lambda: waiting(db) == 1)
        reader.is_refused("GET", "/v1/users/1/segments", 503, "database_unavailable")
        db.rows("select pg_advisory_unlock(%s)", LOCK)
        assert stalled.result().segments == ["S7"]
        assert reader.get("/v1/users/1/segments", UserSegments).segments == ["S1"]
        db.rows("select pg_advisory_lock(%s)", LOCK)
