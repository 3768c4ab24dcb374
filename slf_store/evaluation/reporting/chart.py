"""Recall over k as a small SVG: a line per system, chance as a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slf_store.evaluation.html import Html, join, tag

WIDTH, HEIGHT = 620, 320
LEFT, RIGHT, TOP, BOTTOM = 48, 150, 14, 40
"""Margins; the right one holds the names of the lines."""
LABEL_GAP = 16
"""Least distance of two names."""


@dataclass(frozen=True)
class Curve:
    """One system: recall and its interval (0 to 1) at each k."""

    name: str
    style: str
    """Name of a colour in the style sheet: `series-1` … `series-3`, `chance`."""
    points: Sequence[tuple[int, float, float, float]]
    """(k, recall, low, high), by rising k."""


def recall_chart(curves: Sequence[Curve]) -> Html:
    """An SVG of all curves, named at their right end, with each interval as a pale band."""
    ks = sorted({point[0] for curve in curves for point in curve.points})
    drawn = [_curve(curve, ks[-1]) for curve in curves if curve.points]
    return tag(
        "svg",
        tag("title", "Recall over k"),
        *(_level(share) for share in (0, 25, 50, 75, 100)),
        *(tag("text", k, x=_x(k, ks[-1]), y=HEIGHT - BOTTOM + 18, text_anchor="middle", class_="tick") for k in ks),
        tag("text", "k, matches looked at", x=_x(1, ks[-1]), y=HEIGHT - 4, class_="tick"),
        *drawn,
        *_names([curve for curve in curves if curve.points], ks[-1]),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label="Recall over k, one line per system",
        xmlns="http://www.w3.org/2000/svg",
    )


def _x(k: int, largest: int) -> float:
    return round(LEFT + (k - 1) / max(largest - 1, 1) * (WIDTH - LEFT - RIGHT), 1)


def _y(recall: float) -> float:
    return round(TOP + (1 - recall) * (HEIGHT - TOP - BOTTOM), 1)


def _level(percent: int) -> Html:
    y = _y(percent / 100)
    return join(
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="axis"),
        tag("text", f"{percent} %", x=LEFT - 6, y=y + 4, text_anchor="end", class_="tick"),
    )


def _curve(curve: Curve, largest: int) -> Html:
    def path(values: Sequence[tuple[int, float]]) -> str:
        return " ".join(f"{_x(k, largest)},{_y(value)}" for k, value in values)

    lows = [(k, low) for k, _, low, _ in curve.points]
    highs = [(k, high) for k, _, _, high in curve.points]
    line = [(k, recall) for k, recall, _, _ in curve.points]
    colour = f"var(--{curve.style})"
    return join(
        tag("polygon", points=path(lows + highs[::-1]), class_="band", fill=colour),
        tag("polyline", points=path(line), class_=f"line {curve.style}", stroke=colour),
        *(tag("circle", cx=_x(k, largest), cy=_y(recall), r=3, fill=colour) for k, recall in line),
    )


def _names(curves: Sequence[Curve], largest: int) -> list[Html]:
    """Names beside the lines' ends, pushed apart where they would overlap, and kept inside the picture."""
    ordered = sorted(curves, key=lambda curve: curve.points[-1][1], reverse=True)
    heights: list[float] = []
    for curve in ordered:
        wanted = _y(curve.points[-1][1])
        heights.append(max(wanted, heights[-1] + LABEL_GAP) if heights else wanted)
    over = max(0.0, heights[-1] - (HEIGHT - BOTTOM)) if heights else 0.0
    for i in reversed(range(len(heights))):
        limit = HEIGHT - BOTTOM if i == len(heights) - 1 else heights[i + 1] - LABEL_GAP
        heights[i] = min(heights[i], limit) if over else heights[i]
    return [
        tag("text", curve.name, x=_x(largest, largest) + 10, y=height + 4, style=f"fill: var(--{curve.style})")
        for curve, height in zip(ordered, heights, strict=True)
    ]
