"""Ways to serve the hot read, compared with one another: make bench ARGS=--candidates."""

from functools import partial
from statistics import median

from tests.bench import load
from tests.bench.data import copy_of, data_set
from tests.bench.outcome import Row, progress
from tests.bench.server import HOT, ONE_QUERY, running
from tests.bench.sizes import Sizes

GRANIAN = (
    *("granian", "--interface", "asgi", "--factory", "--loop", "uvloop"),
    *("--no-ws", "--log-level", "warning", "tests.bench.server:create_app"),
)


def compare(sizes: Sizes) -> list[Row]:
    """Answers a second of each candidate, in turns, against the service as it is."""
    ways = {
        "as it is": ({}, HOT),
        "no coalescing: one query a request": ({}, ONE_QUERY),
        "shared_reads=1": ({"shared_reads": 1}, HOT),
        "shared_reads=4": ({"shared_reads": 4}, HOT),
        "workers=2": ({"workers": 2}, HOT),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    with copy_of(data_set(sizes, sizes.users)) as database:
        for number in range(sizes.rounds):
            for way, (settings, path) in ways.items():
                progress(f"  round {number + 1} of {sizes.rounds}: {way}")
                with running(database, **settings) as server:  # type: ignore[arg-type]
                    read = partial(load.throughput, server, path, sizes.users)
                    read(1)
                    taken[way].append(read(sizes.seconds))
    base = taken["as it is"]
    return [
        Row(
            way,
            f"{median(each):,.0f} a second, {median(a / b for a, b in zip(each, base, strict=True)):.2f} ×",
            median(each),
        )
        for way, each in taken.items()
    ]
