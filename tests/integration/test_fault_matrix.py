"""A process killed at every fault point, in its second chunk: the next run completes what an undisturbed one makes.

`SLF_FAULT_TABLE=FILE` keeps the table of what was found.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_stores import Stores, attempts, contents, leftovers
from fault_worker import Worker

from slf_store.faults import EXTRACTION
from slf_store.jobs.gc import collect_garbage
from slf_store.shards.writer import TEMPORARY_PREFIX
from slf_store.store import Store

pytestmark = pytest.mark.integration

CLIPS, CHUNK = 6, 2
UNKNOWN_SHARD = {"seal.renamed", "seal.folder_fsynced", "commit.shard_row", "commit.values", "commit.finished"}
UNKNOWN_SHARD |= {"commit.before"}
TEMPORARY = {"seal.opened", "seal.written", "seal.fsynced", "seal.checksummed"}
TURN = {"commit.values": 3, "renew.before": 1, "renew.after": 1, "release.before": 1, "release.after": 1}
"""The second chunk's; values are written once for each of two constituents."""

Contents = dict[tuple[str, str], tuple[object, ...]]


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, tuple[str, str]]]:
    """Fault point → what was there after the kill, what after the next run."""
    rows: dict[str, tuple[str, str]] = {}
    yield rows
    if name := os.environ.get("SLF_FAULT_TABLE"):
        lines = ["| killed at | when | after the kill | after the next run |", "|---|---|---|---|"]
        lines += [f"| `{point}` | {EXTRACTION[point]} | {a} | {b} |" for point, (a, b) in rows.items()]
        Path(name).write_text("\n".join(lines) + "\n")


def kill_at(point: str, store: Store, folder: Path) -> int:
    """Run a worker that is killed there; its exit status."""
    settings = store.settings
    fault = f"{point}:{TURN.get(point, 2)}"
    if point.startswith("renew"):  # a short lease, so that it is renewed while its clips are extracted
        settings = settings.model_copy(update={"lease_minutes": 0.1 / 60})
    if not point.startswith("release"):
        return Worker(settings, folder, fault=fault).join()
    in_the_way = store.shards / "mel"  # a file, so that no shard can be written and the chunk is given back
    in_the_way.touch()
    try:
        return Worker(settings, folder, fault=fault).join()
    finally:
        in_the_way.unlink()


def describe(store: Store) -> str:
    states = Counter(row["state"] for row in store.query("SELECT state FROM extraction"))
    files = Counter(
        "temporary" if name.rpartition("/")[2].startswith(TEMPORARY_PREFIX) else "unknown" for name in leftovers(store)
    )
    said = [f"{states[state]} {state}" for state in ("done", "leased", "pending") if states[state]]
    return ", ".join(said + [f"{count} {kind} file" for kind, count in sorted(files.items())])


@pytest.mark.parametrize("point", EXTRACTION)
def test_killed_at_a_fault_point_nothing_is_lost_doubled_or_left(
    point: str, stores: Stores, undisturbed: Contents, tmp_path: Path, table: dict[str, tuple[str, str]]
) -> None:
    with stores.fresh() as store:
        assert kill_at(point, store, tmp_path) == -signal.SIGKILL
        killed = describe(store)
        done = store.query("SELECT * FROM extraction WHERE state = 'done' ORDER BY constituent_id, clip_id")
        if not point.startswith("renew"):
            chunks = {"commit.after": 2, "release.before": 0, "release.after": 0}.get(point, 1)
            assert len(done) == 2 * CHUNK * chunks
        left = leftovers(store)
        assert len(left) == (point in UNKNOWN_SHARD | TEMPORARY)
        assert all(TEMPORARY_PREFIX in name for name in left) == (point not in UNKNOWN_SHARD)
        leased = {row["clip_id"] for row in store.query("SELECT clip_id FROM extraction WHERE state = 'leased'")}
        assert len(leased) == (0 if point in ("claim.before", "commit.after", "release.after") else CHUNK)

        assert Worker(store.settings, tmp_path).answer() == f"clips {CLIPS - len(done) // 2}"
        assert contents(store) == undisturbed
        now = store.query("SELECT * FROM extraction")
        assert [row for row in done if row not in now] == []  # what was committed is not touched again
        retried = CHUNK if leased or point == "release.after" else 0
        assert sorted(attempts(store).values()) == [1] * (CLIPS - retried) + [2] * retried
        assert collect_garbage(store, remove=True).files == left
        assert leftovers(store) == []
        removed = f"{len(left)} removed by gc" if left else "nothing to remove"
        table[point] = (killed, f"{CLIPS} clips as undisturbed, {retried} claimed twice, {removed}")
