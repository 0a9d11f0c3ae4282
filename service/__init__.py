"""The HTTP layer: one request is one call of a SQL function, one SQL error is one HTTP error."""

from pathlib import Path

__version__ = "2.0.0"


def project_path(name: str) -> Path:
    """Where sql, migrations and the project's pages are: beside this folder in a checkout, inside it in a wheel."""
    here = Path(__file__).resolve().parent
    for place in (here.parent / name, here / name, here / "project" / name):
        if place.exists():
            return place
    raise FileNotFoundError(
        f"{name} is missing: this is neither a checkout nor a whole wheel of segmentation"
    )
