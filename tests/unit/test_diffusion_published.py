"""The layout of the published networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from slf_store.diffusion.config import UnetConfig, preset
from slf_store.diffusion.published import HEADS, Attention, PublishedUnet
from slf_store.diffusion.unet import SlfUnet

pytestmark = pytest.mark.usefixtures("one_thread")

PUBLISHED = {1: 604e6, 2: 493e6}
"""Parameters of the published U-Nets (imagen-pytorch 1.25 with the published code's settings)."""


@pytest.mark.parametrize("which", [1, 2])
def test_the_paper_preset_is_as_large_as_the_published_networks(which: int) -> None:
    with torch.device("meta"):
        unet = SlfUnet(preset("paper").unet(1 if which == 1 else 2))
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(PUBLISHED[which], rel=0.03)


def test_one_key_for_all_heads_is_attention_with_that_key_in_every_head() -> None:
    torch.manual_seed(0)
    attention = Attention(48, 32, of_image=True).double()
    pixels, tokens = torch.randn(2, 9, 48).double(), torch.randn(2, 5, 32).double()
    assert attention.pixels is not None
    assert attention.tokens is not None
    image = attention.norm(pixels)
    query = attention.query(image).view(2, 9, HEADS, 64)
    both = torch.cat(
        [attention.null.view(1, 1, 128).expand(2, 1, -1), attention.tokens(tokens), attention.pixels(image)], 1
    )
    key, value = both[..., :64], both[..., 64:]
    heads = []
    for head in range(HEADS):
        score = 8 * F.normalize(query[:, :, head], dim=-1) @ F.normalize(key, dim=-1).transpose(1, 2)
        heads.append(score.softmax(-1) @ value)
    torch.testing.assert_close(attention(pixels, tokens), attention.out(torch.cat(heads, -1)))


def test_conditioning_time_and_vector_reach_every_image_and_only_their_own() -> None:
    torch.manual_seed(0)
    config = UnetConfig(
        size=32, low_size=8, channels=(32, 64), blocks=(1, 2), attention=(False, True), network="published", cond_dim=16
    )  # fmt: skip
    unet = PublishedUnet(config, config.vector_dim).eval()
    image = torch.randn(2, 6, 32, 32)
    given = (image, torch.tensor([10, 20]), torch.randn(2, 5, 16), torch.randn(2, config.vector_dim))
    assert not unet(*given)[0].any()  # the last layer starts at zero
    torch.nn.init.normal_(unet.conv_out.weight)
    with torch.inference_mode():
        plain = unet(*given)[0]
        for place in range(4):
            changed = [x.clone() for x in given]
            changed[place][1] = 500 if place == 1 else torch.randn_like(changed[place][1])
            other = unet(*changed)[0]
            torch.testing.assert_close(other[0], plain[0])
            assert not torch.allclose(other[1], plain[1], atol=1e-3)


def test_the_average_is_taken_every_so_many_steps_after_the_first_hundred() -> None:
    from slf_store.diffusion.state import TrainState

    config = preset("tiny")
    training = replace(config.training1, ema_every=10)
    config = replace(
        config, unet1=replace(config.unet1, channels=(32,), blocks=(1,), attention=(False,)), training1=training
    )  # fmt: skip
    state = TrainState(SlfUnet(config.unet1), config, 1, "cpu", {})
    state.steps = 98
    name, weight = next(iter(state.parameters.items()))
    taken = []
    for _ in range(14):
        before = state.ema[name].clone()
        for parameter in state.parameters.values():
            parameter.grad = torch.ones_like(parameter)
        assert state.step(1e-3, training)
        taken.append((state.steps, not torch.equal(before, state.ema[name])))
    assert [step for step, changed in taken if changed] == [99, 100, 110]
    assert not torch.equal(weight, state.ema[name])
