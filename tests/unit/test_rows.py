"""Scattered rows read from a shard are those that h5py gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slf_store.errors import ShardError
from slf_store.shards import rows as reading
from slf_store.shards.reader import read_values
from slf_store.shards.rows import join_rows, read_rows
from slf_store.shards.writer import seal_shard

SHAPES = {"vector": ((500, 192), np.float16), "matrix": ((60, 79, 68), np.float16), "image": ((40, 8, 8, 3), np.uint8)}


@pytest.fixture(scope="module", params=SHAPES)
def shard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    shape, dtype = SHAPES[request.param]
    values = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    ids = np.arange(shape[0], dtype=np.int64)
    return folder / seal_shard(folder, constituent="x", version="v", spec={}, clip_ids=ids, values=values).path


@pytest.mark.parametrize("most", [reading.MOST, 5000])
@pytest.mark.parametrize("ahead", [reading.AHEAD, 2])
def test_scattered_rows_are_those_of_h5py(shard: Path, most: int, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST", most)
    monkeypatch.setattr(reading, "AHEAD", ahead)
    plain = read_values(shard)
    draw = np.random.default_rng(1)
    n = len(plain)
    for rows in (
        np.arange(n),
        draw.permutation(n),
        draw.integers(0, n, 2 * n),
        draw.choice(n, n // 10),
        np.array([n - 1]),
    ):
        positions = draw.permutation(len(rows) + 3)[: len(rows)]
        out, expected = (np.full((len(rows) + 3, *plain.shape[1:]), 7, plain.dtype) for _ in range(2))
        expected[positions] = plain[rows]
        read_rows(shard, rows.astype(np.int64), out, positions)
        assert out.tobytes() == expected.tobytes()


@given(st.lists(st.integers(0, 400), max_size=60), st.integers(1, 3 * reading.GAP))
def test_reads_cover_every_row_once_and_stay_small(wanted: list[int], size: int) -> None:
    rows = np.sort(np.array(wanted, np.int64))
    runs = list(zip(*(cuts.tolist() for cuts in join_rows(rows, size)), strict=True)) if wanted else []
    assert [i for start, stop in runs for i in range(start, stop)] == list(range(len(rows)))
    assert all((rows[stop - 1] - rows[start] + 1) * size <= reading.MOST for start, stop in runs)


def test_nothing_is_read_where_nothing_is_asked(shard: Path) -> None:
    values = read_values(shard)
    read_rows(shard, np.empty(0, np.int64), values[:0].copy(), np.empty(0, np.int64))


def test_other_values_and_rows_that_are_not_there_are_refused(shard: Path) -> None:
    values = read_values(shard)
    one = np.zeros(1, np.int64)
    with pytest.raises(ShardError, match="holds"):
        read_rows(shard, one, values.astype(np.float32), one)
    with pytest.raises(ShardError, match=f"has {len(values)} rows"):
        read_rows(shard, one + len(values), values.copy(), one)
    with pytest.raises(ShardError, match="cannot be read"):
        read_rows(shard.with_name("none.h5"), one, values.copy(), one)
