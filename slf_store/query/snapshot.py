"""Snapshot: a frozen selection with one content hash, the same on any machine with the same data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from slf_store.db.staging import copy_rows
from slf_store.errors import NotFoundInStore, SelectionError
from slf_store.privacy.audit import record
from slf_store.query.clips import Columns
from slf_store.query.draw import draw
from slf_store.query.encode import map_ethnicities
from slf_store.query.layout import Block, Layout
from slf_store.query.locate import BlockReader, hold_clips, locate
from slf_store.query.locations import LocationFile, read_state
from slf_store.query.selection import IMAGES, Selection
from slf_store.query.statistics import column_statistics
from slf_store.query.values import active_constituent

if TYPE_CHECKING:
    from slf_store.store import Store

NEW_SNAPSHOT = text("""
    INSERT INTO snapshot (name, hash, predicate, layout, blocks, missing, seed, clips, normalisation, chosen)
    VALUES (:name, :hash, :predicate, :layout, CAST(:blocks AS jsonb), :missing, :seed, :clips,
            CAST(:normalisation AS jsonb), CAST(:chosen AS jsonb))
    RETURNING id
""")
NEW_CONSTITUENT = text("""
    INSERT INTO snapshot_constituent (snapshot_id, constituent_id, data_checksum, missing_clips, present, value_hashes)
    VALUES (:snapshot, :constituent, :data_checksum, :missing_clips, :present, :value_hashes)
""")
NEW_CLIPS = text("""
    INSERT INTO snapshot_clip (snapshot_id, position, clip_id, part, age, gender, ethnicity, language)
    SELECT :snapshot, position, clip_id, part, age, gender, ethnicity, language FROM frozen_clip
""")
BY_NAME = text("SELECT * FROM snapshot WHERE name = :name")

CLIP_COLUMNS = [
    ("position", "int4"),
    ("clip_id", "int8"),
    ("part", "text"),
    ("age", "float8"),
    ("gender", "text"),
    ("ethnicity", "text"),
    ("language", "text"),
]
HASHED = ("split", "identity", "video", "clip", "age", "gender", "ethnicity", "language")
"""What of each clip goes into the hash: its natural key, and its attributes as frozen. Never its source's name."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Frozen:
    """What freezing came to: the snapshot's name, its hash (hex), its clips, and how many of them validate."""

    name: str
    hash: str
    clips: int
    validation: int


@dataclass(frozen=True)
class FrozenConstituent:
    """A constituent version in a snapshot.

    Attributes:
        id, name, version: which, in this store and in any.
        data_checksum: BLAKE2b-128 of which clips have it and of all values, in snapshot order.
        missing_clips: clips without it.
        present: a bit for each clip.
        value_hashes: `extraction.value_hash` of each clip, little-endian int64.
    """

    id: int
    name: str
    version: str
    data_checksum: str
    missing_clips: int
    present: bytes
    value_hashes: bytes


def freeze(
    store: Store,
    selection: Selection,
    name: str,
    *,
    validation: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Frozen:
    """Write a selection down so that it can be trained on a year later. Every value is read once, in blocks.

    Args:
        store: open store.
        selection: what to freeze.
        name: name of the snapshot, unique in the store.
        validation: share of identities set apart; parts share no identity.
        seed: of the split.
        progress: called with (values read, values to read).

    Raises:
        SelectionError: clips lack inputs under `error`, the name is taken, or the store changed meanwhile.
        ConfigError: `ethnicity_mapping` names an ethnicity that is none of the paper's five.
    """
    check_name(name)
    _refuse_lacking(selection)
    mapping = store.settings.ethnicity_mapping
    columns = {**selection.columns, "ethnicity": _mapped(selection.columns["ethnicity"], mapping)}
    parts = split_identities(columns["identity"].tolist(), validation, seed)
    train = np.array([part == "train" for part in parts])
    ids, count = selection.clip_ids, _Count(progress, len(selection) * len(selection.constituents))
    normalisation: dict[str, Any] = {}
    used: list[FrozenConstituent] = []
    found: dict[str, tuple[list[str], NDArray[np.int32], NDArray[np.int32]]] = {}
    with store.engine.begin() as connection:
        rows = {name: active_constituent(connection, name) for name in selection.constituents}
        state = read_state(connection, [row["id"] for row in rows.values()])
        hold_clips(connection, ids)
        for constituent, row in rows.items():
            places = locate(connection, row["id"], len(ids))
            reader = BlockReader(store.shards, places, tuple(row["shape"]), np.dtype(row["dtype"]))
            checksum = data_checksum(reader, count.add)
            missing = int((~places.present).sum())
            if missing and (selection.missing != "zero" or constituent in IMAGES):
                raise SelectionError(
                    f"{missing} clips have lost {constituent} since they were selected", hint="select again"
                )
            found[constituent] = list(places.paths), places.shard, places.row
            packed, hashes = np.packbits(places.present).tobytes(), places.value_hash.astype("<i8").tobytes()
            used.append(FrozenConstituent(row["id"], constituent, row["version"], checksum, missing, packed, hashes))
            if _is_standardised(selection.layout, constituent):
                normalisation[constituent] = column_statistics(_trained_on(reader, train), reader.shape[-1])
        digest = content_hash(columns, parts, used, selection.layout, normalisation, selection.missing)
        snapshot = {
            "name": name,
            "hash": digest,
            "predicate": selection.predicate,
            "layout": selection.layout.name,
            "blocks": json.dumps([asdict(block) for block in selection.layout.blocks]),
            "missing": selection.missing,
            "seed": seed,
            "clips": len(ids),
            "normalisation": json.dumps(normalisation),
            "chosen": json.dumps({**selection.chosen, "validation": validation}),
        }
        write_snapshot(connection, snapshot, used, columns, parts)
        detail = {"snapshot": name, "hash": digest, "clips": len(ids), "predicate": selection.predicate}
        detail["ethnicity_mapping"] = mapping
        record(connection, "freeze", detail)
    for part, of_part in (("all", np.ones(len(ids), bool)), ("train", train), ("validation", ~train)):
        located = {name: (paths, shard[of_part], row[of_part]) for name, (paths, shard, row) in found.items()}
        LocationFile(store.settings.home, digest, part, state, ids[of_part]).write(store.shards, located)
    return Frozen(name, digest, len(ids), parts.count("validation"))


def check_name(name: str) -> None:
    """Raise a SelectionError where a name cannot be a snapshot's."""
    if not name or "/" in name:
        raise SelectionError(f"snapshot name {name!r}", hint="use letters, digits, - and _")


def split_identities(identities: Sequence[str], share: float, seed: int) -> list[str]:
    """`train` or `validation` for each clip, given its identity; one identity is never in both.

    Identities are drawn by the hash of their name, so that adding others does not move them.

    Raises:
        SelectionError: the share is below 0, or not below 1.
    """
    if not 0 <= share < 1:
        raise SelectionError(f"validation share {share}", hint="use 0 to below 1")
    drawn = sorted(set(identities), key=lambda identity: draw(seed, identity))
    chosen = set(drawn[: round(share * len(drawn))])
    return ["validation" if identity in chosen else "train" for identity in identities]


def data_checksum(reader: BlockReader, read: Callable[[int], None] = lambda clips: None) -> str:
    """BLAKE2b-128 over which clips have a constituent, then over their values, in order: hex."""
    digest = hashlib.blake2b(reader.places.present.tobytes(), digest_size=16)
    for _, values in reader:
        digest.update(np.ascontiguousarray(values).data)
        read(len(values))
    return digest.hexdigest()


def content_hash(
    columns: Columns,
    parts: Sequence[str],
    used: Sequence[Any],
    layout: Layout,
    normalisation: dict[str, Any],
    missing: str,
) -> str:
    """BLAKE2b-256 over what a training can see: ordered clips with parts and attributes, versions, data, layout.

    Args:
        columns: :data:`HASHED` of each clip.
        parts: train or validation, for each clip.
        used: constituents with `name`, `version`, `data_checksum`, in the order of the selection.
        layout: of the conditioning matrix.
        normalisation: statistics by constituent.
        missing: what was done about missing constituents.
    """
    digest = hashlib.blake2b(digest_size=32)
    for seen in zip(*(columns[name].tolist() for name in HASHED), parts, strict=True):
        digest.update(json.dumps(seen).encode())
    for row in used:
        digest.update(json.dumps([row.name, row.version, row.data_checksum]).encode())
    rows = [list(block.as_json().items()) for block in layout.blocks]
    blocks = [[value for _, value in row[:5]] + row[5:] for row in rows]
    digest.update(json.dumps([blocks, normalisation, missing], sort_keys=True).encode())
    return digest.hexdigest()


def snapshot_row(store: Store, name: str) -> dict[str, Any]:
    """The snapshot's row.

    Raises:
        NotFoundInStore: there is none of that name.
    """
    with store.engine.connect() as connection:
        row = connection.execute(BY_NAME, {"name": name}).mappings().first()
    if row is None:
        raise NotFoundInStore(f"no snapshot {name!r}", hint="see `slf snapshot list`")
    return dict(row)


def frozen_layout(name: str, blocks: Sequence[dict[str, Any]]) -> Layout:
    """A layout as a snapshot keeps it, whatever its file says by now."""
    return Layout(name, tuple(Block(**block) for block in blocks))


def write_snapshot(
    connection: Connection,
    snapshot: dict[str, Any],
    used: Sequence[FrozenConstituent],
    columns: Columns,
    parts: Sequence[str],
) -> None:
    """Write the rows of a snapshot.

    Raises:
        SelectionError: the name is taken, or a clip is gone.
    """
    try:
        key = connection.execute(NEW_SNAPSHOT, snapshot).scalar_one()
        for row in used:
            values = asdict(row) | {"snapshot": key, "constituent": row.id}
            connection.execute(NEW_CONSTITUENT, values)
        names = ("clip_id", "age", "gender", "ethnicity", "language")
        rows = zip(*(columns[name].tolist() for name in names), parts, strict=True)
        frozen = ((n, clip, part, *said) for n, (clip, *said, part) in enumerate(rows))
        copy_rows(connection, "frozen_clip", CLIP_COLUMNS, frozen)
        connection.execute(NEW_CLIPS, {"snapshot": key})
    except IntegrityError as error:
        if "uq_snapshot_name" in str(error.orig):
            raise SelectionError(
                f"there is a snapshot {snapshot['name']!r} already", hint="choose another name"
            ) from None
        raise SelectionError("a selected clip was erased meanwhile", hint="select again") from None


class _Count:
    """Values read so far."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def add(self, clips: int) -> None:
        self.done += clips
        if self.progress is not None:
            self.progress(self.done, self.total)


def _refuse_lacking(selection: Selection) -> None:
    """Under `error` a clip that lacks something stops the freezing."""
    lacking = {name: count for name, count in selection.lacking.items() if count}
    if selection.missing != "error" or not lacking:
        return
    skip, zero = selection.policies["skip"]["clips"], selection.policies["zero"]["clips"]
    raise SelectionError(
        "clips that fit lack constituents: " + ", ".join(f"{name} {count}" for name, count in lacking.items()),
        hint=f"run `slf extract`, or say what to do: --missing skip (leave them out: {skip} clips are left) or "
        f"--missing zero (mask what they lack: {zero} clips)",
    )


def _mapped(labels: NDArray[Any], mapping: dict[str, str]) -> NDArray[Any]:
    """Each ethnicity as one of the paper's five, None where it is not mapped."""
    distinct = set(labels.tolist())
    found = map_ethnicities([{"ethnicity": label} for label in distinct], mapping)
    table = dict(zip(distinct, (row["ethnicity"] for row in found), strict=True))
    return np.fromiter((table[label] for label in labels.tolist()), object, len(labels))


def _trained_on(reader: BlockReader, train: NDArray[np.bool_]) -> Callable[[], Iterator[NDArray[Any]]]:
    """Values of the training part that are there, block by block."""

    def blocks() -> Iterator[NDArray[Any]]:
        for block, values in reader:
            yield values[train[block] & reader.places.present[block]]

    return blocks


def _is_standardised(layout: Layout, name: str) -> bool:
    return any(block.name == name and block.scaling == "standard" for block in layout.blocks)
