"""The server as it is run: python -m service."""

import signal

import httpx
import pytest

from tests.conftest import Database
from tests.http.conftest import Run, wait_until_live


def test_the_server_serves_until_it_is_told_to_stop(run: Run, port: int, db: Database) -> None:
    server = run()
    wait_until_live(port, server)
    key = db.value("select create_api_key('shop', 'reader')")
    url = f"http://127.0.0.1:{port}/v1/users/1000/segments"
    assert httpx.get(url, headers={"Authorization": f"Bearer {key}"}).json() == {
        "user_id": 1000,
        "segments": [],
    }
    server.send_signal(signal.SIGTERM)
    assert "Traceback" not in server.communicate(timeout=15)[1]
    assert (
        db.value("select count(*) from pg_stat_activity where application_name like 'segmentation service%'")
        == 0
    )


def test_a_wrong_setting_is_told_in_one_line(run: Run) -> None:
    server = run(WORKERS="many")
    assert server.communicate(timeout=30)[1].startswith("error: WORKERS='many' is not valid")
    assert server.returncode == 1


@pytest.mark.parametrize("url", ["", "postgresql://db:port/x", "postgresql://user:secret@127.0.0.1:99999/x"])
def test_a_wrong_url_is_told_in_one_line(run: Run, url: str) -> None:
    server = run(DATABASE_URL=url)
    said = server.communicate(timeout=30)[1]
    assert said.startswith("error: ")
    assert "DATABASE_URL" in said
    assert "secret" not in said
    assert len(said.splitlines()) == 1
    assert server.returncode == 1


def test_a_database_that_deals_users_otherwise_is_not_served_from(run: Run, db: Database) -> None:
    db.rows(
        "create or replace function segmentation.bucket(user_id bigint, salt bigint) returns integer"
        " language sql immutable as 'select 7'"
    )
    server = run()
    said = server.communicate(timeout=30)[1]
    assert said.startswith("error: bucket(")
    assert len(said.splitlines()) == 1
    assert server.returncode == 1
