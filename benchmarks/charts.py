"""Line charts as SVG, both axes logarithmic: a straight line is a power, and its slope the exponent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 40, 56
COLOURS = ("#1f5fa8", "#c2571a", "#2b8a3e", "#7b3fa0", "#a01f4b", "#5b6470")


def chart(title: str, across: str, up: str, lines: Mapping[str, Mapping[float, float]], caption: str) -> str:
    """The chart of some lines, each x to y, all above zero; `caption` says where the figures come from."""
    points = [(x, y) for line in lines.values() for x, y in line.items()]
    frame = _Frame([x for x, _ in points], [y for _, y in points])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        _text(LEFT, 20, title, weight="bold"),
        _text(LEFT, HEIGHT - 22, f"{across} →   ↑ {up}"),
        _text(LEFT, HEIGHT - 6, caption, size=9),
        *frame.grid(),
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [frame.place(x, y) for x, y in sorted(line.items())]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        parts.append(_text(WIDTH - RIGHT + 12, TOP + 14 + 16 * number, name, colour=colour))
    return "\n".join([*parts, "</svg>\n"])


class _Frame:
    """Where a point stands, and the powers of ten around all of them."""

    def __init__(self, across: list[float], up: list[float]) -> None:
        self._across, self._up = _powers(across), _powers(up)

    def place(self, x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + _share(x, self._across) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - _share(y, self._up) * (HEIGHT - TOP - BOTTOM),
        )

    def grid(self) -> list[str]:
        low_x, high_x = (10.0**power for power in self._across)
        low_y, high_y = (10.0**power for power in self._up)
        parts = []
        for power in range(self._across[0], self._across[1] + 1):
            (x, y), (_, top) = self.place(10.0**power, low_y), self.place(10.0**power, high_y)
            parts += [_line(x, y, x, top), _text(x - 10, y + 14, _short(power))]
        for power in range(self._up[0], self._up[1] + 1):
            (x, y), (end, _) = self.place(low_x, 10.0**power), self.place(high_x, 10.0**power)
            parts += [_line(x, y, end, y), _text(x - 40, y + 4, _short(power))]
        return parts


def _powers(values: list[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _share(value: float, powers: tuple[int, int]) -> float:
    return (math.log10(value) - powers[0]) / (powers[1] - powers[0])


def _short(power: int) -> str:
    return f"{10**power:,}" if 0 <= power < 5 else {5: "100k", 6: "1M"}.get(power, f"1e{power}")


def _line(x: float, y: float, x2: float, y2: float) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, *, colour: str = "#222", weight: str = "normal", size: int = 12) -> str:
    style = f'fill="{colour}" font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
