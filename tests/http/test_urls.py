"""DATABASE_URL as providers give it: one that migrates serves too, and the other way about."""

import asyncio
from urllib.parse import urlencode, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from service.database import Database
from service.health import check_database
from service.migrate import migrate
from service.settings import Settings, SettingsError, read_settings
from service.urls import UrlError, for_asyncpg, for_psycopg
from tests.conftest import SERVER

EXTRAS = [
    "",
    "sslmode=prefer&channel_binding=prefer",
    "channel_binding=prefer&connect_timeout=10&gssencmode=disable",
    "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=10000",
    "target_session_attrs=read-write&application_name=mine",
    "target_session_attrs=primary",
    "options=-c%20work_mem%3D8MB",
    "options=-cwork_mem%3D8MB%20--statement-timeout%3D9s",
    "client_encoding=utf8",
]


def two_hosts(url: str) -> str:
    """The same server, and before it one that is away."""
    host = f"{SERVER['host']}:{SERVER['port']}"
    return url.replace(f"@{host}/", f"@127.0.0.1:1,{host}/")


@pytest.mark.parametrize("extra", [*EXTRAS, "load_balance_hosts=random&connect_timeout=3"])
def test_what_migrates_serves_and_what_serves_migrates(extra: str, database_url: str, empty: str) -> None:
    for url in (f"{database_url}?{extra}", f"{two_hosts(database_url)}?{extra}"):
        asyncio.run(check_database(Settings(database_url=url)))
    migrate(f"{two_hosts(empty)}?{extra}")


def test_a_url_may_name_its_host_as_a_parameter(database_url: str, empty: str) -> None:
    for url, use in (
        (database_url, lambda url: asyncio.run(check_database(Settings(database_url=url)))),
        (empty, migrate),
    ):
        parts = urlsplit(url)
        given = {
            "host": parts.hostname,
            "port": parts.port,
            "user": parts.username,
            "password": parts.password,
        }
        use(f"postgresql://{parts.path}?{urlencode(given)}")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("gssencmode=require", "gssencmode=require"),
        ("client_encoding=latin1", "client_encoding=latin1"),
        ("require_auth=scram-sha-256", "require_auth"),
        ("search_path=public", "search_path"),
        ("options=-x", "options"),
        ("pgbouncer=true", "pgbouncer"),
        ("target_session_attrs=nonsense", "target_session_attrs=nonsense .* give any or "),
        ("connect_timeout=abc", "connect_timeout=abc"),
        ("sslmode=verify-full&sslrootcert=/nowhere", "sslrootcert=/nowhere cannot be read: No such file"),
    ],
)
def test_what_is_not_understood_is_named(extra: str, named: str) -> None:
    with pytest.raises(UrlError, match=named):
        for_asyncpg(f"postgresql://u:secret@h/d?{extra}")
    with pytest.raises(SettingsError, match=named) as caught:
        read_settings({"DATABASE_URL": f"postgresql://u:secret@h/d?{extra}"})
    assert "secret" not in str(caught.value)


def test_channel_binding_is_told_where_it_cannot_be_had() -> None:
    url = "postgresql://u@h/d?channel_binding=require&sslmode={}"
    assert "verify-full" in for_asyncpg(url.format("require")).warnings[0]
    assert for_asyncpg(url.format("verify-full")).warnings == []


def test_the_settings_of_the_service_come_before_those_of_the_url(database_url: str) -> None:
    url = f"{database_url}?options=-c%20search_path%3Dpublic%20-c%20work_mem%3D8MB"
    settings = Database(Settings(database_url=url)).connect_arguments("reader")["server_settings"]
    assert (settings["search_path"], settings["work_mem"]) == ("segmentation", "8MB")


def test_libpq_gets_the_database_under_its_own_name() -> None:
    assert conninfo_to_dict(for_psycopg("postgresql://u@h?database=mine"))["dbname"] == "mine"
    assert conninfo_to_dict(for_psycopg("postgresql://a%40b:p%2Bq@h1,h2/d"))["host"] == "h1,h2"
