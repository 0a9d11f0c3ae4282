"""The picture in README and docs is what segment_growth gives; REDRAW=1 draws it anew."""

import os
from pathlib import Path
from xml.etree import ElementTree

from tests.conftest import Clock, Database
from tests.picture import draw, furnish

PICTURE = Path(__file__).parents[2] / "service" / "growth.svg"


def test_the_picture_is_drawn_from_what_the_function_tells(db: Database, clock: Clock) -> None:
    furnish(db, clock)
    drawn = draw(db)
    ElementTree.fromstring(drawn)
    if os.environ.get("REDRAW"):
        PICTURE.write_text(drawn)
    assert PICTURE.read_text() == drawn
