"""PSNR and SSIM of generated faces, measured once and kept with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from slf_store.evaluation.fidelity import psnr, ssim
from slf_store.evaluation.picture import read_picture

if TYPE_CHECKING:
    from slf_store.store import Store

BATCH = 256
"""Pairs in memory at once: 12 MB of real faces."""

UNMEASURED = text("""
    -- Generated faces that have not been compared with the real one.
    SELECT id, clip_id, path
    FROM generation
    WHERE id = ANY(CAST(:generations AS bigint[])) AND (psnr IS NULL OR ssim IS NULL)
    ORDER BY clip_id, id
""")

KEEP = text("UPDATE generation SET psnr = :psnr, ssim = :ssim WHERE id = :generation")


def measure_likeness(store: Store, generations: Sequence[int]) -> int:
    """Compare generated faces with the real targets of their clips; what is measured already stays.

    A clip without a target gives no pair: its face has no PSNR and SSIM, and `n` of the metric counts pairs.

    Args:
        store: open store.
        generations: keys of `generation` rows.

    Returns:
        Pairs measured now.

    Raises:
        NotFoundInStore: a picture, or the constituent `target`, is not there.
    """
    from slf_store.query.values import read_constituent

    with store.engine.connect() as connection:
        todo = connection.execute(UNMEASURED, {"generations": list(generations)}).all()
    measured = 0
    for start in range(0, len(todo), BATCH):
        rows = todo[start : start + BATCH]
        targets, present = read_constituent(store, "target", np.array([row.clip_id for row in rows], np.int64))
        pairs = []
        for row, target, there in zip(rows, targets, present, strict=True):
            if there:
                face = read_picture(store.settings.home / row.path)
                pairs.append({"generation": row.id, "psnr": psnr(face, target), "ssim": ssim(face, target)})
        if pairs:
            with store.engine.begin() as connection:
                connection.execute(KEEP, pairs)
        measured += len(pairs)
    return measured
