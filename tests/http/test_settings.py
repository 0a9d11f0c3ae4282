"""Settings: from the environment, and a wrong one is named."""

from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, read_settings

URL = {"DATABASE_URL": "postgresql://localhost/segmentation"}


def test_the_url_is_all_that_is_needed() -> None:
    assert read_settings(URL) == Settings(database_url=URL["DATABASE_URL"])
    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        read_settings({})


def test_each_setting_is_an_environment_variable() -> None:
    settings = read_settings(
        {**URL, "PORT": "9000", "HOST": "0.0.0.0", "LOCK_TIMEOUT": "0.5", "ACCESS_LOG": "true"}
    )
    assert (settings.port, settings.host, settings.lock_timeout, settings.access_log) == (
        9000,
        "0.0.0.0",
        0.5,
        True,
    )


def test_a_wrong_setting_is_named_with_its_value() -> None:
    for name, value in [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WORKERS", "0"),
        ("LOG_LEVEL", "loud"),
        ("LOCK_TIMEOUT", "-1"),
        ("STATEMENT_TIMEOUT", "nan"),
        ("ACCESS_LOG", "perhaps"),
        ("READER_POOL_SIZE", ""),
    ]:
        with pytest.raises(SettingsError, match=f"^{name}='{value}' is not valid: "):
            read_settings({**URL, name: value})


def test_a_wrong_url_is_not_shown_since_it_may_hold_a_password() -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL is not valid: ") as caught:
        read_settings({"DATABASE_URL": "host=db password=secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres:///segmentation",
        "postgresql:///segmentation?host=/var/run/postgresql",
        "postgresql://user:pass%40word@db.example.com:5432/segmentation?sslmode=require",
        "postgresql://user@one:5432,two:5432/segmentation?target_session_attrs=primary",
        "postgresql://user@[::1]:5432/segmentation",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/segmentation",
    ],
)
def test_a_url_as_libpq_takes_it_is_taken(url: str) -> None:
    assert read_settings({"DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host=db password=secret",
        "https://user:secret@db/segmentation",
        "postgresql:/user:secret@db/segmentation",
        "postgresql://user:secret@db:port/segmentation",
        "postgresql://user:sec/ret@db/segmentation",
        "postgresql://user:secret@[::1/segmentation",
        "postgresql://user:secret@two words/segmentation",
    ],
)
def test_a_url_that_cannot_be_one_is_told_so_with_an_example(url: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^DATABASE_URL is not valid: give one such as postgresql://"
    ) as caught:
        read_settings({"DATABASE_URL": url})
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://127.0.0.1:8080",
        "https://segments.example.com",
        "https://tools.example/segments/",
        "http://[::1]:80",
    ],
)
def test_a_public_url_is_where_clients_reach_the_service(url: str) -> None:
    assert read_settings({**URL, "PUBLIC_URL": url}).public_url == url


@pytest.mark.parametrize(
    "url",
    [
        "segments.example.com",
        "//segments.example.com",
        "ftp://segments.example.com",
        "https://",
        "https:///reports",
        "https://:443",
        "https://segments.example.com:99999",
        "https://segments.example.com:https",
        "https://user@segments.example.com",
        "https://segments.example.com?x=1",
        "https://segments.example.com/#top",
        "https://segments.example.com/a b",
        "https://segments.example.com/\n",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^PUBLIC_URL=.* is not valid: give one such as https://"):
        read_settings({**URL, "PUBLIC_URL": url})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "127.0.0.1,"),
        ("CORS_ORIGINS", "example.com"),
        ("CORS_ORIGINS", "https://example.com,localhost:3000"),
        ("CORS_ORIGINS", "https://example.com/"),
        ("ROOT_PATH", "segmentation"),
        ("ROOT_PATH", "/segmentation/"),
        ("ROOT_PATH", "/a b"),
    ],
)
def test_what_is_no_address_or_path_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}='{value}' is not valid: "):
        read_settings({**URL, name: value})


def test_the_url_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    with pytest.raises(SettingsError, match=r"^DATABASE_URL_FILE=.* cannot be read: No such file"):
        read_settings({"DATABASE_URL_FILE": str(file)})
    file.write_text(f"{URL['DATABASE_URL']}\n")
    assert read_settings({"DATABASE_URL_FILE": str(file)}) == read_settings(URL)
    # Which of them is meant, nobody can know; what is empty is not given.
    with pytest.raises(SettingsError, match=r"^DATABASE_URL and DATABASE_URL_FILE are both set"):
        read_settings({**URL, "DATABASE_URL_FILE": str(file)})
    assert read_settings({"DATABASE_URL": "", "DATABASE_URL_FILE": str(file)}) == read_settings(URL)
