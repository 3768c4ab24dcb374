"""Exporting a snapshot: a folder of its own that trains on a machine with no database."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store import __version__
from slf_store.db.locks import HOLD_SEAL_LOCK, SEAL_LOCK
from slf_store.errors import ConfigError, ShardError
from slf_store.privacy.audit import record
from slf_store.query.arrow import tool
from slf_store.query.drift import require_complete, require_unchanged
from slf_store.query.exported import CLIPS_FILE, FACTS, FORMAT, SNAPSHOT_FILE
from slf_store.query.locate import BlockReader, Places
from slf_store.query.selection import IMAGES
from slf_store.query.snapshot import snapshot_row
from slf_store.shards.checksum import file_checksum
from slf_store.shards.flush import flush
from slf_store.shards.writer import seal_shard

if TYPE_CHECKING:
    from slf_store.store import Store

NOTICE = """\
Faces and voices of people: personal data.

This folder holds pictures of faces and numbers that identify voices, with names of VoxCeleb identities or of whatever
data set they come from. The licence and the privacy notice of that data set apply to every copy; so do the consent of
the people, or the legal ground, that the store relied on.

An erasure in the store (`slf forget`) cannot reach this copy. Whoever holds it must delete it, or export it anew, when
a person in it asks to be forgotten: the store's audit log knows that it was made, and its receipts name it.

Estimated age, gender and ethnicity are a model's opinion.
"""
CLIPS = text("""
    -- Everything an export says of its clips.
    SELECT snapshot_clip.position, snapshot_clip.clip_id, snapshot_clip.part, video.split, identity.name AS identity,
           video.name AS video, clip.name AS clip, snapshot_clip.age, snapshot_clip.gender, snapshot_clip.ethnicity,
           snapshot_clip.language, clip.duration_s, clip.fps, clip.frames, clip.width, clip.height, clip.has_audio,
           clip.audio_rate, clip.audio_channels, source.name AS source, source.synthetic
    FROM snapshot_clip
    JOIN clip ON clip.id = snapshot_clip.clip_id
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    JOIN source ON source.id = identity.source_id
    WHERE snapshot_clip.snapshot_id = :snapshot ORDER BY snapshot_clip.position
""")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exported:
    """What was exported: the snapshot, its hash, where to, clips, files and their bytes."""

    snapshot: str
    hash: str
    folder: str
    clips: int
    files: int
    bytes: int


def export_snapshot(store: Store, name: str, folder: Path, progress: Progress | None = None) -> Exported:
    """Copy a snapshot into a new folder: values in snapshot order, manifest, notice. Whole under its name or not there.

    Every value is held against the checksum it was frozen with while it is copied. The audit log is told before the
    folder gets its name. Erasures and `gc` wait meanwhile.

    Args:
        store: open store.
        name: of the snapshot.
        folder: must not be there yet.
        progress: called with (values copied, values).

    Raises:
        NotFoundInStore: no such snapshot.
        SelectionError: clips of it were erased.
        ShardError: the store no longer holds what was frozen, or the disk refuses.
        ConfigError: the folder is there already, or cannot be made.
    """
    pq = tool("pyarrow.parquet")
    folder = folder.absolute()
    if folder.exists():
        raise ConfigError(f"{folder} is there already", hint="name a folder that is not")
    snapshot = require_complete(snapshot_row(store, name))
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"cannot make {partial}: {error.strerror}", hint="name a folder that can be") from None
        with store.engine.begin() as connection:
            connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})
            rows = connection.execute(CLIPS, {"snapshot": snapshot["id"]}).all()
            columns = {key: [row[i] for row in rows] for i, key in enumerate(("position", *FACTS))}
            positions, ids = (np.array(columns[key], np.int64) for key in ("position", "clip_id"))
            found = require_unchanged(connection, snapshot, positions, ids, whole=True)
            found.sort(key=lambda pair: hash_order(snapshot, pair[0]["name"]))
            total, done = len(ids) * len(found), 0

            def copied(clips: int) -> None:
                nonlocal done
                done += clips
                if progress:
                    progress(done, total)

            constituents = []
            for entry, places in found:
                written, shard, row = _copy(store.shards, partial, entry, places, ids, copied)
                constituents.append(written)
                columns |= {f"{entry['name']}.shard": shard.tolist(), f"{entry['name']}.row": row.tolist()}
            pq.write_table(_table(columns), partial / CLIPS_FILE, compression="zstd")
            _write_json(partial / SNAPSHOT_FILE, _describe(snapshot, constituents, columns, partial))
            (partial / "NOTICE.txt").write_text(NOTICE, "utf-8")
            _flush(partial)
            detail = {"snapshot": name, "hash": snapshot["hash"], "clips": len(ids), "folder": str(folder)}
            record(connection, "export", detail)
        partial.rename(folder)
        flush(folder.parent)
    except OSError as error:
        raise ShardError(f"cannot write {folder}: {error}", hint="free space or correct the permissions") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return Exported(name, snapshot["hash"], str(folder), len(ids), len(files), size)


def hash_order(snapshot: dict[str, Any], name: str) -> int:
    """Where a constituent stands in a snapshot's hash: images first, then as the layout's blocks."""
    return [*IMAGES, *(block["name"] for block in snapshot["blocks"])].index(name)


def _copy(
    shards: Path,
    folder: Path,
    entry: dict[str, Any],
    places: Places,
    clip_ids: NDArray[np.int64],
    copied: Callable[[int], None],
) -> tuple[dict[str, Any], NDArray[np.int32], NDArray[np.int32]]:
    """Write one constituent's values, packed, in snapshot order; its description, and where each clip's value lies."""
    reader = BlockReader(shards, places, tuple(entry["shape"]), np.dtype(entry["dtype"]))
    digest = hashlib.blake2b(places.present.tobytes(), digest_size=16)
    shard, row = np.full(len(clip_ids), -1, np.int32), np.zeros(len(clip_ids), np.int32)
    files: list[dict[str, Any]] = []
    for block, values in reader:
        digest.update(np.ascontiguousarray(values).data)
        copied(len(values))
        there = places.present[block]
        if not there.any():
            continue
        lengths = reader.lengths(block)
        sealed = seal_shard(
            folder / "shards",
            constituent=entry["name"],
            version=entry["version"],
            spec=entry["spec"],
            clip_ids=clip_ids[block][there],
            values=values[there],
            lengths=None if lengths is None else lengths[there],
        )
        path = f"shards/{entry['name']}/{entry['version']}/{len(files):05d}.h5"
        (folder / "shards" / sealed.path).rename(folder / path)
        shard[block] = np.where(there, len(files), -1)
        row[block] = np.where(there, np.cumsum(there) - 1, 0)
        files.append({"path": path, "rows": sealed.rows, "bytes": sealed.bytes, "checksum": sealed.checksum})
    if digest.hexdigest() != entry["data_checksum"]:
        raise ShardError(
            f"{entry['name']}@{entry['version']}: the values are not the ones that were frozen", hint="run `slf verify`"
        )
    kept = ("name", "version", "kind", "shape", "dtype", "spec", "data_checksum", "missing_clips")
    return {**{key: entry[key] for key in kept}, "files": files}, shard, row


def _table(columns: dict[str, list[Any]]) -> Any:
    pa = tool("pyarrow")
    kinds = {"position": pa.int32(), **{name: getattr(pa, kind)() for name, kind in FACTS.items()}}
    return pa.table({name: pa.array(values, kinds.get(name, pa.int32())) for name, values in columns.items()})


def _describe(
    snapshot: dict[str, Any], constituents: list[dict[str, Any]], columns: dict[str, list[Any]], folder: Path
) -> dict[str, Any]:
    clips = folder / CLIPS_FILE
    sources = dict(zip(columns["source"], columns["synthetic"], strict=True))
    return {
        "format": FORMAT,
        **{key: snapshot[key] for key in ("name", "hash", "predicate", "missing", "seed", "chosen", "clips")},
        "layout": {"name": snapshot["layout"], "blocks": snapshot["blocks"]},
        "parts": {part: columns["part"].count(part) for part in ("train", "validation")},
        "normalisation": snapshot["normalisation"],
        "constituents": constituents,
        "manifest": {"path": CLIPS_FILE, "bytes": clips.stat().st_size, "checksum": file_checksum(clips)},
        "sources": [{"name": name, "synthetic": synthetic} for name, synthetic in sorted(sources.items())],
        "frozen_at": snapshot["created_at"].isoformat(),
        "exported_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "slf_store": __version__,
        "notice": NOTICE,
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _flush(folder: Path) -> None:
    """Everything in the folder is on the disk: shards are already, their new names and the rest are not."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.suffix != ".h5":
            flush(path)
    flush(folder)
