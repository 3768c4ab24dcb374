"""Preset `base`: crops line up, a schedule that ends without signal, bf16 and compiled networks that stay the same."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slf_store.diffusion.batch import Batch
from slf_store.diffusion.config import DiffusionConfig, TrainingConfig, UnetConfig, preset
from slf_store.diffusion.crop import Crop, draw_crop
from slf_store.diffusion.sample import SampleNoise, sample_unet
from slf_store.diffusion.schedule import NoiseSchedule
from slf_store.diffusion.train import TrainLog, train_unet
from slf_store.diffusion.unet import SlfUnet, compiler_works, resize
from slf_store.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = UnetConfig(
    size=32, low_size=8, channels=(32, 32), blocks=(1, 1), attention=(False, True), network="published", cond_dim=32,
    latents=4, prediction="v", zero_terminal=True, steps=6,
)  # fmt: skip


def _small(**changes: Any) -> SlfUnet:
    """A small network of the published layout whose last layer is not zero."""
    torch.manual_seed(0)
    unet = SlfUnet(replace(SMALL, **changes))
    torch.nn.init.normal_(unet.unet.conv_out.weight, std=0.05)
    return unet


def _ramps(n: int) -> torch.Tensor:
    """(n, 3, 128, 128) images that are linear in each direction: shrinking and enlarging keeps their inside."""
    slope = torch.linspace(-0.7, 0.7, 128)
    steep = torch.tensor([[0.2, 0.8, -0.5], [-0.9, 0.1, 0.6]])[:, None, :, None, None]
    return (steep[0] * slope[:, None] + steep[1] * slope).expand(n, 3, 128, 128).clone()


class CopyLow(torch.nn.Module):
    """A network that gives back the low image it was shown."""

    def forward(self, inputs: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor]:
        return (inputs[:, 3:],)


@pytest.mark.parametrize("residual", [True, False])
def test_a_crop_is_to_the_pixel_what_the_whole_would_have_been(residual: bool) -> None:
    config = preset("tiny").unet2 if residual else replace(SMALL, size=128, low_size=32)
    unet = SlfUnet(config).eval()
    if not residual:
        unet.unet = CopyLow()
    draws = torch.Generator().manual_seed(0)
    low, noisy = torch.rand(5, 3, 32, 32, generator=draws), torch.randn(5, 3, 128, 128, generator=draws)
    low[4] = float("nan")
    crop = draw_crop(config, 64, 5, draws)
    assert crop is not None
    assert len(set(crop.top.tolist())) > 1
    with torch.inference_mode():
        condition = unet.encode(torch.zeros(5, 256, 768), torch.zeros(5, 256, dtype=torch.bool))
        t = torch.full((5,), 300)
        whole = unet.denoise(noisy, t, condition, low)
        part = unet.denoise(crop.cut(noisy), t, condition, low, crop=crop)
    for i in range(5):
        top, left = int(crop.top[i]), int(crop.left[i])
        assert torch.equal(part[i], whole[i, :, top : top + 64, left : left + 64])


def test_crops_lie_on_the_grid_of_the_low_image_and_reach_every_place() -> None:
    crop = draw_crop(preset("base").unet2, 64, 4000, torch.Generator().manual_seed(0))
    assert crop is not None
    assert sorted(set(crop.top.tolist())) == sorted(set(crop.left.tolist())) == list(range(0, 65, 4))
    assert not torch.equal(crop.top, crop.left)
    image = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    assert torch.equal(Crop(torch.zeros(2).long(), torch.zeros(2).long(), 128, 128).cut(image), image)


@pytest.mark.parametrize("side", [0, 128])
def test_a_crop_of_everything_is_no_crop_and_draws_nothing(side: int) -> None:
    draws = torch.Generator().manual_seed(0)
    before = draws.get_state()
    assert draw_crop(preset("base").unet2, side, 4, draws) is None
    assert torch.equal(before, draws.get_state())


def test_training_shows_image_and_low_image_of_the_same_square(tmp_path: Path) -> None:
    """An untrained `tiny` U-Net 2 enlarges its low image; on ramps that is the answer wherever the square lies."""
    tiny, losses = preset("tiny"), {}
    for crop in (0, 64):
        config = replace(
            tiny,
            unet2=replace(tiny.unet2, channels=(32,), blocks=(1,), attention=(False,), augment_max=0.0),
            training2=replace(tiny.training2, crop=crop, min_snr=0.0, lr=0.0),
        )
        image, lines = _ramps(4), list[TrainLog]()
        batch = Batch(torch.zeros(4, 256, 768), torch.zeros(4, 256).bool(), None, image, np.arange(4), 4)
        train_unet(
            lambda _, batch=batch: [batch],
            config,
            2,
            tmp_path / str(crop),
            samples=4,
            log_every_s=0,
            on_log=lines.append,
        )
        losses[crop] = lines[0].loss
    assert losses[64] < 1e-4
    assert losses[64] <= losses[0] * 1.5


@pytest.mark.parametrize("crop", [-64, 4, 60, 192])
def test_crops_that_cannot_be_are_refused(crop: int) -> None:
    base = preset("base")
    with pytest.raises(ConfigError, match="crops of"):
        replace(base, training2=replace(base.training2, crop=crop))


@pytest.mark.parametrize("which", [1, 2])
def test_the_last_timestep_of_base_holds_no_signal_and_is_learned(which: int) -> None:
    base = preset("base")
    config, training = (base.unet1, base.training1) if which == 1 else (base.unet2, base.training2)
    schedule = NoiseSchedule(config)
    last = torch.tensor([config.timesteps - 1])
    x0, noise = torch.rand(1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    noisy = schedule.add_noise(x0, noise, last)
    assert float(schedule.signal[-1]) == 0.0
    assert bool((schedule.signal.diff() < 0).all())
    assert torch.equal(noisy, noise)
    assert torch.equal(schedule.target("v", x0, noise, last), -x0)
    assert torch.equal(schedule.to_x0("v", -x0, noisy, last), x0)
    assert int(schedule.solver(config.steps).timesteps[0]) == int(last)
    assert float(schedule.loss_weight("v", last, training.min_snr)) == 1.0
    with pytest.raises(ConfigError, match="no weight"):
        replace(base, training1=replace(base.training1, min_snr=5.0), training2=replace(training, min_snr=5.0))


@pytest.mark.parametrize(
    ("name", "steps", "spread"),
    [
        ("base", 25, 0.05),
        ("base", 25, 0.2),
        ("base", 25, 0.5),
        ("base", 1000, 0.2),
        ("paper", 1000, 0.2),
        ("tiny", 1000, 0.2),
    ],
)
def test_the_solver_turns_noise_into_the_distribution_that_a_perfect_network_knows(
    name: str, steps: int, spread: float
) -> None:
    """Pixels that are N(0.3, spread²): x0 is known exactly, so mean and spread must come out, fine detail too."""
    config, mean = preset(name).unet2, 0.3
    schedule = NoiseSchedule(config)
    solver = schedule.solver(steps)
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    for t in solver.timesteps:
        alpha, sigma = schedule.alpha_sigma(t[None])
        gain = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        x0 = mean + gain * (x - alpha * mean)
        if config.prediction == "v":
            x0 = schedule.to_x0("v", alpha * (x - alpha * x0) / sigma - sigma * x0, x, t[None])
        x = solver.step(x0, t, x, return_dict=False)[0]
    assert float(x.mean()) == pytest.approx(mean, abs=0.005)
    assert float(x.std()) == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("steps", [1, 2, 3, 25, 999, 1000])
def test_steps_even_in_log_snr_are_distinct_and_as_many_as_asked(steps: int) -> None:
    solver = NoiseSchedule(preset("base").unet1).solver(steps)
    timesteps = solver.timesteps.tolist()
    assert len(timesteps) == steps == len(set(timesteps))
    assert timesteps == sorted(timesteps, reverse=True)
    assert timesteps[0] == 999
    assert bool((solver.sigmas.diff() < 0).all())


@pytest.mark.parametrize("name", ["base", "paper", "tiny"])
def test_more_steps_than_timesteps_are_refused(name: str) -> None:
    for steps in (0, 1001):
        with pytest.raises(ConfigError, match="solver steps"):
            NoiseSchedule(preset(name).unet1).solver(steps)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_sampling_from_no_signal_is_finite(schedule: Any) -> None:
    unet = _small(schedule=schedule).eval()
    rows, mask = torch.zeros(2, 256, 768), torch.zeros(2, 256, dtype=torch.bool)
    for steps in (1, 2, 25):
        image = sample_unet(unet, rows, mask, None, scale=1.0, noise=SampleNoise([0, 1]), steps=steps)
        assert bool(image.isfinite().all())
        assert float(image.std()) > 0


@pytest.mark.parametrize("which", [1, 2])
def test_base_has_the_networks_of_the_paper(which: int) -> None:
    shapes = []
    for name in ("paper", "base"):
        config = preset(name).unet(1 if which == 1 else 2)
        with torch.device("meta"):
            shapes.append({key: value.shape for key, value in SlfUnet(config).state_dict().items()})
    assert shapes[0] == shapes[1]
    assert preset("base").unet1.steps * 30 <= preset("paper").unet1.steps


@pytest.fixture(scope="module")
def step() -> tuple[SlfUnet, tuple[Any, ...]]:
    unet = _small().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    draws = torch.Generator().manual_seed(1)
    rows = torch.randn(2, 256, 768, generator=draws)
    noisy, low = torch.randn(2, 3, 32, 32, generator=draws), torch.rand(2, 3, 8, 8, generator=draws)
    return unet, (noisy, torch.tensor([10, 999]), rows, torch.ones(2, 256, dtype=torch.bool), low)


def _output_and_gradient(unet: SlfUnet, inputs: tuple[Any, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    noisy, t, rows, mask, low = inputs
    unet.zero_grad()
    output = unet.denoise(noisy, t, unet.encode(rows, mask), low)
    output.square().mean().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.flatten() for p in unet.parameters() if p.grad is not None]
    return output.detach(), torch.cat(gradients).clone()


def test_bf16_is_float32_within_its_rounding(step: tuple[SlfUnet, tuple[Any, ...]]) -> None:
    unet, inputs = step
    plain = _output_and_gradient(unet, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = _output_and_gradient(unet, inputs)
    assert rounded[0].dtype == torch.float32
    for a, b in zip(plain, rounded, strict=True):
        assert not torch.equal(a, b)
        assert float((a - b).norm() / a.norm()) < 0.03


def test_the_network_is_captured_whole_and_stays_the_same(step: tuple[SlfUnet, tuple[Any, ...]]) -> None:
    """One graph without breaks, forwards and backwards: what torch.compile builds from."""
    unet, inputs = copy.deepcopy(step[0]), step[1]
    eager = _output_and_gradient(unet, inputs)
    unet.unet.compile(backend="aot_eager", fullgraph=True)
    for a, b in zip(eager, _output_and_gradient(unet, inputs), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.skipif(not os.environ.get("SLF_TEST_COMPILE"), reason="SLF_TEST_COMPILE=1 compiles for a minute or two")
def test_a_compiled_step_is_the_eager_one(step: tuple[SlfUnet, tuple[Any, ...]]) -> None:
    if not compiler_works("cpu"):
        pytest.skip("no compiler for torch.compile")
    unet, inputs = copy.deepcopy(step[0]), step[1]
    eager = _output_and_gradient(unet, inputs)
    names = list(unet.state_dict())
    unet.unet.compile(dynamic=False)
    compiled = _output_and_gradient(unet, inputs)
    assert list(unet.state_dict()) == names
    for a, b in zip(eager, compiled, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_without_a_compiler_training_runs_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("slf_store.diffusion.unet.compiler_works", lambda device: False)
    unet = SlfUnet(SMALL)
    unet.compile_for("cuda")
    assert [record.message for record in caplog.records] == [
        "torch.compile finds no compiler for cuda: the network runs uncompiled"
    ]
    assert unet.unet._compiled_call_impl is None


def test_configurations_written_before_base_still_load() -> None:
    for name in ("tiny", "paper"):
        raw = json.loads(preset(name).to_json())
        for unet in ("unet1", "unet2"):
            del raw[unet]["zero_terminal"], raw[unet]["spacing"]
        for training in ("training1", "training2"):
            for field in ("crop", "compile", "micro_batch"):
                del raw[training][field]
        assert DiffusionConfig.from_json(json.dumps(raw)) == preset(name)


def test_without_min_snr_the_error_is_plain() -> None:
    t = torch.tensor([0, 500, 999])
    assert NoiseSchedule(preset("base").unet1).loss_weight("v", t, 0.0).tolist() == [1.0, 1.0, 1.0]
    assert TrainingConfig().min_snr == 5.0


def test_enlarging_before_cutting_is_not_cutting_before_enlarging() -> None:
    """Why `denoise` takes the whole low image: at the edge of a square the neighbour outside counts."""
    low = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    crop = Crop(torch.tensor([32]), torch.tensor([32]), 64, 128)
    assert not torch.allclose(crop.cut(resize(low, 128)), resize(crop.cut(low), 64))
