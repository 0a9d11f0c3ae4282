"""Over TLS as DATABASE_URL asks: migrating, commands and serving, and only with a server that is who it says it is."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from litestar.testing import TestClient

from service.app import create_app
from service.settings import Settings
from tests.operations.conftest import query, shell

CERTIFICATES = """
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.crt -subj /CN=authority
    openssl req -newkey rsa:2048 -nodes -keyout server.key -out request -subj /CN=localhost
    openssl x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out server.crt \\
      -extfile <(echo subjectAltName=DNS:localhost)
"""


@pytest.fixture
def server(cluster: Callable[[], str], tmp_path: Path) -> str:
    """A server with a certificate for localhost, which nobody reaches without TLS; its URL without query."""
    url = cluster()
    shell(CERTIFICATES, tmp_path)
    data = Path(query(url, "show data_directory")[0][0])
    for name in ("server.crt", "server.key"):
        subprocess.run(["cp", tmp_path / name, data], check=True)
        subprocess.run(["chown", "--reference", data, data / name], check=True)
        (data / name).chmod(0o600)
    rules = data / "pg_hba.conf"
    rules.write_text(rules.read_text().replace("host ", "hostssl "))
    query(url, "alter system set ssl = on")
    query(url, "select pg_reload_conf()")
    return url.replace("@127.0.0.1:", "@localhost:")


def test_sslmode_means_the_same_to_all_that_connect(server: str, tmp_path: Path) -> None:
    url = f"{server}?sslmode=verify-full&sslrootcert={tmp_path}/ca.crt"
    assert "the database is at version" in shell("python -m service migrate", tmp_path, DATABASE_URL=url)
    key = shell("python -m service keys create web-shop reader 2>/dev/null", tmp_path, DATABASE_URL=url)
    with TestClient(create_app(Settings(database_url=url))) as client:
        headers = {"Authorization": f"Bearer {key.strip()}"}
        assert client.get("/v1/users/1000/segments", headers=headers).json()["segments"] == []
        connections = (
            "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name ~ '^segm'"
        )
        assert set(query(url, connections)) == {(True,)}


def test_a_server_by_another_name_is_refused(server: str, tmp_path: Path) -> None:
    port = urlsplit(server).port
    url = server.replace(f"localhost:{port}", f"127.0.0.1:{port}")
    url += f"?sslmode=verify-full&sslrootcert={tmp_path}/ca.crt"
    for command in ("migrate", "status"):
        said = shell(f"! python -m service {command}", tmp_path, DATABASE_URL=url)
        assert "certificate" in said, command
    with TestClient(create_app(Settings(database_url=url))) as client:
        answer = client.get("/v1/users/1000/segments", headers={"Authorization": "Bearer seg_none"})
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
