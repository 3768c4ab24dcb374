"""What the networks see, what they must not see, and that the presets can be built."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from slf_store.diffusion.batch import Batch
from slf_store.diffusion.config import DiffusionConfig, UnetConfig, preset
from slf_store.diffusion.schedule import NoiseSchedule
from slf_store.diffusion.unet import SlfUnet
from slf_store.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def unet() -> SlfUnet:
    return _tiny()


def _tiny() -> SlfUnet:
    """U-Net 1 of the tiny preset with a last layer that is not zero."""
    torch.manual_seed(0)
    unet = SlfUnet(preset("tiny").unet1).eval()
    torch.nn.init.normal_(unet.unet.conv_out.weight, std=0.1)
    return unet


def _inputs(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    conditioning = torch.randn(n, 256, 768, generator=generator)
    mask = torch.zeros(n, 256, dtype=torch.bool)
    mask[:, [0, 1, 58, 70, 141]] = True
    mask[0, 1] = False
    return conditioning, mask


def _run(unet: SlfUnet, conditioning: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    n = len(conditioning)
    noisy = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return unet.denoise(noisy, torch.full((n,), 500), unet.encode(conditioning, mask), torch.zeros(n, 3, 8, 8))


def test_hidden_rows_have_no_influence(unet: SlfUnet) -> None:
    conditioning, mask = _inputs()
    other = conditioning.masked_fill(~mask[..., None], float("nan"))
    assert torch.equal(_run(unet, conditioning, mask), _run(unet, other, mask))


def test_visible_rows_have_influence(unet: SlfUnet) -> None:
    conditioning, mask = _inputs()
    for row in (0, 58, 141):
        other = conditioning.clone()
        other[:, row] += 1.0
        assert not torch.allclose(_run(unet, conditioning, mask), _run(unet, other, mask))


def test_leaving_out_rows_hidden_everywhere_is_the_plain_encoding(unet: SlfUnet) -> None:
    conditioning, mask = _inputs()
    with torch.inference_mode():
        fast = unet.encoder(conditioning, mask)
        plain = unet.encoder.encode_rows(conditioning, mask, torch.arange(256))
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b)


def test_everything_hidden_is_one_defined_null_condition(unet: SlfUnet) -> None:
    conditioning, mask = _inputs()
    with torch.inference_mode():
        null = unet.encode(conditioning, torch.zeros_like(mask))
    assert bool(null.vector.isfinite().all())
    torch.testing.assert_close(null.vector[0], null.vector[1])


def test_a_missing_guide_is_not_a_grey_guide() -> None:
    unet = _tiny()
    torch.nn.init.normal_(unet.no_low)
    conditioning, mask = _inputs(2)
    noisy, t = torch.randn(2, 3, 32, 32), torch.tensor([5, 900])
    grey = torch.zeros(2, 3, 8, 8)
    some = grey.clone()
    some[1] = float("nan")
    with torch.inference_mode():
        condition = unet.encode(conditioning, mask)
        without, with_grey, mixed = (unet.denoise(noisy, t, condition, low) for low in (None, grey, some))
    assert not torch.allclose(without, with_grey)
    torch.testing.assert_close(mixed, torch.stack([with_grey[0], without[1]]))


def test_untrained_unet2_is_plain_enlarging() -> None:
    config = preset("tiny").unet2
    unet = SlfUnet(config).eval()
    conditioning, mask = _inputs(1)
    low = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        output = unet.denoise(torch.randn(1, 3, 128, 128), torch.tensor([300]), unet.encode(conditioning, mask), low)
    expected = torch.nn.functional.interpolate(low, size=128, mode="bilinear", align_corners=False)
    torch.testing.assert_close(output, expected)


@pytest.mark.integration
@pytest.mark.parametrize("which", [1, 2])
def test_paper_preset_takes_a_real_step(which: int) -> None:
    config = preset("paper").unet(1 if which == 1 else 2)
    unet = SlfUnet(config)
    schedule = NoiseSchedule(config)
    image, t = torch.rand(1, 3, config.size, config.size), torch.tensor([500])
    noise = torch.randn_like(image)
    conditioning, mask = _inputs(1)
    low = torch.rand(1, 3, config.low_size, config.low_size)
    output = unet.denoise(schedule.add_noise(image, noise, t), t, unet.encode(conditioning, mask), low)
    loss = (output - schedule.target(config.prediction, image, noise, t)).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(unet.parameters(), lr=1e-4).step()
    assert bool(loss.isfinite())
    assert all(bool(p.isfinite().all()) for p in unet.parameters())


@pytest.mark.parametrize("name", ["tiny", "paper", "base"])
def test_presets_survive_json(name: str) -> None:
    assert DiffusionConfig.from_json(preset(name).to_json()) == preset(name)


def test_bad_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="no preset"):
        preset("huge")
    with pytest.raises(ConfigError, match="not a diffusion configuration"):
        DiffusionConfig.from_json('{"preset": "x"}')
    with pytest.raises(ConfigError, match="halved"):
        UnetConfig(size=32, low_size=8, channels=(8,) * 4, blocks=(1,) * 4, attention=(False,) * 4, patch=8)
    with pytest.raises(ConfigError, match="residual"):
        UnetConfig(size=32, low_size=8, channels=(8,), blocks=(1,), attention=(False,), residual=True)


@pytest.mark.parametrize("prediction", ["noise", "v", "x0"])
def test_every_prediction_leads_back_to_the_image(prediction: str) -> None:
    schedule = NoiseSchedule(preset("paper").unet1)
    x0, noise, t = torch.rand(4, 3, 8, 8), torch.randn(4, 3, 8, 8), torch.tensor([0, 100, 500, 900])
    kind = preset("paper").unet1.prediction if prediction == "noise" else prediction
    noisy = schedule.add_noise(x0, noise, t)
    target = schedule.target(kind, x0, noise, t)  # type: ignore[arg-type]
    torch.testing.assert_close(
        schedule.to_x0(kind, target, noisy, t),  # type: ignore[arg-type]
        x0,
        atol=1e-4,
        rtol=1e-4,
    )


def test_min_snr_weights_are_one_line_in_three_units() -> None:
    schedule = NoiseSchedule(preset("paper").unet1)
    t = torch.tensor([1, 300, 700, 990])
    snr = schedule.signal[t] / (1 - schedule.signal[t])
    weights = {kind: schedule.loss_weight(kind, t, 5.0) for kind in ("noise", "v", "x0")}
    torch.testing.assert_close(weights["x0"], snr.clamp(max=5.0), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(weights["noise"], weights["x0"] / snr, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(weights["v"], weights["x0"] / (snr + 1), rtol=1e-3, atol=1e-6)


def test_importing_the_configuration_loads_no_heavy_library() -> None:
    code = (
        "import sys, slf_store.diffusion.config, slf_store.diffusion.batch, slf_store.diffusion.train; "
        "assert 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_batches_know_their_length_and_become_float32() -> None:
    batch = Batch(
        torch.zeros(2, 256, 768, dtype=torch.float16),
        torch.zeros(2, 256, dtype=torch.bool),
        None,
        torch.zeros(2, 3, 128, 128),
        np.arange(2),
        2,
    )
    assert len(batch) == 2
    assert batch.to("cpu").conditioning.dtype == torch.float32
