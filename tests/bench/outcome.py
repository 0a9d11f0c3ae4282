"""What was measured: rows with a goal, printed as one table and written as JSON."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Row(NamedTuple):
    """One measure; one without a goal is for information."""

    what: str
    measured: str
    value: float | None
    goal: str = ""
    reached: bool | None = None

    @property
    def verdict(self) -> str:
        """The last column."""
        return "" if self.reached is None else "reached" if self.reached else "not reached"


def at_least(what: str, value: float, goal: float, detail: str) -> Row:
    """A ratio that is to reach a goal."""
    return Row(what, f"{value:.2f} ×  ({detail})", value, f"≥ {goal:g} ×", value >= goal)


def at_most(what: str, value: float, goal: float, unit: str, detail: str) -> Row:
    """A ratio, time or number that is to stay within a goal."""
    digits = 0 if unit == "MB" or not unit else 2
    text = f"{value:.{digits}f} {unit}".strip()
    return Row(what, f"{text}  ({detail})", value, f"≤ {goal:g} {unit}".strip(), value <= goal)


def interleaved(rounds: int, measures: dict[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Take each measure once per round, one after the other: A B A B …"""
    taken: dict[str, list[T]] = {name: [] for name in measures}
    for number in range(rounds):
        for name, measure in measures.items():
            progress(f"  round {number + 1} of {rounds}: {name}")
            taken[name].append(measure())
    return taken


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """The median of the rounds' ratios: whatever disturbs a whole round cancels out."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def timed(action: Callable[[], Any]) -> float:
    """How many seconds something takes."""
    started = perf_counter()
    action()
    return perf_counter() - started


def progress(line: str) -> None:
    """Say what is being done."""
    print(line, file=sys.stderr, flush=True)


def table(rows: list[Row]) -> Iterator[str]:
    """The lines of the table."""
    cells = [("what", "measured", "goal", "verdict")]
    cells += [(row.what, row.measured, row.goal, row.verdict) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, line in enumerate(cells):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def write(path: Path, rows: list[Row], about: dict[str, Any]) -> None:
    """Keep the outcome as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measures = [{**row._asdict(), "verdict": row.verdict} for row in rows]
    path.write_text(json.dumps({**about, "measures": measures}, ensure_ascii=False, indent=2) + "\n")
