"""The settings, all in one place: environment variables named as the fields, in capitals."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import click
import msgspec
from msgspec import Meta

from service.http.proxies import trusted_networks
from service.urls import UrlError, for_asyncpg

Seconds = Annotated[float, Meta(gt=0, le=86400)]
PoolSize = Annotated[int, Meta(ge=1, le=1000)]
# finish_import takes no more.
MAX_ROWS = 100_000_000


# A host, or several with commas between: each with its port, or without.
HOST = r"(\[[0-9A-Fa-f:.%]+\]|[^][:,/?#@\s]*)(:[0-9]{1,5})?"
DATABASE_URL = rf"^postgres(ql)?://([^/]*@)?{HOST}(,{HOST})*(/.*|\?.*)?$"
# As browsers send it: a scheme, a host, perhaps a port, and no path.
ORIGIN = r"\*|[a-z][a-z0-9+.-]*://[^/?#\s]+"
EXAMPLE = "postgresql://user@host:5432/database"


class SettingsError(click.ClickException):
    """A setting is missing or not valid; the message says which and why. Litestar's command line tells it as well."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set, with defaults that suit one small machine. Pools and caches are per worker process.

    What stands below each field is its text in the README.
    """

    database_url: Annotated[str, Meta(pattern=DATABASE_URL)]
    """Such as postgresql://user@host:5432/database"""
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address to listen on"""
    port: Annotated[int, Meta(ge=1, le=65535)] = 8080
    """Port to listen on"""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Server processes"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error"""
    log_format: Literal["text", "json"] = "text"
    """text, or json: one object a line"""
    access_log: bool = False
    """Log each request: true or false"""
    shutdown_timeout: Seconds = 8
    """Seconds that running requests get to end when the service is stopped"""
    max_connections: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    """Connections of clients that each worker holds; more wait until one of them ends"""
    # Load balancers drop an idle connection themselves after a minute.
    keep_alive_timeout: Seconds = 75
    """Seconds that a connection may idle between requests, or take for a request's head"""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 1024 * 1024
    """Longest JSON body, in bytes"""
    max_head_bytes: Annotated[int, Meta(ge=8192)] = 64 * 1024
    """Longest path, query and headers of a request, in bytes, before 431"""
    api_key_cache_seconds: Annotated[float, Meta(ge=0, le=3600)] = 5
    """Longest time that a revoked key could live if its notice is lost"""
    rate_limit_per_minute: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Requests a minute for each API key and worker, before 429; 0: any number"""
    evaluator_pool_size: PoolSize = 2
    """Connections for keys with role evaluator"""
    reader_pool_size: PoolSize = 8
    """Connections for keys with role reader"""
    editor_pool_size: PoolSize = 4
    """Connections for keys with role editor"""
    admin_pool_size: PoolSize = 2
    """Connections for keys with role admin"""
    keys_pool_size: PoolSize = 2
    """Connections to look keys and links up, and for health"""
    heavy_pool_size: PoolSize = 2
    """Connections for statistics, growth, members and histories"""
    bulk_pool_size: PoolSize = 4
    """Connections for imports, exports and reports, so that none starves reads"""
    bulk_per_key: PoolSize = 2
    """How many of these one key, or one link to a report, may use at a time; never all"""
    heavy_timeout: Seconds = 30
    """Seconds that statistics and the like may take"""
    transfer_timeout: Seconds = 600
    """Seconds that an import, export or report may take"""
    stall_timeout: Seconds = 30
    """Seconds to wait for a client: for a JSON body, for each part of a transfer"""
    min_bytes_per_second: Annotated[float, Meta(gt=0, le=1e9)] = 10_000
    """Bytes per second that a client must send or take in the long run, in a transfer"""
    max_upload_rows: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = MAX_ROWS
    """Most user ids of one import, before 413"""
    public_url: str = ""
    """Where clients reach the service, for links; empty: as the Host of each request says"""
    root_path: Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """Path under which a proxy serves it, such as /segmentation; empty: none"""
    trusted_proxies: str = ""
    """Addresses and networks, comma-separated, whose X-Forwarded-For and -Proto count; *: anybody's; empty: none"""
    cors_origins: str = ""
    """Origins of browser clients of OFREP, comma-separated, or *; empty: none"""
    cors_headers: str = ""
    """More request headers that these browser clients may send, comma-separated"""
    shared_reads: PoolSize = 2
    """Connections for the hot read; each call answers all reads that wait"""
    acquire_timeout: Seconds = 3
    """Seconds to wait for a connection, before 503"""
    statement_timeout: Seconds = 10
    """Seconds a call may take, before 504"""
    lock_timeout: Seconds = 5
    """Seconds a call may wait for a lock, before 503"""
    idle_transaction_timeout: Seconds = 30
    """Seconds after which PostgreSQL ends a forgotten transaction"""


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from environment variables, or say which one is wrong."""
    file = environment.get("DATABASE_URL_FILE")
    if file and environment.get("DATABASE_URL"):
        raise SettingsError("DATABASE_URL and DATABASE_URL_FILE are both set: give one of them.")
    if file:
        environment = {**environment, "DATABASE_URL": _read(file)}
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        name = field.name.upper()
        if name not in environment:
            continue
        try:
            given[field.name] = msgspec.convert(environment[name], field.type, strict=False)
        except msgspec.ValidationError as error:
            if field.name == "database_url":
                # It is not shown, as it may hold a password.
                raise SettingsError(
                    f"{name} is not valid: give one such as {EXAMPLE}; in names and passwords, %40 stands for @, %2F for /."
                ) from None
            raise SettingsError(f"{name}={environment[name]!r} is not valid: {error}.") from None
    if "database_url" not in given:
        raise SettingsError(f"DATABASE_URL is not set: give it, such as {EXAMPLE}.")
    try:
        for_asyncpg(given["database_url"])
    except UrlError as error:
        raise SettingsError(f"DATABASE_URL is not valid: {error}.") from None
    settings = Settings(**given)
    _check_addresses(settings)
    return settings


def _read(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise SettingsError(f"DATABASE_URL_FILE={file!r} cannot be read: {error.strerror}.") from None


def _check_addresses(settings: Settings) -> None:
    """Refuse URLs, origins and networks that are none."""
    if settings.public_url and not _is_url(settings.public_url):
        raise SettingsError(
            f"PUBLIC_URL={settings.public_url!r} is not valid: give one such as https://segments.example.com."
        )
    for origin in settings.cors_origins.split(",") if settings.cors_origins else []:
        if not re.fullmatch(ORIGIN, origin.strip()):
            raise SettingsError(
                f"CORS_ORIGINS={settings.cors_origins!r} is not valid: give origins such as https://shop.example.com, or *."
            )
    try:
        trusted_networks(settings.trusted_proxies or "*")
    except ValueError as error:
        raise SettingsError(
            f"TRUSTED_PROXIES={settings.trusted_proxies!r} is not valid: {error}; give addresses such as 127.0.0.1,10.0.0.0/8."
        ) from None


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        is_host = bool(re.fullmatch(HOST, url.netloc)) and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    # Only characters that need no quoting, and neither query nor fragment.
    is_plain = bool(re.fullmatch(r"[A-Za-z0-9:/._~%\[\]-]+", text))
    return url.scheme in ("http", "https") and is_host and is_plain


def is_traced(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether OpenTelemetry's standard variables switch tracing on: by an exporter or by where to send to."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not is_disabled and exporter != "none" and bool(exporter or endpoint)
