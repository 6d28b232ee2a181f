"""How the search went, as an SVG: the plan's welfare and the proven bound close in on each other over time.

One picture, one idea; it needs no library, and reads on light and on dark ground.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 84, 24, 56, 56
WANTED_TICKS = 5
UNITS = ((1e12, "million USD"), (1e9, "thousand USD"), (1e6, "USD"), (1.0, "micro-USD"))
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 } .title { font-size: 15px; font-weight: 600 }
.grid { stroke: #ccc } .line { fill: none; stroke-width: 2 }
.welfare { stroke: #0a7d4b } .bound { stroke: #b3541e } text.welfare { fill: #0a7d4b; stroke: none }
text.bound { fill: #b3541e; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .grid { stroke: #444 } .welfare { stroke: #4fd39a } .bound { stroke: #f0955c }
text.welfare { fill: #4fd39a } text.bound { fill: #f0955c } }
"""

Point = tuple[float, float]


class Scale(NamedTuple):
    """From values to pixels, linear: `low` stands at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def progress_svg(history: Sequence[Mapping[str, Any]], wall_s: float, gap: float | None) -> str:
    """The picture of a report's `history`. Values nobody knew yet are left out."""
    welfare, bound = (_known(history, f"{name}_micro_usd_per_hour", wall_s) for name in ("welfare", "bound"))
    values = [value for _, value in (*welfare, *bound)] or [0.0]
    x = Scale(0.0, max(wall_s, 1e-3), LEFT, WIDTH - RIGHT)
    y = Scale(*_padded(min(values), max(values)), HEIGHT - BOTTOM, TOP)
    unit, unit_name = next(each for each in UNITS if max(map(abs, values)) >= each[0] or each[0] == 1.0)
    closing = "-" if gap is None else f"{100 * gap:.3g} %"
    body = (
        *_axes(x, y, unit, unit_name),
        *_line(welfare, "welfare", "welfare of the plan", 18, x, y),
        *_line(bound, "bound", "proven bound", -8, x, y),
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<style>{STYLE}</style>",
            f'<text class="title" x="{LEFT}" y="24">No plan can be better than the bound; gap {closing}</text>',
            *body,
            "</svg>\n",
        )
    )


def _known(history: Sequence[Mapping[str, Any]], name: str, wall_s: float) -> list[Point]:
    """(seconds, value) where the value is known, the last one held until the end."""
    points = [(step["elapsed_s"], float(step[name])) for step in history if step.get(name) is not None]
    return [*points, (wall_s, points[-1][1])] if points else []


def _padded(low: float, high: float) -> Point:
    margin = 0.08 * (high - low) or max(1.0, 0.01 * abs(high))
    return low - margin, high + margin


def _axes(x: Scale, y: Scale, unit: float, unit_name: str) -> Iterator[str]:
    for value in _ticks(y.low / unit, y.high / unit):
        height = f"{y(value * unit):.1f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}"/>'
        yield f'<text x="{LEFT - 8}" y="{height}" dy="4" text-anchor="end">{value:,.6g}</text>'
    for value in _ticks(x.low, x.high):
        place = f'x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 20}"'
        yield f'<text {place} text-anchor="middle">{value:,.6g}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 12}" text-anchor="end">seconds since the start</text>'
    yield f'<text x="{LEFT}" y="44">{unit_name} per hour</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Round values in [low, high], about WANTED_TICKS of them."""
    rough = (high - low) / WANTED_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * factor for factor in (1, 2, 5) if power * factor >= rough), 10 * power)
    first = -(-low // step)
    return [round((first + index) * step, 12) for index in range(int(high // step - first) + 1)]


def _line(points: list[Point], name: str, label: str, below: int, x: Scale, y: Scale) -> Iterator[str]:
    """A step line: a value holds until the next one is known. `below`: where the label stands, in pixels."""
    if not points:
        return
    steps = [points[0], *(corner for (_, old), new in pairwise(points) for corner in ((new[0], old), new))]
    path = " ".join(f"{x(seconds):.1f},{y(value):.1f}" for seconds, value in steps)
    yield f'<polyline class="line {name}" points="{path}"/>'
    height = y(points[-1][1]) + below
    yield f'<text class="{name}" x="{WIDTH - RIGHT}" y="{height:.1f}" text-anchor="end">{label}</text>'
