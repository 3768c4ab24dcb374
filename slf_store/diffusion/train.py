"""Training of one U-Net: one loop, samples seen its only clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slf_store.diffusion.batch import Batch, BatchSource
from slf_store.diffusion.budget import Budget, learning_rate
from slf_store.diffusion.card import write_card
from slf_store.diffusion.checkpoint import Checkpoint
from slf_store.diffusion.config import DiffusionConfig, Which
from slf_store.diffusion.draws import Draws, draw, seed_of
from slf_store.diffusion.grid import grid_path, sample_grid, save_grid
from slf_store.diffusion.interrupt import held_back
from slf_store.diffusion.ranks import Ranks
from slf_store.diffusion.retention import Saved, keep_checkpoint
from slf_store.diffusion.state import TrainState
from slf_store.diffusion.validation import Validation, ValidationSource, validate
from slf_store.errors import CheckpointError, ConfigError, TrainingDiverged

log = logging.getLogger(__name__)
_MOST_BAD_STEPS = 10
"""Steps in a row with a non-finite gradient after which training gives up."""

GridWriter = Callable[[Path, NDArray[np.uint8], str], None]


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
    """Of all ranks together."""
    wait_share: float
    """Part of the time spent waiting for batches, 0 to 1."""
    elapsed_s: float
    memory_bytes: int
    """Peak resident memory of this process, or peak memory of the accelerator."""
    validation: Validation | None = None
    """At moments of validation."""


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
    validation: ValidationSource | None = None,
    validate_every: int = 20_000,
    keep: int = 1,
    checkpoint_every_s: float = 300.0,
    log_every_s: float = 5.0,
    on_log: Callable[[TrainLog], None] | None = None,
    on_checkpoint: Callable[[Saved], None] | None = None,
    write_grid: GridWriter = save_grid,
    extra: dict[str, Any] | None = None,
) -> Checkpoint:
    """Train U-Net 1 or 2 and leave its checkpoint in `folder`.

    Every random draw depends on (seed, samples seen) and on the sample's place in the step alone. With a budget in
    samples a run that was stopped and resumed therefore ends, on a CPU, with the very weights of one that was not; in
    micro-batches or on several ranks the weights are the same within rounding. With a budget in minutes the learning
    rate follows the clock on the wall, so only the draws repeat.

    Under `accelerate launch` or `torchrun` the processes train together; the main one writes and calls the callbacks.
    A first Ctrl-C or SIGTERM ends the step, saves a checkpoint and then does what it would have done.

    Args:
        batches: gives the batches that follow a position (samples seen by all ranks), of this rank its share.
        config: both U-Nets; a checkpoint of another configuration is refused.
        which: 1 (→ 32×32) or 2 (→ 128×128).
        folder: run folder, one for all ranks; holds `unet1.safetensors`, `unet2.safetensors`, `README.md`, `grids/`.
        samples: budget in samples, counted over all calls.
        minutes: budget in minutes of this call.
        resume: go on from a checkpoint that lies there; False starts afresh.
        seed: of the first weights and of every draw.
        device: torch device.
        validation: gives the validation clips; None validates nothing.
        validate_every: samples between two validations, each with a grid; the end has one as well.
        keep: how many of the last checkpoints to keep; the one with the lowest validation loss stays besides.
        checkpoint_every_s: seconds between checkpoints.
        log_every_s: seconds between progress lines.
        on_log: called with each progress line.
        on_checkpoint: called when a checkpoint is in place.
        write_grid: writes a sample grid to a path, with a comment.
        extra: JSON values to keep in the checkpoint.

    Returns:
        The last checkpoint, already saved.

    Raises:
        CheckpointError: the checkpoint to resume from is damaged or of another configuration.
        TrainingDiverged: gradients stay non-finite.
        ConfigError: not exactly one budget, the batches run out, or the ranks have no equal shares of a step.
    """
    budget, ranks, home = Budget(samples, minutes), Ranks(device), Path(folder)
    state = TrainState.start(config, which, home, resume=resume, seed=seed, device=ranks.device, extra=extra or {})
    if not ranks.same(state.samples_seen):
        raise CheckpointError(f"the ranks see different checkpoints in {home}", hint="put it where all nodes see it")
    training, objective = config.training(which), ranks.wrap(state.objective)
    meter, bad_steps, saved_s, saved = _Meter(state.samples_seen), 0, 0.0, False
    started = time.monotonic()
    iterator = iter(batches(state.samples_seen))

    with held_back() as wish:
        elapsed, stop = 0.0, False
        while not stop and budget.share(state.samples_seen, elapsed) < 1.0:
            # Wait for data.
            asked = time.monotonic()
            batch = _next(iterator, state.samples_seen)
            meter.waited_s += time.monotonic() - asked

            # Draw for the whole step, of which this rank takes its part.
            before, step = state.samples_seen, batch.position - state.samples_seen
            if step != len(batch) * ranks.world:
                raise ConfigError(
                    f"a step of {step} samples, of which rank {ranks.rank} of {ranks.world} has {len(batch)}",
                    hint="choose a number of processes that divides the batch size",
                )
            generator = torch.Generator(ranks.device).manual_seed(seed_of(seed, before))
            draws = draw(state.schedule, training, step, generator).part(ranks.rank * len(batch), len(batch))

            # Predict, weigh, and go back through the network.
            loss = _backward(objective, ranks, batch, draws, training.micro_batch, step)

            # Step, unless the gradient is broken; all ranks have the same one.
            lr = learning_rate(training, before, budget.share(before, elapsed))
            if state.step(lr, training):
                bad_steps = 0
                meter.losses.append(loss)
            else:
                bad_steps += 1
                log.warning("U-Net %d: non-finite gradient after %d samples, step skipped", which, before)
                if bad_steps == _MOST_BAD_STEPS:
                    raise TrainingDiverged(
                        f"U-Net {which}: {bad_steps} steps in a row without a finite gradient after {before} samples",
                        hint="lower the learning rate; the last checkpoint is intact",
                    )
            state.samples_seen = batch.position

            # Look at people that training never sees.
            elapsed, stop = ranks.agree(time.monotonic() - started, wish.asked is not None)
            share = budget.share(state.samples_seen, elapsed)
            look = not stop and (share >= 1.0 or state.samples_seen // validate_every > before // validate_every)
            seen, better = None, False
            if look and validation is not None and ranks.main:
                seen = _validate(state, validation, home, ranks.device, write_grid)
                better = _note_validation(state, seen)

            # Report.
            if meter.losses and (look or stop or elapsed - meter.since_s >= log_every_s):
                line = meter.line(state, ranks, share, elapsed, lr, seen)
                if on_log and ranks.main:
                    on_log(line)

            # Save.
            saved = ranks.main and (share >= 1.0 or stop or better or elapsed - saved_s >= checkpoint_every_s)
            if saved:
                _save(state, home, keep, better, on_checkpoint)
                saved_s = elapsed

        if ranks.main and not saved:
            _save(state, home, keep, False, on_checkpoint)
    if stop:  # another rank was told to end
        raise KeyboardInterrupt
    return state.checkpoint()


def _backward(objective: nn.Module, ranks: Ranks, batch: Batch, draws: Draws, micro_batch: int, step: int) -> Tensor:
    """Add up the gradient of the step's mean loss, micro-batch by micro-batch; gives this rank's part of that loss."""
    size, losses = micro_batch or len(batch), []
    for first in range(0, len(batch), size):
        with ranks.apart(objective, until_last=first + size >= len(batch)):
            loss = objective(batch.part(first, size).to(ranks.device), draws.part(first, size)).sum() / step
            (loss * ranks.world).backward()  # the ranks' gradients are averaged
        losses.append(loss.detach())
    return torch.stack(losses).sum()


def _validate(
    state: TrainState, source: ValidationSource, folder: Path, device: torch.device, write_grid: GridWriter
) -> Validation:
    """Loss of the averaged weights by noise level, and a picture of what they make."""
    with state.averaged() as unet:
        found = validate(state.objective, source(), device)
        grid = sample_grid(unet, source(), device)
    path = grid_path(folder, state.which, state.samples_seen)
    write_grid(path, grid, f"{folder.name}, U-Net {state.which}, {state.samples_seen} samples seen")
    return found


def _note_validation(state: TrainState, found: Validation) -> bool:
    """Keep a validation with the training; whether it is the best so far."""
    best = state.progress.get("best")
    state.progress |= {"validation_loss": found.loss, "validation_levels": list(found.levels)}
    if best is not None and best["validation_loss"] <= found.loss:
        return False
    state.progress["best"] = {"validation_loss": found.loss, "samples_seen": state.samples_seen}
    return True


def _save(
    state: TrainState, folder: Path, keep: int, best: bool, on_checkpoint: Callable[[Saved], None] | None
) -> None:
    saved = keep_checkpoint(state.checkpoint(), folder, keep=keep, best=best)
    write_card(folder)
    if on_checkpoint:
        on_checkpoint(saved)


class _Meter:
    """What happened since the last line of progress."""

    def __init__(self, samples_seen: int) -> None:
        self.since_s, self.since_samples, self.waited_s = 0.0, samples_seen, 0.0
        self.losses: list[Tensor] = []

    def line(
        self, state: TrainState, ranks: Ranks, share: float, elapsed: float, lr: float, seen: Validation | None
    ) -> TrainLog:
        """The line; afterwards the meter starts anew. All ranks call it."""
        seconds = max(elapsed - self.since_s, 1e-9)
        loss = state.progress["loss"] = float(ranks.sum(torch.stack(self.losses).mean()))
        line = TrainLog(
            which=state.which,
            samples_seen=state.samples_seen,
            share=share,
            loss=loss,
            lr=lr,
            samples_per_s=(state.samples_seen - self.since_samples) / seconds,
            wait_share=min(self.waited_s / seconds, 1.0),
            elapsed_s=elapsed,
            memory_bytes=_peak_memory(ranks.device),
            validation=seen,
        )
        self.since_s, self.since_samples, self.waited_s, self.losses = elapsed, state.samples_seen, 0.0, []
        return line


def _next(iterator: Iterator[Batch], samples_seen: int) -> Batch:
    batch = next(iterator, None)
    if batch is None:
        raise ConfigError(f"the batches ran out after {samples_seen} samples", hint="let the source go on for ever")
    return batch


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
