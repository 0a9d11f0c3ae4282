"""Runs the tests of a database by itself on a router with two shards: .dev/test -p tests.shards.as_router tests/sql

All tests share one router, which is cleared before each. Left out is what looks into the tables of users, which are
empty on a router, or at plans, locks and settings of one database.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests import conftest
from tests.conftest import Clock, Database
from tests.shards.conftest import Shards

LEFT_OUT = Path(__file__).with_name("left_out.txt")
SETTLED = "drop function if exists segmentation_test.salt cascade"
started: list[Shards] = []


def the_shards() -> Shards:
    """The servers, started when the first test wants them."""
    if not started:
        directory = Path(tempfile.mkdtemp(dir="/tmp"))
        directory.chmod(0o755)
        started.append(Shards(directory))
    return started[0]


@contextmanager
def the_router(*_: Any) -> Iterator[str]:
    """The router in the place of a database of its own."""
    shards = the_shards()
    shards.clear()
    Database(shards.urls["router"]).rows(SETTLED)
    yield shards.urls["router"]
    shards.set_clock(None)


def set_all_clocks(clock: Clock, moment: datetime | None) -> datetime | None:
    """Stop the clocks of all three."""
    clock.now = moment
    the_shards().set_clock(moment)
    return moment


def pytest_configure() -> None:
    """Take the place of what makes databases and sets their clocks."""
    setattr(conftest, "clone", the_router)  # noqa: B010
    setattr(Clock, "set", set_all_clocks)  # noqa: B010


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is listed, by file or by test."""
    listed = {line.split("#")[0].strip() for line in LEFT_OUT.read_text().splitlines()} - {""}
    left_out = [
        item for item in items if {item.nodeid.partition("[")[0], item.nodeid.partition("::")[0]} & listed
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_unconfigure() -> None:
    """Stop and delete the servers."""
    for shards in started:
        shards.remove()
