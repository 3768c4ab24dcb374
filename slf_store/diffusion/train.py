"""Training of one U-Net: one loop, samples seen its only clock."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slf_store.diffusion.batch import Batch, BatchSource
from slf_store.diffusion.checkpoint import (
    Checkpoint,
    checkpoint_path,
    flatten_optimiser,
    load_checkpoint,
    load_weights,
    restore_optimiser,
    save_checkpoint,
)
from slf_store.diffusion.config import DiffusionConfig, TrainingConfig, UnetConfig, Which
from slf_store.diffusion.crop import draw_crop
from slf_store.diffusion.schedule import NoiseSchedule
from slf_store.diffusion.unet import SlfUnet, resize
from slf_store.errors import CheckpointError, ConfigError, TrainingDiverged

log = logging.getLogger(__name__)
_MOST_BAD_STEPS = 10
"""Steps in a row with a non-finite gradient after which training gives up."""


@dataclass(frozen=True)
class TrainLog:
    """One line of progress: averages since the line before."""

    which: Which
    samples_seen: int
    share: float
    """Of the budget, 0 to 1."""
    loss: float
    lr: float
    samples_per_s: float
    wait_share: float
    """Part of the time spent waiting for batches, 0 to 1."""
    elapsed_s: float
    memory_bytes: int
    """Peak resident memory of this process, or peak memory of the accelerator."""


@dataclass(frozen=True)
class Budget:
    """When to stop: after so many samples in all, or so many minutes of this call."""

    samples: int | None
    minutes: float | None

    def __post_init__(self) -> None:
        if (self.samples is None) == (self.minutes is None):
            raise ConfigError("training needs one budget", hint="give either samples or minutes")

    def share(self, samples_seen: int, elapsed_s: float) -> float:
        """Spent part of the budget, 0 to 1.

        >>> Budget(samples=200, minutes=None).share(50, 3.0)
        0.25
        """
        used = samples_seen / self.samples if self.samples is not None else elapsed_s / (60.0 * (self.minutes or 0.0))
        return min(used, 1.0)


def train_unet(
    batches: BatchSource,
    config: DiffusionConfig,
    which: Which,
    folder: Path | str,
    *,
    samples: int | None = None,
    minutes: float | None = None,
    resume: bool = True,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checkpoint_every_s: float = 300.0,
    log_every_s: float = 5.0,
    on_log: Callable[[TrainLog], None] | None = None,
    extra: dict[str, Any] | None = None,
) -> Checkpoint:
    """Train U-Net 1 or 2 and leave its checkpoint in `folder`.

    Every random draw depends on (seed, samples seen) alone. With a budget in samples a run that was stopped and
    resumed therefore ends, on a CPU, with the very weights of one that was not. With a budget in minutes the
    learning rate follows the clock on the wall, so only the draws repeat.

    Args:
        batches: gives the batches that follow a position (samples seen).
        config: both U-Nets; a checkpoint of another configuration is refused.
        which: 1 (→ 32×32) or 2 (→ 128×128).
        folder: run folder; holds `unet1.safetensors`, `unet2.safetensors`.
        samples: budget in samples, counted over all calls.
        minutes: budget in minutes of this call.
        resume: go on from a checkpoint that lies there; False starts afresh.
        seed: of the first weights and of every draw.
        device: torch device.
        checkpoint_every_s: seconds between checkpoints.
        log_every_s: seconds between progress lines.
        on_log: called with each progress line.
        extra: JSON values to keep in the checkpoint.

    Returns:
        The last checkpoint, already saved.

    Raises:
        CheckpointError: the checkpoint to resume from is damaged or of another configuration.
        TrainingDiverged: gradients stay non-finite.
        ConfigError: not exactly one budget, or the batches run out.
    """
    budget = Budget(samples, minutes)
    state = _State.start(config, which, Path(folder), resume=resume, seed=seed, device=device, extra=extra or {})
    training = config.training(which)
    started = reported = saved = time.monotonic()
    waited, losses, reported_at, bad_steps = 0.0, [], state.samples_seen, 0

    iterator = iter(batches(state.samples_seen))
    while budget.share(state.samples_seen, time.monotonic() - started) < 1.0:
        # Wait for data.
        asked = time.monotonic()
        batch = _next(iterator, state.samples_seen)
        waited += time.monotonic() - asked

        # Draw, predict, weigh.
        draws = torch.Generator(device).manual_seed(_seed_of(seed, state.samples_seen))
        loss = _loss(state, batch.to(device), training, draws)
        loss.backward()  # type: ignore[no-untyped-call]

        # Step, unless the gradient is broken.
        share = budget.share(state.samples_seen, time.monotonic() - started)
        lr = learning_rate(training, state.samples_seen, share)
        if state.step(lr, training):
            bad_steps = 0
            losses.append(loss.detach())
        else:
            bad_steps += 1
            log.warning("U-Net %d: non-finite gradient after %d samples, step skipped", which, state.samples_seen)
            if bad_steps == _MOST_BAD_STEPS:
                raise TrainingDiverged(
                    f"U-Net {which}: {bad_steps} steps in a row without a finite gradient "
                    f"after {state.samples_seen} samples",
                    hint="lower the learning rate; the last checkpoint is intact",
                )
        state.samples_seen = batch.position

        # Report and save.
        now = time.monotonic()
        share = budget.share(state.samples_seen, now - started)
        if on_log and losses and (now - reported >= log_every_s or share >= 1.0):
            on_log(
                TrainLog(
                    which=which,
                    samples_seen=state.samples_seen,
                    share=share,
                    loss=float(torch.stack(losses).mean()),
                    lr=lr,
                    samples_per_s=(state.samples_seen - reported_at) / max(now - reported, 1e-9),
                    wait_share=min(waited / max(now - reported, 1e-9), 1.0),
                    elapsed_s=now - started,
                    memory_bytes=_peak_memory(device),
                )
            )
            reported, reported_at, waited, losses = now, state.samples_seen, 0.0, []
        if now - saved >= checkpoint_every_s:
            save_checkpoint(state.checkpoint(), folder)
            saved = now

    final = state.checkpoint()
    save_checkpoint(final, folder)
    return final


def learning_rate(training: TrainingConfig, samples_seen: int, share: float) -> float:
    """Linear warm-up over samples, then a cosine fall over the last part of the budget.

    >>> [round(learning_rate(TrainingConfig(lr=1.0, decay_from=0.5), 0, s), 3) for s in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
    """
    rate = training.lr
    if training.warmup_samples:
        rate *= min(1.0, (samples_seen + 1) / training.warmup_samples)
    if share > training.decay_from:
        rate *= 0.5 * (1.0 + math.cos(math.pi * (share - training.decay_from) / (1.0 - training.decay_from)))
    return rate


class _State:
    """Network, average, optimiser and clock of one training."""

    def __init__(
        self, unet: SlfUnet, config: DiffusionConfig, which: Which, device: torch.device | str, extra: dict[str, Any]
    ) -> None:
        training = config.training(which)
        self.unet = unet.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        if training.compile:
            self.unet.compile_for(device)
        self.config, self.which, self.extra = config, which, extra
        self.samples_seen = self.steps = 0
        self.schedule = NoiseSchedule(config.unet(which), device)
        self.parameters = dict(self.unet.named_parameters())
        self.ema = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        adam = torch.optim.AdamW if training.weight_decay else torch.optim.Adam
        self.optimiser = adam(
            self.parameters.values(),
            lr=training.lr,
            betas=training.betas,
            weight_decay=training.weight_decay,
            fused=True,
        )

    @classmethod
    def start(
        cls,
        config: DiffusionConfig,
        which: Which,
        folder: Path,
        *,
        resume: bool,
        seed: int,
        device: torch.device | str,
        extra: dict[str, Any],
    ) -> _State:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed_of(seed, which))
            unet = SlfUnet(config.unet(which))
        state = cls(unet, config, which, device, extra)
        if resume and checkpoint_path(folder, which).exists():
            state._restore(load_checkpoint(folder, which))
        return state

    def _restore(self, checkpoint: Checkpoint) -> None:
        if checkpoint.config.unet(self.which) != self.config.unet(self.which):
            raise CheckpointError(
                f"the checkpoint of U-Net {self.which} has another configuration (preset {checkpoint.config.preset})",
                hint="train into another folder, or with resume=False",
            )
        load_weights(self.unet, checkpoint.weights)
        for name, average in self.ema.items():
            average.copy_(checkpoint.ema[name])
        restore_optimiser(self.optimiser, self.parameters, checkpoint.optimiser)
        self.samples_seen, self.steps = checkpoint.samples_seen, checkpoint.steps
        self.extra = {**checkpoint.extra, **self.extra}

    def step(self, lr: float, training: TrainingConfig) -> bool:
        """Clip, step, average; False (and nothing changed) when the gradient is not finite."""
        parameters = list(self.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(parameters, training.clip_norm or math.inf)
        finite = bool(norm.isfinite())
        if finite:
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            self.optimiser.step()
            self.steps += 1
            decay = min(training.ema_decay, (1 + self.steps) / (10 + self.steps))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.ema.values()), parameters, 1.0 - decay)
        self.optimiser.zero_grad(set_to_none=True)
        return finite

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            config=self.config,
            which=self.which,
            samples_seen=self.samples_seen,
            steps=self.steps,
            weights=self.unet.state_dict(),
            ema=self.ema,
            optimiser=flatten_optimiser(self.optimiser, {p: name for name, p in self.parameters.items()}),
            extra=self.extra,
        )


def _loss(state: _State, batch: Batch, training: TrainingConfig, draws: torch.Generator) -> Tensor:
    """Weighted squared error of the prediction for one batch."""
    config, schedule = state.unet.config, state.schedule
    image, low = images_for(config, batch)
    n, device = len(image), image.device
    crop = draw_crop(config, training.crop, n, draws)
    if crop:
        image = crop.cut(image)

    mask = drop_rows(batch.mask, training, draws)
    if low is not None and training.guide_dropout:
        hidden = torch.rand(n, generator=draws, device=device) < training.guide_dropout
        low = low.masked_fill(hidden[:, None, None, None], torch.nan)
    augment = augment_noise = None
    if config.augment_max:
        augment = torch.rand(n, generator=draws, device=device) * config.augment_max
        grid = image.shape[-1] // config.patch
        augment_noise = torch.randn(n, 3, grid, grid, generator=draws, device=device)
    timestep = schedule.draw_timesteps(n, training.noise_levels, draws)
    noise = torch.randn(image.shape, generator=draws, device=device)

    noisy = schedule.add_noise(image, noise, timestep)
    with precision(training, device):
        condition = state.unet.encode(batch.conditioning, mask)
        output = state.unet.denoise(
            noisy, timestep, condition, low, augment=augment, augment_noise=augment_noise, crop=crop
        )
    error = output - schedule.target(config.prediction, image, noise, timestep)
    weight = schedule.loss_weight(config.prediction, timestep, training.min_snr)
    per_sample: Tensor = weight * error.square().mean(dim=(1, 2, 3))
    return per_sample.mean()


def images_for(config: UnetConfig, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """What a U-Net makes (B, 3, size, size) and the low image it starts from, out of a batch."""
    image = resize(batch.target, config.size)
    if config.low_size == 8:
        return image, batch.guide
    return image, resize(batch.target, config.low_size)


def drop_rows(mask: Tensor, training: TrainingConfig, draws: torch.Generator) -> Tensor:
    """Hide attribute rows one by one, and now and then everything (classifier-free guidance).

    >>> mask = torch.ones(1000, 256, dtype=torch.bool)
    >>> kept = drop_rows(mask, TrainingConfig(), torch.Generator().manual_seed(0)).float().mean(0)
    >>> [round(float(kept[row]), 1) for row in (0, 3, 4, 255)]
    [0.7, 0.7, 0.9, 0.9]
    """
    n, attributes = len(mask), training.attribute_rows
    kept = mask.clone()
    kept[:, :attributes] &= torch.rand(n, attributes, generator=draws, device=mask.device) >= training.attribute_dropout
    conditional = torch.rand(n, 1, generator=draws, device=mask.device) >= training.condition_dropout
    return kept & conditional


def precision(training: TrainingConfig, device: torch.device | str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where the training asks for it and the device computes in it; a CPU without such units
    would only emulate it, slower than float32."""
    if training.precision == "fp32" or (torch.device(device).type == "cpu" and not cpu_has_bfloat16()):
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices itself (AVX-512 BF16 or AMX; others are taken to have none)."""
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in tests)


def _seed_of(seed: int, position: int) -> int:
    """One 63-bit seed from two numbers (SplitMix64's finaliser, so that neighbours differ in every bit)."""
    x = (seed * 0x9E3779B97F4A7C15 + position + 1) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return (x ^ (x >> 31)) >> 1


def _next(iterator: Iterator[Batch], samples_seen: int) -> Batch:
    batch = next(iterator, None)
    if batch is None:
        raise ConfigError(f"the batches ran out after {samples_seen} samples", hint="let the source go on for ever")
    return batch


def _peak_memory(device: torch.device | str) -> int:
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
