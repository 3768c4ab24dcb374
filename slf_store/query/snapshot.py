"""Snapshot: a frozen selection with one content hash, the same on any machine with the same data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from slf_store.db.staging import copy_rows
from slf_store.errors import NotFoundInStore, SelectionError
from slf_store.privacy.audit import record
from slf_store.query.encode import map_ethnicities
from slf_store.query.layout import Layout
from slf_store.query.selection import Selection
from slf_store.query.values import active_constituent, gather, read_locations

if TYPE_CHECKING:
    from slf_store.store import Store

NEW_SNAPSHOT = text("""
    INSERT INTO snapshot (name, hash, predicate, layout, missing, seed, clips, normalisation)
    VALUES (:name, :hash, :predicate, :layout, :missing, :seed, :clips, CAST(:normalisation AS jsonb)) RETURNING id
""")
NEW_CONSTITUENT = text("""
    INSERT INTO snapshot_constituent (snapshot_id, constituent_id, data_checksum, missing_clips)
    VALUES (:snapshot, :constituent, :data_checksum, :missing_clips)
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


@dataclass(frozen=True)
class Frozen:
    """What freezing came to: the snapshot's name, its hash (hex), its clips, and how many of them validate."""

    name: str
    hash: str
    clips: int
    validation: int


def freeze(store: Store, selection: Selection, name: str, *, validation: float = 0.0, seed: int = 0) -> Frozen:
    """Write a selection down so that it can be trained on a year later.

    Args:
        store: open store.
        selection: what to freeze.
        name: name of the snapshot, unique in the store.
        validation: share of identities set apart; parts share no identity.
        seed: of the split.

    Raises:
        SelectionError: the name is taken, or the split leaves a part empty.
        ConfigError: `ethnicity_mapping` names an ethnicity that is none of the paper's five.
    """
    if not name or "/" in name:
        raise SelectionError(f"snapshot name {name!r}", hint="use letters, digits, - and _")
    mapping = store.settings.ethnicity_mapping
    selection = replace(selection, rows=map_ethnicities(selection.rows, mapping))
    parts = split_identities(selection.rows, validation, seed)
    ids = selection.clip_ids
    train = np.array([part == "train" for part in parts])
    normalisation: dict[str, Any] = {}
    used: list[dict[str, Any]] = []
    with store.engine.begin() as connection:
        for constituent in selection.constituents:
            row = active_constituent(connection, constituent)
            shape, dtype = tuple(row["shape"]), np.dtype(row["dtype"])
            locations = read_locations(connection, row["id"], ids)
            values, present = gather(store.shards, locations, len(ids), shape, dtype)
            checksum = hashlib.blake2b(present.tobytes() + values.tobytes(), digest_size=16).hexdigest()
            row |= {"data_checksum": checksum, "missing_clips": int((~present).sum())}
            used.append(row)
            if _is_standardised(selection.layout, constituent):
                normalisation[constituent] = column_statistics(values[train & present])
        digest = content_hash(selection, parts, used, normalisation)
        snapshot = {
            "name": name,
            "hash": digest,
            "predicate": selection.predicate,
            "layout": selection.layout.name,
            "missing": selection.missing,
            "seed": seed,
            "clips": len(ids),
            "normalisation": json.dumps(normalisation),
        }
        try:
            key = connection.execute(NEW_SNAPSHOT, snapshot).scalar_one()
        except IntegrityError:
            raise SelectionError(f"there is a snapshot {name!r} already", hint="choose another name") from None
        _write(connection, key, used, selection.rows, parts)
        detail = {"snapshot": name, "hash": digest, "clips": len(ids), "predicate": selection.predicate}
        detail["ethnicity_mapping"] = mapping
        record(connection, "freeze", detail)
    return Frozen(name, digest, len(ids), parts.count("validation"))


def split_identities(rows: Sequence[dict[str, Any]], share: float, seed: int) -> list[str]:
    """`train` or `validation` for each row; one identity is never in both.

    Identities are drawn by the hash of their name, so that adding others does not move them.
    """
    if not 0 <= share < 1:
        raise SelectionError(f"validation share {share}", hint="use 0 to below 1")
    identities = sorted({row["identity"] for row in rows}, key=lambda identity: _draw(identity, seed))
    chosen = set(identities[: round(share * len(identities))])
    return ["validation" if row["identity"] in chosen else "train" for row in rows]


def column_statistics(values: NDArray[Any]) -> dict[str, list[float]]:
    """Mean and standard deviation of each column over clips and rows: {mean: [columns], std: [columns]}.

    A column that never changes gets standard deviation 1.

    >>> column_statistics(np.array([[[1.0, 5.0]], [[3.0, 5.0]]]))
    {'mean': [2.0, 5.0], 'std': [1.0, 1.0]}
    """
    if len(values) == 0:
        columns = values.shape[-1]
        return {"mean": [0.0] * columns, "std": [1.0] * columns}
    flat = values.reshape(-1, values.shape[-1])
    mean = flat.mean(axis=0, dtype=np.float64)
    std = flat.std(axis=0, dtype=np.float64)
    return {"mean": mean.tolist(), "std": np.where(std > 1e-6, std, 1.0).tolist()}


def content_hash(
    selection: Selection, parts: Sequence[str], used: Sequence[dict[str, Any]], normalisation: dict[str, Any]
) -> str:
    """BLAKE2b-256 over what a training can see: ordered clips with parts and attributes, versions, data, layout."""
    digest = hashlib.blake2b(digest_size=32)
    for row, part in zip(selection.rows, parts, strict=True):
        seen = [row[name] for name in ("split", "identity", "video", "clip", "age", "gender", "ethnicity", "language")]
        digest.update(json.dumps([*seen, part]).encode())
    for row in used:
        digest.update(json.dumps([row["name"], row["version"], row["data_checksum"]]).encode())
    rows = [list(block.as_json().items()) for block in selection.layout.blocks]
    blocks = [[value for _, value in row[:5]] + row[5:] for row in rows]
    digest.update(json.dumps([blocks, normalisation, selection.missing], sort_keys=True).encode())
    return digest.hexdigest()


def snapshot_row(store: Store, name: str) -> dict[str, Any]:
    """The snapshot's row.

    Raises:
        NotFoundInStore: there is none of that name.
    """
    with store.engine.connect() as connection:
        row = connection.execute(BY_NAME, {"name": name}).mappings().first()
    if row is None:
        raise NotFoundInStore(f"no snapshot {name!r}", hint='see `slf sql "SELECT name, clips FROM snapshot"`')
    return dict(row)


def _write(
    connection: Connection, key: int, used: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], parts: list[str]
) -> None:
    for row in used:
        values = {"snapshot": key, "constituent": row["id"], "data_checksum": row["data_checksum"]}
        connection.execute(NEW_CONSTITUENT, {**values, "missing_clips": row["missing_clips"]})
    frozen = [
        (position, row["clip_id"], part, row["age"], row["gender"], row["ethnicity"], row["language"])
        for position, (row, part) in enumerate(zip(rows, parts, strict=True))
    ]
    copy_rows(connection, "frozen_clip", CLIP_COLUMNS, frozen)
    connection.execute(NEW_CLIPS, {"snapshot": key})


def _is_standardised(layout: Layout, name: str) -> bool:
    return any(block.name == name and block.scaling == "standard" for block in layout.blocks)


def _draw(identity: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{identity}".encode(), digest_size=8).digest()
