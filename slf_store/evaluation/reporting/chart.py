"""Lines over an axis as a small SVG, named below it; an interval or a range as a pale band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slf_store.evaluation.html import Html, join, tag
from slf_store.evaluation.reporting.stylesheet import COLOURS

WIDTH, PLOT = 480, 230
"""Of the picture, and the height of what is inside the axes: letters stay readable at 360 pixels."""
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 42
LEGEND = 20
"""Height of a line of names."""
LETTERS = 24
"""Of a name, if two are to stand beside each other."""
TICKS = 11
"""Labels of the horizontal axis at most."""


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        name: as in the legend.
        colour: name of a colour in the style sheet: `series-1` … `series-9`, `chance`.
        points: (x, y, low, high) by rising x; y from 0 to 1.
        band: whether low and high are drawn.
        dashed: how the line is drawn.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float, float, float]]
    band: bool = True
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """A chart with what is said of it.

    Attributes:
        name: of its file, without suffix.
        title: first words of the caption, e.g. "Figure 8a. Recall@1 over …".
        svg: the drawing; colours are variables of the page.
        note: the rest of the caption.
    """

    name: str
    title: str
    svg: Html
    note: str = ""

    def html(self) -> Html:
        """The drawing with its caption."""
        return tag("figure", self.svg, tag("figcaption", tag("b", self.title), " ", self.note), class_="plot")

    def file(self) -> str:
        """A whole SVG file, which brings its colours along."""
        head, _, rest = self.svg.partition(">")
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}>{tag("style", Html(COLOURS))}{rest}\n'


def line_chart(curves: Sequence[Curve], x_label: str, title: str) -> Html:
    """Shares from 0 to 100 % over a number.

    Args:
        curves: lines; those without points are left out.
        x_label: what is on the horizontal axis.
        title: read aloud for those who do not see it.
    """
    drawn = [curve for curve in curves if curve.points]
    xs = sorted({point[0] for curve in drawn for point in curve.points})
    most = max((point[3] if curve.band else point[1] for curve in drawn for point in curve.points), default=1.0)
    axes = _Axes(xs[0], xs[-1], next(top for top in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if top >= min(most, 1.0)))
    beside = 2 if all(len(curve.name) <= LETTERS for curve in drawn) else 1
    height = TOP + PLOT + BOTTOM + LEGEND * -(-len(drawn) // beside)
    ticks = xs[:: max(1, -(-len(xs) // TICKS))]
    return tag(
        "svg",
        tag("title", title),
        *(_level(axes, axes.top * quarter / 4) for quarter in range(5)),
        *(tag("text", f"{x:g}", x=axes.x(x), y=TOP + PLOT + 18, text_anchor="middle", class_="tick") for x in ticks),
        tag("text", x_label, x=WIDTH - RIGHT, y=TOP + PLOT + 36, text_anchor="end", class_="tick"),
        *(_band(axes, curve) for curve in drawn if curve.band),
        *(_line(axes, curve) for curve in drawn),
        *(_name(curve, *divmod(i, beside)) for i, curve in enumerate(drawn)),
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_label=title,
        xmlns="http://www.w3.org/2000/svg",
    )


@dataclass(frozen=True)
class _Axes:
    first: float
    last: float
    top: float

    def x(self, value: float) -> float:
        return round(LEFT + (value - self.first) / max(self.last - self.first, 1e-9) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(TOP + (1 - min(value / self.top, 1.0)) * PLOT, 1)


def _level(axes: _Axes, share: float) -> Html:
    y = axes.y(share)
    return join(
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="axis"),
        tag("text", f"{100 * share:g} %", x=LEFT - 6, y=y + 4, text_anchor="end", class_="tick"),
    )


def _points(axes: _Axes, values: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in values)


def _band(axes: _Axes, curve: Curve) -> Html:
    lows = [(x, low) for x, _, low, _ in curve.points]
    highs = [(x, high) for x, _, _, high in curve.points]
    return tag("polygon", points=_points(axes, lows + highs[::-1]), class_=f"band {curve.colour}")


def _line(axes: _Axes, curve: Curve) -> Html:
    points = [(x, y) for x, y, _, _ in curve.points]
    dots = (tag("circle", cx=axes.x(x), cy=axes.y(y), r=2.5, class_=f"dot {curve.colour}") for x, y in points)
    line = tag("polyline", points=_points(axes, points), class_=f"line {curve.colour}", stroke_dasharray=_dash(curve))
    return join(line, *dots)


def _name(curve: Curve, row: int, column: int) -> Html:
    x = LEFT + column * (WIDTH - LEFT) // 2
    y = TOP + PLOT + BOTTOM + LEGEND * row + 12
    return join(
        tag("line", x1=x, x2=x + 24, y1=y - 4, y2=y - 4, class_=f"line {curve.colour}", stroke_dasharray=_dash(curve)),
        tag("text", curve.name, x=x + 30, y=y),
    )


def _dash(curve: Curve) -> str | None:
    return "5 4" if curve.dashed else None
