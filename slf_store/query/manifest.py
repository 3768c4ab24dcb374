"""A snapshot opened for reading: plain arrays of where every value lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from slf_store.query.attributes import LABELS, Attributes, Labels
from slf_store.query.drift import CONSTITUENTS, require_complete, require_unchanged
from slf_store.query.layout import Layout
from slf_store.query.locate import read_columns
from slf_store.query.locations import LocationFile, Places, read_state
from slf_store.query.snapshot import frozen_layout, snapshot_row

if TYPE_CHECKING:
    from slf_store.store import Store

Part = Literal["all", "train", "validation"]

CLIPS = sql.SQL("""
    SELECT position, clip_id, coalesce(age, 'nan'), gender, ethnicity, language FROM snapshot_clip
    WHERE snapshot_id = %(snapshot)s AND (%(part)s = 'all' OR part = %(part)s) ORDER BY position
""")
KINDS = (("position", ">i4"), ("clip_id", ">i8"), ("age", ">f8"), *((name, "text") for name in LABELS))


@dataclass(frozen=True)
class Located:
    """Where one constituent's values lie.

    Attributes:
        name, version: constituent.
        shape, dtype: of one clip's value.
        paths: shard files, absolute.
        shard: (n,) int32 index into `paths`, -1 where the clip has none.
        row: (n,) int32 row in that shard.
        heads: of each shard, where its values begin in the file and how many there are; empty where nobody knows yet.
    """

    name: str
    version: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    paths: tuple[Path, ...]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    heads: tuple[tuple[int, int], ...] = ()

    @property
    def present(self) -> NDArray[np.bool_]:
        """(n,) bool."""
        return self.shard >= 0


@dataclass(frozen=True)
class Manifest:
    """One part of a snapshot.

    Attributes:
        name, hash: of the snapshot.
        layout: of the conditioning matrix.
        clip_ids: (n,) int64 in snapshot order.
        attributes: age, gender, ethnicity, language as frozen.
        constituents: {name: where its values lie}.
        normalisation: {constituent: {mean, std}}.
        missing: what was done about missing constituents: where it was not `zero`, none may be missing now.
    """

    name: str
    hash: str
    layout: Layout
    clip_ids: NDArray[np.int64]
    attributes: Attributes
    constituents: dict[str, Located]
    normalisation: dict[str, dict[str, list[float]]]
    missing: str = "zero"

    def __len__(self) -> int:
        return len(self.clip_ids)

    def take(self, samples: NDArray[np.int64]) -> Manifest:
        """Only these samples, in this order."""
        located = {
            name: replace(values, shard=values.shard[samples], row=values.row[samples])
            for name, values in self.constituents.items()
        }
        attributes = self.attributes.take(samples)
        return replace(self, clip_ids=self.clip_ids[samples], attributes=attributes, constituents=located)


def open_snapshot(store: Store, name: str, part: Part = "all") -> Manifest:
    """Open a part of a snapshot; no shard is read yet, but every value's hash is held against the one frozen.

    Of a large snapshot this is done once, and again after anything moved (:mod:`slf_store.query.locations`). Values
    that a clip got only after the freeze stay out of sight, as they were.

    Raises:
        NotFoundInStore: no such snapshot.
        SelectionError: clips of it were erased since it was frozen.
        ShardError: values were lost, made anew with another content, or retired since then; says which.
    """
    row = require_complete(snapshot_row(store, name))
    with store.engine.begin() as connection:
        clips = read_columns(connection, CLIPS, KINDS, {"snapshot": row["id"], "part": part})
        ids = clips["clip_id"]
        entries = connection.execute(CONSTITUENTS, {"snapshot": row["id"]}).mappings().all()
        state = read_state(connection, [entry["id"] for entry in entries])
        file = LocationFile(store.settings.home, row["hash"], part, state, ids)
        places = file.read()
        if places is None:
            unchanged = require_unchanged(connection, row, clips["position"], ids, whole=part == "all")
            found = {entry["name"]: (list(at.paths), at.shard, at.row) for entry, at in unchanged}
            file.write(store.shards, found)
            places = {name: (*at, []) for name, at in found.items()}
    constituents = {entry["name"]: _located(dict(entry), places[entry["name"]], store.shards) for entry in entries}
    frozen = frozen_layout(row["layout"], row["blocks"])
    attributes = Attributes(clips["age"], {label: Labels.of(clips[label].tolist()) for label in LABELS})
    return Manifest(name, row["hash"], frozen, ids, attributes, constituents, row["normalisation"], row["missing"])


def _located(entry: dict[str, Any], places: Places, shards: Path) -> Located:
    paths, shard, row, heads = places
    files = tuple(shards / path for path in paths)
    shape, dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
    return Located(entry["name"], entry["version"], shape, dtype, files, shard, row, tuple(heads))
