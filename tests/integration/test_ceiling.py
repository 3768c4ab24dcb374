"""An extractor that breaks: the job stops with its first stack trace, holds nothing, and goes on once repaired."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from slf_store.constituents import registry
from slf_store.errors import ExtractorBroken
from slf_store.jobs.extract import ChunkReport, LoadedExtractors, extract_chunk
from slf_store.jobs.pool import drain
from slf_store.store import Store

pytestmark = pytest.mark.integration

CLIPS = 320
"""More than the ceiling looks back on."""

PLUGIN = '''
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from slf_store.constituents.extractor import Extractor
from slf_store.errors import ClipError


@dataclass(eq=False)
class Steady(Extractor):
    """The number of the clip: (1, 1) float32. Reads no file."""

    name = "steady"
    profiles = frozenset()

    @cached_property
    def spec(self):
        return self.declare("array", (1, 1), "float32", unit="number", paper="none")

    def extract(self, clip):
        return np.array([[int(clip.key.rpartition("/")[2])]], np.float32)


@dataclass(eq=False)
class Fussy(Steady):
    """The same, but every n-th clip breaks it, or is refused, from a first one on."""

    name = "fussy"
    every: int = 4
    first: int = 0
    refuses: bool = False

    def extract(self, clip):
        number = int(clip.key.rpartition("/")[2])
        if number >= self.first and number % self.every == 0:
            if self.refuses:
                raise ClipError("refused", f"clip {number} is not liked")
            raise ZeroDivisionError(f"clip {number} divides by nothing")
        return super().extract(clip)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """An installed package with two extractors, as any other process finds it."""
    folder = tmp_path / "plugin"
    (folder / "fussy-1.0.dist-info").mkdir(parents=True)
    (folder / "fussy.py").write_text(PLUGIN)
    (folder / "fussy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fussy\nVersion: 1.0\n")
    (folder / "fussy-1.0.dist-info" / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINTS}]\nsteady = fussy:Steady\nfussy = fussy:Fussy\n"
    )
    return folder


@pytest.fixture
def job(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ChunkReport]]:
    """Extracts constituents in this process, with parameters for `fussy`."""
    (tmp_path / "fussy.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("fussy")
    monkeypatch.setattr(registry, "BUILT_IN", (module.Fussy, module.Steady))
    monkeypatch.setattr(store.settings, "chunk_size", 16)
    add_clips(store)

    def run(*only: str, retry_failed: bool = False, **parameters: Any) -> ChunkReport:
        store.settings.parameters["fussy"] = parameters
        loaded = LoadedExtractors(store, only)

        def run_chunks(count: int) -> Iterator[dict[str, Any]]:
            return (asdict(extract_chunk(store, loaded)) for _ in range(count))

        return drain(store, only, run_chunks, retry_failed=retry_failed)

    yield run
    sys.modules.pop("fussy")


def add_clips(store: Store) -> None:
    """Clips whose files nobody opens."""
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"""
            INSERT INTO source (name, root, layout) VALUES ('made up', '/nowhere', 'folder');
            INSERT INTO identity (source_id, name) SELECT id, 'nobody' FROM source;
            INSERT INTO video (identity_id, split, name) SELECT id, 'dev', 'video' FROM identity;
            INSERT INTO clip (video_id, name, path, state, file_bytes, file_mtime_ns)
            SELECT video.id, number, number, 'ok', 0, 0 FROM video, generate_series(1, {CLIPS}) AS number;
        """)


def states(store: Store, constituent: str = "fussy") -> dict[str, int]:
    rows = store.query(
        """
        SELECT state, count(*) AS clips FROM extraction
        JOIN constituent ON constituent.id = constituent_id WHERE name = :name GROUP BY state
        """,
        name=constituent,
    )
    return {row["state"]: row["clips"] for row in rows}


def test_too_many_unexpected_errors_stop_the_job_with_the_first_stack_trace(
    store: Store, job: Callable[..., ChunkReport]
) -> None:
    with pytest.raises(ExtractorBroken) as stopped:
        job("fussy", every=4)
    message = str(stopped.value)
    assert "fussy failed unexpectedly on 50 of the last 200 clips" in message
    assert "ZeroDivisionError: clip 4 divides by nothing" in message
    assert 'fussy.py", line' in message
    assert "slf extract --only fussy --retry-failed" in message
    assert states(store) == {"done": 156, "failed": 52, "pending": CLIPS - 208}


def test_below_the_ceiling_the_job_goes_on(store: Store, job: Callable[..., ChunkReport]) -> None:
    report = job("fussy", every=5)  # 20 % is the ceiling, not above it
    assert (report.done, report.failed, report.reasons) == ({"fussy": 256}, {"fussy": 64}, {"unexpected": 64})
    assert states(store) == {"done": 256, "failed": 64}
    codes = store.query("SELECT DISTINCT error_code FROM extraction WHERE state = 'failed'")
    assert codes == [{"error_code": "unexpected"}]


def test_errors_about_clips_never_stop_a_job(store: Store, job: Callable[..., ChunkReport]) -> None:
    report = job("fussy", every=1, refuses=True)
    assert (report.reasons, report.first_unexpected) == ({"refused": CLIPS}, {})
    assert states(store) == {"failed": CLIPS}


def test_good_constituents_beside_it_do_not_hide_a_broken_one(store: Store, job: Callable[..., ChunkReport]) -> None:
    with pytest.raises(ExtractorBroken, match="fussy failed unexpectedly on 50"):
        job("fussy", "steady", every=4)
    assert states(store, "steady") == {"done": 208, "pending": CLIPS - 208}


def test_an_extractor_that_breaks_after_many_good_clips_is_stopped_soon(
    store: Store, job: Callable[..., ChunkReport]
) -> None:
    with pytest.raises(ExtractorBroken, match=r"on 4[1-9] of the last 200 clips; the first time:\n(?s:.*)clip 240"):
        job("fussy", every=1, first=240)
    assert states(store)["pending"] > 0


def test_after_the_repair_the_job_goes_on(
    store: Store, job: Callable[..., ChunkReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExtractorBroken):
        job("fussy", every=4)
    module = sys.modules["fussy"]
    monkeypatch.setattr(module.Fussy, "extract", module.Steady.extract)
    assert job("fussy", every=4, retry_failed=True).done == {"fussy": CLIPS - 156}
    assert states(store) == {"done": CLIPS}


@pytest.mark.parametrize("runner", [(), ("--direct",)], ids=["Prefect", "process pool"])
def test_pools_of_processes_stop_too_and_lease_nothing(
    store: Store, plugin: Path, tmp_path: Path, runner: tuple[str, ...]
) -> None:
    add_clips(store)

    environment = {
        **os.environ,
        "PYTHONPATH": str(plugin),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "SLF_WORKERS": "2",
        "SLF_CHUNK_SIZE": "20",
    }
    command = [Path(sys.executable).with_name("slf"), "extract", "--only", "fussy", *runner]
    stopped = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert stopped.returncode == 1, stopped.stderr
    assert "fussy failed unexpectedly on 50 of the last 200 clips" in stopped.stderr
    assert "divides by nothing" in stopped.stderr
    after = states(store)
    assert "leased" not in after
    assert 200 <= after["done"] + after["failed"] < CLIPS  # chunks in flight were finished, the rest was left
    assert after["pending"] == CLIPS - after["done"] - after["failed"]
