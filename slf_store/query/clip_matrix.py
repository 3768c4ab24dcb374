"""The conditioning matrix of one clip, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, text

from slf_store.errors import NotFoundInStore, SelectionError
from slf_store.query.encode import ENCODERS, map_ethnicities
from slf_store.query.layout import Layout
from slf_store.query.manifest import open_snapshot
from slf_store.query.plain import assemble_plain, place_plain
from slf_store.query.statistics import column_statistics
from slf_store.query.systems import System
from slf_store.query.values import read_constituent

if TYPE_CHECKING:
    from slf_store.store import Store

BY_ID = text("SELECT * FROM clips WHERE clip_id = :clip_id")
BY_KEY = text("""
    SELECT * FROM clips WHERE source = :source AND identity = :identity AND video = :video AND clip = :clip
""")


@dataclass(frozen=True)
class ClipMatrix:
    """One clip in a layout.

    Attributes:
        clip: `source/identity/video/clip`.
        synthetic: whether the clip is of the made-up sample.
        statistics: what `standard` blocks were standardised with, in words.
        values: (256, 768) float32.
        mask: (256,) bool, the rows that are visible.
    """

    clip: str
    synthetic: bool
    statistics: str
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]


def clip_matrix(store: Store, layout: Layout, clip: str, snapshot: str | None = None) -> ClipMatrix:
    """Assemble one clip's conditioning matrix with every input that the layout has rows for.

    Args:
        store: open store.
        layout: where rows go.
        clip: clip id, or `source/identity/video/clip`.
        snapshot: whose values, attributes and statistics to take. Without one: the active versions, today's attributes,
            and statistics of this clip alone.

    Raises:
        NotFoundInStore: no such clip or snapshot, or the snapshot does not hold the clip.
        SelectionError: the snapshot has no statistics of a block that is standardised.
    """
    row = _find(store, clip)
    key = "/".join([row.source, row.identity, row.video, row.clip])
    names = frozenset(block.name for block in layout.blocks)
    if snapshot is not None:
        manifest = open_snapshot(store, snapshot)
        (at,) = np.nonzero(manifest.clip_ids == row.clip_id)
        if not len(at):
            raise NotFoundInStore(f"snapshot {snapshot} does not hold clip {key}", hint="leave --snapshot out")
        for block in layout.blocks:
            held = block.name in manifest.constituents and block.name not in manifest.normalisation
            if block.scaling == "standard" and held:
                raise SelectionError(
                    f"snapshot {snapshot} holds no statistics of {block.name}, which {layout.name} standardises",
                    hint=f"freeze with --layout {layout.name}, or leave --snapshot out",
                )
        values, mask = assemble_plain(replace(manifest, layout=layout), System("all", names, False), int(at[0]))
        return ClipMatrix(key, row.synthetic, f"statistics of snapshot {snapshot}", values, mask)
    (attributes,) = map_ethnicities([dict(row._mapping)], store.settings.ethnicity_mapping)
    stored = {}
    for name in names - ENCODERS.keys():
        try:
            found, present = read_constituent(store, name, np.array([row.clip_id], np.int64))
        except NotFoundInStore:
            continue
        if present[0]:
            stored[name] = found[0]
    own = {
        name: column_statistics(lambda value=value: [value], value.shape[-1])  # type: ignore[misc]
        for name, value in stored.items()
    }
    values, mask = place_plain(layout, names, attributes, stored, own)
    return ClipMatrix(key, row.synthetic, "statistics of this clip alone", values, mask)


def _find(store: Store, clip: str) -> Row[tuple[object, ...]]:
    key = dict(zip(("source", "identity", "video", "clip"), clip.rsplit("/", 3), strict=False))
    with store.engine.connect() as connection:
        if clip.isdecimal():
            row = connection.execute(BY_ID, {"clip_id": int(clip)}).first()
        elif len(key) == 4:
            row = connection.execute(BY_KEY, key).first()
        else:
            raise SelectionError(f"clip {clip!r}", hint="name its id, or source/identity/video/clip")
    if row is None:
        raise NotFoundInStore(
            f"no clip {clip!r}", hint='see `slf sql "SELECT clip_id, source, identity, video, clip FROM clips LIMIT 5"`'
        )
    return row
