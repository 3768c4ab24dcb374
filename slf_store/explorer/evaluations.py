"""Evaluations: recall of every run, its curves, and the best and worst matches as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from slf_store.errors import NotFoundInStore
from slf_store.evaluation.reporting.metrics import NAMES, label
from slf_store.explorer.chart import Axes, Line, chart
from slf_store.explorer.explorer import PAGE, Explorer, number

LIST = """
    -- A line for each run, gallery, part, embedding and distance; of its own system the best scale, chance beside.
    SELECT run, gallery, part, embedding, distance, max(n) AS probes, max(gallery_faces) AS gallery_faces,
           count(DISTINCT (system, scale, seed, steps)) AS evaluations,
           max(recall) FILTER (WHERE k = 1 AND system NOT IN ('random', 'bicubic-8x8', 'real-vs-real')) AS recall_1,
           max(recall) FILTER (WHERE k = 10 AND system NOT IN ('random', 'bicubic-8x8', 'real-vs-real')) AS recall_10,
           max(recall) FILTER (WHERE k = 10 AND system = 'random') AS random_10,
           max(recall) FILTER (WHERE k = 10 AND system = 'real-vs-real') AS real_10,
           max(created_at) AS measured_at
    FROM recall_at_k GROUP BY run, gallery, part, embedding, distance
    ORDER BY run, gallery, part, embedding, distance LIMIT :limit OFFSET :offset
"""
RECALL = """
    SELECT system, scale, seed, steps, k, recall, ci_low, ci_high, n, undetected, gallery_faces, checkpoint_samples,
           snapshot_hash
    FROM recall_at_k
    WHERE run = :run AND gallery = :gallery AND part = :part AND embedding = :embedding
      AND distance = :distance
    ORDER BY system IN ('random', 'bicubic-8x8', 'real-vs-real'), system, scale, seed, steps, k
"""
FIDELITY = """
    SELECT system, scale, seed, steps, metric, value, ci_low, ci_high, n FROM fidelity
    WHERE run = :run AND gallery = :gallery AND part = :part AND embedding = :embedding AND distance = :distance
    ORDER BY system, scale, seed, steps, metric
"""
KEYS = """
    -- For those who may see faces: the evaluations' numbers, to link to their matches.
    SELECT evaluation.id, evaluation.system, evaluation.scale, evaluation.seed, evaluation.steps
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    JOIN constituent ON constituent.id = evaluation.constituent_id
    WHERE run.name = :run AND gallery.name = :gallery AND evaluation.part = :part AND constituent.name = :embedding
      AND evaluation.distance = :distance
"""
ONE = """
    SELECT evaluation.id, run.id AS run_id, run.name AS run, evaluation.system, evaluation.scale, evaluation.seed,
           evaluation.steps, evaluation.part, evaluation.distance, evaluation.probes, evaluation.gallery_faces,
           evaluation.undetected,
           gallery.name AS gallery, gallery.id AS gallery_id, constituent.name AS embedding
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    JOIN constituent ON constituent.id = evaluation.constituent_id
    WHERE evaluation.id = :evaluation
"""
_MADE = """
        generation.run_id = evaluation.run_id AND generation.scale = evaluation.scale
        AND generation.seed = evaluation.seed AND generation.steps = evaluation.steps
        AND generation.method = CASE WHEN evaluation.system = run.system THEN 'diffusion'
                                     WHEN evaluation.system = 'bicubic-8x8' THEN 'bicubic' END
"""
MATCHES = f"""
    -- Probes of an evaluation with their nearest gallery face and the rank of the right one. Best: right at once, the
    -- nearest first. Worst: not among the first ten, surest of the wrong one first.
    SELECT probe.probe_clip_id AS clip_id, own.identity, own.video, own.clip, probe.gallery_clip_id,
           found.identity AS found_identity, probe.distance, hit.rank, generation.id AS generation
    FROM match probe
    JOIN evaluation ON evaluation.id = probe.evaluation_id
    JOIN run ON run.id = evaluation.run_id
    JOIN clips own ON own.clip_id = probe.probe_clip_id
    JOIN clips found ON found.clip_id = probe.gallery_clip_id
    LEFT JOIN LATERAL (
        SELECT min(rank) AS rank FROM match other
        WHERE other.evaluation_id = probe.evaluation_id AND other.probe_clip_id = probe.probe_clip_id AND other.hit
    ) hit ON true
    LEFT JOIN generation ON generation.clip_id = probe.probe_clip_id AND {_MADE}
    WHERE probe.evaluation_id = :evaluation AND probe.rank = 1
    ORDER BY CASE WHEN :best THEN coalesce(hit.rank, 99) ELSE -coalesce(hit.rank, 99) END, probe.distance,
             probe.probe_clip_id
    LIMIT :limit OFFSET :offset
"""
UNDETECTED = f"""
    SELECT generation.id AS generation, generation.clip_id, clips.identity, clips.video, clips.clip
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot_clip member ON member.snapshot_id = evaluation.gallery_id
        AND (evaluation.part = 'all' OR member.part = evaluation.part)
    JOIN generation ON generation.clip_id = member.clip_id AND {_MADE}
    JOIN generation_embedding embedded ON embedded.generation_id = generation.id
        AND embedded.constituent_id = evaluation.constituent_id AND embedded.vector IS NULL
    JOIN clips ON clips.clip_id = generation.clip_id
    WHERE evaluation.id = :evaluation ORDER BY generation.clip_id LIMIT :limit OFFSET :offset
"""
MATCHES_SHOWN = 24
BASELINES = ("random", "bicubic-8x8", "real-vs-real")
SORTS = ("worst", "best", "undetected")


def evaluations(explorer: Explorer, request: Request) -> Response:
    """Recall of everything that was evaluated."""
    skip = number(request, "skip", 0, 10**6)
    found = explorer.rows(LIST, limit=PAGE, offset=skip)
    return explorer.page(request, "evaluations", evaluations=found, skip=skip, step=PAGE)


def curves(explorer: Explorer, request: Request) -> Response:
    """Recall over k of one run on one gallery, and fidelity; from the public views, as every role sees them."""
    asked = {name: request.query_params.get(name, "") for name in ("run", "gallery", "part", "embedding", "distance")}
    rows = explorer.rows(RECALL, **asked)
    if not rows:
        raise NotFoundInStore("Nothing was evaluated under these names.", hint="see /evaluations")
    keys = explorer.rows(KEYS, **asked) if explorer.role == "researcher" else ()
    ids = {_name(row): row["id"] for row in keys}
    named = {name: list(group) for name, group in groupby(rows, key=_name)}
    measures = explorer.rows(FIDELITY, **asked)
    fidelity = {name: {row["metric"]: row for row in group} for name, group in groupby(measures, key=_name)}
    heads = {metric: label(metric) for metric in NAMES if any(row["metric"] == metric for row in measures)}
    ks = sorted({row["k"] for row in rows})
    return explorer.page(
        request, "curves", asked=asked, ks=ks, named=named, ids=ids, fidelity=fidelity, heads=heads,
        over_k=_over_k(named, ks), over_scale=_over_scale(rows, ks),
    )  # fmt: skip


def _over_k(named: dict[str, list[dict[str, Any]]], ks: Sequence[int]) -> Markup:
    """A line for each system and scale."""
    lines = [Line(name, [(r["k"], r["recall"], r["ci_low"], r["ci_high"]) for r in own]) for name, own in named.items()]
    return chart(lines, Axes("k, matches looked at", "recall", ks, percent=True))


def _over_scale(rows: Sequence[dict[str, Any]], ks: Sequence[int]) -> Markup:
    """A line for each k over the conditional scales, of the first seed and number of steps; none of a single scale."""
    made = [row for row in rows if row["system"] not in BASELINES]
    made = [row for row in made if (row["seed"], row["steps"]) == (made[0]["seed"], made[0]["steps"])]
    scales = sorted({row["scale"] for row in made})
    lines = [
        Line(f"recall@{k}", [(r["scale"], r["recall"], r["ci_low"], r["ci_high"]) for r in made if r["k"] == k])
        for k in ks
    ]
    return chart(lines, Axes("conditional scale", "recall", scales, percent=True)) if len(scales) > 1 else Markup("")


def matches(explorer: Explorer, request: Request) -> Response:
    """Probes with their nearest faces, the worst or the best first, or those in which no face was detected."""
    key, skip = request.path_params["evaluation"], number(request, "skip", 0, 10**6)
    rows = explorer.rows(ONE, evaluation=key)
    if not rows:
        raise NotFoundInStore(f"The store has no evaluation {key}.", hint="see /evaluations")
    sort = request.query_params.get("sort", SORTS[0])
    page = {"evaluation": key, "limit": MATCHES_SHOWN, "offset": skip}
    found: Sequence[dict[str, Any]] = (
        explorer.rows(UNDETECTED, **page)
        if sort == "undetected"
        else explorer.rows(MATCHES, **page, best=sort == "best")
    )
    return explorer.page(
        request, "matches", one=rows[0], matches=found, sort=sort, sorts=SORTS, skip=skip, step=MATCHES_SHOWN,
        name=_name(rows[0]),
    )  # fmt: skip


def _name(row: dict[str, Any]) -> str:
    """One evaluation among those of a run and gallery."""
    if row["system"] in BASELINES:
        return str(row["system"])
    return f"{row['system']}, scale {row['scale']:g}, seed {row['seed']}" + (
        f", {row['steps']} steps" if row["steps"] else ""
    )
