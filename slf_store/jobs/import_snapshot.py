"""Importing an exported snapshot into another store: its clips under a source of their own, its values, its hash."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.constituents.spec import ConstituentSpec
from slf_store.db.locks import HOLD_SEAL_LOCK, SEAL_LOCK
from slf_store.db.staging import copy_rows
from slf_store.errors import ConfigError, SelectionError, ShardError
from slf_store.jobs import sql_ingest as statements
from slf_store.jobs import value_statistics
from slf_store.jobs.commit import NEW_SHARD
from slf_store.jobs.constituents import register
from slf_store.privacy.audit import record
from slf_store.privacy.blocklist import read_blocklist
from slf_store.query.clips import Columns
from slf_store.query.exported import check_file, places_of, read_clips, read_description
from slf_store.query.locate import BlockReader, Places
from slf_store.query.snapshot import (
    FrozenConstituent,
    check_name,
    content_hash,
    data_checksum,
    frozen_layout,
    write_snapshot,
)
from slf_store.shards.reader import map_shard
from slf_store.shards.writer import seal_shard
from slf_store.store import Store

THERE = text("SELECT name, hash FROM snapshot WHERE hash = :hash OR name = :name ORDER BY (hash = :hash) DESC LIMIT 1")
SOURCES = text("SELECT name FROM source")
NO_MEDIA = text("""
    -- There is no file to extract from: as of clips whose file has vanished.
    UPDATE clip SET vanished_at = now() WHERE place_id IN (SELECT id FROM place WHERE source_id = :source_id)
""")
CLIP_IDS = text("""
    SELECT video.split, identity.name, video.name, clip.name, clip.id
    FROM identity JOIN video ON video.identity_id = identity.id JOIN clip ON clip.video_id = video.id
    WHERE identity.source_id = :source_id
""")
NOT_PREFERRED = text("""
    -- A version that came with this import does not become the one that selections of other clips take.
    UPDATE constituent SET created_at = older.at - interval '1 ms'
    FROM (SELECT min(other.created_at) AS at FROM constituent other
          WHERE other.name = :name AND other.id <> :id AND other.status = 'active') older
    WHERE constituent.id = :id AND constituent.created_at = now() AND older.at IS NOT NULL
""")
STATED = text("""
    INSERT INTO attribute (clip_id, name, source, value_text, value_number)
    SELECT clip_id, name, 'import', value_text, value_number FROM imported_attribute
""")
STATED_COLUMNS = [("clip_id", "int8"), ("name", "text"), ("value_text", "text"), ("value_number", "float8")]
EXTRACTED = text("""
    INSERT INTO extraction (clip_id, constituent_id, place_id, state, shard_id, shard_row, finished_at, value_hash,
                            value_min, value_mean, value_max, value_rms, value_rows, zero_rows)
    SELECT imported.clip_id, :constituent, clip.place_id, 'done', :shard, imported.shard_row, now(), value_hash,
           value_min, value_mean, value_max, value_rms, value_rows, zero_rows
    FROM imported JOIN clip ON clip.id = imported.clip_id
""")
EXTRACTED_COLUMNS = [("clip_id", "int8"), ("shard_row", "int4"), *value_statistics.COLUMNS]
SPEC = text("SELECT spec FROM constituent WHERE id = :constituent")
PLAIN = re.compile(r"[a-z0-9][\w.-]*\Z")
KEY = ("split", "identity", "video", "clip")
PROBED = ("duration_s", "fps", "frames", "width", "height", "has_audio", "audio_rate", "audio_channels")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Imported:
    """What came of an import: the snapshot's name here, hash, clips, their source; `new` False where it was here."""

    snapshot: str
    hash: str
    clips: int
    source: str | None
    new: bool


def import_snapshot(
    store: Store, folder: Path, *, name: str | None = None, progress: Progress | None = None
) -> Imported:
    """Bring an exported snapshot into a store, with the same hash. All or nothing.

    Files are held against their checksums, values against the snapshot's data checksums, and these against its hash.
    Importing a snapshot that is here already changes nothing and says so.

    Args:
        store: open store.
        folder: written by :func:`slf_store.query.export.export_snapshot`.
        name: of the snapshot here; its own by default.
        progress: called with (files read, files to read); each is read twice.

    Raises:
        NotFoundInStore, ShardError, ConfigError: as :func:`slf_store.query.exported.open_export`.
        ShardError: a file or a value is not what was exported; a shard cannot be written.
        SelectionError: another snapshot has the name, or people in it are on the block list.
    """
    about, columns = read_description(folder), read_clips(folder)
    wanted = name or about["name"]
    check_name(wanted)
    with store.engine.connect() as connection:
        there = connection.execute(THERE, {"hash": about["hash"], "name": wanted}).first()
    if there is not None and there.hash == about["hash"]:
        return Imported(there.name, there.hash, about["clips"], None, new=False)
    if there is not None:
        raise SelectionError(f"there is another snapshot {wanted!r}", hint="give this one another name with --name")
    files = [file for entry in about["constituents"] for file in entry["files"]]
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, 2 * len(files))

    for file in files:
        check_file(folder, file)
        step()
    specs = [_spec(folder, entry) for entry in about["constituents"]]
    _check_hash(folder, about, columns)
    sealed: list[Path] = []
    in_doubt = False
    try:
        with store.engine.begin() as connection:
            connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})
            _refuse_blocked(connection, store, columns)
            source, ids = _register_clips(connection, about, columns)
            columns = {**columns, "clip_id": ids}
            keys = register(connection, specs)
            for of_name, key in keys.items():
                connection.execute(NOT_PREFERRED, {"name": of_name, "id": key})
            used = []
            for entry in about["constituents"]:
                places = places_of(entry, columns)
                _check_data(folder, entry, places)
                hashes = np.zeros(len(ids), np.int64)
                for number, file in enumerate(entry["files"]):
                    of = np.flatnonzero(places.shard == number)
                    _bring(connection, store, keys, entry, folder / file["path"], ids[of], hashes, of, sealed)
                    step()
                packed = np.packbits(places.present).tobytes()
                frozen = (entry["name"], entry["version"], entry["data_checksum"], entry["missing_clips"])
                used.append(FrozenConstituent(keys[entry["name"]], *frozen, packed, hashes.astype("<i8").tobytes()))
            write_snapshot(connection, _snapshot(about, wanted), used, columns, columns["part"].tolist())
            detail = {"snapshot": wanted, "hash": about["hash"], "clips": len(ids), "source": source}
            record(connection, "import", detail)
            in_doubt = True
    except BaseException:
        for path in sealed if not in_doubt else ():  # when COMMIT fails nobody knows whether it arrived: gc decides
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    return Imported(wanted, about["hash"], len(ids), source, new=True)


def _spec(folder: Path, entry: dict[str, Any]) -> ConstituentSpec:
    """The declaration of a constituent; its name becomes a folder, so it must be a plain word."""
    try:
        spec = ConstituentSpec(**{**entry["spec"], "shape": tuple(entry["spec"]["shape"])})
    except (TypeError, KeyError, ValueError) as error:
        raise ShardError(f"{folder}: no spec of {entry['name']!r}: {error}", hint="export it again") from None
    if (spec.name, spec.version, spec.kind) != (entry["name"], entry["version"], "array") or not PLAIN.match(spec.name):
        raise ShardError(
            f"{folder}: the spec of {entry['name']!r} does not give version {entry['version']}", hint="export it again"
        )
    return spec


def _check_hash(folder: Path, about: dict[str, Any], columns: Columns) -> None:
    """The description is the one the hash was made of."""
    layout = frozen_layout(about["layout"]["name"], about["layout"]["blocks"])
    used = [SimpleNamespace(**entry) for entry in about["constituents"]]
    found = content_hash(columns, columns["part"].tolist(), used, layout, about["normalisation"], about["missing"])
    if found != about["hash"]:
        raise ShardError(f"{folder}: its contents have hash {found}, it says {about['hash']}", hint="export it again")


def _check_data(folder: Path, entry: dict[str, Any], places: Places) -> None:
    reader = BlockReader(folder, places, tuple(entry["shape"]), np.dtype(entry["dtype"]))
    if data_checksum(reader) != entry["data_checksum"]:
        raise ShardError(f"{folder}: values of {entry['name']} are not the ones frozen", hint="export it again")


def _refuse_blocked(connection: Connection, store: Store, columns: Columns) -> None:
    """Who was erased here does not come back with somebody's export."""
    blocklist = read_blocklist(connection, store.settings.home)
    names = zip(*(columns[name].tolist() for name in ("identity", "video", "clip")), strict=True)
    blocked = sum(blocklist.has(*name) for name in names)
    if blocked:
        raise SelectionError(
            f"{blocked} of its clips are of people who were erased from this store and are on its block list",
            hint="ask for an export without them, and see that this one is deleted",
        )


def _register_clips(connection: Connection, about: dict[str, Any], columns: Columns) -> tuple[str, NDArray[np.int64]]:
    """Register the clips under a source without media: its name, and the clips' keys in this store (n,) int64."""
    taken = set(connection.execute(SOURCES).scalars())
    name = f"import-{about['name']}"
    if name in taken:
        name = f"{name}-{about['hash'][:8]}"
    if name in taken:
        raise ConfigError(f"there is a source {name!r} already, and its snapshot is gone", hint="see `slf source list`")
    synthetic = all(source["synthetic"] for source in about["sources"])
    values = {"name": name, "root": f"import:{about['hash']}", "layout": "import", "synthetic": synthetic}
    source = {"source_id": connection.execute(statements.NEW_SOURCE, values).one().id}
    splits = sorted(set(columns["split"].tolist()))
    connection.execute(statements.NEW_PLACES, {**source, "splits": splits})
    natural = list(zip(*(columns[part].tolist() for part in KEY), strict=True))
    facts = zip(*(columns[fact].tolist() for fact in PROBED), strict=True)
    rows = (
        (
            identity,
            split,
            video,
            clip,
            "/".join((split, identity, video, clip)),
            "ok",
            None,
            None,
            *fact,
            0,
            0,
            *[None] * 5,
        )
        for (split, identity, video, clip), fact in zip(natural, facts, strict=True)
    )
    copy_rows(connection, "scanned", statements.SCANNED_COLUMNS, rows)
    for statement in (statements.MERGE_IDENTITIES, statements.MERGE_VIDEOS, statements.MERGE_CLIPS, NO_MEDIA):
        connection.execute(statement, source)
    keys = {tuple(key): number for *key, number in connection.execute(CLIP_IDS, source)}
    ids = np.array([keys[key] for key in natural], np.int64)
    stated = [
        (clip, label, None if label == "age" else value, value if label == "age" else None)
        for label in ("age", "gender", "ethnicity", "language")
        for clip, value in zip(ids.tolist(), columns[label].tolist(), strict=True)
        if value is not None
    ]
    copy_rows(connection, "imported_attribute", STATED_COLUMNS, stated)
    connection.execute(STATED)
    return name, ids


def _bring(
    connection: Connection,
    store: Store,
    keys: Mapping[str, int],
    entry: dict[str, Any],
    path: Path,
    clip_ids: NDArray[np.int64],
    hashes: NDArray[np.int64],
    of: NDArray[np.int64],
    sealed: list[Path],
) -> None:
    """Write one exported shard into the store under the clips' keys here, with its rows; fills in their hashes."""
    found, constituent = map_shard(path), keys[entry["name"]]
    shard = seal_shard(
        store.shards,
        constituent=entry["name"],
        version=entry["version"],
        # What this store says of the version: words that are not part of it may differ between programs.
        spec=connection.execute(SPEC, {"constituent": constituent}).scalar_one(),
        clip_ids=clip_ids,
        values=found.values,
        lengths=found.lengths,
    )
    sealed.append(store.shards / shard.path)
    row = {"constituent": constituent, "path": shard.path, "rows": shard.rows, "bytes": shard.bytes}
    key = connection.execute(NEW_SHARD, {**row, "checksum": shard.checksum}).scalar_one()
    rows = []
    for number, (clip, value) in enumerate(zip(clip_ids.tolist(), found.values, strict=True)):
        true = value if found.lengths is None else value[: found.lengths[number]]
        measured = value_statistics.measure_array(np.asarray(true))
        hashes[of[number]] = measured.value_hash or 0
        rows.append((clip, number, *astuple(measured)))
    copy_rows(connection, "imported", EXTRACTED_COLUMNS, rows)
    connection.execute(EXTRACTED, {"constituent": constituent, "shard": key})


def _snapshot(about: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "name": name,
        "hash": about["hash"],
        "predicate": about["predicate"],
        "layout": about["layout"]["name"],
        "blocks": json.dumps(about["layout"]["blocks"]),
        "missing": about["missing"],
        "seed": about["seed"],
        "clips": about["clips"],
        "normalisation": json.dumps(about["normalisation"]),
        "chosen": json.dumps({**about["chosen"], "imported_from": about["name"]}),
    }
