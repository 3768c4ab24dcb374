"""The same extract flow on a Ray cluster: two nodes on this host, one of them with a (made up) GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slf_store.jobs.ingest import ingest
from slf_store.store import Store

pytestmark = pytest.mark.integration

pytest.importorskip("ray", reason="Ray is not installed: pip install 'slf-store[cluster]'")
pytest.importorskip("prefect_ray", reason="prefect-ray is not installed: pip install 'slf-store[cluster]'")

JOB = """
import json, sys
from pathlib import Path
from flows.runtime import prepare
if __name__ == "__main__":
    home = Path(sys.argv[1])
    prepare(home)
    from flows.extract import run_extract
    print(json.dumps(run_extract(home, ["mel", "image_guide"])))
"""


@pytest.fixture
def cluster(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head with one core and a second node with one core and one GPU; both know the store's database."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    common = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**common, "num_gpus": 0})
    made.add_node(**common, num_gpus=1)
    yield made
    made.shutdown()


def test_work_goes_where_its_resources_are_and_each_clip_is_extracted_once(
    store: Store, sample: Path, cluster: Any, tmp_path: Path
) -> None:
    ingest(store, sample / "test")
    program = tmp_path / "job.py"
    program.write_text(JOB)
    done = subprocess.run(
        [sys.executable, program, store.settings.home],
        env={
            **os.environ,
            "SLF_RAY_ADDRESS": cluster.address,
            "SLF_GPU_CONSTITUENTS": '["image_guide"]',
            "SLF_CHUNK_SIZE": "2",
            "PREFECT_HOME": str(tmp_path / "prefect"),
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["done"] == {"mel": 6, "image_guide": 6}
    attempts = store.query("SELECT attempts, count(*) AS n FROM extraction GROUP BY attempts")
    assert attempts == [{"attempts": 1, "n": 12}]  # no clip was given out twice

    head, second = (node.node_id[:8] for node in (cluster.head_node, *cluster.worker_nodes))
    gpu = {
        place.rpartition(" ")[2]: clips
        for place, clips in report["places"].items()
        if place.startswith("GPU") and clips
    }
    cpu = {
        place.rpartition(" ")[2]: clips
        for place, clips in report["places"].items()
        if place.startswith("CPU") and clips
    }
    assert gpu == {second: 6}
    assert sum(cpu.values()) == 6
    assert set(cpu) <= {head, second}
    assert head in cpu
