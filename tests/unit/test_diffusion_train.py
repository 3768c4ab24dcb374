"""Training: it learns, it resumes to the bit, and a kill never costs a checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slf_store.diffusion.batch import Batch
from slf_store.diffusion.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from slf_store.diffusion.config import DiffusionConfig, preset
from slf_store.diffusion.train import TrainLog, train_unet
from slf_store.errors import CheckpointError, ConfigError, TrainingDiverged

SIZE = 4
torch.set_num_threads(1)  # several threads wait for each other on a busy machine


def small(**training: object) -> DiffusionConfig:
    """The tiny preset made smaller still."""
    config = preset("tiny")
    return replace(
        config,
        unet1=replace(config.unet1, channels=(32, 32), cond_dim=32, latents=8, head_dim=16),
        unet2=replace(config.unet2, channels=(32, 32), blocks=(1, 1), attention=(False, False), cond_dim=32, latents=8),
        training1=replace(config.training1, warmup_samples=0, precision="fp32", **training),  # type: ignore[arg-type]
        training2=replace(config.training2, warmup_samples=0, precision="fp32", **training),  # type: ignore[arg-type]
    )


def toy(position: int, *, guide: bool = True, bad_from: int = 10**9) -> Iterator[Batch]:
    """Faces of one colour, told by row 58; endless, a pure function of the position."""
    while True:
        draws = torch.Generator().manual_seed(position)
        colour = torch.rand(SIZE, 3, generator=draws) * 1.6 - 0.8
        conditioning = torch.zeros(SIZE, 256, 768)
        conditioning[:, 58, :3] = colour * 2
        mask = torch.zeros(SIZE, 256, dtype=torch.bool)
        mask[:, 58] = True
        target = colour[:, :, None, None].expand(-1, -1, 128, 128).clone()
        if position >= bad_from:
            target[:] = float("nan")
        position += SIZE
        yield Batch(conditioning, mask, target[:, :, :8, :8] if guide else None, target, np.arange(SIZE), position)


def _same(a: Checkpoint, b: Checkpoint) -> bool:
    return a.samples_seen == b.samples_seen and all(
        getattr(a, part).keys() == getattr(b, part).keys()
        and all(torch.equal(tensor, getattr(b, part)[name]) for name, tensor in getattr(a, part).items())
        for part in ("weights", "ema", "optimiser")
    )


@pytest.mark.parametrize("which", [1, 2])
def test_a_stopped_and_resumed_run_ends_with_the_same_weights(which: int, tmp_path: Path) -> None:
    unet = 1 if which == 1 else 2
    config = small(decay_from=1.0)
    straight = train_unet(toy, config, unet, tmp_path / "straight", samples=6 * SIZE)
    train_unet(toy, config, unet, tmp_path / "parts", samples=3 * SIZE)
    parts = train_unet(toy, config, unet, tmp_path / "parts", samples=6 * SIZE)
    assert _same(straight, parts)
    assert _same(load_checkpoint(tmp_path / "parts", unet), parts)


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    a = train_unet(toy, small(), 1, tmp_path / "a", samples=SIZE)
    b = train_unet(toy, small(), 1, tmp_path / "b", samples=SIZE, seed=1)
    assert not _same(a, b)


def test_training_learns_from_the_voice_alone(tmp_path: Path) -> None:
    lines: list[TrainLog] = []
    config = small(condition_dropout=0.0, lr=3e-3, min_snr=5.0)
    train_unet(
        lambda position: toy(position, guide=False),
        replace(config, unet1=replace(config.unet1, prediction="v", residual=False)),
        1,
        tmp_path,
        samples=90 * SIZE,
        log_every_s=0.0,
        on_log=lines.append,
    )
    losses = [line.loss for line in lines]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:5])
    assert lines[-1].share == 1.0
    assert lines[-1].samples_seen == 90 * SIZE
    assert lines[-1].samples_per_s > 0
    assert 0 <= lines[-1].wait_share <= 1


def test_a_budget_in_minutes_ends(tmp_path: Path) -> None:
    began = time.monotonic()
    checkpoint = train_unet(toy, small(), 1, tmp_path, minutes=0.5 / 60)
    assert time.monotonic() - began < 20
    assert checkpoint.samples_seen > 0


def test_exactly_one_budget(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one budget"):
        train_unet(toy, small(), 1, tmp_path)
    with pytest.raises(ConfigError, match="one budget"):
        train_unet(toy, small(), 1, tmp_path, samples=1, minutes=1)


def test_batches_that_run_out_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ran out"):
        train_unet(lambda _position: [], small(), 1, tmp_path, samples=SIZE)


def test_broken_targets_never_reach_the_weights(tmp_path: Path) -> None:
    train_unet(toy, small(), 1, tmp_path, samples=SIZE)
    before = load_checkpoint(tmp_path, 1)
    with pytest.raises(TrainingDiverged, match="without a finite gradient"):
        train_unet(lambda p: toy(p, bad_from=0), small(), 1, tmp_path, samples=100 * SIZE)
    assert _same(before, load_checkpoint(tmp_path, 1))


def test_what_the_caller_says_is_kept(tmp_path: Path) -> None:
    train_unet(toy, small(), 1, tmp_path, samples=SIZE, extra={"snapshot": "abc"})
    train_unet(toy, small(), 1, tmp_path, samples=2 * SIZE, extra={"code": "1"})
    assert load_checkpoint(tmp_path, 1).extra == {"snapshot": "abc", "code": "1"}


def test_missing_cut_and_foreign_checkpoints_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path, 1)
    train_unet(toy, small(), 1, tmp_path, samples=SIZE)
    path = checkpoint_path(tmp_path, 1)
    whole = path.read_bytes()
    checkpoint_path(tmp_path, 2).write_bytes(whole)
    with pytest.raises(CheckpointError, match="not a checkpoint of U-Net 2"):
        load_checkpoint(tmp_path, 2)
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(tmp_path, 1)
    path.write_bytes(whole)
    other = small()
    other = replace(other, unet1=replace(other.unet1, prediction="v", residual=False))
    with pytest.raises(CheckpointError, match="another configuration"):
        train_unet(toy, other, 1, tmp_path, samples=2 * SIZE)


def test_sampling_needs_only_the_average(tmp_path: Path) -> None:
    checkpoint = train_unet(toy, small(), 1, tmp_path, samples=2 * SIZE)
    loaded = load_checkpoint(tmp_path, 1, parts=("ema",))
    assert not loaded.weights
    assert not loaded.optimiser
    state = loaded.unet().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in checkpoint.ema.items())


_SAVER = """
import sys, torch
from slf_store.diffusion.checkpoint import Checkpoint, save_checkpoint
from slf_store.diffusion.config import preset
n = 0
while True:
    n += 1
    tensors = {"w": torch.full((2_000_000,), float(n))}
    save_checkpoint(Checkpoint(preset("tiny"), 1, n, n, tensors, {"w": tensors["w"].clone()}), sys.argv[1])
    print(n, flush=True)
"""


def test_kill_while_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for delay in (0.0, 0.013, 0.031):
        with subprocess.Popen(
            [sys.executable, "-c", _SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
        ) as saver:
            assert saver.stdout is not None
            saver.stdout.readline()
            time.sleep(delay)
            saver.send_signal(signal.SIGKILL)
        loaded = load_checkpoint(tmp_path, 1)
        n = float(loaded.samples_seen)
        assert all(bool((tensor == n).all()) for tensor in (loaded.weights["w"], loaded.ema["w"]))
    save_checkpoint(loaded, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["unet1.safetensors"]
