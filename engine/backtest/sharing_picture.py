"""Share of GPUs placed over demand that has arrived, one line a policy, as an SVG.

It needs no library, and reads on light and on dark ground, like the picture of prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.backtest.sharing_replay import LEVELS
from engine.backtest.sharing_runs import OURS, POLICIES, Run, mean_curve

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 470, 64, 140, 64, 48
FROM_DEMAND, FROM_SHARE, TO_SHARE = 70, 70, 100
LABEL_GAP = 16
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 } .title { font-size: 15px; font-weight: 600 }
.grid { stroke: #ddd } .line { fill: none; stroke: #aaa; stroke-width: 1.6 }
.line.ours { stroke: #0a7d4b; stroke-width: 2.6 } text.ours { fill: #0a7d4b; font-weight: 600 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .grid { stroke: #444 } .line { stroke: #777 } .line.ours { stroke: #4fd39a }
text.ours { fill: #4fd39a } }
"""


def sharing_svg(runs: Sequence[Run], title: str) -> str:
    """Means over the seeds; the line of the full demand would be the diagonal."""
    curves = {policy: [100.0 * share for share in mean_curve(runs, policy)] for policy in POLICIES}
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<style>{STYLE}</style>",
            f'<text class="title" x="{LEFT}" y="22">{title}</text>',
            f'<text x="{LEFT}" y="43">GPU capacity allocated over GPU capacity asked for so far, percent</text>',
            *_grid(),
            *(_line(policy, curve) for policy, curve in curves.items()),
            *_labels({policy: curve[-1] for policy, curve in curves.items()}),
            "</svg>\n",
        )
    )


def _x(demand: float) -> float:
    return LEFT + (demand - FROM_DEMAND) / (LEVELS[-1] - FROM_DEMAND) * (WIDTH - LEFT - RIGHT)


def _y(percent: float) -> float:
    """Shares below the picture stand at its edge."""
    inside = min(max(percent, FROM_SHARE), TO_SHARE)
    return TOP + (TO_SHARE - inside) / (TO_SHARE - FROM_SHARE) * (HEIGHT - TOP - BOTTOM)


def _grid() -> Iterator[str]:
    for percent in range(FROM_SHARE, TO_SHARE + 1, 5):
        height = f"{_y(percent):.1f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}"/>'
        yield f'<text x="{LEFT - 8}" y="{height}" dy="4" text-anchor="end">{percent}</text>'
    for demand in range(FROM_DEMAND, LEVELS[-1] + 1, 10):
        yield f'<text x="{_x(demand):.1f}" y="{HEIGHT - BOTTOM + 22}" text-anchor="middle">{demand}</text>'


def _class(policy: str) -> str:
    return " ours" if policy == OURS else ""


def _line(policy: str, curve: list[float]) -> str:
    points = " ".join(f"{_x(demand):.1f},{_y(curve[demand]):.1f}" for demand in range(FROM_DEMAND, LEVELS[-1] + 1))
    return f'<polyline class="line{_class(policy)}" points="{points}"/>'


def _labels(last: dict[str, float]) -> Iterator[str]:
    """Names at the ends of the lines, from the top, apart enough to be read."""
    height = -float(LABEL_GAP)
    for policy in sorted(last, key=lambda name: -last[name]):
        height = max(_y(last[policy]), height + LABEL_GAP)
        yield (
            f'<text class="name{_class(policy)}" x="{WIDTH - RIGHT + 8}" y="{height:.1f}" dy="4">'
            f"{policy} {last[policy]:.1f}</text>"
        )
