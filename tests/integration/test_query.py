"""Selection, snapshot and loader on a real store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slf_store.errors import SelectionError, ShardError
from slf_store.jobs.compact import compact
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.query import locations
from slf_store.query import manifest as manifest_module
from slf_store.query.loader import Loader
from slf_store.query.manifest import Manifest, open_snapshot
from slf_store.query.plain import assemble_plain
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.query.systems import SYSTEMS, system
from slf_store.shards.reader import map_values, read_values
from slf_store.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def manifest(extracted: Store) -> Manifest:
    freeze(extracted, select(extracted, "split = 'dev'"), "loader tests", validation=0.3, seed=1)
    return open_snapshot(extracted, "loader tests")


def test_a_selection_counts_before_it_freezes(extracted: Store) -> None:
    chosen = select(extracted, "split = 'dev' AND duration_s > 1")
    assert (chosen.counts["clips"], chosen.counts["identities"], chosen.counts["synthetic"]) == (12, 6, 12)
    inputs = ("target", "image_guide", "camplusplus", "resemblyzer", "pyaudioanalysis", "mel")
    assert chosen.lacking == dict.fromkeys(inputs, 0)
    assert "ecapa" in chosen.unavailable
    assert select(extracted, "split = 'test'", per_identity=1).counts["clips"] == 3


@pytest.mark.parametrize("predicate", ["no_such_column = 1", "true; DROP TABLE clip", "true) OR (", "identity ="])
def test_a_bad_predicate_is_one_clear_error(extracted: Store, predicate: str) -> None:
    with pytest.raises(SelectionError, match="predicate"):
        select(extracted, predicate)


def test_a_predicate_that_fits_nothing_is_said(extracted: Store) -> None:
    with pytest.raises(SelectionError, match="no clip fits"):
        select(extracted, "duration_s > 1000")


def test_missing_constituents_are_refused_skipped_or_masked(store: Store, sample: Path) -> None:
    ingest(store, sample / "test")
    extract(store, ["target", "image_guide", "camplusplus"])
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE extraction SET state = 'failed', error_code = 'test' WHERE shard_row = 0 AND constituent_id IN"
            " (SELECT id FROM constituent WHERE name = 'camplusplus')"
        )
    lost = store.query("SELECT count(*) AS n FROM extraction WHERE state = 'failed'")[0]["n"]
    assert lost >= 1
    with pytest.raises(SelectionError, match=f"camplusplus {lost}"):
        freeze(store, select(store), "refused")
    skipped, zeroed = select(store, missing="skip"), select(store, missing="zero")
    assert (skipped.counts["clips"], skipped.skipped) == (6 - lost, lost)
    assert (zeroed.counts["clips"], zeroed.skipped) == (6, 0)
    freeze(store, zeroed, "zeroed")
    (batch,) = Loader(open_snapshot(store, "zeroed"), system("speaker-embeddings-only"), batch_size=6).once()
    assert int(batch.mask.any(1).sum()) == 6 - lost
    assert not batch.conditioning[~batch.mask.any(1)].any()


def test_the_same_data_and_selection_give_the_same_hash_on_another_store(
    extracted: Store, store: Store, sample: Path
) -> None:
    ingest(store, sample, name="another name")
    extract(store, [row["name"] for row in extracted.query("SELECT name FROM constituent WHERE status = 'active'")])
    frozen = [freeze(s, select(s, "split = 'dev'"), "hashed", validation=0.2, seed=3) for s in (extracted, store)]
    assert frozen[0].hash == frozen[1].hash
    assert freeze(store, select(store, "split = 'dev'"), "other split", validation=0.2, seed=4).hash != frozen[0].hash
    with pytest.raises(SelectionError, match="already"):
        freeze(store, select(store), "hashed")


def test_parts_share_no_identity(extracted: Store, manifest: Manifest) -> None:
    rows = extracted.query(
        """SELECT part, identity FROM snapshot_clip
           JOIN snapshot ON snapshot.id = snapshot_id JOIN clips USING (clip_id) WHERE snapshot.name = 'loader tests'"""
    )
    parts = [{r["identity"] for r in rows if r["part"] == part} for part in ("train", "validation")]
    assert parts[0].isdisjoint(parts[1])
    assert all(parts)
    assert len(open_snapshot(extracted, "loader tests", "validation")) == 2 * len(parts[1])


def test_mapped_shards_give_the_same_bytes_as_h5py(manifest: Manifest) -> None:
    for located in manifest.constituents.values():
        for path in located.paths:
            assert map_values(path).tobytes() == read_values(path).tobytes()


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_loader_equals_plain_assembly(manifest: Manifest, name: str) -> None:
    chosen = system(name)
    seen = 0
    for batch in Loader(manifest, chosen, batch_size=5).once():
        for clip, matrix, mask in zip(batch.clip_ids, batch.conditioning, batch.mask, strict=True):
            expected, visible = assemble_plain(manifest, chosen, int(np.flatnonzero(manifest.clip_ids == clip)[0]))
            assert mask.numpy().tolist() == visible.tolist()
            assert matrix.numpy().tobytes() == expected.tobytes()
            seen += 1
        assert (batch.guide is not None) == chosen.guide
    assert seen == len(manifest)


def test_resuming_is_one_number_and_ranks_share_each_step(manifest: Manifest) -> None:
    def take(batches: object, count: int) -> list[list[int]]:
        taken = [next(batches).clip_ids.tolist() for _ in range(count)]  # type: ignore[call-overload]
        batches.close()  # type: ignore[attr-defined]
        return taken

    whole = take(Loader(manifest, system("full-input"), batch_size=4, seed=7).batches(), 8)
    resumed = take(Loader(manifest, system("full-input"), batch_size=4, seed=7).batches(12), 5)
    assert whole[3:] == resumed
    ranks = [
        take(Loader(manifest, system("full-input"), batch_size=2, seed=7, rank=r, world=2).batches(), 8) for r in (0, 1)
    ]
    assert [a + b for a, b in zip(*ranks, strict=True)] == whole
    assert sorted(clip for batch in whole[:3] for clip in batch) == sorted(manifest.clip_ids.tolist())


def test_places_of_a_large_snapshot_are_kept_until_something_moves(
    kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is used while nothing changes, and never after a compaction, a failure or damage to it."""
    plain = open_snapshot(kept, "kept")
    folder = kept.settings.home / "cache" / "locations"
    assert not folder.exists()
    monkeypatch.setattr(locations, "WORTH_KEEPING", 1)
    asked: list[int] = []
    ask = manifest_module.require_unchanged
    monkeypatch.setattr(
        manifest_module, "require_unchanged", lambda *given, **more: (asked.append(1), ask(*given, **more))[1]
    )

    def opened() -> tuple[bool, list[bytes]]:
        asked.clear()
        found = replace(open_snapshot(kept, "kept"), missing="zero")
        (batch,) = Loader(found, system("full-input"), batch_size=6).once()
        return bool(asked), [batch.conditioning.numpy().tobytes(), batch.target.numpy().tobytes()]

    first, again = opened(), opened()
    wanted = first[1]
    assert (first[0], again) == (True, (False, wanted))
    assert [str(replace(at, heads=())) for at in open_snapshot(kept, "kept").constituents.values()] == [
        str(at) for at in plain.constituents.values()
    ]
    freeze(kept, select(kept, "split = 'dev'", missing="zero"), "frozen now")
    asked.clear()
    assert (len(open_snapshot(kept, "frozen now")) > 0, asked) == (True, [])  # freezing has left its places behind
    compact(kept, target_rows=100)
    assert [opened(), opened()] == [(True, wanted), (False, wanted)]
    (file,) = folder.glob(f"{plain.hash}-all.npz")
    file.write_bytes(file.read_bytes()[:-200])
    assert opened() == (True, wanted)
    with kept.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE extraction SET state = 'failed', error_code = 'test' WHERE constituent_id IN"
            " (SELECT id FROM constituent WHERE name NOT IN ('target', 'image_guide'))"
        )
    with pytest.raises(ShardError, match="no longer matches the store"):
        opened()


def test_a_lost_shard_is_named_with_snapshot_constituent_and_clip(store: Store, sample: Path) -> None:
    ingest(store, sample / "test")
    extract(store, ["target", "image_guide", "mel"])
    freeze(store, select(store), "torn")
    manifest = open_snapshot(store, "torn")
    path = manifest.constituents["mel"].paths[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ShardError, match=r"snapshot torn, constituent mel, clip \d+"):
        list(Loader(manifest, system("full-input"), batch_size=6).once())
