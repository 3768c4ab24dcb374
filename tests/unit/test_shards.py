"""Shards: whole under their name or not there, mapped = read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slf_store.errors import ShardError
from slf_store.shards import writer
from slf_store.shards.checksum import file_checksum
from slf_store.shards.reader import map_values, read_clip_ids, read_shard, read_values
from slf_store.shards.writer import SealedShard, seal_shard


def seal(folder: Path, values: np.ndarray) -> SealedShard:
    ids = np.arange(len(values)) + 7
    return seal_shard(folder, constituent="mel", version="v", spec={"a": 1}, clip_ids=ids, values=values)


@settings(deadline=None)  # a disk takes its time
@given(
    n=st.integers(1, 5),
    shape=st.lists(st.integers(1, 4), max_size=3),
    dtype=st.sampled_from(["float16", "float32", "uint8", ">f4"]),
)
def test_what_is_written_is_read_and_mapped(
    tmp_path_factory: pytest.TempPathFactory, n: int, shape: list[int], dtype: str
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    values = np.random.default_rng(0).normal(0, 50, (n, *shape)).astype(dtype)
    sealed = seal(folder, values)
    path = folder / sealed.path
    np.testing.assert_array_equal(map_values(path), values)
    assert map_values(path).tobytes() == read_values(path).tobytes()
    assert read_clip_ids(path).tolist() == [i + 7 for i in range(n)]
    assert (sealed.rows, sealed.bytes, sealed.checksum) == (n, path.stat().st_size, file_checksum(path))


def test_a_whole_shard_is_read_with_what_it_says_of_itself(tmp_path: Path) -> None:
    values = np.ones((2, 3, 1), np.float16)
    ids, lengths = np.array([5, 9]), np.array([1, 3], np.int32)
    named = {"constituent": "pitch", "version": "v2", "spec": {"a": [1]}}
    sealed = seal_shard(tmp_path, **named, clip_ids=ids, values=values, lengths=lengths)
    found = read_shard(tmp_path / sealed.path)
    assert {"constituent": found.constituent, "version": found.version, "spec": found.spec} == named
    assert found.lengths is not None
    assert (found.clip_ids.tolist(), found.lengths.tolist()) == (ids.tolist(), lengths.tolist())
    np.testing.assert_array_equal(found.values, values)
    assert read_shard(tmp_path / seal(tmp_path, values).path).lengths is None
    with pytest.raises(ShardError, match="cannot be read"):
        read_shard(tmp_path / "none.h5")


def test_nothing_half_written_stays_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "file_checksum", full)
    with pytest.raises(ShardError, match="No space left"):
        seal(tmp_path, np.zeros((1, 2)))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_clips_and_values_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="2 clips for 1 values"):
        seal_shard(tmp_path, constituent="m", version="v", spec={}, clip_ids=np.arange(2), values=np.zeros((1, 2)))


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    path = tmp_path / seal(tmp_path, np.ones((4, 100), np.float32)).path
    whole = path.read_bytes()
    for damaged in (b"", b"no hdf5", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ShardError, match="cannot be read"):
            map_values(path)
    with pytest.raises(ShardError, match="cannot be read"):
        map_values(tmp_path / "none.h5")


@pytest.mark.parametrize("step", ["fsync", "rename", "folder"])
def test_a_step_of_sealing_that_fails_leaves_no_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    place = {"fsync": (writer.os, "fsync"), "rename": (Path, "rename"), "folder": (writer, "flush")}
    monkeypatch.setattr(*place[step], full)
    with pytest.raises(ShardError, match="the disk is full"):
        seal(tmp_path, np.zeros((1, 2)))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_shard_is_on_disk_before_it_has_its_name_and_its_name_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = writer.os.fsync, Path.rename

    def note_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(path.name if path.is_dir() else f"file of {path.stat().st_size} bytes")
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(writer.os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    sealed = seal(tmp_path, np.ones((2, 3), np.float16))
    assert steps == [f"file of {sealed.bytes} bytes", "rename", "v", "mel", tmp_path.name]
