"""How long selecting takes, and opening a snapshot, in a made-up catalogue without media.

    python benchmarks/selection.py [--clips N] [--home DIR]

Clips as in benchmarks/catalogue.py, all of whose constituents but 0.1 % each are extracted as far as PostgreSQL knows:
there are rows, and no shards. What is timed is the code that `slf select` and a training run.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from loader_store import register_clips, shapes
from sqlalchemy import text

from slf_store.constituents.spec import ConstituentSpec
from slf_store.db.embedded import EmbeddedServer
from slf_store.db.readonly import run_text
from slf_store.jobs.constituents import register
from slf_store.jobs.register import register_metadata
from slf_store.query.layout import layout
from slf_store.query.locate import hold_clips, locate
from slf_store.query.manifest import open_snapshot
from slf_store.query.snapshot import FrozenConstituent, write_snapshot
from slf_store.settings import Settings
from slf_store.store import Store

CONSTITUENTS = (
    "target", "image_guide", "ecapa", "ecapa_windows", "pyannote", "titanet", "speakernet", "camplusplus",
    "resemblyzer", "pyaudioanalysis", "mel", "face",
)  # fmt: skip
SHARD_ROWS = 4096
SELECTIONS: list[tuple[str, dict[str, Any]]] = [
    ("true", {"missing": "skip"}),
    ("gender = 'f' AND duration_s >= 5", {"missing": "zero"}),
    ("split = 'dev'", {"missing": "skip", "balance": ["gender"], "sample": 1000}),
    ("split = 'dev'", {"missing": "skip", "per_identity": 5}),
    ("clip_id IN (SELECT clip_id FROM values_of('mel') WHERE value_rms > 0.5)", {"missing": "skip"}),
    ("'mel' = ANY(constituents)", {"missing": "skip"}),
]
NEW_SHARDS = text("""
    INSERT INTO shard (constituent_id, path, rows, bytes, checksum)
    SELECT :constituent, :constituent || '/' || number, :rows, 1, 'none' FROM generate_series(0, :shards - 1) number
""")
EXTRACTED = text("""
    INSERT INTO extraction (clip_id, constituent_id, place_id, state, shard_id, shard_row, value_hash, value_min,
                            value_mean, value_max, value_rms, value_rows, zero_rows, finished_at)
    SELECT clip.id, :constituent, place_id, 'done', first + mod(clip.id, :shards), mod(clip.id, :rows),
           clip.id * 7919, -1, 0, 1, mod(clip.id, 100) / 100.0, 1, 0, now()
    FROM clip CROSS JOIN (SELECT min(id) AS first FROM shard WHERE constituent_id = :constituent) shards
    WHERE mod(clip.id, 1000) <> :constituent
""")
TABLES = "clip, video, identity, attribute, clip_attribute, extraction"


def run(store: Store, clips: int) -> dict[str, float]:
    """{what: seconds}, and the megabytes that this process has held at most."""
    figures: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = work()
        figures[what] = round(time.perf_counter() - start, 2)
        print(f"{what:<100}{figures[what]:>8.2f}", flush=True)
        return done

    keys = fill(store, clips)
    figures["MB before"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    for predicate, choice in SELECTIONS:
        chosen = timed(f"select {predicate} {choice}", lambda p=predicate, c=choice: store.select(p, **c))
        print(f"    {len(chosen)} clips")
    for predicate, _ in (*SELECTIONS[1:2], *SELECTIONS[4:]):
        statement = f"SELECT count(*) FROM clips WHERE {predicate}"
        timed(statement, lambda s=statement: run_text(store.engine, s, timeout_s=600))
    everything = store.select("true", missing="skip")
    timed("rows of a snapshot", lambda: write(store, everything, keys))
    timed("open_snapshot, places asked for", lambda: open_snapshot(store, "all"))
    figures["MB after"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return figures


def fill(store: Store, clips: int) -> dict[str, int]:
    """The catalogue and its extractions; {constituent: key}."""
    meta = register_clips(store, clips)
    source = store.query("SELECT id FROM source")[0]["id"]
    register_metadata(store.engine, source, meta)
    kinds = {"face": ((1,), "float32"), **shapes()}
    specs = [ConstituentSpec(name, "array", *kinds[name], "", "", 1) for name in CONSTITUENTS]
    with store.engine.begin() as connection:
        keys = register(connection, specs)
    for key in keys.values():
        values = {"constituent": key, "shards": max(1, clips // SHARD_ROWS), "rows": SHARD_ROWS}
        with store.engine.begin() as connection:
            connection.execute(NEW_SHARDS, values)
            connection.execute(EXTRACTED, values)
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE {TABLES}")
    return keys


def write(store: Store, chosen: Any, keys: dict[str, int]) -> None:
    """The rows of a snapshot of clips whose values are not there to be read."""
    plan = layout("slf-256x768")
    with store.engine.begin() as connection:
        hold_clips(connection, chosen.clip_ids)
        used = []
        for name in chosen.constituents:
            places = locate(connection, keys[name], len(chosen))
            packed, hashes = np.packbits(places.present).tobytes(), places.value_hash.astype("<i8").tobytes()
            used.append(FrozenConstituent(keys[name], name, "", "", 0, packed, hashes))
        blocks = json.dumps([asdict(block) for block in plan.blocks])
        snapshot = {"name": "all", "hash": "made-up", "predicate": "true", "layout": plan.name, "blocks": blocks}
        snapshot |= {"missing": "skip", "seed": 0, "clips": len(chosen), "normalisation": "{}", "chosen": "{}"}
        write_snapshot(connection, snapshot, used, chosen.columns, ["train"] * len(chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--home", type=Path, help="folder of the store, removed afterwards [default: a temporary one]")
    arguments = parser.parse_args()
    home = (arguments.home or Path(tempfile.mkdtemp())).absolute()
    settings = Settings(home=home, statement_timeout_s=600)
    try:
        with Store.create(settings=settings, tethered=True) as store:
            print(json.dumps(run(store, arguments.clips)))
    finally:
        EmbeddedServer(home).stop()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
