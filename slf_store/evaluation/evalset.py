"""The SLF evaluation set: one clip of one video of each test speaker, drawn by seed and frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import SelectionError
from slf_store.query.clips import Columns, keys, take
from slf_store.query.draw import draw
from slf_store.query.selection import Missing, counts
from slf_store.query.snapshot import Frozen, freeze

if TYPE_CHECKING:
    from slf_store.store import Store

PREDICATE = "split = 'test'"


def create_evalset(
    store: Store,
    name: str,
    *,
    predicate: str = PREDICATE,
    videos: int = 1,
    seed: int = 0,
    system: str = "full-input",
    missing: Missing = "skip",
    progress: Callable[[int, int], None] | None = None,
) -> Frozen:
    """Freeze an evaluation set as a snapshot (paper, section 4: one video of each of VoxCeleb2's 118 test speakers).

    Of each identity some videos are drawn, of each of them one clip, by the hash of the natural key and the seed: the
    same data gives the same set on any machine, and further clips move only what they outrank. (The published code took
    the first file of the first folder.)

    Args:
        store: open store.
        name: of the snapshot.
        predicate: which clips to draw from, over the view `clips`.
        videos: of each identity, at most; 0 = all.
        seed: of the draw.
        system: whose inputs the clips must have.
        missing: about clips that lack an input: `skip`, `zero` or `error`.
        progress: called with (values read, values to read).

    Raises:
        SelectionError: nothing fits, clips lack inputs under `error`, the name is taken, or `videos` is negative.

    Example::

        create_evalset(store, "slf-evaluation").clips
    """
    if videos < 0:
        raise SelectionError(f"{videos} videos of each identity", hint="give 1 or more, or 0 for all")
    found = store.select(predicate, system=system, missing=missing, seed=seed)
    drawn = take(found.columns, draw_videos(found.columns, videos, seed))
    left_out = {**found.left_out, "not drawn": len(found) - len(drawn["clip_id"])}
    chosen = {**found.chosen, "videos_per_identity": videos}
    selection = replace(found, columns=drawn, left_out=left_out, chosen=chosen, counts=counts(drawn))
    return freeze(store, selection, name, seed=seed, progress=progress)


def draw_videos(columns: Columns, videos: int, seed: int) -> NDArray[np.int64]:
    """Indices of one clip of each of at most `videos` drawn videos of each identity (0 = all), in natural order."""
    drawn = [draw(seed, key) for key in keys(columns)]
    clip_of: dict[tuple[str, str], int] = {}
    for index, video in enumerate(zip(columns["identity"].tolist(), columns["video"].tolist(), strict=True)):
        if video not in clip_of or drawn[index] < drawn[clip_of[video]]:
            clip_of[video] = index
    taken: Counter[str] = Counter()
    kept = []
    for identity, video_name in sorted(clip_of, key=lambda video: draw(seed, "/".join(video))):
        if not videos or taken[identity] < videos:
            taken[identity] += 1
            kept.append(clip_of[identity, video_name])
    return np.array(sorted(kept), np.int64)
