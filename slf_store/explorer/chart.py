"""Lines in a small SVG; colours come from the style sheet, so that a page's policy needs no exception for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 42
COLOURS = 6
"""Classes `c0` … `c5` of the style sheet; further lines begin again, dashed."""
TICKS, MOST_TICKS = 5, 11
BANDED = 4
"""Lines up to which intervals are drawn: more bands over each other show nothing."""


@dataclass(frozen=True)
class Line:
    """One line: its name and (x, y, low, high) by rising x; low and high make a band where they differ."""

    name: str
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Axes:
    """What the axes say and span.

    Attributes:
        x, y: their names.
        ticks: x values to mark; evenly spread when empty.
        percent: y goes from 0 to 1 and is written in percent; else it spans the values, by powers of ten.
    """

    x: str
    y: str
    ticks: Sequence[float] = ()
    percent: bool = False


def chart(lines: Sequence[Line], axes: Axes) -> Markup:
    """An SVG with a legend below; empty where there is nothing to draw.

    >>> "<svg" in chart([Line("a", [(1, 0.5, 0.4, 0.6), (10, 0.9, 0.8, 1.0)])], Axes("k", "recall", (1, 10), True))
    True
    >>> chart([], Axes("k", "recall"))
    Markup('')
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return Markup("")
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    values = [0.0, 1.0] if axes.percent else [_level(p[1], axes) for p in points]
    low, high = min(values), max(values)

    def x(value: float) -> float:
        return round(LEFT + (value - left) / ((right - left) or 1) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (high - _level(value, axes)) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [Markup("<title>{} over {}</title>").format(axes.y, axes.x)]
    for i in range(TICKS):
        at = low + (high - low) * i / (TICKS - 1)
        value = at if axes.percent else 10**at
        label = f"{value:.0%}" if axes.percent else f"{value:.2g}"
        parts.append(
            Markup(
                '<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="end" x="{}" y="{}">{}</text>'
            ).format(LEFT, WIDTH - RIGHT, y(value), y(value), LEFT - 6, y(value) + 4, label)
        )
    marked = axes.ticks[:: math.ceil(len(axes.ticks) / MOST_TICKS)] if axes.ticks else _spread(left, right)
    for value in marked:
        label = f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
        parts.append(Markup('<text class="mid" x="{}" y="{}">{}</text>').format(x(value), HEIGHT - 22, label))
    parts.append(Markup('<text class="mid" x="{}" y="{}">{}</text>').format((LEFT + WIDTH) / 2, HEIGHT - 4, axes.x))
    for i, line in enumerate(lines):
        style = _style(i)
        if len(lines) <= BANDED and any(point[2] != point[3] for point in line.points):
            edge = [(x(p[0]), y(p[2])) for p in line.points] + [(x(p[0]), y(p[3])) for p in reversed(line.points)]
            parts.append(Markup('<polygon class="band {}" points="{}"/>').format(style, _joined(edge)))
        track = [(x(p[0]), y(p[1])) for p in line.points]
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(style, _joined(track)))
        if len(track) <= 12:
            parts += [Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(style, *at) for at in track]
    key = Markup('<svg class="key" viewBox="0 0 24 8" aria-hidden="true"><path class="line {}" d="M0 4H24"/></svg>')
    legend = [Markup("<li>{}{}</li>").format(key.format(_style(i)), line.name) for i, line in enumerate(lines)]
    drawing = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img">{}</svg>').format(
        WIDTH, HEIGHT, Markup("").join(parts)
    )
    return Markup('<figure>{}<ul class="legend">{}</ul></figure>').format(drawing, Markup("").join(legend))


def _spread(left: float, right: float) -> list[float]:
    return [left + (right - left) * i / (TICKS - 1) for i in range(TICKS)]


def _style(i: int) -> str:
    return f"c{i % COLOURS}" + (" dashed" if i >= COLOURS else "")


def _level(value: float, axes: Axes) -> float:
    return value if axes.percent else math.log10(max(value, 1e-12))


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return str(escape(" ".join(f"{x},{y}" for x, y in points)))
