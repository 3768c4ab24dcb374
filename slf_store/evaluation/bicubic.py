"""The baseline `bicubic-8x8`: the image guide, enlarged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.db.locks import HOLD_SEAL_LOCK, SEAL_LOCK
from slf_store.errors import NotFoundInStore
from slf_store.evaluation.picture import encode_png, read_picture, write_whole
from slf_store.evaluation.probes import Probes, Run
from slf_store.shards.checksum import file_checksum

if TYPE_CHECKING:
    from slf_store.store import Store

SYSTEM = "bicubic-8x8"
BATCH = 256
"""Faces in memory at once."""

KNOWN = text("""
    -- Enlarged guides the run has already.
    SELECT clip_id, id, path FROM generation
    WHERE run_id = :run AND method = 'bicubic' AND clip_id = ANY(CAST(:clips AS bigint[]))
""")

FORGET = text("DELETE FROM generation WHERE id = :generation")

KEEP = text("""
    INSERT INTO generation (run_id, clip_id, method, scale, seed, steps, samples_seen, path, checksum)
    VALUES (:run, :clip, 'bicubic', 0, 0, 0, 0, :path, :checksum)
    RETURNING id
""")


def bicubic_probes(store: Store, run: Run, clips: NDArray[np.int64], identities: NDArray[np.int64]) -> Probes:
    """Faces that know nothing but the 8×8 image guide, enlarged to 128×128 by cubic interpolation.

    They are made anew each time; a face that comes out as it is stored keeps its row (and with it its embedding).

    Args:
        store: open store.
        run: whose evaluation they stand beside.
        clips: (n,) clips to make one of.
        identities: (n,) of the clips.

    Returns:
        One probe per clip that has a target.
    """
    from slf_store.media.face import TARGET_SIZE, make_guide, resample_area
    from slf_store.query.values import read_constituent

    generations: dict[int, int] = {}
    for start in range(0, len(clips), BATCH):
        block = clips[start : start + BATCH]
        targets, present = read_constituent(store, "target", block)
        with store.engine.begin() as connection:
            connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})  # gc leaves the files alone until they are known
            rows = connection.execute(KNOWN, {"run": run.id, "clips": block.tolist()})
            known = {clip: (generation, path) for clip, generation, path in rows}
            for clip, target in zip(block[present].tolist(), targets[present], strict=True):
                face = resample_area(make_guide(target), TARGET_SIZE)
                generation, path = known.get(clip, (None, ""))
                if generation is None or not _is_picture(store.settings.home / path, face):
                    generation = _replace(connection, store, run, clip, face, generation)
                generations[clip] = generation
    made = np.isin(clips, list(generations))
    keys = np.array([generations[clip] for clip in clips[made].tolist()], np.int64)
    return Probes(SYSTEM, 0.0, 0, 0, 0, clips[made], identities[made], keys)


def _replace(
    connection: Connection, store: Store, run: Run, clip: int, face: NDArray[np.uint8], old: int | None
) -> int:
    path = store.runs / run.name / SYSTEM / f"{clip}.png"
    write_whole(path, encode_png(face))
    if old is not None:
        connection.execute(FORGET, {"generation": old})
    relative = path.relative_to(store.settings.home).as_posix()
    row = {"run": run.id, "clip": clip, "path": relative, "checksum": file_checksum(path)}
    return int(connection.execute(KEEP, row).scalar_one())


def _is_picture(path: Path, image: NDArray[np.uint8]) -> bool:
    try:
        return np.array_equal(read_picture(path), image)
    except NotFoundInStore:
        return False
