"""Which version this is: the release, and the digest of the migrations and SQL that it needs in the database."""

import hashlib
from pathlib import Path

from service import __version__, project_path


def migration_files() -> list[Path]:
    """The migrations in their order, without the ways back."""
    files = project_path("migrations").glob("*.sql")
    return [file for file in sorted(files) if ".rollback." not in file.name]


def schema_files() -> list[Path]:
    """What the schema holds: routines, views, triggers, comments, grants."""
    return sorted(project_path("sql").glob("*.sql"))


def server_files() -> list[Path]:
    """What stands around the schema: roles, settings of the database, jobs."""
    return sorted(project_path("sql").glob("server/*.sql"))


def name_of(file: Path) -> str:
    """What one of them is called by people: sql/10_clock.sql."""
    return str(file.relative_to(project_path("sql").parent))


def digest() -> str:
    """What tells one state of these files from every other."""
    told = hashlib.sha256()
    for files in (migration_files(), schema_files(), server_files()):
        if not files:
            raise FileNotFoundError(
                "migrations or sql hold no *.sql file: this copy of segmentation is not whole"
            )
        for file in files:
            told.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return told.hexdigest()[:12]


def version() -> str:
    """The release and the digest, as the database and /health/ready show them."""
    return f"{__version__} ({digest()})"
