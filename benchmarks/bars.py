# SPDX-License-Identifier: BSD-3-Clause
"""Bars on a logarithmic scale as an SVG that is legible on light and on dark pages."""

import math
from html import escape

_WIDTH, _LEFT, _RIGHT = 760, 190, 70
_BAR, _GAP, _TITLE = 18, 6, 44
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.bar { fill: #8c959f }
.highlighted { fill: #0969da }
.grid { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.bar { fill: #6e7681 }
.highlighted { fill: #4493f8 }
.grid { stroke: #30363d }
}
"""


def draw_bars(panels: dict[str, dict[str, float]], highlighted: str) -> str:
    """One panel below the other, each with its own scale, from a tenth to the next power of ten."""
    parts: list[str] = []
    top = 4
    for title, bars in panels.items():
        shown = {name: value for name, value in bars.items() if value > 0}
        least = math.floor(math.log10(min(shown.values())))
        most = max(math.ceil(math.log10(max(shown.values()))), least + 1)
        scale = (_WIDTH - _LEFT - _RIGHT) / (most - least)
        height = len(shown) * (_BAR + _GAP)
        parts.append(f'<text class="title" x="0" y="{top + 16}">{escape(title)}</text>')
        top += _TITLE
        for power in range(least, most + 1):
            x = _LEFT + (power - least) * scale
            parts.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{top + height}"/>'
                f'<text x="{x:.1f}" y="{top - 8}" text-anchor="middle">{10**power:g}</text>'
            )
        for name, value in shown.items():
            length = (math.log10(value) - least) * scale
            kind = "bar highlighted" if name == highlighted else "bar"
            baseline = top + _BAR - 4
            parts.append(
                f'<text x="{_LEFT - 8}" y="{baseline}" text-anchor="end">{escape(name)}</text>'
                f'<rect class="{kind}" x="{_LEFT}" y="{top}" width="{max(length, 1):.1f}" '
                f'height="{_BAR}" rx="2"/>'
                f'<text x="{_LEFT + length + 6:.1f}" y="{baseline}">{value:.3g}</text>'
            )
            top += _BAR + _GAP
        top += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
        f'width="{_WIDTH}" height="{top}" role="img">\n'
        f"<title>{escape('; '.join(panels))}, logarithmic</title>\n"
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )
