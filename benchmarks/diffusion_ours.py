"""A preset of ours as a contestant of `benchmarks/diffusion.py`: PYTHON diffusion_ours.py JSON.

Training is `train_unet` itself: each batch that it asks for waits for an order, and the time from the batch to the next
request is the step's, with drawing, backward pass, clipping, optimiser and average. Sampling is `sample_unet`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusion_worker import Clock, inputs, orders, peak_bytes, say, training_flops

from slf_store.diffusion.batch import Batch
from slf_store.diffusion.config import DiffusionConfig, preset
from slf_store.diffusion.crop import Crop
from slf_store.diffusion.objective import precision
from slf_store.diffusion.sample import SampleNoise, sample_unet
from slf_store.diffusion.train import train_unet
from slf_store.diffusion.unet import SlfUnet

NEVER = float("inf")


class Finished(Exception):
    """The orders are over; training is left without a checkpoint."""


class Contestant:
    """One U-Net of a preset; `given` may change its width and any field of its training."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.which, self.batch_size, self.device = given["unet"], given["batch"], given["device"]
        self.config = scaled(preset(given["preset"]), given)
        self.unet, self.training = self.config.unet(self.which), self.config.training(self.which)
        self.export = given.get("export")

    def facts(self) -> dict[str, Any]:
        """Parameters and FLOPs of a sample, found without memory."""
        with torch.device("meta"):
            unet, config = SlfUnet(self.unet), self.unet
            side = self.training.crop or config.size
            rows, mask = torch.zeros(1, config.rows, config.columns), torch.ones(1, config.rows, dtype=torch.bool)
            noisy, low = torch.zeros(1, 3, side, side), torch.zeros(1, 3, config.low_size, config.low_size)
            t, corner = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)
            crop = Crop(corner, corner, side, config.size) if side < config.size else None

            def step() -> torch.Tensor:
                condition = unet.encode(rows, mask)
                return unet.denoise(noisy, t, condition, low, crop=crop)

            unet.encode = lambda rows, mask: _encode(unet, rows, mask)  # type: ignore[method-assign]
            flops = training_flops(step)
        return {
            "parameters": sum(p.numel() for p in unet.parameters()),
            "flops": flops,
            "calls": self.unet.steps,
            "crop share": (side / config.size) ** 2,
        }

    def batches(self, position: int) -> Iterator[Batch]:
        source = self._source(position)
        for order in orders():
            if order == "train":
                clock = Clock(self.device)
                batch = next(source)
                waited = clock.read()["seconds"]
                clock = Clock(self.device)
                yield batch
                say(**clock.read(), waited=waited, memory=peak_bytes(self.device))
            else:
                say(**self.sample(int(order.split()[1])))
        raise Finished

    def _source(self, position: int) -> Iterator[Batch]:
        if self.export:
            from slf_store.query.exported import open_export
            from slf_store.query.loader import Loader
            from slf_store.query.systems import system

            manifest = open_export(Path(self.export), "train")
            loader = Loader(manifest, system("full-input"), batch_size=self.batch_size, device=self.device)
            yield from loader.batches(position)
        made = inputs(self.batch_size)
        while True:
            position += self.batch_size
            yield Batch(
                made["conditioning"], made["mask"], made["guide"] * 2 - 1, made["target"] * 2 - 1,
                np.arange(self.batch_size), position,
            )  # fmt: skip

    def sample(self, steps: int) -> dict[str, Any]:
        made = {name: value.to(self.device) for name, value in inputs(self.batch_size).items()}
        with torch.device(self.device):
            unet = SlfUnet(self.unet).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        low = made["guide"] if self.which == 1 else torch.nn.functional.interpolate(made["target"], 32, mode="area")

        def run(steps: int) -> dict[str, float]:
            noise = SampleNoise(range(self.batch_size))
            clock = Clock(self.device)
            with precision(self.training, self.device):
                sample_unet(unet, made["conditioning"], made["mask"], low * 2 - 1, scale=1.0, noise=noise, steps=steps)
            return clock.read()

        run(1)
        return run(steps)


def _encode(unet: SlfUnet, rows: torch.Tensor, mask: torch.Tensor) -> Any:
    from slf_store.diffusion.unet import Condition

    return Condition(*unet.encoder.encode_rows(rows, mask, torch.arange(rows.shape[1])))


def scaled(config: DiffusionConfig, given: dict[str, Any]) -> DiffusionConfig:
    """The preset at a share of its widths, with the training fields that `given` names."""
    name = f"unet{given['unet']}"
    unet = getattr(config, name)
    channels = tuple(int(width * given["width"]) for width in unet.channels)
    training = replace(config.training(given["unet"]), batch_size=given["batch"], **given.get("training", {}))
    return replace(
        config, **{name: replace(unet, channels=channels), f"training{given['unet']}": training}
    )  # fmt: skip


def without(switches: list[str]) -> None:
    """Take away what training does for every preset, to see what it is worth."""
    if "channels_last" in switches:
        torch.channels_last = torch.contiguous_format
    if "fused" in switches:
        adam = torch.optim.Adam

        class Plain(adam):  # type: ignore[valid-type, misc]
            def __init__(self, *args: Any, fused: bool = False, **named: Any) -> None:
                super().__init__(*args, **named)

        torch.optim.Adam = Plain  # type: ignore[misc]


def main() -> None:
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    without(given.get("without", []))
    contestant = Contestant(given)
    say(**contestant.facts(), torch=torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        try:
            train_unet(
                contestant.batches, contestant.config, contestant.which, folder, samples=10**12,
                device=given["device"], checkpoint_every_s=NEVER, log_every_s=NEVER,
            )  # fmt: skip
        except Finished:
            return


if __name__ == "__main__":
    main()
