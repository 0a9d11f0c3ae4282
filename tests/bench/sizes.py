"""How much data is measured: SCALE=small, in some minutes, or SCALE=full; SCALE=tiny shows only that all of it runs."""

import os
from typing import NamedTuple

# A megabyte.
MB = 2**20


class Sizes(NamedTuple):
    """Numbers of rows, and how long and how often each thing is measured."""

    name: str
    users: int
    growth_users: int
    imported: int
    expired: int
    rounds: int
    seconds: float

    few_users: int = 100_000
    segments: int = 50
    rolling: int = 20
    wide_segments: int = 1000
    wide_rolling: int = 100


SCALES = {
    "tiny": Sizes("tiny", 20_000, 40_000, 10_000, 10_000, rounds=1, seconds=0.5, few_users=10_000),
    "small": Sizes("small", 200_000, 2_000_000, 200_000, 200_000, rounds=5, seconds=1.0),
    "full": Sizes("full", 1_000_000, 10_000_000, 1_000_000, 1_000_000, rounds=7, seconds=3.0),
}


def chosen() -> Sizes:
    """The sizes of this run."""
    name = os.environ.get("SCALE") or "small"
    if name not in SCALES:
        raise SystemExit(f"error: SCALE={name} is unknown: say {' or '.join(SCALES)}.")
    return SCALES[name]
