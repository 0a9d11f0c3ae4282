"""Proxies in front of the service: nginx and Caddy as the README sets them up, and nginx as it is installed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.conftest import Database, clone
from tests.expect import wait_until
from tests.http.documented import calls, success
from tests.launcher import Server, free_port
from tests.readmes import block

PERIOD = {"period": "2026-11"}


class Proxy:
    """A proxy as a process of its own, and clients of it."""

    def __init__(self, command: list[str], url: str, directory: Path) -> None:
        """Start it, and wait until it answers."""
        self.url = url
        self._log = (directory / "log").open("w+b")
        self._process = subprocess.Popen(command, cwd=directory, stdout=self._log, stderr=self._log)
        try:
            wait_until(self._answers, 15)
        except BaseException:
            self.stop()
            print((directory / "log").read_text())
            raise

    def _answers(self) -> bool:
        assert self._process.poll() is None, "it has ended"
        with suppress(httpx.TransportError), self.client() as client:
            client.get("/health/live")
            return True
        return False

    def client(self, key: str = "", **kwargs: Any) -> httpx.Client:
        """A client with this key, that takes any certificate."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, verify=False, timeout=120, **kwargs)

    def stop(self) -> None:
        """End it; one that still waits for somebody is not waited for."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def nginx(site: str, url: str, directory: Path) -> Proxy:
    """Run nginx with this site, and nothing of the machine's."""
    places = "".join(
        f"{each}_temp_path {directory}/{each};\n"
        for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Where it is root, its workers are to be so too: they read and write here.
    user = "user root;\n" if os.getuid() == 0 else ""
    (directory / "nginx.conf").write_text(
        f"{user}daemon off;\npid {directory}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}{site}\n}}\n"
    )
    command = ["nginx", "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]
    return Proxy(command, url, directory)


def caddy(site: str, url: str, directory: Path) -> Proxy:
    """Run Caddy with this site."""
    (directory / "Caddyfile").write_text("{\n  admin off\n  auto_https disable_redirects\n}\n" + site)
    command = ["env", f"HOME={directory}", f"XDG_DATA_HOME={directory}", f"XDG_CONFIG_HOME={directory}"]
    return Proxy([*command, "caddy", "run", "--config", str(directory / "Caddyfile")], url, directory)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost; its key is beside it, as .key."""
    made = tmp_path_factory.mktemp("tls") / "localhost.pem"
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    files = ["-keyout", str(made.with_suffix(".key")), "-out", str(made)]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*request, *names, *files], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def database_url(maintenance: psycopg.Connection, template: str) -> Iterator[str]:
    """One database for all tests of this file."""
    with clone(maintenance, template, "segmentation_test_proxies") as url:
        yield url


@pytest.fixture
def admin(db: Database) -> str:
    """A key that may do everything."""
    db.rows("call sweep()")
    db.rows("select create_segment('A') where not exists (select from list_segments() where slug = 'A')")
    return str(db.value("select create_api_key('admin-' || gen_random_uuid(), 'admin')"))


@pytest.fixture(params=["nginx", "Caddy"])
def proxied(
    request: pytest.FixtureRequest, run_server: Callable[..., Server], certificate: Path, tmp_path: Path
) -> Iterator[Proxy]:
    """The service behind a proxy that speaks TLS, as the README sets it up."""
    server, port = run_server(TRUSTED_PROXIES="127.0.0.1"), free_port()
    url = f"https://localhost:{port}"
    site = block(request.param).replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    if request.param == "nginx":
        site = site.replace("443 ssl", f"127.0.0.1:{port} ssl").replace("segments.example.com;", "localhost;")
        site = site.replace("/etc/ssl/private/segments.example.com.key", str(certificate.with_suffix(".key")))
        site = site.replace("/etc/ssl/segments.example.com.pem", str(certificate))
        proxy = nginx(site, url, tmp_path)
    else:
        tls = f"    tls {certificate} {certificate.with_suffix('.key')}\n"
        site = site.replace("segments.example.com {\n", f"localhost:{port} {{\n{tls}")
        proxy = caddy(site, url, tmp_path)
    yield proxy
    proxy.stop()


@pytest.fixture
def as_installed(run_server: Callable[..., Server], tmp_path: Path) -> Iterator[Proxy]:
    """The service behind an nginx to which nobody said more than where it is."""
    server, port = run_server(), free_port()
    site = (
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{server.port}; }} }}"
    )
    proxy = nginx(site, f"http://127.0.0.1:{port}", tmp_path)
    yield proxy
    proxy.stop()


# ----------------------------------------------------------------------------------------------- tests


def test_behind_tls_links_and_transfers_work(proxied: Proxy, admin: str) -> None:
    with proxied.client(admin) as client:
        # More than the megabyte at which nginx stops by itself.
        ids = b"".join(b"%025d\n" % number for number in range(1, 50_001))
        csv = {"Content-Type": "text/csv"}
        imported = client.post("/v1/segments/A/members", content=ids, headers=csv)
        assert imported.json()["changed"] == 50_000, imported.text
        exported = client.get("/v1/segments/A/members", headers={"Accept": "text/csv"})
        assert len(exported.text.splitlines()) == 50_001
        link = client.post("/v1/reports", json=PERIOD).json()["url"]
        assert link.startswith(f"{proxied.url}/v1/reports/")
        assert client.get(link).status_code == 200
        removed = client.post(
            "/v1/segments/A/members", params={"operation": "remove"}, content=ids, headers=csv
        )
        assert removed.json()["changed"] == 50_000


def test_a_refusal_passes_the_proxy_while_the_client_is_still_sending(proxied: Proxy) -> None:
    for _ in range(3):
        with proxied.client("wrong") as client:
            refused = client.post("/v1/segments/A/members", content=b"1000\n" * 2**20)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")


def test_every_documented_call_passes_an_nginx_as_it_is_installed(as_installed: Proxy, admin: str) -> None:
    with as_installed.client(admin) as client:
        described = client.get("/openapi.json").json()
        known: dict[str, str] = {}
        done = 0
        for method, path, operation in calls(described):
            status, content = success(operation)
            given = {p["name"]: p["example"] for p in operation.get("parameters", []) if "example" in p}
            kwargs: dict[str, Any] = {
                "params": {name: value for name, value in given.items() if "{" + name + "}" not in path}
            }
            for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
                value = next(iter(body["examples"].values()))["value"]
                kwargs |= {"content": value} if isinstance(value, str) else {"json": value}
                kwargs["headers"] = {"Content-Type": media_type}
            for media_type in content:
                accepts = {"Accept": media_type} if media_type else {}
                headers = {**kwargs.pop("headers", {}), **accepts}
                answer = client.request(method, path.format(**given, **known), headers=headers, **kwargs)
                assert answer.status_code == status, (operation["operationId"], answer.text)
                if operation["operationId"] == "createReport":
                    known["file_name"] = answer.json()["url"].rpartition("/")[2]
                done += 1
        assert done > 20


def test_a_refusal_passes_an_nginx_as_it_is_installed(
    run_server: Callable[..., Server], admin: str, tmp_path: Path
) -> None:
    server, port = run_server(), free_port()
    site = (
        f"server {{ listen 127.0.0.1:{port}; client_max_body_size 0;"
        f" location / {{ proxy_pass http://127.0.0.1:{server.port}; }} }}"
    )
    proxy = nginx(site, f"http://127.0.0.1:{port}", tmp_path)
    try:
        for key, path, status in [("wrong", "A", 401), (admin, "NOPE", 404), (admin, "A", 415)]:
            kind = "image/png" if status == 415 else "text/csv"
            for _ in range(4):
                with proxy.client(key) as client:
                    refused = client.post(
                        f"/v1/segments/{path}/members",
                        content=b"1000\n" * 2**20,
                        headers={"Content-Type": kind},
                    )
                    assert refused.status_code == status, refused.text
    finally:
        proxy.stop()


@pytest.mark.parametrize(
    ("trusted", "scheme"),
    [
        ("", "http"),
        ("10.0.0.0/8", "http"),
        ("127.0.0.1", "https"),
        ("10.0.0.0/8, 127.0.0.0/8", "https"),
        ("*", "https"),
    ],
)
def test_a_proxys_word_counts_only_if_it_is_trusted(
    run_server: Callable[..., Server], admin: str, trusted: str, scheme: str
) -> None:
    # On a socket for both, an address of IPv4 looks like one of IPv6.
    server = run_server(TRUSTED_PROXIES=trusted, HOST="::")
    headers = {
        "Authorization": f"Bearer {admin}",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Proto": "https",
    }
    made = httpx.post(f"{server.url}/v1/reports", json=PERIOD, headers=headers).json()
    assert made["url"].startswith(f"{scheme}://127.0.0.1:{server.port}/v1/reports/")


@pytest.mark.parametrize("left", [True, False])
def test_it_may_be_served_under_a_path(
    run_server: Callable[..., Server], db: Database, admin: str, tmp_path: Path, left: bool
) -> None:
    # A path that other paths contain as well.
    server, port = run_server(ROOT_PATH="/seg"), free_port()
    site = (
        f"server {{ listen 127.0.0.1:{port}; location /seg/ {{"
        f" proxy_pass http://127.0.0.1:{server.port}{'' if left else '/'}; proxy_set_header Host $http_host; }} }}"
    )
    proxy = nginx(site, f"http://127.0.0.1:{port}/seg", tmp_path)
    slug = f"PATH-{left}"
    try:
        with proxy.client(admin) as client:
            made = client.post("/v1/segments", json={"slug": slug})
            assert (made.status_code, made.headers["location"]) == (201, f"/seg/v1/segments/{slug}")
            assert client.get(f"http://127.0.0.1:{port}{made.headers['location']}").json()["slug"] == slug
            assert client.get("/v1/users/777777/segments").json() == {"user_id": 777777, "segments": []}
            link = client.post("/v1/reports", json=PERIOD).json()["url"]
            assert link.startswith(f"{proxy.url}/v1/reports/")
            assert client.get(link).status_code == 200
            problem = client.get("/v1/segments/NOPE").json()
            assert problem["type"] == "/seg/docs/errors#not_found"
            assert client.get(f"http://127.0.0.1:{port}{problem['type']}").status_code == 200
    finally:
        proxy.stop()


def test_the_programs_are_installed() -> None:
    assert shutil.which("nginx")
    assert shutil.which("caddy")
