"""Posted prices against the clearing price over the days of one seed, as an SVG: a panel for each policy.

It needs no library, and reads on light and on dark ground, like the picture of a plan's search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.backtest.metrics import BAND, EPOCHS_PER_HOUR
from engine.backtest.runs import SeedRun
from engine.backtest.scenario import Level

WIDTH, LEFT, RIGHT = 860, 64, 20
TOP, PANEL, GAP, BOTTOM = 64, 150, 34, 44
POINTS = 576
HOURS_PER_DAY = 24
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 } .title { font-size: 15px; font-weight: 600 }
.grid { stroke: #ddd } .line { fill: none; stroke-width: 1.8 } .clearing { stroke: #aaa; stroke-width: 1.2 }
.posted { stroke: #0a7d4b } .band { fill: #b3541e; opacity: .16 } text.posted { fill: #0a7d4b; stroke: none }
text.clearing { fill: #888; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .grid { stroke: #444 } .clearing { stroke: #777 } .posted { stroke: #4fd39a }
.band { fill: #f0955c } text.posted { fill: #4fd39a } text.clearing { fill: #999 } }
"""


def price_svg(run: SeedRun, title: str) -> str:
    """One panel a policy: its price, the clearing price, and ±10 % around each level of the fluid optimum."""
    height = TOP + len(run.posted) * (PANEL + GAP) - GAP + BOTTOM
    scale = _Scale(run)
    panels = (
        line
        for place, (name, posted) in enumerate(run.posted.items())
        for line in _panel(name, posted / 1e6, run.clearing / 1e6, run.levels, scale, TOP + place * (PANEL + GAP))
    )
    legend = "USD per GPU-hour; green: posted, grey: clearing price of the last window"
    legend += "; shaded: ±10 % around the fluid optimum" if run.levels else ""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<style>{STYLE}</style>",
            f'<text class="title" x="{LEFT}" y="22">{title}</text>',
            f'<text x="{LEFT}" y="43">{legend}</text>',
            *panels,
            *_days(scale, height - BOTTOM + 20),
            "</svg>\n",
        )
    )


class _Scale:
    """From days and USD to pixels. The top is the highest clearing price but for its highest hundredth."""

    def __init__(self, run: SeedRun) -> None:
        self.days = run.clearing.size / EPOCHS_PER_HOUR / HOURS_PER_DAY
        self.high_usd = 1.25 * max(float(np.quantile(run.clearing, 0.99)) / 1e6, 0.01)
        rough = 10.0 ** math.floor(math.log10(self.high_usd))
        self.step_usd = next(rough * part for part in (0.2, 0.5, 1, 2) if self.high_usd <= 5 * rough * part)

    def x(self, day: float) -> float:
        return LEFT + day / self.days * (WIDTH - LEFT - RIGHT)

    def y(self, usd: float, top: int) -> float:
        """Prices above the picture stand at its edge."""
        return top + PANEL * (1.0 - min(usd / self.high_usd, 1.0))


def _panel(
    name: str,
    posted: NDArray[np.float64],
    clearing: NDArray[np.float64],
    levels: tuple[Level, ...],
    scale: _Scale,
    top: int,
) -> Iterator[str]:
    for usd in np.arange(0.0, scale.high_usd, scale.step_usd):
        height = f"{scale.y(float(usd), top):.1f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}"/>'
        yield f'<text x="{LEFT - 8}" y="{height}" dy="4" text-anchor="end">{usd:.2f}</text>'
    for level in levels:
        left, right = (scale.x(hour / HOURS_PER_DAY) for hour in (level.first_h, level.last_h))
        usd = level.price_micro_usd_per_gpu_hour / 1e6
        high, low = scale.y(usd * (1 + BAND), top), scale.y(usd * (1 - BAND), top)
        place = f'x="{left:.1f}" y="{high:.1f}" width="{right - left:.1f}" height="{low - high:.1f}"'
        yield f'<rect class="band" {place}/>'
    yield _line("clearing", clearing, scale, top)
    yield _line("posted", posted, scale, top)
    yield f'<text class="posted" x="{WIDTH - RIGHT}" y="{top - 6}" text-anchor="end">{name}</text>'


def _line(name: str, usd: NDArray[np.float64], scale: _Scale, top: int) -> str:
    every = -(-usd.size // POINTS)
    points = " ".join(
        f"{scale.x(place * every / EPOCHS_PER_HOUR / HOURS_PER_DAY):.1f},{scale.y(float(price), top):.1f}"
        for place, price in enumerate(usd[::every])
    )
    return f'<polyline class="line {name}" points="{points}"/>'


def _days(scale: _Scale, height: int) -> Iterator[str]:
    step = max(1, round(scale.days / 12))
    for day in range(0, int(scale.days) + 1, step):
        yield f'<text x="{scale.x(day):.1f}" y="{height}" text-anchor="middle">{day}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{height + 18}" text-anchor="end">days since the start</text>'
