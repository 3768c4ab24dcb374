"""Stores for `benchmarks/loader.py`: real rows and real shards, of made-up clips."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from sqlalchemy import Connection, text

from slf_store.constituents.spec import ConstituentSpec
from slf_store.dataset.metadata import IdentityMeta
from slf_store.dataset.synthetic.catalogue import DEV_CLIPS, TEST_CLIPS, make_catalogue
from slf_store.jobs import sql_ingest as statements
from slf_store.jobs.constituents import register
from slf_store.jobs.ingest import BATCH, register_source
from slf_store.jobs.register import Writer
from slf_store.query.layout import LAYOUTS
from slf_store.shards.writer import SealedShard, seal_shard
from slf_store.store import Store

SNAPSHOT = "benchmark"
ROWS = 4096
"""Of a shard, as `slf compact` makes them."""
IMAGES = {"target": (128, 128, 3), "image_guide": (8, 8, 3)}

NEW_SHARD = text("""
    INSERT INTO shard (constituent_id, path, rows, bytes, checksum) VALUES (:key, :path, :rows, :bytes, :checksum)
    RETURNING id
""")
EXTRACTED = text("""
    INSERT INTO extraction (clip_id, constituent_id, state, shard_id, shard_row, seconds, finished_at, value_hash,
                            value_min, value_mean, value_max, value_rms, value_rows, zero_rows, place_id)
    SELECT id, :key, 'done', (CAST(:shards AS bigint[]))[1 + n / :rows], n % :rows, 0.05, now(), id * 7919,
           -1, 0, 1, 0.5, 1, 0, place_id
    FROM (SELECT id, place_id, CAST(row_number() OVER (ORDER BY id) - 1 AS int) AS n FROM clip) AS numbered
""")
FROZEN = text("""
    INSERT INTO snapshot (name, hash, predicate, layout, blocks, missing, seed, clips, normalisation)
    VALUES (:name, 'made up', 'true', 'slf-256x768', CAST(:blocks AS jsonb), 'error', 0, (SELECT count(*) FROM clip),
            CAST(:normalisation AS jsonb))
    RETURNING id
""")
FROZEN_CONSTITUENT = text("""
    INSERT INTO snapshot_constituent (snapshot_id, constituent_id, data_checksum, missing_clips, present, value_hashes)
    VALUES (:snapshot, :key, 'made up', 0, :present, :hashes)
""")
FROZEN_CLIPS = text("""
    INSERT INTO snapshot_clip (snapshot_id, position, clip_id, part, age, gender, ethnicity, language)
    SELECT :snapshot, row_number() OVER (ORDER BY id) - 1, id, 'train', 20 + id % 50,
           (ARRAY['f', 'm'])[1 + id % 2], (ARRAY['asian', 'black', 'white', NULL])[1 + id % 4],
           (ARRAY['English', 'Arabic', 'German', 'Welsh'])[1 + id % 4]
    FROM clip
""")


def shapes() -> dict[str, tuple[tuple[int, ...], str]]:
    """{constituent: (shape, dtype)} of the full layout, images last: 134 kB a sample."""
    blocks = [block for block in LAYOUTS["slf-256x768"].blocks if block.scaling != "attribute"]
    arrays = {block.name: ((block.rows, block.columns), "float16") for block in blocks}
    return arrays | {name: (shape, "uint8") for name, shape in IMAGES.items()}


def make_store(store: Store, clips: int, *, sparse: bool) -> None:
    """Clips, shards, extraction rows and a snapshot of all.

    Args:
        store: an empty one.
        clips: how many.
        sparse: shards are files with holes: as large to look at, but all zeros and of no bytes on the disk.
    """
    register_clips(store, clips)
    rng = np.random.default_rng(0)
    with store.engine.begin() as connection:
        specs = [
            ConstituentSpec(name=name, kind="array", shape=shape, dtype=dtype, unit="", paper="", code_version=1)
            for name, (shape, dtype) in shapes().items()
        ]
        keys = register(connection, specs)
    with store.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # no counting, row by row
        for spec in specs:
            sealed = [
                (hollow if sparse else filled)(store.shards, spec, min(ROWS, clips - start), rng)
                for start in range(0, clips, ROWS)
            ]
            shards = [new_shard(connection, keys[spec.name], made) for made in sealed]
            connection.execute(EXTRACTED, {"key": keys[spec.name], "shards": shards, "rows": ROWS})
        standard = {block.name: block.columns for block in LAYOUTS["slf-256x768"].blocks if block.scaling == "standard"}
        statistics = {name: {"mean": [0.1] * columns, "std": [0.7] * columns} for name, columns in standard.items()}
        frozen = {
            "name": SNAPSHOT,
            "normalisation": json.dumps(statistics),
            "blocks": json.dumps([block.as_json() for block in LAYOUTS["slf-256x768"].blocks]),
        }
        snapshot = connection.execute(FROZEN, frozen).scalar_one()
        ids = np.array(connection.execute(text("SELECT id FROM clip ORDER BY id")).scalars().all(), "<i8")
        values = {"present": np.packbits(np.ones(len(ids), bool)).tobytes(), "hashes": (ids * 7919).tobytes()}
        for key in keys.values():
            connection.execute(FROZEN_CONSTITUENT, {"snapshot": snapshot, "key": key, **values})
        connection.execute(FROZEN_CLIPS, {"snapshot": snapshot})
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE) extraction, snapshot_clip, clip, shard"))


def register_clips(store: Store, clips: int) -> Mapping[str, IdentityMeta]:
    """Clips of a catalogue without media, as `slf ingest` would find them; what a metadata file says of its people."""
    test = round(clips * TEST_CLIPS / (DEV_CLIPS + TEST_CLIPS))
    catalogue = make_catalogue(clips - test, test)
    files = list(catalogue.files())
    rows = [
        (file.identity, file.split, file.video, file.clip, file.path, "ok", None, None, *fact, *[None] * 4)
        for file, fact in zip(files, catalogue.facts(len(files)), strict=True)
    ]
    with store.engine.begin() as connection:
        source = register_source(connection, Path("/voxceleb2"), "voxceleb2", "voxceleb2")["id"]
        connection.execute(statements.NEW_PLACES, {"source_id": source, "splits": ["dev", "test"]})
    with Writer(store.engine, source) as writer:
        for start in range(0, len(rows), BATCH):
            writer.add(rows[start : start + BATCH])
    return catalogue.meta


def new_shard(connection: Connection, key: int, sealed: SealedShard) -> int:
    """Row of a shard; its id."""
    values = {"key": key, "path": sealed.path, "rows": sealed.rows, "bytes": sealed.bytes, "checksum": sealed.checksum}
    return int(connection.execute(NEW_SHARD, values).scalar_one())


def filled(folder: Path, spec: ConstituentSpec, rows: int, rng: np.random.Generator) -> SealedShard:
    """A shard of random numbers: any byte in an image, between -2 and 2 elsewhere."""
    dtype = np.dtype(spec.dtype)
    drawn = np.frombuffer(rng.bytes(rows * int(np.prod(spec.shape)) * dtype.itemsize), f"<u{dtype.itemsize}")
    values = (drawn & 0xBFFF if dtype.kind == "f" else drawn).view(dtype).reshape(rows, *spec.shape)
    return seal_shard(
        folder, constituent=spec.name, version=spec.version, spec={}, clip_ids=np.arange(rows), values=values
    )


def hollow(folder: Path, spec: ConstituentSpec, rows: int, rng: np.random.Generator) -> SealedShard:
    """A shard of zeros that takes no room."""
    path = folder / spec.name / spec.version / f"{rng.integers(1 << 62):016x}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    with h5py.File(path, "w", libver="latest") as file:
        space = h5py.h5s.create_simple((rows, *spec.shape))
        h5py.h5d.create(file.id, b"values", h5py.h5t.py_create(np.dtype(spec.dtype)), space, properties)
    return SealedShard(path.relative_to(folder).as_posix(), rows, path.stat().st_size, "made up")
