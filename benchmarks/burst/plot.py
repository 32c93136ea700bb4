"""A plain SVG: one group of horizontal bars a scenario, one bar a policy."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

_COLOURS = ("#1b6ca8", "#c8553d", "#8f7a52", "#7c9d59", "#999999", "#444444")
_LEFT, _WIDTH, _BAR, _GAP, _RIGHT = 250, 520, 15, 14, 90


def bars(title: str, groups: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Draws the groups one below the other; each has a scale of its own, and its numbers beside the bars.

    Args:
        title: Written on top.
        groups: Values of at least 0, by group and by name.
        unit: Written before each number.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    y, parts = 34, [f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>']
    for label, values in groups.items():
        parts.append(f'<text x="8" y="{y + 12}" font-weight="bold">{escape(label)}</text>')
        y += _BAR + 4
        most = max(values.values(), default=0.0) or 1.0
        for name, value in values.items():
            width = max(1.0, value / most * _WIDTH)
            parts += [
                f'<text x="{_LEFT - 6}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colours[name]}"/>',
                f'<text x="{_LEFT + width + 5:.1f}" y="{y + 12}">{escape(unit)}{value:,.0f}</text>',
            ]
            y += _BAR + 3
        y += _GAP
    size = f'width="{_LEFT + _WIDTH + _RIGHT}" height="{y}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
