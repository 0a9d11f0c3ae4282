"""The picture in README and docs is what segment_growth gives; REDRAW=1 draws it anew."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

from tests.conftest import Clock, Database
from tests.picture import draw, furnish
from tests.readmes import block

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "service" / "docs" / "growth.svg"


def test_the_picture_is_drawn_from_what_the_function_tells(db: Database, clock: Clock) -> None:
    furnish(db, clock)
    drawn = draw(db)
    ElementTree.fromstring(drawn)
    if os.environ.get("REDRAW"):
        PICTURE.write_text(drawn)
    assert PICTURE.read_text() == drawn


def test_the_readme_shows_what_the_function_tells(db: Database, clock: Clock) -> None:
    furnish(db, clock)
    printed = block("growth")
    found = re.search(r"# (select at::date, users.*)\nsegmentation-# (from segment_growth\(.*\));\n", printed)
    assert found
    shown = re.sub(" +", " ", printed)
    rows = db.rows(f"{found[1]} {found[2]}")
    assert len(rows) == 6
    for row in rows:
        assert f" {' | '.join(map(str, row))}\n" in shown
