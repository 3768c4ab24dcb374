"""One peer of `benchmarks/loader.py`, run in an environment of its own: writes the packed samples, reads batches.

    PEERS_PYTHON loader_peers.py NAME FOLDER RECORD_BYTES BATCH SECONDS

FOLDER holds `packed.bin`, the samples one after the other, and `order.npy`. Prints one JSON object. Each peer fills
the same three (BATCH, RECORD_BYTES) uint8 arrays in turn, in the way in which a trainer would ask it that wants to be
fast.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

RING = 3
"""Arrays that batches go to in turn, as those of one who gathers ahead."""
Fill = Callable[[np.ndarray, np.ndarray], None]
"""Fill a batch (B, bytes) with the samples of these indices."""


def lmdb(folder: Path, samples: np.ndarray) -> tuple[Fill, str]:
    import lmdb

    environment = lmdb.open(
        str(folder / "lmdb"), map_size=2 * samples.nbytes, readahead=False, meminit=False, sync=False
    )
    for start in range(0, len(samples), 1000):
        with environment.begin(write=True) as transaction:
            for i in range(start, min(start + 1000, len(samples))):
                transaction.put(b"%08d" % i, samples[i], append=True)
    reader = environment.begin(buffers=True)

    def fill(out: np.ndarray, wanted: np.ndarray) -> None:
        for j, i in enumerate(wanted.tolist()):
            out[j] = np.frombuffer(reader.get(b"%08d" % i), np.uint8)

    return fill, "shuffled fully"


def lance(folder: Path, samples: np.ndarray) -> tuple[Fill, str]:
    import lance
    import pyarrow as pa

    width = samples.shape[1]
    kind = pa.list_(pa.uint8(), width)

    def parts() -> Iterable[pa.RecordBatch]:
        for start in range(0, len(samples), 500):
            block = np.ascontiguousarray(samples[start : start + 500])
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), type=kind)
            yield pa.record_batch([values], names=["sample"])

    schema = pa.schema([("sample", kind)])
    made = lance.write_dataset(pa.RecordBatchReader.from_batches(schema, parts()), str(folder / "lance"))

    def fill(out: np.ndarray, wanted: np.ndarray) -> None:
        column = made.take(wanted.tolist())["sample"].combine_chunks()
        out[:] = column.flatten().to_numpy(zero_copy_only=True).reshape(len(wanted), -1)

    return fill, "shuffled fully: take()"


def webdataset(folder: Path, samples: np.ndarray) -> tuple[Fill, str]:
    import webdataset

    (folder / "tar").mkdir()
    with webdataset.ShardWriter(str(folder / "tar" / "%04d.tar"), maxcount=1000, verbose=0) as writer:
        for i in range(len(samples)):
            writer.write({"__key__": f"{i:08d}", "bin": samples[i].tobytes()})
    shards = sorted(str(path) for path in (folder / "tar").glob("*.tar"))

    def endless() -> Iterable[bytes]:
        while True:
            for sample in webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(1000):
                yield sample["bin"]

    stream = iter(endless())

    def fill(out: np.ndarray, wanted: np.ndarray) -> None:
        for row in out:
            row[:] = np.frombuffer(next(stream), np.uint8)

    return fill, "shuffles shards and a buffer of 1,000 only; reads in sequence"


def litdata(folder: Path, samples: np.ndarray) -> tuple[Fill, str]:
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    target = folder / "litdata"
    target.mkdir()
    writer = BinaryWriter(str(target), chunk_bytes="64MB")
    for i in range(len(samples)):
        writer[i] = {"sample": samples[i].tobytes()}
    writer.done()
    writer.merge()
    made = StreamingDataset(str(target), shuffle=True, drop_last=False, max_cache_size="100GB")

    def endless() -> Iterable[bytes]:
        while True:
            for sample in made:
                yield sample["sample"]

    stream = iter(endless())

    def fill(out: np.ndarray, wanted: np.ndarray) -> None:
        for row in out:
            row[:] = np.frombuffer(next(stream), np.uint8)

    return fill, "its own order: chunks shuffled, then samples within each"


def measure(fill: Fill, order: np.ndarray, width: int, batch: int, seconds: float) -> dict[str, float]:
    """Batches until the time is over, after as many samples as there are, or half the time, to warm up."""
    ring = [np.zeros((batch, width), np.uint8) for _ in range(RING)]
    blocks = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)]
    begin, at = time.perf_counter(), 0
    while at < len(blocks) and time.perf_counter() - begin < seconds / 2:
        fill(ring[at % RING], blocks[at])
        at += 1
    rates = []
    for _ in range(3):
        start, seen = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / 3 and seen < len(order):
            fill(ring[at % RING], blocks[at % len(blocks)])
            at, seen = at + 1, seen + batch
        rates.append(seen / (time.perf_counter() - start))
    return {
        "samples/s": round(max(rates), 1),
        "GB/s": round(max(rates) * width / 1e9, 3),
        "last byte": int(ring[at % RING][-1, -1]),
    }


def main() -> None:
    name, folder, width, batch, seconds = sys.argv[1:]
    root = Path(folder)
    samples = np.memmap(root / "packed.bin", np.uint8, "r").reshape(-1, int(width))
    order = np.load(root / "order.npy")
    place = root / name
    place.mkdir()
    try:
        start = time.perf_counter()
        fill, how = {"lmdb": lmdb, "lance": lance, "webdataset": webdataset, "litdata": litdata}[name](place, samples)
        wrote = time.perf_counter() - start
        found = measure(fill, order, int(width), int(batch), float(seconds))
        print(json.dumps({**found, "order": how, "write, s": round(wrote, 1)}))
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
