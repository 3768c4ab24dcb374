"""A snapshot opened for reading: plain arrays of where every value lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.errors import SelectionError, ShardError
from slf_store.query.attributes import Attributes
from slf_store.query.layout import Layout, layout
from slf_store.query.locations import LocationFile, Places
from slf_store.query.snapshot import snapshot_row
from slf_store.query.values import read_locations

if TYPE_CHECKING:
    from slf_store.store import Store

Part = Literal["all", "train", "validation"]

CLIPS = text("""
    -- Clips of a part in order, one array a column: rows of a million clips take seconds to make.
    SELECT coalesce(array_agg(clip_id), '{}') AS clip_id, coalesce(array_agg(age), '{}') AS age,
           coalesce(array_agg(gender), '{}') AS gender, coalesce(array_agg(ethnicity), '{}') AS ethnicity,
           coalesce(array_agg(language), '{}') AS language
    FROM (SELECT clip_id, age, gender, ethnicity, language FROM snapshot_clip
          WHERE snapshot_id = :snapshot AND (:part = 'all' OR part = :part) ORDER BY position) AS clips
""")
CONSTITUENTS = text("""
    SELECT constituent.id, constituent.name, constituent.version, constituent.shape, constituent.dtype,
           constituent.status
    FROM snapshot_constituent
    JOIN constituent ON constituent.id = snapshot_constituent.constituent_id
    WHERE snapshot_id = :snapshot ORDER BY constituent.name
""")


@dataclass(frozen=True)
class Located:
    """Where one constituent's values lie.

    Attributes:
        name, version: constituent.
        shape, dtype: of one clip's value.
        paths: shard files, absolute.
        shard: (n,) int32 index into `paths`, -1 where the clip has none.
        row: (n,) int32 row in that shard.
    """

    name: str
    version: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    paths: tuple[Path, ...]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]

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
    """Open a part of a snapshot; no shard is read yet.

    Raises:
        NotFoundInStore: no such snapshot.
        SelectionError: clips of it were erased since it was frozen.
        ShardError: the store no longer holds values that the snapshot was frozen with.
    """
    row = snapshot_row(store, name)
    if row["erased_clips"]:
        raise SelectionError(
            f"snapshot {name} is no longer complete: {row['erased_clips']} of its {row['clips']} clips were erased "
            f"(the first on {row['incomplete_since']:%Y-%m-%d})",
            hint="freeze the selection anew under another name",
        )
    with store.engine.connect() as connection:
        columns = connection.execute(CLIPS, {"snapshot": row["id"], "part": part}).mappings().one()
        ids = np.array(columns["clip_id"], np.int64)
        entries = connection.execute(CONSTITUENTS, {"snapshot": row["id"]}).mappings().all()
        for entry in entries:
            if entry["status"] != "active":
                raise ShardError(
                    f"snapshot {name} uses {entry['name']}@{entry['version']}, which was retired: its values are gone",
                    hint="extract that version again under the settings that made it, or freeze the selection anew",
                )
        path = store.settings.home / "cache" / "locations" / f"{row['hash']}-{part}.npz"
        file = LocationFile(connection, path, [entry["id"] for entry in entries], ids)
        places = file.read()
        if places is None:
            places = {
                entry["name"]: _places(read_locations(connection, entry["id"], ids), len(ids)) for entry in entries
            }
            file.write(places)
    constituents = {entry["name"]: _located(dict(entry), places[entry["name"]], store.shards) for entry in entries}
    if not constituents["target"].present.all():
        gone = ids[~constituents["target"].present]
        raise ShardError(
            f"snapshot {name}: {len(gone)} clips have lost their face since it was frozen (first: clip {gone[0]})",
            hint="freeze the selection anew",
        )
    return Manifest(
        name,
        row["hash"],
        layout(row["layout"]),
        ids,
        Attributes.of_columns(dict(columns)),
        constituents,
        row["normalisation"],
        row["missing"],
    )


def _places(locations: list[tuple[int, str, int]], n: int) -> Places:
    shard, row = np.full(n, -1, np.int32), np.zeros(n, np.int32)
    paths: list[str] = []
    last = None
    for position, path, at in locations:
        if path != last:
            paths.append(path)
            last = path
        shard[position], row[position] = len(paths) - 1, at
    return paths, shard, row


def _located(entry: dict[str, Any], places: Places, shards: Path) -> Located:
    paths, shard, row = places
    kind = np.dtype(entry["dtype"])
    files = tuple(shards / path for path in paths)
    return Located(entry["name"], entry["version"], tuple(entry["shape"]), kind, files, shard, row)
