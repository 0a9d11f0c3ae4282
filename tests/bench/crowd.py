"""The hot read while many others ask for what is dear: statistics, reports and imports."""

import json
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from statistics import median

from tests.bench import load
from tests.bench.data import connect, copy_of, data_set, month_of_report
from tests.bench.outcome import Row, at_most, interleaved, progress, ratio
from tests.bench.server import CSV, JSON, Running, running
from tests.bench.sizes import Sizes

RATE = 100
STATISTICS, REPORTS, IMPORTS = 24, 4, 2


class Crowd:
    """Clients that ask again and again: the dear ones may be told to wait, writes and health may not."""

    def __init__(self, server: Running, sizes: Sizes, month: str) -> None:
        """Know whom to ask for what."""
        self.refused: list[str] = []
        self.answered = 0
        self._server = server
        self._sizes = sizes
        self._month = month
        ids = random.sample(range(1, sizes.users + 1), sizes.imported // 10)
        self._ids = "".join(f"{number}\n" for number in ids).encode()

    def at_work(self) -> AbstractContextManager[None]:
        """Ask meanwhile."""
        patient: list[Callable[[], object]] = [self._write, partial(self._server.ask, "GET", "/health/ready")]
        dear = STATISTICS * [self._count] + REPORTS * [self._report] + IMPORTS * [self._import]
        return load.meanwhile(
            [(partial(self._ask, each, is_counted=True), 0.1) for each in patient]
            + [(partial(self._ask, each, is_counted=False), 0.001) for each in dear]
        )

    def _ask(self, ask: Callable[[], object], *, is_counted: bool) -> None:
        try:
            ask()
            self.answered += is_counted
        except RuntimeError as error:
            self.refused += [str(error)] if is_counted else []

    def _write(self) -> None:
        change = json.dumps({"add": [f"SEGMENT_{random.randint(21, 40):04}"], "ttl_seconds": 3600})
        self._server.ask(
            "PATCH", f"/v1/users/{random.randint(1, self._sizes.users)}/segments", change, **JSON
        )

    def _count(self) -> None:
        self._server.ask("GET", f"/v1/segments/SEGMENT_{random.randint(1, 20):04}/stats")

    def _report(self) -> None:
        self._server.ask("GET", self._server.link_to_report(self._month))

    def _import(self) -> None:
        self._server.ask(
            "POST", f"/v1/segments/SEGMENT_{random.randint(41, 50):04}/members", self._ids, **CSV
        )


def crowd(sizes: Sizes) -> list[Row]:
    """Reads at a fixed rate, alone and beside the crowd, in turns."""
    crowds: list[Crowd] = []

    def alone(server: Running) -> float:
        return load.latency(server, sizes.users, RATE, load.after(5 * sizes.seconds)).p99

    def beside(server: Running) -> float:
        crowds.append(Crowd(server, sizes, month))
        with crowds[-1].at_work():
            return alone(server)

    with (
        copy_of(data_set(sizes, sizes.users)) as database,
        running(database) as server,
        connect(database) as dba,
    ):
        # Data sets may be old, and the sweep is to have run lately.
        dba.execute("call sweep()")
        month = month_of_report(dba)
        progress(f"reading at {RATE} a second beside a crowd")
        load.latency(server, sizes.users, RATE, load.after(1))
        taken = interleaved(
            min(3, sizes.rounds),
            {"alone": partial(alone, server), "beside the crowd": partial(beside, server)},
        )
    before, meanwhile = (median(each) for each in taken.values())
    refused = [each for crowd in crowds for each in crowd.refused]
    busy = [each for each in refused if '"busy"' in each]
    for each in refused:
        progress(f"  {each}")
    return [
        at_most(
            f"read p99 while {STATISTICS} clients ask for statistics, {REPORTS} for reports, {IMPORTS} import,"
            " against alone",
            ratio(taken["beside the crowd"], taken["alone"]),
            3,
            "×",
            f"{meanwhile:.1f} ms and {before:.1f} ms",
        ),
        at_most(
            "writes and health refused meanwhile",
            len(refused),
            0,
            "",
            f"of {sum(each.answered for each in crowds) + len(refused)};"
            f" {len(busy)} for users whom an import holds",
        ),
    ]
