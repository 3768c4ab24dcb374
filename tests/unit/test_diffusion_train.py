"""Training: it learns, it resumes to the bit, and a kill never costs a checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slf_store.diffusion.batch import Batch
from slf_store.diffusion.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from slf_store.diffusion.config import DiffusionConfig, preset
from slf_store.diffusion.objective import Objective
from slf_store.diffusion.ranks import own_rank
from slf_store.diffusion.retention import Saved
from slf_store.diffusion.schedule import NoiseSchedule
from slf_store.diffusion.train import TrainLog, train_unet
from slf_store.diffusion.validation import LEVELS, Validation, validate
from slf_store.errors import CheckpointError, ConfigError, TrainingDiverged

SIZE = 4
pytestmark = pytest.mark.usefixtures("one_thread")


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


def toy(position: int, *, guide: bool = True, bad_from: int = 10**9, world: int = 1) -> Iterator[Batch]:
    """Faces of one colour, told by row 58; endless, a pure function of the position. Of several ranks, own share."""
    each = SIZE // world
    for batch in _steps(position, guide=guide, bad_from=bad_from):
        yield batch.part(own_rank() * each, each)


def _steps(position: int, *, guide: bool, bad_from: int) -> Iterator[Batch]:
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


@pytest.mark.parametrize("which", [1, 2])
def test_micro_batches_give_the_weights_of_the_whole_batch(which: Any, tmp_path: Path) -> None:
    whole = train_unet(toy, small(clip_norm=1.0), which, tmp_path / "whole", samples=4 * SIZE)
    parts = train_unet(toy, small(clip_norm=1.0, micro_batch=3), which, tmp_path / "parts", samples=4 * SIZE)
    assert_close(whole, parts)
    assert not _same(whole, parts)  # it did go another way


def assert_close(a: Checkpoint, b: Checkpoint) -> None:
    """The same training within rounding: far closer than one more step would bring them apart."""
    assert (a.samples_seen, a.steps) == (b.samples_seen, b.steps)
    for name, tensor in a.weights.items():
        torch.testing.assert_close(tensor, b.weights[name], rtol=1e-3, atol=2e-5)


def held() -> list[Batch]:
    return list(islice(toy(10_000), 2))


def test_validation_repeats_itself_and_changes_nothing(tmp_path: Path) -> None:
    lines: list[TrainLog] = []
    plain = train_unet(toy, small(), 1, tmp_path / "plain", samples=6 * SIZE)
    looked = train_unet(
        toy, small(), 1, tmp_path / "r", samples=6 * SIZE, validation=held, validate_every=2 * SIZE, on_log=lines.append
    )
    assert _same(plain, looked)
    seen = [(line.samples_seen, line.validation) for line in lines if line.validation]
    assert [samples for samples, _ in seen] == [8, 16, 24]
    losses = [found.loss for _, found in seen]
    assert losses[0] > losses[-1]
    last = seen[-1][1]
    assert len(last.levels) == LEVELS
    assert last.levels[0] > last.levels[-1] > 0  # min-SNR weighs where there is signal
    assert last.loss == pytest.approx(np.mean(last.levels))

    unet = looked.unet()
    objective = Objective(unet, NoiseSchedule(unet.config), small().training1)
    assert validate(objective, held(), "cpu") == last
    ones = [batch.part(i, 1) for batch in held() for i in range(SIZE)]
    assert validate(objective, ones, "cpu").levels == pytest.approx(last.levels, rel=1e-5)
    grid = np.asarray(Image.open(tmp_path / "r" / "grids" / "unet1-000000024.png"))
    assert grid.shape == (3 * 128, 2 * SIZE * 128, 3)
    real = grid[2 * 128 + 64, 64].astype(float) / 127.5 - 1
    np.testing.assert_allclose(real, held()[0].target[0, :, 64, 64].numpy(), atol=0.01)


def test_the_last_some_earlier_and_the_best_checkpoint_stay(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, 2.0, 2.5])
    saved: list[Saved] = []
    config = small()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slf_store.diffusion.train.validate", lambda *_: Validation(next(losses), (0.0,)))
        train_unet(
            toy, config, 1, tmp_path, samples=4 * SIZE, validation=held, validate_every=SIZE, keep=3,
            checkpoint_every_s=0.0, on_checkpoint=saved.append,
        )  # fmt: skip
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    numbered = ["unet1-000000008.safetensors", "unet1-000000012.safetensors"]
    assert files == [*numbered, "unet1-best.safetensors", "unet1.safetensors"]
    assert [load_checkpoint(tmp_path, 1, role).samples_seen for role in ("last", "best")] == [16, 8]
    assert (tmp_path / "unet1-best.safetensors").samefile(tmp_path / files[0])  # a link, no copy
    assert [one.is_best for one in saved] == [True, True, False, False]
    assert sorted(saved[-1].earlier) == [8, 12]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    text = (tmp_path / "README.md").read_text()
    assert "| 1 | 16 | 4 |" in text
    assert "| 1 | 8 |" in text  # lowest validation loss, and where
    assert "identify no strangers" in text
    train_unet(toy, config, 1, tmp_path, samples=5 * SIZE)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == ["unet1-best.safetensors", "unet1.safetensors"]


_TRAINER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_diffusion_train import SIZE, small, toy
from slf_store.diffusion.train import train_unet
def slow(position):
    for batch in toy(position):
        time.sleep(float(sys.argv[4]))
        yield batch
lines = []
def tell(line):
    lines.append(line.loss)
    print(line.samples_seen, line.loss, flush=True)
micro = int(sys.argv[3])
train_unet(slow if micro else lambda p: toy(p, world=2), small(clip_norm=1.0, micro_batch=micro), 1, sys.argv[2],
           samples=8 * SIZE, checkpoint_every_s=0.0, log_every_s=0.0, on_log=tell)
"""


def _trainer(*command: str, folder: Path, micro: int, pause: float) -> list[str]:
    arguments = [str(Path(__file__).parent), str(folder), str(micro), str(pause)]
    return [sys.executable, *command, *arguments]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_that_is_killed_goes_on_to_the_same_bits(number: int, tmp_path: Path) -> None:
    config = small(clip_norm=1.0, micro_batch=3)
    command = _trainer("-c", _TRAINER, folder=tmp_path / "killed", micro=3, pause=0.3)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as trainer:
        assert trainer.stdout is not None
        trainer.stdout.readline()
        told = trainer.stdout.readline()
        trainer.send_signal(number)
        trainer.stdout.read()
    assert trainer.returncode == -number
    stopped = load_checkpoint(tmp_path / "killed", 1)
    assert int(told.split()[0]) - SIZE <= stopped.samples_seen < 8 * SIZE
    resumed = train_unet(toy, config, 1, tmp_path / "killed", samples=8 * SIZE)
    assert _same(resumed, train_unet(toy, config, 1, tmp_path / "undisturbed", samples=8 * SIZE))


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(_TRAINER)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))
    done = subprocess.run(
        _trainer(*launch, folder=tmp_path / "two", micro=0, pause=0),
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = [line.split() for line in done.stdout.splitlines()]
    lines: list[TrainLog] = []
    one = train_unet(
        toy, small(clip_norm=1.0), 1, tmp_path / "one", samples=8 * SIZE, log_every_s=0.0, on_log=lines.append
    )
    assert [int(samples) for samples, _ in two] == [line.samples_seen for line in lines]
    assert [float(loss) for _, loss in two] == pytest.approx([line.loss for line in lines], rel=1e-4)
    assert_close(one, load_checkpoint(tmp_path / "two", 1))


def test_unequal_shares_of_a_step_are_refused(tmp_path: Path) -> None:
    def uneven(position: int) -> Iterator[Batch]:
        for batch in toy(position):
            yield batch.part(0, 3)  # of 4 samples seen

    with pytest.raises(ConfigError, match="a step of 4 samples, of which rank 0 of 1 has 3"):
        train_unet(uneven, small(), 1, tmp_path, samples=SIZE)


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
