"""The report's pieces: tables in three formats, charts, verdicts, significance."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from slf_store.evaluation.paired import paired_difference
from slf_store.evaluation.reporting.chart import Curve, Plot, line_chart
from slf_store.evaluation.reporting.findings import FAILS, HOLDS, OPEN, _finding, _same, order_of_s
from slf_store.evaluation.reporting.literature import literature
from slf_store.evaluation.reporting.table import Number, Table
from slf_store.evaluation.scores import Scores
from slf_store.evaluation.significance import BY_K, _drawn, weighted_increase

EVIL = "<b>50 % of_{x} & \\y"


def test_a_table_is_the_same_in_html_csv_and_latex() -> None:
    rows = [[EVIL, Number(12.345, 10, 15), 3], ["=1+1", None, None], ["-", Number(-5, -7.04, None), 1200]]
    table = Table("t", "Table 1.", ["System", "recall@1", "n"], rows, "Percent.", frozenset({1}))
    page = table.html()
    assert "<b>50" not in page
    assert "&lt;b&gt;50 % of_{x} &amp;" in page
    assert "12.3<small>10.0–15.0</small>" in page
    assert "-5.0<small>-7.0 to ?</small>" in page
    assert page.count('class="grey"') == 1
    read = list(csv.reader(io.StringIO(table.csv())))
    assert read[0] == ["System", "recall@1", "recall@1 low", "recall@1 high", "n"]
    assert read[1] == [EVIL, "12.345", "10", "15", "3"]  # unrounded
    assert read[2] == ["'=1+1", "", "", "", ""]  # no spreadsheet computes it
    latex = table.latex()
    assert r"50 \% of\_\{x\} \& \textbackslash{}y & 12.3 {\scriptsize (10.0--15.0)} & 3 \\" in latex
    assert latex.count("&") - latex.count(r"\&") == 2 * 4


def test_a_plot_is_a_whole_svg_with_its_colours_and_its_points_where_they_belong() -> None:
    curves = [
        Curve("one <&>", "series-1", [(0, 0.1, 0, 0.2), (10, 0.4, 0.3, 0.5)]),
        Curve("chance", "chance", [(0, 0.0, 0, 0.1), (10, 0.0, 0, 0.1)], dashed=True),
        Curve("empty", "series-2", []),
    ]
    root = ET.fromstring(Plot("p", "Figure.", line_chart(curves, "x", "title")).file().partition("?>")[2])
    space = "{http://www.w3.org/2000/svg}"
    assert "prefers-color-scheme: dark" in (root.find(f"{space}style").text or "")  # type: ignore[union-attr]
    lines = root.findall(f"{space}polyline")
    assert [line.get("class") for line in lines] == ["line series-1", "line chance"]
    (x0, y0), (x1, y1) = (tuple(map(float, p.split(","))) for p in (lines[0].get("points") or "").split())
    zero = float((lines[1].get("points") or "").split()[0].split(",")[1])
    assert x0 < x1
    assert (zero - y0) * 4 == pytest.approx(zero - y1, abs=0.5)  # 10 % and 40 %
    names = [text.text for text in root.findall(f"{space}text")]
    assert "one <&>" in names
    assert "empty" not in names


def test_a_finding_holds_fails_or_is_open_as_its_interval_says() -> None:
    people = np.repeat(np.arange(40), 2)
    clips = np.arange(80)
    good = Scores.count(clips, people, np.ones(80, np.int64), np.full((80, 2), 30.0))
    bad = Scores.count(clips[::2], people[::2], np.full(40, 11), np.full((40, 2), np.nan))
    difference = paired_difference([(good, bad)])
    assert difference is not None
    assert (difference.value, difference.n) == (1.0, 40)  # clips that both have
    assert paired_difference([(good, bad)], "psnr") is None
    assert _finding("", "", "", difference).verdict == HOLDS
    reverse = paired_difference([(bad, good)])
    assert reverse is not None
    assert _finding("", "", "", reverse).verdict == FAILS
    assert _same("", "", reverse).verdict == FAILS
    level = paired_difference([(good, good)])
    assert level is not None
    assert _finding("", "", "", level).verdict == _same("", "", level).verdict == OPEN
    assert order_of_s([{"input": "audio", "s": 5.0}]) == ""


def test_significance_over_people_is_that_of_drawn_people() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 2)
    full, less = (
        Scores.count(np.arange(60), people, generator.integers(1, top, 60), np.zeros((60, 2))) for top in (8, 14)
    )
    drawn = _drawn(full, less, BY_K)
    recalls = [[scores.metric(f"recall@{k}").mean() for k in (1, 3, 5, 10)] for scores in (full, less)]
    assert np.median(drawn) == pytest.approx(weighted_increase(*map(np.array, recalls), BY_K), rel=0.25)
    times = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=2000)[0]
    chosen = np.concatenate([np.flatnonzero(people == person) for person in np.repeat(np.arange(30), times)])
    plain = [np.array([scores.metric(f"recall@{k}")[chosen].mean() for k in (1, 3, 5, 10)]) for scores in (full, less)]
    assert drawn[0] == pytest.approx(weighted_increase(plain[0], plain[1], BY_K))


def test_every_figure_of_the_literature_names_its_source() -> None:
    page, table = literature()
    assert all(row[-1] for row in table.rows)
    assert "Speech2Face" in page
