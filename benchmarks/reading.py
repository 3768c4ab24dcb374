"""Reading one constituent for a scattered selection, from the disk and from memory.

    python benchmarks/reading.py [--gigabytes N] [--share S] [--shard-rows N] [--folder DIR] [--repeats N]

Writes a shard set of random float16 values (`mel`: 111×128; then `ecapa`: 192), asks for a random share of its clips in
random order, and reads them in these ways, each with cold pages (dropped before) and with warm ones:

- `ours`: `gather` of `slf_store.query.values`, which `store.constituent(...).read(...)` calls
- `map`: numpy indexing of a memory map, rows in the order of the file, as the reader did before
- `map, random order`: the same, rows in the order of the selection
- `h5py`: one read for each row, in the order of the file

Beside them the disk itself, with `preadv` on one of the files: sequentially, and rows of that size one after another.
Where /proc/sys/vm/drop_caches cannot be written, pages are dropped file by file (posix_fadvise). Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from slf_store.query.locate import BlockReader, Places
from slf_store.shards.reader import find_values, map_values
from slf_store.shards.writer import seal_shard

SHAPES = {"mel": (111, 128), "ecapa": (192,)}
DTYPE = np.dtype(np.float16)
MEGABYTE = 1e6
Locations = list[tuple[int, str, int]]


def main() -> None:
    options = _options()
    report: dict[str, Any] = {"machine": _machine(options.folder), "constituents": {}}
    for name, shape in SHAPES.items():
        folder = Path(tempfile.mkdtemp(prefix="slf-reading-", dir=options.folder))
        try:
            total = options.gigabytes * 1e9 * (1 if name == "mel" else 0.25)
            report["constituents"][name] = _measure(folder, name, shape, int(total), options)
        finally:
            shutil.rmtree(folder)
    print(json.dumps(report, indent=2))


def _measure(
    folder: Path, name: str, shape: tuple[int, ...], total: int, options: argparse.Namespace
) -> dict[str, Any]:
    size = int(np.prod(shape)) * DTYPE.itemsize
    n = total // size
    shard_rows = options.shard_rows if name == "mel" else options.shard_rows * 16
    paths = _write(folder, name, shape, n, shard_rows)
    draw = np.random.default_rng(1)
    chosen = draw.permutation(n)[: int(n * options.share)]
    in_order = np.argsort(chosen)
    locations: Locations = [(int(i), paths[chosen[i] // shard_rows], int(chosen[i] % shard_rows)) for i in in_order]
    shuffled = sorted(locations)
    shard, row = (chosen // shard_rows).astype(np.int32), (chosen % shard_rows).astype(np.int32)
    places = Places(tuple(paths), shard, row, np.zeros(len(chosen), np.int64))

    def ours() -> np.ndarray[Any, Any]:
        return BlockReader(folder, places, shape, DTYPE).read(slice(0, len(chosen)))

    def by_map(wanted: Locations) -> np.ndarray[Any, Any]:
        maps = {path: map_values(folder / path) for path in paths}
        values = np.zeros((len(chosen), *shape), DTYPE)
        for position, path, row in wanted:
            values[position] = maps[path][row]
        return values

    def by_h5py() -> np.ndarray[Any, Any]:
        import h5py

        values = np.zeros((len(chosen), *shape), DTYPE)
        files = {path: h5py.File(folder / path, "r", locking=False) for path in paths}
        datasets = {path: file["values"] for path, file in files.items()}
        for position, path, row in locations:
            values[position] = datasets[path][row]
        for file in files.values():
            file.close()
        return values

    ways: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
        "ours": ours,
        "map": lambda: by_map(locations),
        "map, random order": lambda: by_map(shuffled),
        "h5py": by_h5py,
    }
    expected = ours()
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(options.repeats):  # in turns, so that a machine that is busy for a while is so for all
        for way, read in ways.items():
            seconds[way, "cold"].append(_seconds(read, folder, paths, expected))
            seconds[way, "warm"].append(_seconds(read, None, paths, expected))
    results = {
        way: {state: _rate(seconds[way, state], len(chosen), size) for state in ("cold", "warm")} for way in ways
    }
    return {
        "clips": n,
        "selected": len(chosen),
        "bytes_each": size,
        "shards": len(paths),
        "ways": results,
        "disk_MB_per_s": _disk(folder, paths, chosen, shard_rows, size),
    }


def _write(folder: Path, name: str, shape: tuple[int, ...], n: int, shard_rows: int) -> list[str]:
    draw = np.random.default_rng(0)
    paths = []
    for start in range(0, n, shard_rows):
        count = min(shard_rows, n - start)
        values = draw.integers(0, 0x3C00, (count, *shape), np.uint16).view(DTYPE)  # any bits of 0 to 1
        ids = np.arange(start, start + count, dtype=np.int64)
        paths.append(seal_shard(folder, constituent=name, version="v", spec={}, clip_ids=ids, values=values).path)
    return paths


def _seconds(
    read: Callable[[], np.ndarray[Any, Any]], cold: Path | None, paths: list[str], expected: np.ndarray[Any, Any]
) -> float:
    if cold is not None:
        _drop([cold / path for path in paths])
    start = time.perf_counter()
    values = read()
    took = time.perf_counter() - start
    if values.tobytes() != expected.tobytes():
        raise SystemExit("two ways gave different values")
    return took


def _rate(seconds: list[float], rows: int, size: int) -> dict[str, float]:
    middle = statistics.median(seconds)
    return {
        "seconds": round(middle, 4),
        "slowest_s": round(max(seconds), 4),
        "MB_per_s": round(rows * size / middle / MEGABYTE, 1),
        "rows_per_s": round(rows / middle),
    }


def _disk(folder: Path, paths: list[str], chosen: np.ndarray[Any, Any], shard_rows: int, size: int) -> dict[str, float]:
    """What the disk gives a plain `preadv`: large reads in order, and single rows at random."""
    files = [folder / path for path in paths]
    buffer = bytearray(8 << 20)
    _drop(files)
    start, total = time.perf_counter(), 0
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        offset = 0
        while count := os.preadv(descriptor, [buffer], offset):
            offset += count
        os.close(descriptor)
        total += offset
    sequential = total / (time.perf_counter() - start)
    descriptors = [os.open(file, os.O_RDONLY) for file in files]
    begins = [find_values(file)[0] for file in files]
    _drop(files)
    for descriptor in descriptors:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    rows = chosen[:4000]
    row_buffer = bytearray(size)
    start = time.perf_counter()
    for clip in rows.tolist():
        shard, row = divmod(clip, shard_rows)
        os.preadv(descriptors[shard], [row_buffer], begins[shard] + row * size)
    single = len(rows) * size / (time.perf_counter() - start)
    for descriptor in descriptors:
        os.close(descriptor)
    return {"sequential": round(sequential / MEGABYTE, 1), "single rows at random": round(single / MEGABYTE, 1)}


def _drop(files: list[Path]) -> None:
    """Nothing of the files is in memory afterwards."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        for file in files:
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def _machine(folder: Path | None) -> dict[str, Any]:
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "free_GB": round(shutil.disk_usage(folder or tempfile.gettempdir()).free / 1e9),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of mel; a quarter of that of ecapa")
    parser.add_argument("--share", type=float, default=0.1, help="of the clips that is asked for")
    parser.add_argument("--shard-rows", type=int, default=4096, help="rows of a shard of mel; 16 times that of ecapa")
    parser.add_argument("--folder", type=Path, help="where to write the shards: the disk that is measured")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
