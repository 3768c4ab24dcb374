"""How fast a store is verified, compacted, backed up and restored, beside plain hashing of the same files.

    python benchmarks/care.py --gigabytes 1

Values are noise in the shape of the log-mel spectrogram, in shards as extraction writes them (`--chunk` clips each).
The bare figures are BLAKE2b over the same files from the same (warm) cache, with one thread and with one per core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from sqlalchemy import text

from slf_store.constituents.spec import ConstituentSpec
from slf_store.db.embedded import EmbeddedServer
from slf_store.jobs import queue
from slf_store.jobs.backup import backup
from slf_store.jobs.commit import Outcome, commit_chunk
from slf_store.jobs.compact import compact
from slf_store.jobs.constituents import register
from slf_store.jobs.gc import collect_garbage
from slf_store.jobs.restore import restore
from slf_store.jobs.verify import verify
from slf_store.settings import Settings
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

SPEC = ConstituentSpec("noise", "array", (111, 128), "float16", "none", "none", 1)
CLIPS = text("""
    WITH root AS (INSERT INTO source (name, root, layout) VALUES ('made-up', '/data/made-up', 'folder') RETURNING id),
         person AS (INSERT INTO identity (source_id, name) SELECT id, 'id00001' FROM root RETURNING id),
         film AS (INSERT INTO video (identity_id, split, name) SELECT id, 'dev', 'film' FROM person RETURNING id)
    INSERT INTO clip (video_id, name, path, state, frames, has_audio, file_bytes, file_mtime_ns)
    SELECT film.id, n, n || '.mp4', 'ok', 25, true, 1, 1 FROM film, generate_series(1, :clips) n
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--chunk", type=int, default=16)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="slf-care-"))
    folder.chmod(0o755)
    homes = [folder / "store", folder / "restored"]
    try:
        with Store.create(settings=Settings(home=homes[0], database_url=None), tethered=True) as store:
            fill(store, int(options.gigabytes * 1e9 / (111 * 128 * 2)), options.chunk)
            print(json.dumps(measure(store, folder, homes[1]), indent=1))
    finally:
        for home in homes:
            EmbeddedServer(home).stop()
        shutil.rmtree(folder)


def fill(store: Store, clips: int, chunk: int) -> None:
    with store.engine.begin() as connection:
        connection.execute(CLIPS, {"clips": clips})
        (key,) = register(connection, [SPEC]).values()
    queue.enqueue(store.engine, [key])
    chance = np.random.default_rng(0)
    while claimed := queue.claim(store.engine, [key], clips=chunk, owner="benchmark", lease_s=3600):
        values = chance.normal(size=(len(claimed), *SPEC.shape)).astype(np.float16)
        outcomes = [Outcome(clip.clip_id, value, 0.0) for clip, value in zip(claimed, values, strict=True)]
        commit_chunk(store, "benchmark", {key: (SPEC, outcomes)})


def measure(store: Store, folder: Path, home: Path) -> dict[str, object]:
    cores = len(os.sched_getaffinity(0))
    figures: dict[str, object] = (
        {"cores": cores} | hashing(store, "small shards", cores) | verifying(store, "small shards")
    )
    start = time.perf_counter()
    (report,) = compact(store)
    seconds = time.perf_counter() - start
    figures["compact"] = (
        f"{report.bytes_before / 1e9 / seconds:.2f} GB/s, {report.shards_before} -> {report.shards_after}"
    )
    store.settings.shard_grace_hours = 0
    collect_garbage(store, remove=True)
    figures |= hashing(store, "merged shards", cores) | verifying(store, "merged shards")
    for name in ("backup", "backup again"):
        done = backup(store, folder / "backup")
        locked = f"removers locked out {done.locked_seconds:.2f} s"
        figures[name] = f"{done.seconds:.1f} s, {done.copied_bytes / 1e9:.2f} GB copied, {locked}"
    restored = restore(Settings(home=home, database_url=None), folder / "backup")
    return figures | {"restore": f"{restored.seconds:.1f} s with verification, {restored.bytes / 1e9:.2f} GB"}


def hashing(store: Store, what: str, cores: int) -> dict[str, str]:
    """Speed of BLAKE2b over the shards."""
    files = [path for path in store.shards.rglob("*") if path.is_file()]
    size, figures = sum(path.stat().st_size for path in files), {}
    for threads in (1, cores):
        start, cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(file_checksum, files))
        figures[f"hashing alone, {what}, {threads} threads"] = speed(size, start, cpu)
    return figures


def verifying(store: Store, what: str) -> dict[str, str]:
    start, cpu = time.perf_counter(), time.process_time()
    report = verify(store)
    assert not report.findings
    return {f"verify, {what}": f"{speed(report.bytes, start, cpu)}, {report.values} values in {report.shards} shards"}


def speed(size: int, start: float, cpu: float) -> str:
    """Since `start` and `cpu`; the processor's time says what a busy machine's clock does not."""
    seconds, busy = time.perf_counter() - start, time.process_time() - cpu
    return f"{size / 1e9 / seconds:.2f} GB/s, {busy / size * 1e9:.2f} CPU s/GB"


if __name__ == "__main__":
    main()
