"""How fast batches come: ours, the memory's own speed, and other ways of keeping samples, on the same data.

    python benchmarks/loader.py [--samples N] [--peers PYTHON] [--only NAME …] [--plot FILE.svg] [--out FILE.json]

Samples of the full layout (84.6 kB of conditioning, a 128×128 target and an 8×8 guide: 134 kB) are written as real
shards of a store on an embedded PostgreSQL, and once more one after the other into a plain file, from which the peers
make their own. Every way is asked for batches of 128 samples in the same shuffled order, or in the one it is able to
give. What is slow is measured on fewer samples; the figure is the best of several rounds.

PYTHON is that of an environment with `benchmarks/requirements-peers.txt`; without it those peers are left out. The
working folder (some 10 GB) is removed afterwards. A second, sparse store of 400,000 clips measures how long a start
takes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from loader_store import SNAPSHOT, make_store, shapes

from slf_store.db.embedded import EmbeddedServer
from slf_store.evaluation.html import Html, tag
from slf_store.query import loader as loader_module
from slf_store.query.loader import Loader
from slf_store.query.manifest import Manifest, open_snapshot
from slf_store.query.order import order
from slf_store.query.packed import Rows, new_buffers
from slf_store.query.systems import system
from slf_store.settings import Settings
from slf_store.store import Store

BATCH = 128
"""As in the published code, whose batches have 128 to 192 samples."""
ROUNDS = 4
SLOW_SECONDS = 6.0
"""How long a slow way is watched."""
PUBLISHED_ROWS = 4000
PEERS = ("lmdb", "lance", "webdataset", "litdata")
SECTIONS = ("packed", "dense", "h5py", "published", *PEERS, "cold", "memory", "start", "cuda")
WIDTH = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes().values())
"""Bytes of a sample."""
DENSE = {"float32": 4, "bfloat16": 2}

Figures = dict[str, Any]


def best(ways: dict[str, Callable[[], Iterator[int]]], rounds: int = ROUNDS) -> dict[str, float]:
    """Samples a second of the fastest round of each way; they take turns, so that a busy moment meets all of them."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            seen = sum(way())
            rates[name].append(seen / (time.perf_counter() - start))
    return {name: max(found) for name, found in rates.items()}


def rate(samples: float, width: int = WIDTH, **more: object) -> Figures:
    return {"samples/s": round(samples, 1), "GB/s": round(samples * width / 1e9, 3), **more}


def packed_batches(manifest: Manifest, packed: np.ndarray, figures: Figures) -> None:
    """(a) copying packed samples out of memory and (b) our packed batches, with one thread and with all."""
    n = len(manifest) // BATCH * BATCH
    ring = [torch.zeros((BATCH, WIDTH), dtype=torch.uint8) for _ in range(3)]
    source = torch.from_numpy(packed)
    loader = Loader(manifest, system("full-input"), batch_size=BATCH)
    names = loader.scatter.names
    buffers = [new_buffers(manifest, names, BATCH, pinned=False) for _ in range(3)]
    rows = {name: Rows(manifest, manifest.constituents[name]) for name in names}

    def copy() -> Iterator[int]:
        for number, start in enumerate(range(0, n, BATCH)):
            ring[number % 3].copy_(source[start : start + BATCH])
            yield BATCH

    def gather() -> Iterator[int]:
        for start in range(0, n, BATCH):
            samples = order(0, 0, len(manifest))[start : start + BATCH]
            for name, out in buffers[start // BATCH % 3].items():
                rows[name].gather(samples, out)
            yield BATCH

    for threads in sorted({1, cores()}):
        torch.set_num_threads(threads)
        loader = Loader(manifest, system("full-input"), batch_size=BATCH, threads=threads)
        ways = {
            f"a memcpy, {threads} threads": copy,
            f"(gathering alone, {threads} threads)": gather,
            f"b packed batches, {threads} threads": lambda loader=loader: (len(b.samples) for b in loader.packed(0, n)),
        }
        figures |= {name: rate(found) for name, found in best(ways).items()}


def dense_batches(manifest: Manifest, figures: Figures) -> None:
    """(c) dense batches, and writing as many bytes, with one thread and with all; gathering has one of its own."""
    n = min(len(manifest), 50 * BATCH) // BATCH * BATCH
    for threads in sorted({1, cores()}):
        torch.set_num_threads(threads)
        for dtype, size in DENSE.items():
            ring = [torch.ones((BATCH, dense_width(size)), dtype=torch.uint8) for _ in range(3)]
            loader = Loader(manifest, system("full-input"), batch_size=BATCH, dtype=dtype)

            def write(ring: list[torch.Tensor] = ring) -> Iterator[int]:
                for number in range(n // BATCH):
                    ring[number % 3].fill_(number % 7)
                    yield BATCH

            ways = {
                f"writing dense {dtype}, {threads} threads": write,
                f"c dense {dtype}, gathering thread + {threads}": lambda loader=loader: map(len, loader.batches(0, n)),
            }
            figures |= {name: rate(found, dense_width(size)) for name, found in best(ways).items()}
    torch.set_num_threads(cores())


def dense_width(size: int) -> int:
    """Bytes of a dense sample: conditioning, mask, guide and target (float32)."""
    return 256 * 768 * size + 256 + 4 * 3 * (8 * 8 + 128 * 128)


def naive_h5py(manifest: Manifest, figures: Figures) -> None:
    """(d) one read of each constituent of each sample; files stay open."""
    files: dict[Path, Any] = {}
    out = {name: np.zeros((BATCH, *at.shape), at.dtype) for name, at in manifest.constituents.items()}

    def fill(wanted: np.ndarray) -> None:
        for name, located in manifest.constituents.items():
            for j, i in enumerate(wanted.tolist()):
                path = located.paths[located.shard[i]]
                if path not in files:
                    files[path] = h5py.File(path, "r")["values"]
                out[name][j] = files[path][located.row[i]]

    figures["d h5py, row by row"] = watched(fill, len(manifest))


def watched(fill: Callable[[np.ndarray], None], n: int, seconds: float = SLOW_SECONDS) -> Figures:
    """Rate of a slow way, in the shuffled order, until the time is over."""
    shuffled = order(0, 0, n)
    fill(shuffled[:BATCH])
    start, at = time.perf_counter(), 0
    while time.perf_counter() - start < seconds and at + BATCH <= n:
        fill(shuffled[at : at + BATCH])
        at += BATCH
    return rate(at / (time.perf_counter() - start), order="shuffled fully", measured=at)


def published(folder: Path, packed: np.ndarray, figures: Figures) -> None:
    """(i) the published code's way: pickled arrays in SQLite, each sample asked for by its OFFSET."""
    rows = min(PUBLISHED_ROWS, len(packed))
    database = sqlite3.connect(folder / "published.db")
    columns = list(shapes())
    database.execute(
        f"CREATE TABLE sample (id INTEGER PRIMARY KEY, stage INTEGER, {', '.join(c + ' BLOB' for c in columns)})"
    )
    marks = ", ".join("?" * (len(columns) + 1))
    for i in range(rows):
        database.execute(
            f"INSERT INTO sample (stage, {', '.join(columns)}) VALUES ({marks})",
            [3, *(pickle.dumps(value) for value in unpack(packed[i]).values())],
        )
    database.commit()
    out = {name: np.zeros((BATCH, *shape), dtype) for name, (shape, dtype) in shapes().items()}

    def fill(wanted: np.ndarray) -> None:
        for j, i in enumerate((wanted % rows).tolist()):
            found = database.execute(
                f"SELECT {', '.join(columns)} FROM sample WHERE stage IN (3, 4) LIMIT 1 OFFSET {i}"
            ).fetchone()
            for name, value in zip(columns, found, strict=True):
                out[name][j] = pickle.loads(value)

    figures["i SQLite, pickle, OFFSET"] = {**watched(fill, len(packed)), "rows": rows}
    database.close()
    (folder / "published.db").unlink()


def unpack(sample: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a packed sample."""
    found, at = {}, 0
    for name, (shape, dtype) in shapes().items():
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        found[name] = sample[at : at + size].view(dtype).reshape(shape)
        at += size
    return found


def peer(name: str, python: Path, folder: Path) -> Figures:
    """(e) to (h), each in a process of the peers' environment."""
    command = [str(python), str(Path(__file__).with_name("loader_peers.py")), name, str(folder), str(WIDTH), str(BATCH)]
    done = subprocess.run([*command, str(SLOW_SECONDS)], capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def cold(manifest: Manifest, packed_file: Path, figures: Figures) -> None:
    """Out of the disk: every file is first pushed out of the page cache."""
    paths = [path for located in manifest.constituents.values() for path in located.paths]
    total = len(manifest) * WIDTH
    forget([packed_file])
    start, read = time.perf_counter(), 0
    with packed_file.open("rb", buffering=0) as file:
        buffer = bytearray(8 << 20)
        while read < min(total, 1 << 30):
            read += file.readinto(buffer) or total
    figures["disk, in sequence"] = {"GB/s": round(read / (time.perf_counter() - start) / 1e9, 3)}
    forget([packed_file])
    descriptor = os.open(packed_file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    start = time.perf_counter()
    wanted = order(1, 0, len(manifest))[:2000].tolist()
    for i in wanted:
        os.pread(descriptor, WIDTH, i * WIDTH)
    figures["disk, a sample's bytes at random, one at a time"] = rate(len(wanted) / (time.perf_counter() - start))
    os.close(descriptor)
    for name, threshold in (("read ahead", loader_module.COLD), ("page faults only", 0.0)):
        gc.collect()  # maps of earlier loaders
        forget(paths)
        keep, loader_module.COLD = loader_module.COLD, threshold
        try:
            loader = Loader(manifest, system("full-input"), batch_size=BATCH)
            samples = min(len(manifest), 3200)
            start = time.perf_counter()
            seen = sum(len(batch.samples) for batch in loader.packed(samples=samples))
            figures[f"cold packed batches, {name}"] = rate(seen / (time.perf_counter() - start))
        finally:
            loader_module.COLD = keep
        del loader
    gc.collect()
    forget(paths)
    cold_h5py: Figures = {}
    naive_h5py(manifest, cold_h5py)
    figures["cold h5py, row by row"] = cold_h5py["d h5py, row by row"]


def forget(paths: list[Path]) -> None:
    """Push files out of the page cache."""
    os.sync()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def memory(manifest: Manifest, figures: Figures) -> None:
    """Memory of its own (not the mapped files) over two epochs of packed, and part of one of dense batches."""
    for name, loader in (
        ("packed", Loader(manifest, system("full-input"), batch_size=BATCH)),
        ("dense", Loader(manifest, system("full-input"), batch_size=BATCH, dtype="bfloat16")),
    ):
        batches: Iterator[object] = loader.packed() if name == "packed" else loader.batches()
        seen = []
        for number, batch in enumerate(islice(batches, 2 * len(manifest) // BATCH)):
            if number % 20 == 10:
                seen.append(own_memory())
            del batch
        figures[f"memory, {name} batches, two epochs"] = {
            "MB after the first batches": round(seen[0]),
            "MB at the end": round(seen[-1]),
            "largest, MB": round(max(seen)),
        }


def own_memory() -> float:
    """RssAnon in MB."""
    text = Path("/proc/self/status").read_text("utf-8")
    return int(text.split("RssAnon:")[1].split()[0]) / 1000


def starts(folder: Path, clips: int, figures: Figures) -> None:
    """From an open store to the first batch, and resuming, at a size like VoxCeleb2's."""
    with embedded(folder / "sparse") as store:
        start = time.perf_counter()
        make_store(store, clips, sparse=True)
        figures["(making the sparse store), s"] = round(time.perf_counter() - start, 1)
        for number in range(3):
            gc.collect()
            start = time.perf_counter()
            manifest = open_snapshot(store, SNAPSHOT, "train")
            opened = time.perf_counter() - start
            loader = Loader(manifest, system("full-input"), batch_size=BATCH)
            batches = loader.batches()
            next(batches)
            figures[f"start at {clips:,} clips, {'first' if number == 0 else 'again'}"] = {
                "open snapshot, s": round(opened, 3),
                "to the first batch, s": round(time.perf_counter() - start, 3),
            }
            batches.close()
        resumed = []
        for position in (clips // 3, 2 * clips + 17, 7 * clips - 1):
            order.cache_clear()
            loader = Loader(manifest, system("full-input"), batch_size=BATCH)
            start = time.perf_counter()
            batches = loader.batches(position)
            next(batches)
            resumed.append(time.perf_counter() - start)
            batches.close()
        figures["resume anywhere, s"] = round(max(resumed), 3)


def cuda(manifest: Manifest, figures: Figures) -> None:
    """Share of the step time in which training waits for data, with the preset `base`."""
    from slf_store.diffusion.config import PRESETS, preset
    from slf_store.diffusion.train import train_unet

    name = "base" if "base" in PRESETS else "paper"
    logs: list[Any] = []
    config = preset(name)
    loader = Loader(manifest, system("full-input"), batch_size=config.training(1).batch_size, device="cuda")
    with tempfile.TemporaryDirectory() as folder:
        train_unet(loader.batches, config, 1, Path(folder), minutes=1.0, device="cuda", on_log=logs.append)
    figures[f"waiting for data, preset {name}, GPU"] = {"share": logs[-1].wait_share}


class embedded:
    """A new store on an embedded server, both ended afterwards."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)

    def __enter__(self) -> Store:
        self.store = Store.create(settings=self.settings, tethered=True)
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()
        EmbeddedServer(self.settings.home, self.settings.pg_bin).stop()


def cores() -> int:
    return len(os.sched_getaffinity(0))


def run(folder: Path, given: argparse.Namespace, figures: Figures) -> None:
    """All sections that are asked for."""
    asked = given.only or [name for name in SECTIONS if name != "cuda" or given.device == "cuda"]

    told = 0

    def note() -> None:
        nonlocal told
        for name, value in list(figures.items())[told:]:
            print(f"{name}: {value}", file=sys.stderr, flush=True)
        told = len(figures)

    with embedded(folder / "store") as store:
        start = time.perf_counter()
        make_store(store, given.samples, sparse=False)
        manifest = open_snapshot(store, SNAPSHOT, "train")
        figures["(making the store), s"] = round(time.perf_counter() - start, 1)
        packed_file = folder / "packed.bin"
        np.save(folder / "order.npy", order(0, 0, len(manifest)))
        packed = write_packed(manifest, packed_file)
        sections: dict[str, Callable[[], None]] = {
            "packed": lambda: packed_batches(manifest, packed, figures),
            "dense": lambda: dense_batches(manifest, figures),
            "h5py": lambda: naive_h5py(manifest, figures),
            "published": lambda: published(folder, packed, figures),
            "memory": lambda: memory(manifest, figures),
            "cuda": lambda: cuda(manifest, figures),
        }
        for name in ("packed", "dense", "h5py", "published", "memory", "cuda"):
            if name in asked:
                sections[name]()
                note()
        packed, sections = packed[:0], {}
        gc.collect()
        for letter, name in zip("efgh", PEERS, strict=True):
            if name in asked and given.peers:
                figures[f"{letter} {name}"] = peer(name, given.peers.absolute(), folder)
                note()
        if "cold" in asked:
            cold(manifest, packed_file, figures)
            note()
    shutil.rmtree(folder / "store", ignore_errors=True)
    if "start" in asked:
        starts(folder, given.clips, figures)
        note()
    compare(figures)
    note()


def write_packed(manifest: Manifest, path: Path) -> np.ndarray:
    """All samples one after the other, in a file and in memory: (n, bytes) uint8. Holds a batch against it."""
    loader = Loader(manifest, system("full-input"), batch_size=BATCH)
    memory = np.empty((len(manifest), WIDTH), np.uint8)
    names, at = list(shapes()), 0
    for batch in loader._gathered(
        (np.arange(i, min(i + BATCH, len(manifest))), i) for i in range(0, len(manifest), BATCH)
    ):
        rows = [batch.values[name].reshape(len(batch.samples), -1).view(np.uint8) for name in names]
        memory[at : at + len(batch.samples)] = np.concatenate(rows, axis=1)
        at += len(batch.samples)
    memory.tofile(path)
    for batch in islice(loader.packed(), 1):
        for name, value in unpack(memory[batch.samples[5]]).items():
            assert value.tobytes() == batch.values[name][5].tobytes()
    return memory


def compare(figures: Figures) -> None:
    """The goals of the issue."""

    def per_second(name: str) -> float:
        return float(figures.get(name, {}).get("samples/s", 0.0))

    for threads in sorted({1, cores()}):
        if per_second(f"a memcpy, {threads} threads"):
            share = per_second(f"b packed batches, {threads} threads") / per_second(f"a memcpy, {threads} threads")
            figures[f"b / a, {threads} threads (goal 0.8)"] = round(share, 3)
            for dtype in DENSE:
                limit = per_second(f"writing dense {dtype}, {threads} threads")
                if not limit:
                    continue
                share = per_second(f"c dense {dtype}, gathering thread + {threads}") / limit
                figures[f"c / limit, {dtype}, {threads} threads (goal 0.5)"] = round(share, 3)


def plot(figures: Figures, path: Path) -> None:
    """Samples a second of every way, as bars."""
    shown = {
        name: value["samples/s"]
        for name, value in figures.items()
        if name[0] in "abcdefghi" and name[1] == " " and isinstance(value, dict) and "samples/s" in value
    }
    left, width, line = 300, 420, 24
    scale = width / max(shown.values())
    bars: list[Html] = []
    for number, (name, value) in enumerate(sorted(shown.items(), key=lambda item: -item[1])):
        y = 30 + number * line
        colour = "#2a6fb0" if name[0] in "bc" else "#999999" if name[0] == "a" else "#d08a3c"
        bars += [
            tag("text", name[2:], x=left - 8, y=y + 13, text_anchor="end"),
            tag("rect", x=left, y=y, width=round(max(value * scale, 1), 1), height=line - 7, fill=colour),
            tag("text", f"{value:,.0f}", x=round(left + value * scale + 6, 1), y=y + 13),
        ]
    height = 40 + len(shown) * line
    title = tag(
        "text", "samples/s of the full layout (134 kB packed), batches of 128", x=left, y=18, font_weight="bold"
    )
    back = tag("rect", width=left + width + 90, height=height, fill="white")
    drawing = tag(
        "svg", back, title, *bars, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {left + width + 90} {height}",
        font_family="sans-serif", font_size=13,
    )  # fmt: skip
    path.write_text(drawing + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--clips", type=int, default=400_000, help="of the sparse store that starting is measured on")
    parser.add_argument("--peers", type=Path, help="Python of an environment with requirements-peers.txt")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to run; all by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda adds the share of waiting")
    parser.add_argument("--home", type=Path, help="where the working folder is made")
    parser.add_argument("--plot", type=Path, help="SVG to write")
    parser.add_argument("--out", type=Path, help="JSON to write, beside printing it")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="slf-loader-", dir=given.home))
    folder.chmod(0o755)
    figures: Figures = {"cores": cores(), "samples": given.samples, "bytes of a sample": WIDTH}
    start = time.perf_counter()
    try:
        run(folder, given, figures)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures["everything, s"] = round(time.perf_counter() - start, 1)
    text = json.dumps(figures, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", "utf-8")
    if given.plot:
        plot(figures, given.plot)


if __name__ == "__main__":
    main()
