"""Takes the measures and prints them as one table: python -m tests.bench."""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.bench import candidates, crowd, deploy, disk, reads, shards, transfers, upkeep
from tests.bench.data import server_version
from tests.bench.outcome import Row, progress, table, write
from tests.bench.sizes import Sizes, chosen

MEASURES: dict[str, Callable[[Sizes], list[Row]]] = {
    "http": reads.over_http,
    "sql": reads.in_sql,
    "growth": reads.growth,
    "imports": transfers.imports,
    "reports": transfers.reports,
    "sweep": upkeep.sweep,
    "crowd": crowd.crowd,
    "deploy": deploy.deploy,
    "disk": disk.disk,
    "shards": shards.shards,
}


def main() -> None:
    """Take the measures that are named, or all; Ctrl-C ends what was started, too."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="measure", help=f"some of: {', '.join(MEASURES)}")
    parser.add_argument("--out", type=Path, default=Path(".local/bench/result.json"), help="the JSON file")
    parser.add_argument("--candidates", action="store_true", help="compare ways to serve instead")
    arguments = parser.parse_args()
    if unknown := set(arguments.measures) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if "BENCH_DATABASE_URL" not in os.environ:
        parser.error("BENCH_DATABASE_URL is not set: run make bench.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    sizes = chosen()
    about: dict[str, Any] = {
        "sizes": sizes._asdict(),
        "processors": f"{len(os.sched_getaffinity(0))} × {_processor()}",
        "postgresql": server_version(),
    }
    started = perf_counter()
    rows: list[Row] = []
    if arguments.candidates:
        rows = candidates.compare(sizes)
    else:
        for name in arguments.measures or MEASURES:
            rows += MEASURES[name](sizes)
    progress(f"done in {perf_counter() - started:.0f} s")
    print(
        f"\nSCALE={sizes.name}: {sizes.users:,} users, {sizes.segments} segments of which {sizes.rolling} are rolling"
        f" out, 5 assignments for each fifth user; PostgreSQL {about['postgresql']}; {about['processors']}\n"
    )
    print("\n".join(table(rows)))
    write(arguments.out, rows, about)


def _processor() -> str:
    """What the kernel calls it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
