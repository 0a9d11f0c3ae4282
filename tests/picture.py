"""The picture of the README: a rollout from 10 to 100 %, as segment_growth counts it in a data set of a few weeks."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.conftest import Clock, Database

SLUG = "AVITO_VOICE_MESSAGES"
BEGIN = datetime(2026, 10, 5, tzinfo=UTC)
END = BEGIN + timedelta(days=42)
NOW = BEGIN + timedelta(days=35)
# Buckets, and with them the picture, depend on the salt.
SALT = 42
DAY = timedelta(days=1)

STYLE = """\
text { font: 13px sans-serif; fill: #333 } .title { font-weight: bold } .small { font-size: 11px; fill: #666 }
.grid { stroke: #ddd } .now { stroke: #999; stroke-dasharray: 3 3 }
.rollout { fill: #7eb6e8 } .hand { fill: #f2a65a } .plan { stroke: #333; stroke-dasharray: 6 4 } .real { stroke: #2a78c2; stroke-width: 2 }
polyline { fill: none }
"""


def furnish(db: Database, clock: Clock) -> None:
    """Five weeks: new users every day, a ramp with a step still planned, testers for three weeks, complaints."""
    ids = iter(range(1, 10**6))

    def register(number: int) -> None:
        db.rows("select register_users(%s::bigint[])", [next(ids) for _ in range(number)])

    clock.set(BEGIN)
    register(6000)
    clock.advance(days=3)
    db.rows("insert into segmentation.segments (slug, salt) values (%s, %s)", SLUG, SALT)
    db.rows("select set_rollout(%s, 10, reason => 'first tenth')", SLUG)
    db.rows("select set_rollout(%s, 50, %s, reason => 'if all is well')", SLUG, BEGIN + 17 * DAY)
    db.rows("select set_rollout(%s, 100, %s, reason => 'everybody')", SLUG, BEGIN + 38 * DAY)
    for day in range(4, 36):
        clock.set(BEGIN + day * DAY)
        register(120 + 40 * (day % 7 in (5, 6)))
        if day in (6, 7, 8):
            testers = list(range(300 * day, 300 * (day + 1)))
            db.rows("select change_segment_members(%s, %s, 'add', %s)", SLUG, testers, BEGIN + 27 * DAY)
        if day in (19, 20, 22):
            complaints = list(range(3000 + 120 * day, 3000 + 120 * (day + 1)))
            db.rows("select change_segment_members(%s, %s, 'remove')", SLUG, complaints)
    clock.set(NOW)


def draw(db: Database) -> str:
    """The picture, as SVG."""
    rows = db.rows("select * from segment_growth(%s, %s, %s, '6 hours')", SLUG, BEGIN, END)
    most = -(-max(row.members for row in rows) // 2000) * 2000
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 540" width="900" height="540" role="img">',
            f"<title>Growth of {SLUG}</title>",
            f"<style>\n{STYLE}</style>",
            '<rect width="900" height="540" fill="#fff"/>',
            *chart("Members", 40, most, stacked(rows, most)),
            '<rect class="rollout" x="480" y="14" width="14" height="14"/><text x="500" y="26">in by rollout</text>',
            '<rect class="hand" x="620" y="14" width="14" height="14"/><text x="640" y="26">in by hand</text>',
            *chart("Rollout: plan and reality, % of known users", 310, 100, compared(rows)),
            '<path class="plan" d="M480 291h26"/><text x="512" y="296">planned</text>',
            '<path class="real" d="M620 291h26"/><text x="652" y="296">members of all known users</text>',
            "</svg>\n",
        ]
    )


def across(at: datetime) -> float:
    """Where a moment lies, from left to right."""
    return round(70 + 800 * ((at - BEGIN) / (END - BEGIN)), 1)


def steps(rows: Iterable[Any], height: Callable[[Any], float]) -> list[str]:
    """The points of a line that holds each value until the next one; it skips what is not there."""
    points: list[str] = []
    level = None
    for row in rows:
        if level is not None:
            points.append(f"{across(row.at)},{level}")
        level = round(200 - 200 * height(row), 1)
        points.append(f"{across(row.at)},{level}")
    return points


def stacked(rows: list[Any], most: int) -> list[str]:
    """Members by rollout, and on top of them those by hand."""
    zero = ["870,200", "70,200"]
    below = steps(rows, lambda row: row.rolled_out / most)
    top = steps(rows, lambda row: row.members / most)
    return [
        f'<polygon class="hand" points="{" ".join([*top, *reversed(below)])}"/>',
        f'<polygon class="rollout" points="{" ".join([*below, *zero])}"/>',
    ]


def compared(rows: list[Any]) -> list[str]:
    """The planned and the actual percentage, from the segment's creation on."""
    alive = [row for row in rows if row.planned_percent is not None]
    plan = steps(alive, lambda row: float(row.planned_percent) / 100)
    real = steps(alive, lambda row: float(row.actual_percent) / 100)
    return [
        f'<polyline class="real" points="{" ".join(real)}"/>',
        f'<polyline class="plan" points="{" ".join(plan)}"/>',
    ]


def chart(title: str, top: int, most: int, lines: list[str]) -> list[str]:
    """A chart with its axes, 200 high."""
    weeks = [BEGIN + 7 * n * DAY for n in range(7)]
    return [
        f'<text class="title" x="70" y="{top - 14}">{title}</text>',
        f'<g transform="translate(0 {top})">',
        *(f'<path class="grid" d="M70 {50 * n}h800"/>' for n in range(5)),
        *(
            f'<text class="small" text-anchor="end" x="62" y="{204 - 50 * n}">{most * n // 4:,}</text>'
            for n in range(5)
        ),
        *lines,
        f'<path class="now" d="M{across(NOW)} 0v200"/>',
        f'<text class="small" x="{across(NOW) + 4}" y="12">now</text>',
        *(
            f'<text class="small" text-anchor="middle" x="{across(week)}" y="218">{week:%d %b}</text>'
            for week in weeks
        ),
        "</g>",
    ]
