"""The loader on a manifest made by hand: shares, ranks, workers, errors, reuse of memory."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from slf_store.diffusion.batch import Batch
from slf_store.errors import SelectionError, ShardError
from slf_store.query import loader as loader_module
from slf_store.query.attributes import Attributes
from slf_store.query.dataset import SnapshotDataset
from slf_store.query.layout import layout
from slf_store.query.loader import Loader
from slf_store.query.manifest import Located, Manifest
from slf_store.query.order import order, samples_at, shares
from slf_store.query.packed import Buffer, Rows
from slf_store.query.plain import assemble_plain
from slf_store.query.scaling import sum_by_halves
from slf_store.query.systems import system
from slf_store.shards.reader import read_values
from slf_store.shards.writer import seal_shard

CLIPS, SHARD = 23, 4
SHAPES = {
    "camplusplus": ((1, 192), "float16"),
    "pyannote": ((37, 512), "float16"),
    "mel": ((111, 128), "float32"),
    "target": ((128, 128, 3), "uint8"),
    "image_guide": ((8, 8, 3), "uint8"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """23 clips in shards of 4, in another order than the snapshot's; some have no camplusplus."""
    folder, rng = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    constituents = {}
    for name, (shape, kind) in SHAPES.items():
        dtype, paths = np.dtype(kind), []
        shard, row = np.full(CLIPS, -1, np.int32), np.zeros(CLIPS, np.int32)
        lacking = {3, 11, 12} if name == "camplusplus" else set()
        clips = np.array([clip for clip in rng.permutation(CLIPS) if clip not in lacking])
        for start in range(0, len(clips), SHARD):
            mine = clips[start : start + SHARD]
            drawn = (
                rng.normal(size=(len(mine), *shape)) * 3
                if dtype.kind == "f"
                else rng.integers(0, 256, (len(mine), *shape))
            )
            sealed = seal_shard(
                folder, constituent=name, version="v", spec={}, clip_ids=mine + 100, values=drawn.astype(dtype)
            )
            shard[mine], row[mine] = len(paths), np.arange(len(mine))
            paths.append(folder / sealed.path)
        constituents[name] = Located(name, "v", shape, dtype, tuple(paths), shard, row)
    people = [
        {"age": 30.5 if i % 3 else None, "gender": "fm"[i % 2], "ethnicity": None, "language": "Welsh"}
        for i in range(CLIPS)
    ]
    normalisation = {"mel": {"mean": rng.normal(size=128).tolist(), "std": (rng.random(128) + 0.5).tolist()}}
    ids = np.arange(CLIPS) + 100
    return Manifest(
        "by hand", "", layout("slf-256x768"), ids, Attributes.of(people), constituents, normalisation, "zero"
    )


def numbers(batch: Batch) -> tuple[bytes, ...]:
    tensors = (batch.conditioning, batch.mask, batch.guide, batch.target, torch.from_numpy(batch.clip_ids))
    return tuple(tensor.contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors if tensor is not None)


@settings(max_examples=60)
@given(
    n=st.integers(1, 50),
    epoch=st.integers(0, 3),
    worlds=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(0, 4)), max_size=4),
    rest=st.tuples(st.integers(1, 5), st.integers(1, 7)),
)
def test_a_training_may_change_ranks_and_batch_size_and_sees_every_sample_once(
    n: int, epoch: int, worlds: list[tuple[int, int, int]], rest: tuple[int, int]
) -> None:
    """Some steps with each of several numbers of ranks, then the rest of the epoch with yet another."""
    position, seen = epoch * n, list[int]()
    for world, batch_size, steps in worlds:
        ranks = [
            list(shares(position, steps * world * batch_size, batch_size=batch_size, rank=r, world=world))
            for r in range(world)
        ]
        assert all([count for _, count, _ in rank] == [batch_size] * steps for rank in ranks)
        for step in range(steps):
            seen += [i for rank in ranks for i in samples_at(rank[step][0], rank[step][1], seed=5, n=n).tolist()]
            position = ranks[0][step][2]
    left = -position % n  # to the end of the epoch
    world, batch_size = rest
    last = [list(shares(position, left, batch_size=batch_size, rank=r, world=world)) for r in range(world)]
    assert sum(count for rank in last for _, count, _ in rank) == left
    for rank in last:
        for first, count, _ in rank:
            seen += samples_at(first, count, seed=5, n=n).tolist()
    assert max(len(rank) for rank in last) - min(len(rank) for rank in last) <= 1
    assert sorted(seen) == sorted(list(range(n)) * (len(seen) // n))


def test_an_order_is_drawn_once_an_epoch() -> None:
    order.cache_clear()
    for position in range(0, 1000, 10):
        samples_at(position, 10, seed=1, n=500)
    assert order.cache_info().misses == 2


@given(st.integers(1, 70))
def test_numpy_and_torch_add_to_the_same_bits(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(3, n)).astype(np.float32)
    assert sum_by_halves(torch.from_numpy(values.copy())).numpy().tobytes() == sum_by_halves(values.copy()).tobytes()


@settings(max_examples=15)
@example([3, 0, 11], "camplusplus")
@example([12], "camplusplus")
@given(st.lists(st.integers(0, CLIPS - 1), min_size=1, max_size=40), st.sampled_from(sorted(SHAPES)))
def test_gathered_rows_are_those_of_h5py(made: Manifest, samples: list[int], name: str) -> None:
    located, wanted = made.constituents[name], np.array(samples)
    out = np.ones((len(samples), *located.shape), located.dtype)
    Rows(made, located).gather(wanted, Buffer(out))
    for value, i in zip(out, samples, strict=True):
        there = located.shard[i] >= 0
        stored = read_values(located.paths[located.shard[i]])[located.row[i]] if there else np.zeros_like(value)
        assert value.tobytes() == stored.tobytes()


@pytest.mark.parametrize("dtype", loader_module.DTYPES)
def test_dense_batches_are_plain_assembly_bit_for_bit(made: Manifest, dtype: str) -> None:
    loader = Loader(made, system("full-input"), batch_size=10, dtype=dtype)
    for _ in range(2):  # the second time in memory used before
        for batch in loader.once():
            for clip, matrix, mask in zip(batch.clip_ids, batch.conditioning, batch.mask, strict=True):
                expected, visible = assemble_plain(made, system("full-input"), int(clip) - 100)
                wanted = torch.from_numpy(expected).to(getattr(torch, dtype))
                assert torch.equal(matrix.view(torch.uint8), wanted.view(torch.uint8))
                assert mask.tolist() == visible.tolist()


def test_a_batch_that_is_kept_is_never_overwritten_and_others_take_no_new_memory(made: Manifest) -> None:
    loader = Loader(made, system("full-input"), batch_size=4)
    kept = [(batch, numbers(batch)) for batch in loader.batches(samples=40)]
    assert all(numbers(batch) == before for batch, before in kept)
    del kept
    gc.collect()
    places = {batch.conditioning.data_ptr() for batch in loader.batches(samples=200)}
    assert len(places) <= 2


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("workers", "how"), [(0, None), (3, "fork"), (2, "spawn")])
def test_batches_are_the_same_for_any_number_of_workers(made: Manifest, workers: int, how: str | None) -> None:
    wanted = [numbers(b) for b in Loader(made, system("full-input"), batch_size=4, seed=2).batches(7, 30)]
    dataset = SnapshotDataset(made, system("full-input"), batch_size=4, seed=2, position=7, samples=30)
    next(iter(dataset))  # shards are open in this process before it forks
    for _ in range(1 if how == "spawn" else 2):
        given = list(DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=how))
        assert [numbers(batch) for batch in given] == wanted
    assert [batch.position for batch in given] == [11, 15, 19, 23, 27, 31, 35, 37]


def test_writable_batches_may_be_changed_in_place(made: Manifest) -> None:
    wanted = [numbers(b) for b in Loader(made, system("no-speaker-embeddings"), batch_size=4).batches(0, 40)]
    for batch, expected in zip(
        Loader(made, system("no-speaker-embeddings"), batch_size=4, writable=True).batches(0, 40), wanted, strict=True
    ):
        assert numbers(batch) == expected
        batch.conditioning.add_(1)
        batch.target.add_(1)


def test_ranks_together_give_the_batches_of_one(made: Manifest) -> None:
    whole = [b.clip_ids.tolist() for b in Loader(made, system("full-input"), batch_size=6).batches(5, 40)]
    ranks = [
        [b.clip_ids.tolist() for b in Loader(made, system("full-input"), batch_size=2, rank=r, world=3).batches(5, 40)]
        for r in range(3)
    ]
    assert [list(chain(*step)) for step in zip(*ranks, strict=True)] == whole
    once = [
        b.clip_ids.tolist()
        for r in range(2)
        for b in Loader(made, system("full-input"), batch_size=4, rank=r, world=2).once()
    ]
    assert sorted(chain(*once)) == made.clip_ids.tolist()


def test_reading_ahead_changes_no_batch(made: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches() -> list[tuple[bytes, ...]]:
        return [numbers(b) for b in Loader(made, system("full-input"), batch_size=3).batches(0, 60)]

    told: list[int] = []
    ahead = Rows.will_need
    monkeypatch.setattr(Rows, "will_need", lambda self, samples: (told.append(len(samples)), ahead(self, samples))[1])
    monkeypatch.setattr(loader_module, "COLD", 0.0)
    warm = batches()
    assert told == []
    monkeypatch.setattr(loader_module, "COLD", float("inf"))
    assert batches() == warm
    assert len(told) == 20 * len(SHAPES)


def test_a_loader_can_be_sent_to_another_process_before_and_after_use(made: Manifest) -> None:
    loader = Loader(made, system("full-input"), batch_size=5)
    sent = [pickle.loads(pickle.dumps(loader))]
    first = [numbers(batch) for batch in loader.batches(samples=20)]
    sent.append(pickle.loads(pickle.dumps(loader)))
    for other in sent:
        assert [numbers(batch) for batch in other.batches(samples=20)] == first


def test_what_a_snapshot_must_not_lack_is_named(made: Manifest) -> None:
    from dataclasses import replace

    strict = replace(made, missing="error")
    with pytest.raises(ShardError, match=r"snapshot by hand, constituent camplusplus, clip 103: no value \(3 clips"):
        Loader(strict, system("full-input"), batch_size=2)
    Loader(strict, system("no-speaker-embeddings"), batch_size=2)


def short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def fewer_rows(path: Path) -> None:
    made = seal_shard(path.parents[2], constituent="mel", version="v", spec={}, clip_ids=np.arange(1),
                      values=np.zeros((1, 111, 128), np.float32))  # fmt: skip
    (path.parents[2] / made.path).rename(path)


@pytest.mark.parametrize(
    ("damage", "says"), [(Path.unlink, "cannot be read"), (short, "mel"), (fewer_rows, "not row 3")]
)
def test_a_damaged_shard_is_named_with_snapshot_constituent_and_clip(
    made: Manifest, damage: Callable[[Path], None], says: str
) -> None:
    path = made.constituents["mel"].paths[2]
    before = path.read_bytes()
    try:
        damage(path)
        with pytest.raises(ShardError, match=rf"snapshot by hand, constituent mel, clip 1\d\d: .*{says}"):
            list(Loader(made, system("full-input"), batch_size=7).once())
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"rank": 2, "world": 2}, {"dtype": "float64"}, {"threads": 0}], ids=str
)
def test_arguments_that_make_no_sense_are_refused(made: Manifest, wrong: dict[str, object]) -> None:
    with pytest.raises(SelectionError):
        Loader(made, system("full-input"), **{"batch_size": 2, **wrong})  # type: ignore[arg-type]
