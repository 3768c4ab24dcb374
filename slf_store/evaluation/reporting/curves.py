"""Figure 8 (recall over the conditional scale) and recall over k."""

from __future__ import annotations

from slf_store.evaluation.reporting import metrics
from slf_store.evaluation.reporting.chart import Curve, Plot, line_chart
from slf_store.evaluation.reporting.study import Result, Study
from slf_store.evaluation.reporting.stylesheet import SERIES

BASELINE_COLOURS = {"random": "chance", "bicubic-8x8": "series-8", "real-vs-real": "series-3"}
FIGURE_8 = ((1, "a"), (3, "b"))
"""Ranks the paper draws: 8a at one candidate, 8b at three."""


def recall_plot(study: Study) -> Plot:
    """Recall over k of each system at its scale, with its interval where few lines leave room for it."""
    systems = study.one_seed
    curves = [_over_k(study, r, *_style(i), band=len(systems) <= 2) for i, r in enumerate(systems)]
    curves += [
        _over_k(study, r, BASELINE_COLOURS.get(name, "chance"), True, band=name == "random" or len(systems) <= 2)
        for name, r in study.baselines.items()
    ]
    return Plot(
        "recall-over-k",
        "Recall over k.",
        line_chart(curves, "k, matches looked at", "Recall over k, one line per system"),
        "Each system at its chosen scale. The grey band is where 95 % of random selections lie.",
    )


def scale_plots(study: Study) -> list[Plot]:
    """Figures 8a and 8b, where a system was measured at several scales."""
    found = []
    systems = [r for r in study.one_seed if len(_scales(study, r)) > 1]
    for k, letter in FIGURE_8 if systems else ():
        most = [scale for result in systems for scale, *_ in _scales(study, result)]
        curves = []
        for i, result in enumerate(study.one_seed):
            points = [(r.scale, e.value, e.low, e.high) for r in _same(study, result) if (e := r.recall(k)) is not None]
            if len(points) == 1 and not result.scale == min(most) == max(most):
                points = [(x, *points[0][1:]) for x in (min(most), max(most))]  # no inputs: the same at every scale
            curves.append(Curve(study.label(result), *_style(i)[:1], points, band=False, dashed=_style(i)[1]))
        chance = study.baselines.get("random")
        if chance is not None and (e := chance.recall(k)) is not None:
            ends = [(x, e.value, e.low, e.high) for x in (min(most), max(most))]
            curves.append(Curve("random", "chance", ends, dashed=True))
        found.append(
            Plot(
                f"figure-8{letter}",
                f"Figure 8{letter}. Recall@{k} over the conditional scale.",
                line_chart(curves, "conditional scale", f"Recall@{k} over the conditional scale, one line per system"),
                f"n = {systems[0].probes}. The grey band is where 95 % of random selections lie. A system measured "
                "at one scale is drawn level.",
            )
        )
    return found


def _same(study: Study, result: Result) -> list[Result]:
    """The run's results that differ from one in the scale alone."""
    alike = [r for r in study.results if (r.run, r.seed, r.steps) == (result.run, result.seed, result.steps)]
    return sorted(alike, key=lambda r: r.scale)


def _scales(study: Study, result: Result) -> list[tuple[float]]:
    return [(r.scale,) for r in _same(study, result)]


def _style(place: int) -> tuple[str, bool]:
    return f"series-{place % SERIES + 1}", place >= SERIES


def _over_k(study: Study, result: Result, colour: str, dashed: bool, *, band: bool) -> Curve:
    points = [(float(k), e.value, e.low, e.high) for k in metrics.ks([result]) if (e := result.recall(k)) is not None]
    return Curve(study.label(result), colour, points, band, dashed)
