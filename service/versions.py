"""Which version this is: the release, and the digest of the migrations and SQL that it needs in the database."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from service import __version__, project_path

# What a database is, beside others. All have the files of the first; the others have a folder of their own besides.
KINDS = ("single", "router", "shard")


def migration_files(kind: str = "single") -> list[Path]:
    """The migrations in their order, without the ways back."""
    return [file for file in _files("migrations", "*.sql", kind) if ".rollback." not in file.name]


def migration_folder(kind: str) -> Path:
    """Where those migrations are that databases of this kind have besides."""
    folder = project_path("migrations")
    return folder if kind == "single" else folder / kind


def schema_files(kind: str = "single") -> list[Path]:
    """What the schema holds: routines, views, triggers, comments, grants."""
    return _files("sql", "*.sql", kind)


def server_files(kind: str = "single") -> list[Path]:
    """What stands around the schema: roles, settings of the database, jobs."""
    return _files("sql", "server/*.sql", kind)


def _files(folder: str, pattern: str, kind: str) -> list[Path]:
    here = project_path(folder)
    return [*sorted(here.glob(pattern)), *sorted((here / kind).glob(pattern))]


def all_files() -> Iterator[Path]:
    """Those of every kind, one kind after the other: what all kinds have comes with each."""
    for kind in KINDS:
        for files in (migration_files(kind), schema_files(kind), server_files(kind)):
            if not files:
                raise FileNotFoundError(
                    "migrations or sql hold no *.sql file: this copy of segmentation is not whole"
                )
            yield from files


def name_of(file: Path) -> str:
    """What one of them is called by people: sql/10_clock.sql."""
    return str(file.relative_to(project_path("sql").parent))


def digest() -> str:
    """What tells one state of these files from every other."""
    told = hashlib.sha256()
    for file in all_files():
        told.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return told.hexdigest()[:12]


def version() -> str:
    """The release and the digest, as the database and /health/ready show them."""
    return f"{__version__} ({digest()})"
