"""Sampling: the conditional scale, and one clip's face being its own whatever the batch."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from slf_store.diffusion.config import preset
from slf_store.diffusion.memory import MOST_ROWS, RowLimit, plan_rows
from slf_store.diffusion.sample import SampleNoise, generate, guide_output, sample_scales, sample_unet, to_uint8
from slf_store.diffusion.schedule import NoiseSchedule, threshold
from slf_store.diffusion.unet import SlfUnet
from slf_store.errors import CheckpointError, ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def unets() -> tuple[SlfUnet, SlfUnet]:
    config = preset("tiny")
    torch.manual_seed(0)
    one = SlfUnet(replace(config.unet1, channels=(32, 32), head_dim=16, cond_dim=32)).eval()
    two = SlfUnet(replace(config.unet2, channels=(32, 32), blocks=(1, 1), attention=(False, False), cond_dim=32)).eval()
    for unet in (one, two):
        torch.nn.init.normal_(unet.unet.conv_out.weight, std=0.05)
    return one, two


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    mask = torch.zeros(5, 256, dtype=torch.bool)
    mask[:, [58, 200]] = True
    return torch.randn(5, 256, 768, generator=draws), mask, torch.rand(5, 3, 8, 8, generator=draws)


def test_a_face_does_not_depend_on_its_batch(
    unets: tuple[SlfUnet, SlfUnet], rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    conditioning, mask, guide = rows
    seeds = np.arange(5, dtype=np.int64) + 10
    (together,) = generate(*unets, conditioning, mask, guide, scales=[3.0], seeds=seeds, steps=4)
    (pairs,) = generate(*unets, conditioning, mask, guide, scales=[3.0], seeds=seeds, steps=4, limit=RowLimit(3))
    ((alone,),) = generate(*unets, conditioning[3:4], mask[3:4], guide[3:4], scales=[3.0], seeds=seeds[3:4], steps=4)
    assert together.shape == (5, 3, 128, 128)
    assert together.dtype == torch.uint8
    assert (together.int() - pairs.int()).abs().max() <= 1
    assert (together[3].int() - alone.int()).abs().max() <= 1
    assert not torch.equal(together[0], together[1])


def test_noise_is_exactly_the_clips_own() -> None:
    many, one = SampleNoise([1, 2, 3]), SampleNoise([2])
    for shape in ((3, 32, 32), (3, 8, 8)):
        assert torch.equal(many.draw(*shape)[1], one.draw(*shape)[0])


def test_without_conditioning_every_scale_is_one_face_made_once(
    unets: tuple[SlfUnet, SlfUnet], rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    conditioning, mask, guide = rows
    hidden, seeds, scales = torch.zeros_like(mask), range(5), (0.0, 1.0, 3.0)
    noise, image = SampleNoise(seeds), guide
    for unet in unets:  # the plain way
        image = sample_scales(unet, conditioning, hidden, image, scales=scales, noise=noise, steps=2)
    limit = RowLimit(5)
    faces = generate(*unets, conditioning, hidden, guide, scales=scales, seeds=seeds, steps=2, limit=limit)
    assert (faces.int() - to_uint8(image).int()).abs().max() <= 1
    assert torch.equal(faces[0], faces[2])
    assert not torch.equal(faces[0], generate(*unets, conditioning, mask, guide, seeds=seeds, steps=2)[0])


def test_weights_that_are_no_numbers_make_no_picture(
    unets: tuple[SlfUnet, SlfUnet], rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    broken = copy.deepcopy(unets[1])
    with torch.no_grad():
        broken.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        generate(unets[0], broken, *rows, seeds=range(5), steps=1)


@pytest.mark.parametrize("steps", [1, 5])
def test_scale_zero_and_one_need_one_branch(
    unets: tuple[SlfUnet, SlfUnet],
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
) -> None:
    conditioning, mask, guide = rows
    unet, sizes = unets[0], []
    denoise = SlfUnet.denoise

    def spy(self: SlfUnet, noisy: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        sizes.append(len(noisy))
        return denoise(self, noisy, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(SlfUnet, "denoise", spy)

    def sample(scale: float, seen: torch.Tensor = mask) -> torch.Tensor:
        sizes.clear()
        noise = SampleNoise(range(5))
        return sample_unet(unet, conditioning, seen, guide, scale=scale, noise=noise, steps=steps)

    null, given = sample(0.0), sample(1.0)
    assert sizes == [5] * steps
    torch.testing.assert_close(null, sample(1.0, torch.zeros_like(mask)))
    nearly = sample(1.0 + 1e-6)
    assert sizes == [10] * steps
    torch.testing.assert_close(nearly, given, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(sample(1e-6), null, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(null, given)


def test_guidance_in_any_prediction_is_guidance_in_noise() -> None:
    schedule = NoiseSchedule(preset("tiny").unet1)
    t, noisy = torch.tensor([300]), torch.randn(1, 3, 4, 4)
    null, given = torch.randn(2, 1, 3, 4, 4)
    by_noise = schedule.to_x0("noise", guide_output(torch.stack([null, given]), 4.0), noisy, t)
    x0 = torch.stack([schedule.to_x0("noise", branch, noisy, t) for branch in (null, given)])
    torch.testing.assert_close(by_noise, guide_output(x0, 4.0), atol=1e-4, rtol=1e-4)


def test_thresholding_keeps_faces_in_range() -> None:
    wild = torch.randn(2, 3, 16, 16) * 5
    for quantile in (0.0, 0.95):
        assert float(threshold(wild, quantile).abs().max()) <= 1.0


def test_generation_without_a_guide_and_wrong_lengths(
    unets: tuple[SlfUnet, SlfUnet], rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    conditioning, mask, _ = rows
    faces = generate(*unets, conditioning[:2], mask[:2], None, scales=[(2.0, 1.0)], seeds=[0, 1], steps=(2, 1))
    assert faces.shape == (1, 2, 3, 128, 128)
    with pytest.raises(ConfigError, match="seeds"):
        generate(*unets, conditioning, mask, None, seeds=[0], steps=1)


SCALES = (0.0, 1.0, 3.0, 0.5)


@pytest.mark.parametrize("guided", [True, False])
def test_many_scales_at_once_are_each_scale_alone(
    unets: tuple[SlfUnet, SlfUnet], rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor], guided: bool
) -> None:
    """At most one grey level apart, and nearly everywhere none: other sums of the same numbers."""
    conditioning, mask, low = rows
    guide, seeds = low if guided else None, range(5)
    together = generate(*unets, conditioning, mask, guide, scales=SCALES, seeds=seeds, steps=4)
    assert together.shape == (4, 5, 3, 128, 128)
    for scale, faces in zip(SCALES, together, strict=True):
        (alone,) = generate(*unets, conditioning, mask, guide, scales=[scale], seeds=seeds, steps=4)
        apart = (faces.int() - alone.int()).abs()
        assert apart.max() <= 1
        assert (apart > 0).float().mean() < 0.01
    assert len({face.numpy().tobytes() for face in together[:, 0]}) == 4


def test_a_step_is_one_call_with_every_branch_and_the_first_shares_them(
    unets: tuple[SlfUnet, SlfUnet],
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conditioning, mask, guide = rows
    sizes: list[tuple[int, int]] = []
    denoise = SlfUnet.denoise

    def spy(self: SlfUnet, noisy: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        sizes.append((self.config.size, len(noisy)))
        return denoise(self, noisy, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(SlfUnet, "denoise", spy)
    generate(*unets, conditioning, mask, guide, scales=SCALES, seeds=range(5), steps=2, limit=RowLimit(100))
    assert sizes == [(32, 10), (32, 30), (128, 30), (128, 30)]  # 3 scales need each of the two branches, of 5 samples


def test_a_gpu_out_of_memory_halves_the_call_and_goes_on(
    unets: tuple[SlfUnet, SlfUnet],
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conditioning, mask, guide = rows
    wanted = generate(*unets, conditioning, mask, guide, scales=SCALES, seeds=range(5), steps=2)
    denoise, room = SlfUnet.denoise, [4]

    def small(self: SlfUnet, noisy: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        if len(noisy) > room[0]:
            raise torch.OutOfMemoryError("as a GPU says it")
        return denoise(self, noisy, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(SlfUnet, "denoise", small)
    limit = RowLimit(100)
    got = generate(*unets, conditioning, mask, guide, scales=SCALES, seeds=range(5), steps=2, limit=limit)
    assert limit.rows <= 4
    assert (got.int() - wanted.int()).abs().max() <= 1
    room[0] = 0
    with pytest.raises(ConfigError, match="not even one image"):
        generate(*unets, conditioning, mask, guide, seeds=range(5), steps=1, limit=limit)


def test_planned_memory_is_near_what_a_call_takes(unets: tuple[SlfUnet, SlfUnet]) -> None:
    """In a process of its own, whose peak the kernel tells: between a half and twice of the plan."""
    program = """
import torch
from pathlib import Path
from slf_store.diffusion.config import preset
from slf_store.diffusion.memory import MOST_ROWS, RowLimit, plan_rows
from slf_store.diffusion.memory import row_bytes
from slf_store.diffusion.unet import Condition, SlfUnet
torch.set_num_threads(1)
config, rows = preset("tiny").unet2, 160
planned, unet = row_bytes(config), SlfUnet(config).eval()
def call(n):
    condition = Condition(torch.zeros(n, 1 + config.latents, config.cond_dim), torch.zeros(n, config.vector_dim))
    with torch.inference_mode():
        unet.denoise(torch.zeros(n, 3, 128, 128), torch.zeros(n), condition, torch.zeros(n, 3, 32, 32))
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
small = call(32)
print((call(rows + 32) - small) / rows / planned)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert 0.5 < float(said.stdout) < 2, said.stdout
    room = plan_rows(tuple(unet.config for unet in unets), "cpu").rows
    assert 1 <= room <= MOST_ROWS["cpu"]
