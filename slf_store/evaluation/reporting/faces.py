"""The report's picture grid: guide, generated, real."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, text

from slf_store.errors import NotFoundInStore
from slf_store.evaluation.html import Html, join, png_image, tag
from slf_store.evaluation.picture import encode_png, read_picture

if TYPE_CHECKING:
    from slf_store.store import Store

SHOWN = 24
"""Clips in the grid at most."""
CHOICE_SEED = 0
"""Which clips are shown is drawn with this seed from all of them, never by how well they came out."""

PROBES = text("""
    -- Generated faces of one evaluation, in an order that is the same in every store.
    SELECT generation.clip_id, generation.path, identity.name AS identity, video.name AS video, clip.name AS clip,
           embedded.vector IS NOT NULL AS detected,
           (SELECT min(rank) FROM match
            WHERE match.evaluation_id = evaluation.id AND match.probe_clip_id = clip.id AND match.hit) AS rank
    FROM evaluation
    JOIN snapshot_clip member ON member.snapshot_id = evaluation.gallery_id
                             AND (evaluation.part = 'all' OR member.part = evaluation.part)
    JOIN generation ON generation.run_id = evaluation.run_id AND generation.clip_id = member.clip_id
                   AND generation.method = 'diffusion' AND generation.scale = evaluation.scale
                   AND generation.seed = evaluation.seed AND generation.steps = evaluation.steps
    JOIN clip ON clip.id = generation.clip_id
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    LEFT JOIN generation_embedding embedded
           ON embedded.generation_id = generation.id AND embedded.constituent_id = evaluation.constituent_id
    WHERE evaluation.id = :evaluation
    ORDER BY identity.name, video.name, clip.name, clip.id
""")


def face_grid(store: Store, evaluation: int) -> Html:
    """Up to 24 clips of an evaluation: the enlarged image guide, the generated face, the real face.

    Args:
        store: open store.
        evaluation: key of an `evaluation` of generated faces.
    """
    from slf_store.media.face import TARGET_SIZE, make_guide
    from slf_store.query.values import read_constituent

    probes, shown = _drawn(store, evaluation)
    targets, present = read_constituent(store, "target", np.array([probe.clip_id for probe in shown], np.int64))
    figures = []
    for probe, target, there in zip(shown, targets, present, strict=True):
        enlarged = np.kron(make_guide(target), np.ones((TARGET_SIZE // 8, TARGET_SIZE // 8, 1), np.uint8))
        name = f"{probe.identity}/{probe.video}/{probe.clip}"
        pictures = tag(
            "div",
            _shown(enlarged if there else None, f"image guide of {name}"),
            _shown(_generated(store, probe.path), f"generated face of {name}"),
            _shown(target if there else None, f"real face of {name}"),
            class_="faces",
        )
        figures.append(tag("figure", pictures, tag("figcaption", f"{name}: {_outcome(probe.detected, probe.rank)}")))
    note = (
        f"Guide, generated, real: {len(shown)} of {len(probes)} clips, drawn with a fixed seed and not by how well "
        "they came out."
    )
    return join(tag("p", note, class_="note"), tag("div", *figures, class_="grid"))


def shown_clips(store: Store, evaluation: int) -> list[int]:
    """Keys of the clips that :func:`face_grid` shows."""
    return [probe.clip_id for probe in _drawn(store, evaluation)[1]]


def _drawn(store: Store, evaluation: int) -> tuple[Sequence[Row[Any]], list[Row[Any]]]:
    """All probes of an evaluation, and those that are shown."""
    with store.engine.connect() as connection:
        probes = connection.execute(PROBES, {"evaluation": evaluation}).all()
    drawn = np.random.default_rng(CHOICE_SEED).permutation(len(probes))[:SHOWN]
    return probes, [probes[i] for i in sorted(drawn.tolist())]


def _generated(store: Store, path: str) -> NDArray[np.uint8] | None:
    try:
        return read_picture(store.settings.home / path)
    except NotFoundInStore:
        return None


def _shown(image: NDArray[np.uint8] | None, alt: str) -> Html:
    return tag("span", "not there") if image is None else png_image(encode_png(image), alt)


def _outcome(detected: bool, rank: int | None) -> str:
    if not detected:
        return "no face detected"
    return "not among the first 10" if rank is None else f"found at rank {rank}"
