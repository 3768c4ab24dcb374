"""Runs: the list, and one with its losses, grids and faces."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slf_store.errors import NotFoundInStore
from slf_store.explorer.chart import Axes, Line, chart
from slf_store.explorer.explorer import PAGE, Explorer, number

LIST = """
    SELECT run.id, run.name, run.system, run.preset, run.seed, snapshot.name AS snapshot, run.created_at,
           max(checkpoint.samples_seen) FILTER (WHERE unet = 1) AS samples_1,
           max(checkpoint.samples_seen) FILTER (WHERE unet = 2) AS samples_2,
           (SELECT count(*) FROM generation WHERE generation.run_id = run.id) AS faces,
           (SELECT count(*) FROM evaluation WHERE evaluation.run_id = run.id) AS evaluations
    FROM run JOIN snapshot ON snapshot.id = run.snapshot_id LEFT JOIN checkpoint ON checkpoint.run_id = run.id
    GROUP BY run.id, snapshot.name ORDER BY run.created_at DESC, run.id DESC LIMIT :limit OFFSET :offset
"""
ONE = """
    SELECT run.id, run.name, run.system, run.preset, run.seed, run.inputs, run.guide, run.created_at,
           snapshot.id AS snapshot_id, snapshot.name AS snapshot, snapshot.hash AS snapshot_hash
    FROM run JOIN snapshot ON snapshot.id = run.snapshot_id WHERE run.id = :run
"""
CHECKPOINTS = """
    SELECT unet, role, samples_seen, loss, validation_loss, seconds, erased_clips, created_at
    FROM checkpoint WHERE run_id = :run ORDER BY unet, role <> 'last', role, samples_seen
"""
LOSSES = """
    -- At most 200 points of each U-Net: means of equal stretches of its lines.
    SELECT unet, max(samples_seen) AS samples_seen, avg(loss) AS loss, avg(validation_loss) AS validation_loss
    FROM (SELECT *, ntile(200) OVER (PARTITION BY unet ORDER BY samples_seen, id) AS stretch
          FROM run_log WHERE run_id = :run) AS line
    GROUP BY unet, stretch ORDER BY unet, stretch
"""
LAST_LINE = """
    SELECT DISTINCT ON (unet) unet, samples_seen, loss, lr, samples_per_s, wait_share, memory_bytes, created_at
    FROM run_log WHERE run_id = :run ORDER BY unet, samples_seen DESC, id DESC
"""
FACES = """
    SELECT generation.id AS generation, generation.clip_id, clips.identity, clips.clip, generation.scale,
           generation.seed, generation.steps, generation.psnr
    FROM generation JOIN clips ON clips.clip_id = generation.clip_id
    WHERE generation.run_id = :run AND generation.method = 'diffusion'
    ORDER BY generation.clip_id, generation.scale, generation.seed, generation.steps LIMIT :limit OFFSET :offset
"""
EVALUATIONS = """
    SELECT DISTINCT run.name AS run, gallery.name AS gallery, evaluation.part, constituent.name AS embedding,
           evaluation.distance
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    JOIN constituent ON constituent.id = evaluation.constituent_id
    WHERE run.id = :run ORDER BY gallery, part, embedding, distance
"""


def runs(explorer: Explorer, request: Request) -> Response:
    """The newest runs first."""
    skip = number(request, "skip", 0, 10**6)
    found = explorer.rows(LIST, limit=PAGE, offset=skip)
    return explorer.page(request, "runs", runs=found, skip=skip, step=PAGE)


def run(explorer: Explorer, request: Request) -> Response:
    """One run."""
    key, skip = request.path_params["run"], number(request, "skip", 0, 10**6)
    one = known_run(explorer, key)
    return explorer.page(
        request, "run", one=one, checkpoints=explorer.rows(CHECKPOINTS, run=key),
        losses=_losses(explorer.rows(LOSSES, run=key)), lines=explorer.rows(LAST_LINE, run=key),
        grids=sorted(path.name for path in (explorer.owner.runs / one["name"] / "grids").glob("*.png")),
        evaluations=explorer.rows(EVALUATIONS, run=key),
        faces_made=explorer.rows(FACES, run=key, limit=PAGE, offset=skip), skip=skip, step=PAGE,
    )  # fmt: skip


def known_run(explorer: Explorer, key: int) -> dict[str, Any]:
    """A run's row.

    Raises:
        NotFoundInStore: there is none.
    """
    rows = explorer.rows(ONE, run=key)
    if not rows:
        raise NotFoundInStore(f"The store has no run {key}.", hint="see /runs")
    return rows[0]


def _losses(rows: Any) -> list[tuple[int, object]]:
    """A chart for each U-Net."""
    charts: list[tuple[int, object]] = []
    for unet, group in groupby(rows, key=lambda row: row["unet"]):
        points = list(group)
        lines = [
            Line(name, [(row["samples_seen"], row[column], row[column], row[column]) for row in points if row[column]])
            for name, column in (("training", "loss"), ("validation", "validation_loss"))
        ]
        shown = chart([line for line in lines if line.points], Axes("samples seen", "loss"))
        charts.append((unet, shown))
    return charts
