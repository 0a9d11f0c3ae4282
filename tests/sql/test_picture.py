"""The picture in README and docs is what segment_growth gives; REDRAW=1 draws it anew."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

from tests.conftest import Clock, Database
from tests.picture import draw, furnish

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "service" / "growth.svg"


def test_the_picture_is_drawn_from_what_the_function_tells(db: Database, clock: Clock) -> None:
    furnish(db, clock)
    drawn = draw(db)
    ElementTree.fromstring(drawn)
    if os.environ.get("REDRAW"):
        PICTURE.write_text(drawn)
    assert PICTURE.read_text() == drawn


def test_the_readme_shows_what_the_function_tells(db: Database, clock: Clock) -> None:
    furnish(db, clock)
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"# (select at::date, users.*)\nsegmentation-# (from segment_growth\(.*\));\n", readme)
    assert found
    shown = re.sub(" +", " ", readme)
    rows = db.rows(f"{found[1]} {found[2]}")
    assert len(rows) == 6
    for row in rows:
        assert f" {' | '.join(map(str, row))}\n" in shown
