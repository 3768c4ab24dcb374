"""The report: one HTML file that needs nothing else, and its tables and plots as files beside."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from slf_store.errors import ConfigError
from slf_store.evaluation.html import Html, facts, join, tag
from slf_store.evaluation.picture import write_whole
from slf_store.evaluation.reporting.ablation import increase_table, significance_rows, significance_tables
from slf_store.evaluation.reporting.chart import Plot
from slf_store.evaluation.reporting.curves import recall_plot, scale_plots
from slf_store.evaluation.reporting.faces import sample_grid, scale_strips
from slf_store.evaluation.reporting.fairness import fairness
from slf_store.evaluation.reporting.findings import findings, findings_table, order_of_s
from slf_store.evaluation.reporting.holdings import holdings
from slf_store.evaluation.reporting.literature import literature
from slf_store.evaluation.reporting.study import Study, read_studies
from slf_store.evaluation.reporting.stylesheet import CSS
from slf_store.evaluation.reporting.table import Table
from slf_store.evaluation.reporting.tables import ablation_tables, main_tables, scale_table
from slf_store.privacy.audit import record

if TYPE_CHECKING:
    from slf_store.store import Store

Progress = Callable[[int, int], None]

DATA = """
    -- Clips of the snapshots on the page, and how many of them are drawn.
    SELECT count(*) AS clips, count(*) FILTER (WHERE synthetic) AS synthetic
    FROM clips
    WHERE clip_id IN (SELECT member.clip_id FROM snapshot_clip member
                      JOIN snapshot ON snapshot.id = member.snapshot_id
                      WHERE snapshot.name = ANY(CAST(:snapshots AS text[])))
"""

FORGET_REPORT = text("DELETE FROM report WHERE path = :path")
NEW_REPORT = text("""
    WITH written AS (INSERT INTO report (path) VALUES (:path) RETURNING id)
    INSERT INTO report_clip (report_id, clip_id)
    SELECT written.id, shown.clip_id FROM written, unnest(CAST(:clips AS bigint[])) AS shown (clip_id)
""")

SYNTHETIC = (
    "Synthetic data: every face on this page is drawn and every voice synthesised. No real person is shown, and the "
    "numbers say nothing about real people."
)
MIXED = "Part of the data is synthetic (drawn faces, no real person); the rest shows real people. "
REAL = (
    "The real faces on this page are of real people. A generated face is what a model makes of a voice and a few "
    "pixels; it is no likeness and no evidence of who somebody is. Do not use it to identify or judge anyone, and "
    "pass this page on only as the data's licence and the law allow."
)
METHOD = (
    "Recall@k: share of probes with the right identity among the k nearest gallery faces (exact search, equal "
    "distances ordered by clip). A generated face in which no face is detected counts as a miss. Intervals hold 95 "
    "%: bootstrap over identities; for random selection, where the recall of chance lies in 95 % of all evaluations. "
    "A recall of exactly 0 or 100 % has an interval without width, which is the bootstrap's limit. real-vs-real: one "
    "other real face of each person, of another video where there is one. bicubic-8x8: the image guide, enlarged. "
    "PSNR over all pixels; SSIM with an 11×11 Gaussian window. The conditional scale is chosen on validation "
    "identities of the training snapshot, by the mean of recall@1, 3, 5 and 10, never on the gallery."
)
ETHICS = (
    "After the paper's section on ethics: systems like these can be misread or misused. They fill in what the input "
    "cannot tell, they carry the biases of their training data, and used alone they are unreliable at naming one "
    "person. They can touch the privacy of people who never agreed. Use them on data whose people agreed or that the "
    "law allows, keep that data confidential, say how they work, and let people contest what is concluded."
)


class Written(NamedTuple):
    """Files of a report."""

    page: Path
    tables: list[Path]


class _Section(NamedTuple):
    """A part of the page: what it says, and what is written beside it."""

    title: str
    html: Html
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    clips: frozenset[int] = frozenset()


def report(
    store: Store,
    out: Path,
    runs: Sequence[str] = (),
    *,
    tables: Path | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write the results of some runs, or of all, as one self-contained HTML page.

    The paper's Tables 2 to 8 and figures 6 to 8 for every set of runs that were trained on one snapshot with one preset
    and measured on one gallery; the paper's findings beside ours; every metric by group of people; what others report;
    what could not be extracted. Each system is shown at the conditional scale chosen on validation identities where
    that was done, else at the smallest measured.

    Args:
        store: open store.
        out: file to write, or an existing folder to write `report.html` into. Replaced as a whole.
        runs: names of evaluated runs; baselines of their galleries stand beside in any case.
        tables: folder to write each table to as CSV and LaTeX and each plot as SVG; made where it is not there.
        progress: told (sections done, sections in all).

    Returns:
        The page and the other files.

    Raises:
        NotFoundInStore: nothing has been evaluated.
        ConfigError: a file cannot be written.
    """
    if tables is not None and tables.exists() and not tables.is_dir():
        raise ConfigError(f"the tables cannot be written into {tables}: it is a file", hint="name a folder")
    studies = read_studies(store, runs)
    total, sections = len(studies) + 2, list[_Section]()
    for number, study in enumerate(studies, 1):
        sections.append(_study(study, f"{number}-" if study.several else ""))
        if progress:
            progress(number, total)
    held, coverage = holdings(store)
    others, table = literature()
    sections.append(_Section("What others report", others, [table]))
    sections.append(_Section("What the store holds", held, coverage))
    method = join(tag("p", METHOD), tag("h3", "Use and misuse"), tag("p", ETHICS))
    sections.append(_Section("How it was measured", method))
    path = (out / "report.html" if out.is_dir() else out).absolute()
    _remember(store, path, frozenset().union(*(section.clips for section in sections)))
    written = []
    try:
        write_whole(path, _document(_whose_faces(store, studies), sections).encode())
        for name, content in _files(sections).items() if tables is not None else ():
            assert tables is not None
            write_whole(tables / name, content.encode())
            written.append(tables / name)
    except OSError as error:
        raise ConfigError(
            f"the report cannot be written to {error.filename or path}: {error.strerror}", hint="name another file"
        ) from error
    if progress:
        progress(total, total)
    return Written(path, written)


def _study(study: Study, prefix: str) -> _Section:
    """Everything of one study."""
    first = study.first
    scales = {study.label(r): study.chosen.get(r.run) for r in study.shown}
    seen = sorted({r.samples_seen for r in study.shown})
    what = facts(
        [
            ("Runs", ", ".join(r.run for r in study.shown)),
            ("Trained on snapshot", join(first.snapshot, tag("br"), tag("small", first.snapshot_hash))),
            ("Preset", first.preset),
            ("Samples seen (U-Net 1)", ", ".join(f"{count:,}" for count in seen)),
            ("Training time, all U-Nets", _duration(sum(r.training_s for r in study.shown))),
            ("Scale chosen on validation identities", "; ".join(_scale(*item) for item in scales.items())),
            ("Gallery snapshot", join(first.gallery, tag("br"), tag("small", first.gallery_hash))),
            ("Part", first.part),
            ("Clips of the gallery snapshot", f"{first.gallery_clips:,}"),
            ("Faces searched in", f"{first.gallery_faces:,}"),
            ("Face embedding, distance", f"{first.embedding}, {first.distance}"),
            ("Measured", f"{max(r.created_at for r in study.results):%Y-%m-%d %H:%M %Z}"),
        ]
    )
    s = significance_rows(study)
    increases = increase_table(study)
    main, every = main_tables(study), ablation_tables(study)
    ablated = [*([increases] if increases else []), *significance_tables(s)]
    several_scales = len({r.scale for r in study.results}) > 1
    scale = [scale_table(study)] if several_scales else []
    curves, grid, strips = [recall_plot(study), *scale_plots(study)], sample_grid(study), scale_strips(study)
    found = findings(study)
    compared = [findings_table(found)] if found else []
    by_group, group_tables = fairness(study)
    several = len({r.system for r in study.shown}) > 1
    html = join(
        what,
        tag("h3", "Results"),
        *(table.html() for table in main),
        tag("div", *(plot.html() for plot in curves), class_="plots"),
        grid.html,
        *([tag("h3", "Ablation: what each input is worth"), *(t.html() for t in ablated)] if ablated else []),
        *([tag("p", order_of_s(s))] if s else []),
        *((table.html() for table in every) if several else []),
        *([tag("h3", "Conditional scale"), scale[0].html(), strips.html] if several_scales else []),
        *([tag("h3", "The paper's findings beside ours"), compared[0].html()] if compared else []),
        tag("h3", "By group of people"),
        by_group,
    )
    files = [*main, *ablated, *(every if several else []), *scale, *compared, *group_tables]
    return _Section(
        study.title,
        html,
        [replace(table, name=prefix + table.name) for table in files],
        [replace(plot, name=prefix + plot.name) for plot in curves],
        grid.clips | strips.clips,
    )


def _files(sections: Sequence[_Section]) -> dict[str, str]:
    """{name: content} of everything that is written beside the page."""
    found: dict[str, str] = {}
    for section in sections:
        for table in section.tables:
            found[f"{table.name}.csv"] = table.csv()
            found[f"{table.name}.tex"] = table.latex()
        for plot in section.plots:
            found[f"{plot.name}.svg"] = plot.file()
    return found


def _remember(store: Store, path: Path, clips: frozenset[int]) -> None:
    """Note which clips' faces the page shows, before it is there: an erasure of one of them removes it."""
    with store.engine.begin() as connection:
        connection.execute(FORGET_REPORT, {"path": str(path)})
        connection.execute(NEW_REPORT, {"path": str(path), "clips": sorted(clips)})
        record(connection, "report", {"file": path.name, "faces_of_clips": len(clips)})


def _document(warning: str, sections: Sequence[_Section]) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "slf-store report"),
        tag("style", Html(CSS)),
    )
    links = [tag("li", tag("a", s.title, href=f"#section-{i}")) for i, s in enumerate(sections)]
    body = [
        tag("h1", "Faces from voices: how well they are recognised"),
        tag("p", f"Store written by slf-store, {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC.", class_="note"),
        tag("aside", warning),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        *(tag("section", tag("h2", s.title, id=f"section-{i}"), s.html) for i, s in enumerate(sections)),
    ]
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *body)), lang="en") + "\n"


def _whose_faces(store: Store, studies: Sequence[Study]) -> str:
    names = {name for study in studies for name in (study.first.gallery, study.first.snapshot)}
    counts = store.query(DATA, snapshots=sorted(names))[0]
    if counts["synthetic"] == counts["clips"]:
        return SYNTHETIC
    return MIXED + REAL if counts["synthetic"] else REAL


def _scale(name: str, scale: float | None) -> str:
    return f"{name}: " + ("not chosen" if scale is None else f"{scale:g}")


def _duration(seconds: float) -> str:
    """Seconds in words.

    >>> _duration(4000), _duration(42)
    ('1 h 7 min', '42 s')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
