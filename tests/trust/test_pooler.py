"""Behind PgBouncer, which drops what a connection asks for: no key gets more than its role, and it is said why."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.health import NotFit, check_database
from service.settings import Settings
from tests.conftest import SERVER, Database
from tests.expect import wait_until
from tests.http.conftest import Service
from tests.launcher import free_port

DROPPED = "role,search_path,timezone,jit,statement_timeout,lock_timeout,idle_in_transaction_session_timeout"


@pytest.fixture
def pooler(tmp_path: Path, database_url: str, db: Database) -> Iterator[Callable[..., str]]:
    """Start PgBouncer in front of this test's database; the URL that leads through it."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    assert program, "Debian and Ubuntu: apt-get install pgbouncer"
    with ExitStack() as running:

        def start(pool_mode: str, ignored: str) -> str:
            port = free_port()
            folder = tmp_path / f"{pool_mode}{port}"
            folder.mkdir()
            (folder / "users.txt").write_text(f'"{SERVER["user"]}" "{SERVER["password"]}"\n')
            (folder / "pgbouncer.ini").write_text(
                f"[databases]\n* = host={SERVER['host']} port={SERVER['port']}\n[pgbouncer]\n"
                f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
                f"auth_file = {folder / 'users.txt'}\npool_mode = {pool_mode}\n"
                f"ignore_startup_parameters = {ignored}\nlogfile = {folder / 'log'}\n"
            )
            for path in (tmp_path, folder, *folder.iterdir()):
                shutil.chown(path, "postgres")
            for path in tmp_path.parents:
                if path.owner() == "root" and path != Path("/"):
                    path.chmod(path.stat().st_mode | 0o055)
            process = subprocess.Popen([program, "-u", "postgres", "-q", folder / "pgbouncer.ini"])
            running.callback(process.wait)
            running.callback(process.terminate)
            url = database_url.replace(f"@{SERVER['host']}:{SERVER['port']}/", f"@127.0.0.1:{port}/")
            wait_until(lambda: answers(url))
            return url

        yield start


def answers(url: str) -> bool:
    """Whether a plain connection gets an answer."""
    try:
        database = Database(url, options="")
    except Exception:
        return False
    database.connection.close()
    return True


@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
def test_a_pooler_that_drops_what_is_asked_for_is_refused(
    pool_mode: str, pooler: Callable[..., str], serve: Callable[..., Service], db: Database
) -> None:
    url = pooler(pool_mode, f"extra_float_digits,{DROPPED}")
    with pytest.raises(NotFit, match=r"role=segmentation_reader.*PgBouncer"):
        asyncio.run(check_database(Settings(database_url=url)))
    # It started before: the keys of readers open nothing all the same.
    service = serve(database_url=url)
    key = service.key("reader")
    problem = service.with_key(key).send("POST", "/v1/segments", json={"slug": "A"})
    assert problem.status_code == 503
    assert service.with_key(None).send("GET", "/health/ready").status_code == 503
    assert db.value("select count(*) from segmentation.segments") == 0


def test_a_pooler_that_refuses_what_is_asked_for_is_named(pooler: Callable[..., str]) -> None:
    url = pooler("transaction", "extra_float_digits")
    with pytest.raises(NotFit, match=r"unsupported startup parameter.*PostgreSQL itself"):
        asyncio.run(check_database(Settings(database_url=url)))
