"""docker-compose.yaml keeps step with the local cluster and the code, holds no secret, and its scripts do what they say.

There may be no Docker where tests run: its scripts run here as they stand, on a directory in the place of the
volume, and on this test's database.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from service.settings import Settings
from tests.compose import COMPOSE, FILE, SERVICES, run
from tests.conftest import Database
from tests.launcher import Server
from tests.readmes import ROOT, block

CLUSTER = ROOT / ".dev" / "cluster"

# What only the local cluster sets, and what the container sets to another value; with the reason.
LOCAL_ONLY = {
    "listen_addresses": "the container listens to the other containers, and to nobody else",
    "port": "each local cluster has a port of its own",
    "unix_socket_directories": "in the container, psql comes by the socket",
}
DIFFERENT = {
    "shared_buffers": "the local one follows the machine's memory, the other the container's shm_size"
}


def given_settings() -> dict[str, str]:
    """The settings of the container's server."""
    command = SERVICES["db"]["command"]
    assert command[0] == "postgres"
    assert set(command[1::2]) == {"-c"}
    return dict(setting.split("=", 1) for setting in command[2::2])


@pytest.fixture(scope="module")
def local_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of a cluster as make run makes it."""
    directory = tmp_path_factory.mktemp("compose") / "cluster"
    subprocess.run([CLUSTER, "start", directory, "--cron"], check=True)
    try:
        lines = (directory / "data" / "segmentation.conf").read_text().splitlines()
        yield {
            name: value.strip("'")
            for name, value in (line.split(" = ") for line in lines if not line.startswith("#"))
        }
    finally:
        subprocess.run([CLUSTER, "remove", directory], check=True)


def test_its_server_is_set_like_the_local_one(local_settings: dict[str, str]) -> None:
    given = given_settings()
    assert set(local_settings) - set(given) == set(LOCAL_ONLY)
    assert set(given) <= set(local_settings)
    assert {name for name in given if given[name] != local_settings[name]} <= set(DIFFERENT)
    # Both take shared memory from what they may have.
    assert int(given["shared_buffers"].removesuffix("MB")) <= int(
        SERVICES["db"]["shm_size"].removesuffix("mb")
    )
    assert SERVICES["db"]["environment"]["POSTGRES_INITDB_ARGS"] in CLUSTER.read_text()


def test_a_router_and_its_shards_are_set_like_the_local_ones() -> None:
    local = re.findall(
        r"echo \"(\S+) = '?([^'\"]+)'?\"",
        CLUSTER.read_text().partition("if [[ $shards ]]; then\n")[2].partition("\n    fi")[0],
    )
    assert len(local) == 6
    for name in ("router-db", "s0-db", "s1-db"):
        arguments = SERVICES[name]["environment"]["POSTGRES_INITDB_ARGS"]
        assert arguments.split()[0] == SERVICES["db"]["environment"]["POSTGRES_INITDB_ARGS"]
        assert dict(re.findall(r"--set (\S+)=(\S+)", arguments)) == dict(local)
        assert SERVICES[name]["command"] == SERVICES["db"]["command"]
    volumes = [
        volume.split(":")[0]
        for name in SERVICES
        if name.endswith("db")
        for volume in SERVICES[name]["volumes"]
    ]
    data = [volume for volume in volumes if volume != "secrets"]
    assert len(data) == len(set(data)) == 4
    assert {*data, "secrets"} == set(COMPOSE["volumes"])
    of_shards = {name for name in SERVICES if SERVICES[name].get("profiles") == ["shards"]}
    assert of_shards == {"router-db", "s0-db", "s1-db", "router-migrate", "router-service"}


def test_all_parts_speak_of_one_database() -> None:
    name = SERVICES["db"]["environment"]["POSTGRES_DB"]
    assert given_settings()["cron.database_name"] == name
    assert set(re.findall(r"@(?:[\w$-]+-)?db/(\w+)", FILE.read_text())) == {name}
    assert SERVICES["db"]["healthcheck"]["test"][-1] == name


def test_its_versions_are_one_and_such_as_are_supported() -> None:
    images = re.findall(r"(?:image: |FROM )([\w.]+):([\w.-]+)", FILE.read_text())
    (postgres,) = {tag for image, tag in images if image == "postgres"}
    (python,) = {tag for image, tag in images if image == "python"}
    packages = re.findall(r"postgresql-(\d+)-(\w+)", FILE.read_text())
    assert packages == [(postgres, "cron"), (postgres, "plproxy")]
    oldest = re.search(r"OLDEST_PG=(\d+)", (ROOT / ".dev" / "lib").read_text())
    assert oldest
    assert int(postgres) >= int(oldest[1])
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert [int(part) for part in python.removesuffix("-slim").split(".")] >= [
        int(part) for part in wanted.removeprefix(">=").split(".")
    ]


def test_what_it_sets_exists() -> None:
    settings = {field.name.upper() for field in msgspec.structs.fields(Settings)}
    assert set(SERVICES["service"]["environment"]) <= settings | {"DATABASE_URL_FILE"}
    inside = SERVICES["service"]["environment"]["PORT"]
    assert SERVICES["service"]["ports"] == [f"127.0.0.1:${{PORT:-8080}}:{inside}"]
    assert f":{inside}/health/live" in SERVICES["service"]["healthcheck"]["test"][-1]


def test_there_is_no_secret_in_it() -> None:
    """A password is a file's name here, or a shell makes it at the first start; its value never stands here."""
    text = re.sub(r"^\s*#.*$", "", FILE.read_text(), flags=re.MULTILINE)
    for _, password in re.findall(r"://(\w+):([^@]*)@", text):
        assert password.startswith("$$(")
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|DATABASE", name):
                assert name.endswith("_FILE")
                assert value.startswith("/secrets/")
    assert not re.search(r"seg_[0-9a-f]|[0-9a-f]{20}", text)


def test_no_start_leaves_a_volume_without_a_name() -> None:
    declared = "/var/lib/postgresql/data"  # by the image postgres
    for service in SERVICES.values():
        if "postgres:" in str(service.get("image") or service["build"]["dockerfile_inline"]):
            named = [volume.split(":")[1] for volume in service["volumes"]]
            assert declared in [*named, *service.get("tmpfs", [])]


def test_what_goes_into_its_image_is_not_ignored() -> None:
    copied = {
        name
        for line in re.findall(
            r"^COPY (.*)$", SERVICES["service"]["build"]["dockerfile_inline"], re.MULTILINE
        )
        for name in line.split()[:-1]
    }
    let_in = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert copied == set(let_in)
    assert all((ROOT / name).exists() for name in copied)


def test_the_first_key_is_made_as_the_readme_says(db: Database) -> None:
    run_in, user, database, statement = re.findall(
        r"docker compose exec (\w+) psql -U (\w+) -d (\w+) -Atc \"(.*)\"", block("docker")
    )[0]
    assert "postgres" in SERVICES[run_in]["build"]["dockerfile_inline"]
    assert (user, database) == ("postgres", SERVICES[run_in]["environment"]["POSTGRES_DB"])
    assert db.value(statement).startswith("seg_")
    assert db.column("select role from list_api_keys()") == ["admin"]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The directory that stands for the volume of secrets."""
    volume = tmp_path / "secrets"
    volume.mkdir()
    return volume


def test_passwords_are_made_once_each_for_its_reader_only(volume: Path) -> None:
    run("secrets", volume)
    made = {file.name: file.read_text().strip() for file in volume.iterdir()}
    of_shards = {"router.migrate.url", "s0.migrate.url", "s1.migrate.url", "router.url", "router.url.migrate"}
    assert set(made) == {
        *("postgres.password", "migrate.url", "service.url", "service.url.migrate", "done", "done.shards"),
        *of_shards,
    }
    dba, service = (conninfo_to_dict(made[name]) for name in ("migrate.url", "service.url"))
    assert (dba["user"], dba["password"]) == ("postgres", made["postgres.password"])
    assert service["user"] == "segmentation_service"
    assert len(str(service["password"])) == 48
    assert service["password"] != dba["password"]
    assert made["service.url.migrate"] == made["service.url"]
    assert made["router.url.migrate"] == made["router.url"] != made["service.url"]
    hosts = {name: conninfo_to_dict(made[name])["host"] for name in of_shards}
    assert {name: f"{name.partition('.')[0]}-db" for name in of_shards} == hosts
    assert set(hosts.values()) <= set(SERVICES)
    assert {file.stat().st_mode & 0o777 for file in volume.iterdir()} == {0o600}
    owners = Path(f"{volume}.owners").read_text().split("\n")
    assert owners == [
        "postgres postgres.password",
        "10001 migrate.url service.url.migrate",
        "10002 service.url",
        "10001 router.migrate.url s0.migrate.url s1.migrate.url router.url.migrate",
        "10002 router.url",
        "",
    ]
    run("secrets", volume)
    assert {file.name: file.read_text().strip() for file in volume.iterdir()} == made


def test_its_scripts_migrate_and_serve(
    volume: Path, database_url: str, server_log: Callable[[], str]
) -> None:
    run("secrets", volume)
    at = database_url.rpartition("@")[2]
    (volume / "migrate.url").write_text(database_url)
    service_url = (volume / "service.url").read_text().replace("db/segmentation", at)
    (volume / "service.url").write_text(service_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("alter role segmentation_service password null")
    migrated = run("migrate", volume, USER="migrate")
    assert "the database is at version" in migrated.stdout
    server = Server(
        "",
        command=SERVICES["service"]["command"],
        DATABASE_URL_FILE=SERVICES["service"]["environment"]["DATABASE_URL_FILE"].replace(
            "/secrets", str(volume)
        ),
        PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
        WORKERS="2",
    )
    try:
        assert httpx.get(f"{server.url}/health/ready").status_code in (200, 503)
        _, *check = SERVICES["service"]["healthcheck"]["test"]
        check = [sys.executable, *(part.replace(":8080", f":{server.port}") for part in check[1:])]
        subprocess.run(check, check=True)
    finally:
        server.stop()
    # A start is no news in PostgreSQL's log.
    assert not re.search("ERROR|FATAL|WARNING", server_log())
    assert subprocess.run(check, stderr=subprocess.DEVNULL).returncode != 0
