# SPDX-License-Identifier: BSD-3-Clause
"""Lines as an SVG that is legible on light and on dark pages; see `bars.py`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT = 760, 200, 90, 200
_TITLE, _FOOT = 34, 44
_COLOURS = {
    "#0969da": "#4493f8",
    "#bc4c00": "#db6d28",
    "#1a7f37": "#3fb950",
    "#8250df": "#ab7df8",
    "#9a6700": "#d29922",
}
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.grid { stroke: #d0d7de }
path { fill: none; stroke-width: 2 }
"""
_DARK = "text { fill: #e6edf3 }\n.grid { stroke: #30363d }\n"


@dataclass
class Panel:
    """Named lines of points over one pair of axes; an axis is logarithmic or begins at 0."""

    title: str
    x: str
    lines: dict[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False
    most: tuple[float, float] = field(default=(0.0, 0.0))
    """The ends of the axes, where they are above the largest values."""


def draw_lines(panels: Sequence[Panel]) -> str:
    """One panel below the other."""
    parts: list[str] = []
    top = 4
    for panel in panels:
        parts += _panel(panel, top)
        top += _TITLE + _HEIGHT + _FOOT
    light = "".join(f".c{n} {{ stroke: {c} }}\n" for n, c in enumerate(_COLOURS))
    dark = "".join(f".c{n} {{ stroke: {c} }}\n" for n, c in enumerate(_COLOURS.values()))
    style = f"{_STYLE}{light}@media (prefers-color-scheme: dark) {{\n{_DARK}{dark}}}\n"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
        f'width="{_WIDTH}" height="{top}" role="img">\n'
        f"<title>{escape('; '.join(panel.title for panel in panels))}</title>\n"
        f"<style>{style}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, top: int) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    axes = [
        _Axis([point[index] for point in points], panel.logarithmic, panel.most[index])
        for index in (0, 1)
    ]
    upper, lower = top + _TITLE, top + _TITLE + _HEIGHT
    width = _WIDTH - _LEFT - _RIGHT
    parts = [f'<text class="title" x="0" y="{top + 16}">{escape(panel.title)}</text>']
    for value in axes[1].marks:
        y = lower - axes[1].place(value) * _HEIGHT
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>'
        )
    for value in axes[0].marks:
        x = _LEFT + axes[0].place(value) * width
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{upper}" y2="{lower}"/>'
            f'<text x="{x:.1f}" y="{lower + 18}" text-anchor="middle">{_short(value)}</text>'
        )
    parts.append(
        f'<text x="{_LEFT + width / 2}" y="{lower + 34}" text-anchor="middle">'
        f"{escape(panel.x)}</text>"
    )
    for number, (name, line) in enumerate(panel.lines.items()):
        shown = " L".join(
            f"{_LEFT + axes[0].place(x) * width:.1f} {lower - axes[1].place(y) * _HEIGHT:.1f}"
            for x, y in line
        )
        label = upper + 16 + 20 * number
        x = _LEFT + width + 14
        parts.append(
            f'<path class="c{number}" d="M{shown}"/>'
            f'<path class="c{number}" d="M{x} {label - 4} h18"/>'
            f'<text x="{x + 24}" y="{label}">{escape(name)}</text>'
        )
    return parts


class _Axis:
    def __init__(self, values: list[float], logarithmic: bool, most: float) -> None:
        self._logarithmic = logarithmic
        largest = max(*values, most)
        if logarithmic:
            self._least = math.floor(math.log10(min(values)))
            self._most = max(math.ceil(math.log10(largest)), self._least + 1)
            self.marks = [10.0**power for power in range(self._least, self._most + 1)]
            return
        step = 10 ** math.floor(math.log10(largest))
        step = next(step * part for part in (0.2, 0.5, 1, 2) if largest / (step * part) <= 6)
        self._least, self._most = 0, math.ceil(largest / step) * step
        self.marks = [step * number for number in range(round(self._most / step) + 1)]

    def place(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        shown = math.log10(value) if self._logarithmic else value
        return (shown - self._least) / (self._most - self._least)


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
