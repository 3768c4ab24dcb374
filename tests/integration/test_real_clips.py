"""Real clips, where they are at hand: `../shared/data`, or the folder SLF_TEST_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slf_store.dataset.metadata import read_metadata
from slf_store.jobs.coverage import coverage_reasons
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.store import Store

pytestmark = pytest.mark.integration

DATA = Path(os.environ.get("SLF_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def real_data(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"no real data at {DATA / name} (set SLF_TEST_DATA)")
    return DATA / name


def test_the_published_metadata_is_read() -> None:
    meta = real_data("meta")
    published, variant = read_metadata(meta / "vox2_meta.csv"), read_metadata(meta / "vox2_meta_lf_variant.csv")
    assert len(published) == len(variant) == 6114
    assert {m.gender for m in published.values()} == {"f", "m"}
    assert {k: m.gender for k, m in published.items()} == {k: m.gender for k, m in variant.items()}
    assert read_metadata(meta / "vox1_meta.csv")["id10001"].row["Nationality"] == "Ireland"


def test_moving_real_clips_go_through_extraction(store: Store) -> None:
    report = ingest(store, real_data("voxreal") / "test")
    assert report.found == report.new > 0
    assert extract(store).reasons == {}
    faces = store.query("SELECT max(faces_in_frame) AS most FROM face")[0]["most"]
    assert faces >= 1


def test_clips_without_audio_say_so(store: Store) -> None:
    ingest(store, real_data("edge"))
    extract(store, ["camplusplus", "image_guide"])
    assert [(r["constituent"], r["reason"], r["clips"]) for r in coverage_reasons(store)] == [
        ("camplusplus", "no_audio", 3)
    ]
