"""Nearest neighbours of a face: a real one, or a generated one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slf_store.errors import NotFoundInStore
from slf_store.explorer.clips import known_clip
from slf_store.explorer.explorer import Explorer, number

SHOWN, MOST = 12, 96
"""Neighbours of a page, and at most."""

MODELS = """
    SELECT id, name, version FROM constituent WHERE kind = 'embedding' AND status = 'active'
    ORDER BY name, created_at DESC
"""
GENERATION = """
    SELECT generation.id, generation.clip_id, generation.method, generation.scale, generation.seed, generation.steps,
           generation.psnr, generation.ssim, run.id AS run_id, run.name AS run
    FROM generation JOIN run ON run.id = generation.run_id WHERE generation.id = :generation
"""
NEAREST = """
    -- Exact, in Euclidean distance: every face of the model is looked at. Equal distances are ordered by clip.
    WITH probe AS MATERIALIZED (
        SELECT vector FROM face_embedding WHERE clip_id = :clip AND constituent_id = :model AND :generation = 0
        UNION ALL
        SELECT vector FROM generation_embedding
        WHERE generation_id = :generation AND constituent_id = :model AND vector IS NOT NULL
    ), nearest AS (
        SELECT face.clip_id, face.vector <-> probe.vector AS distance
        FROM face_embedding face CROSS JOIN probe
        WHERE face.constituent_id = :model AND (:generation <> 0 OR face.clip_id <> :clip)
        ORDER BY distance, face.clip_id LIMIT :k
    )
    SELECT clips.clip_id, clips.identity, clips.video, clips.clip, clips.split, nearest.distance,
           clips.identity = own.identity AND clips.source = own.source AS same
    FROM nearest JOIN clips ON clips.clip_id = nearest.clip_id JOIN clips own ON own.clip_id = :clip
    ORDER BY nearest.distance, nearest.clip_id
"""


def nearest_to_clip(explorer: Explorer, request: Request) -> Response:
    """The real faces nearest to a clip's own."""
    return _nearest(explorer, request, known_clip(explorer, request.path_params["clip"]), None)


def nearest_to_generation(explorer: Explorer, request: Request) -> Response:
    """A generated face, beside the real one, and the real faces nearest to it."""
    rows = explorer.rows(GENERATION, generation=request.path_params["generation"])
    if not rows:
        raise NotFoundInStore("The store has no such generated face.", hint="it may have been erased")
    return _nearest(explorer, request, known_clip(explorer, rows[0]["clip_id"]), rows[0])


def _nearest(explorer: Explorer, request: Request, own: dict[str, Any], made: dict[str, Any] | None) -> Response:
    models = explorer.rows(MODELS)
    asked = request.query_params.get("model", "")
    model = next((row for row in models if row["name"] == asked), models[0] if models else None)
    k = max(1, number(request, "k", SHOWN, MOST))
    found: Sequence[dict[str, Any]] = ()
    if model is not None:
        generation = made["id"] if made else 0
        found = explorer.rows(NEAREST, clip=own["clip_id"], generation=generation, model=model["id"], k=k)
    return explorer.page(
        request, "nearest", own=own, made=made, models=models, model=model, k=k, most=MOST, neighbours=found
    )
