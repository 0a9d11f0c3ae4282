"""What DATABASE_URL means, as providers give it, to both drivers: asyncpg serves, psycopg (libpq) migrates."""

import random
import re
import shlex
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit, urlunsplit

# asyncpg reads these as libpq does.
KNOWN_TO_BOTH = {
    "dbname", "gsslib", "host", "krbsrvname", "passfile", "password", "port", "service", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword",
    "sslrootcert", "target_session_attrs", "user",
}  # fmt: skip
# For these the service has settings of its own, such as ACQUIRE_TIMEOUT, or a time limit that ends a silent connection.
SERVED_OTHERWISE = {
    "application_name", "connect_timeout", "fallback_application_name", "keepalives", "keepalives_count",
    "keepalives_idle", "keepalives_interval", "sslsni", "tcp_user_timeout",
}  # fmt: skip
# Of these parameters, the service can honour only such values.
ONE_WAY = {
    "channel_binding": {"disable", "prefer", "require"},
    "client_encoding": {"utf8", "UTF8", "utf-8", "UTF-8", "auto"},
    "gssencmode": {"disable", "prefer"},
    "load_balance_hosts": {"disable", "random"},
    "target_session_attrs": {"any", "prefer-standby", "primary", "read-only", "read-write", "standby"},
}
# libpq takes nothing but whole numbers.
NUMBERS = {
    "connect_timeout", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout",
}  # fmt: skip
# Files that asyncpg opens whenever it has to have TLS; of one that is missing it says not even the name.
FILES = {"sslcert", "sslcrl", "sslkey", "sslrootcert"}


class UrlError(ValueError):
    """A parameter of the URL is not supported; the message names it, and shows no other."""


class ForAsyncpg(NamedTuple):
    """What asyncpg takes, and what a person should know."""

    dsn: str
    server_settings: dict[str, str]
    warnings: list[str]


def for_psycopg(url: str) -> str:
    """The URL as libpq spells it."""
    parts = urlsplit(url)
    parameters = [("dbname" if name == "database" else name, value) for name, value in parse_qsl(parts.query)]
    return _url_of(parts._replace(query=_query(parameters)))


def for_asyncpg(url: str) -> ForAsyncpg:
    """The URL without what asyncpg would take for a setting of the server, or an error that says why it cannot be used."""
    parts = urlsplit(for_psycopg(url))
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    server_settings: dict[str, str] = {}
    kept: list[tuple[str, str]] = []
    for name, value in given.items():
        if name in ONE_WAY and value not in ONE_WAY[name]:
            raise UrlError(
                f"{name}={value} is not supported while serving: give {' or '.join(sorted(ONE_WAY[name]))}"
            )
        if name in NUMBERS and not re.fullmatch(r"[+-]?[0-9]+", value.strip()):
            raise UrlError(f"{name}={value} is no whole number")
        if name in FILES and given.get("sslmode") in ("require", "verify-ca", "verify-full"):
            _check_file(name, value)
        if name == "options":
            server_settings = _options(value)
        elif name in KNOWN_TO_BOTH:
            kept.append((name, value))
        elif name not in ONE_WAY and name not in SERVED_OTHERWISE:
            raise UrlError(f"its parameter {name} is not understood")
    warnings = []
    if given.get("channel_binding") == "require" and not given.get("sslmode", "").startswith("verify-"):
        warnings.append(
            "channel_binding=require holds for migrating only, as the driver that serves has none: sslmode=verify-full "
            "protects both"
        )
    if given.get("load_balance_hosts") == "random" and "," in parts.netloc:
        login, at, hosts = parts.netloc.rpartition("@")
        shuffled = hosts.split(",")
        random.shuffle(shuffled)
        parts = parts._replace(netloc=f"{login}{at}{','.join(shuffled)}")
    return ForAsyncpg(_url_of(parts._replace(query=_query(kept))), server_settings, warnings)


def _url_of(parts: SplitResult) -> str:
    # urlunsplit leaves "//" out where no host comes after it; to libpq it is no URL then.
    url = urlunsplit(parts)
    return url if parts.netloc else url.replace(":", "://", 1)


def _query(parameters: list[tuple[str, str]]) -> str:
    # libpq takes a plus sign for a plus sign.
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters)


def _check_file(name: str, file: str) -> None:
    try:
        Path(file).open().close()
    except OSError as error:
        raise UrlError(f"{name}={file} cannot be read: {error.strerror}") from None


def _options(text: str) -> dict[str, str]:
    """The settings in options=-c search_path=x --statement_timeout=5s."""
    settings: dict[str, str] = {}
    words = iter(shlex.split(text))
    for word in words:
        setting = next(words, "") if word == "-c" else word.removeprefix("-c").removeprefix("--")
        name, equals, value = setting.partition("=")
        if not word.startswith("-") or not equals:
            raise UrlError(f"its options are not understood at {word!r}: give -c name=value")
        settings[name.replace("-", "_")] = value
    return settings
