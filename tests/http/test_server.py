"""The server as it is run: python -m service."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.conftest import Database
from tests.expect import wait_until
from tests.launcher import PYTHON, Server
from tests.readmes import block


@pytest.fixture
def run_server(run_server: Callable[..., Server]) -> Callable[..., Server]:
    """Run the service as in production, and not by a fork."""
    return partial(run_server, command=PYTHON)


def one_worker_of(server: Server) -> int:
    """The process number of one of its workers."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(
        int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    )


def test_the_server_serves_until_it_is_told_to_stop(run_server: Callable[..., Server], db: Database) -> None:
    server = run_server()
    key = db.value("select create_api_key('shop', 'reader')")
    url = f"{server.url}/v1/users/1000/segments"
    assert httpx.get(url, headers={"Authorization": f"Bearer {key}"}).json() == {
        "user_id": 1000,
        "segments": [],
    }
    assert "Traceback" not in server.stop()
    assert (
        db.value("select count(*) from pg_stat_activity where application_name like 'segmentation service%'")
        == 0
    )


def test_a_wrong_setting_is_told_in_one_line(run_server: Callable[..., Server]) -> None:
    server = run_server(live=False, WORKERS="many")
    assert server.ended().startswith("error: WORKERS='many' is not valid")
    assert server.process.returncode == 1


@pytest.mark.parametrize("url", ["", "postgresql://db:port/x", "postgresql://user:secret@127.0.0.1:99999/x"])
def test_a_wrong_url_is_told_in_one_line(run_server: Callable[..., Server], url: str) -> None:
    server = run_server(live=False, DATABASE_URL=url)
    said = server.ended()
    assert said.startswith("error: ")
    assert "DATABASE_URL" in said
    assert "secret" not in said
    assert len(said.splitlines()) == 1
    assert server.process.returncode == 1


def test_a_database_that_deals_users_otherwise_is_not_served_from(
    run_server: Callable[..., Server], db: Database
) -> None:
    db.rows(
        "create or replace function segmentation.bucket(user_id bigint, salt bigint) returns integer"
        " language sql immutable as 'select 7'"
    )
    server = run_server(live=False)
    said = server.ended()
    assert said.startswith("error: bucket(")
    assert len(said.splitlines()) == 1
    assert server.process.returncode == 1


def test_systemd_is_told_when_each_process_is_ready(
    run_server: Callable[..., Server], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        server = run_server(live=False, NOTIFY_SOCKET=str(tmp_path / "notify"), WORKERS="2")
        assert [systemd.recv(100) for _ in range(2)] == [b"READY=1"] * 2
        server.wait_until_live()


def test_the_unit_of_the_readme_is_understood_by_systemd(tmp_path: Path) -> None:
    unit = tmp_path / "segmentation@.service"
    # Users, directories and files of the example are on no other machine. A path may have blanks.
    python = f'"{sys.executable}"'
    unit.write_text(block("segmentation@.service").replace("/srv/segmentation/%i/.venv/bin/python", python))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "segmentation@v2.service")],
        capture_output=True,
        text=True,
    )
    assert str(tmp_path) not in done.stderr
    assert done.returncode == 0, done.stderr


def test_every_address_is_listened_on_by_ipv4_and_ipv6(run_server: Callable[..., Server]) -> None:
    server = run_server(HOST="::")
    for host in ("127.0.0.1", "[::1]"):
        assert httpx.get(f"http://{host}:{server.port}/health/live").status_code == 200


@pytest.mark.parametrize(("host", "told"), [("nowhere.invalid", "not known"), ("192.0.2.1", "Cannot assign")])
def test_an_address_that_is_none_of_this_machine_is_told_in_one_line(
    run_server: Callable[..., Server], host: str, told: str
) -> None:
    server = run_server(live=False, HOST=host)
    assert re.fullmatch(rf"error: cannot listen on port \d+ of {host}: .*{told}.*\n", server.ended())
    assert server.process.returncode == 1


def test_a_port_that_another_program_listens_on_is_told_in_one_line(
    run_server: Callable[..., Server],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = run_server(live=False, port=taken.getsockname()[1])
        assert "Address already in use" in server.ended()


def test_no_worker_is_started_again_once_it_is_told_to_stop(run_server: Callable[..., Server]) -> None:
    server = run_server(WORKERS="2")
    server.wait_until_ready()
    os.kill(one_worker_of(server), signal.SIGKILL)
    wait_until(lambda: "is started again" in server.said, seconds=30)
    assert server.stop().count("ready on port") == 2


def test_who_is_told_that_it_is_ready_can_connect(run_server: Callable[..., Server]) -> None:
    connects = """
import os, socket, sys
from service import __main__, server
def connect(_):
    with socket.socket() as client:
        print("connects:", client.connect_ex(("127.0.0.1", int(os.environ["PORT"]))), file=sys.stderr)
server._tell_systemd = connect
__main__.main()
"""
    assert "connects: 0\n" in run_server(command=(sys.executable, "-c", connects)).stop()


def test_a_worker_that_ends_by_itself_is_started_again(run_server: Callable[..., Server]) -> None:
    server = run_server(WORKERS="2")
    server.wait_until_ready()
    worker = one_worker_of(server)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.said.count("ready on port") == 3, seconds=30)
    assert f"worker {worker} ended with exit code -9 and is started again" in server.said
