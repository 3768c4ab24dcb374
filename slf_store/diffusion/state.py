"""TrainState: network, average, optimiser and clock of one training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from slf_store.diffusion.checkpoint import (
    Checkpoint,
    checkpoint_path,
    flatten_optimiser,
    load_checkpoint,
    load_weights,
    restore_optimiser,
)
from slf_store.diffusion.config import DiffusionConfig, TrainingConfig, Which
from slf_store.diffusion.draws import seed_of
from slf_store.diffusion.objective import Objective
from slf_store.diffusion.schedule import NoiseSchedule
from slf_store.diffusion.unet import SlfUnet
from slf_store.errors import CheckpointError


class TrainState:
    """What changes while a U-Net is trained, and what a checkpoint keeps.

    Attributes:
        objective: the network and its loss.
        parameters, ema: by name; `ema` is their average.
        samples_seen, steps: so far.
        progress: JSON values that go on with the training: losses, the best validation so far.
    """

    def __init__(
        self, unet: SlfUnet, config: DiffusionConfig, which: Which, device: torch.device | str, extra: dict[str, Any]
    ) -> None:
        training = config.training(which)
        self.unet = unet.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        if training.compile:
            self.unet.compile_for(device)
        self.config, self.which, self.extra = config, which, extra
        self.samples_seen = self.steps = 0
        self.progress: dict[str, Any] = {}
        self.schedule = NoiseSchedule(config.unet(which), device)
        self.objective = Objective(self.unet, self.schedule, training)
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
    ) -> TrainState:
        """First weights from the seed, or the checkpoint that lies in the folder.

        Raises:
            CheckpointError: it is damaged, or of another configuration.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, which))
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
        self.progress = dict(checkpoint.progress)

    def step(self, lr: float, training: TrainingConfig) -> bool:
        """Clip, step, average; False (and nothing changed) when the gradient is not finite."""
        parameters = list(self.parameters.values())
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if training.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, training.clip_norm, norm)
        finite = bool(norm.isfinite())
        if finite:
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            self.optimiser.step()
            self.steps += 1
            every = training.ema_every if self.steps > 100 else 1
            if self.steps % every == 0:
                decay = min(training.ema_decay, (1 + self.steps) / (10 + self.steps)) ** every
                with torch.no_grad():
                    torch._foreach_lerp_(list(self.ema.values()), parameters, 1.0 - decay)
        self.optimiser.zero_grad(set_to_none=True)
        return finite

    @contextmanager
    def averaged(self) -> Iterator[SlfUnet]:
        """The network with its averaged weights, in evaluation mode; afterwards all is as it was."""
        self._swap()
        self.unet.eval()
        try:
            yield self.unet
        finally:
            self.unet.train()
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.ema[name] = self.ema[name], parameter.data

    def checkpoint(self) -> Checkpoint:
        """What it is at this moment; its tensors are the state's own."""
        return Checkpoint(
            config=self.config,
            which=self.which,
            samples_seen=self.samples_seen,
            steps=self.steps,
            weights=self.unet.state_dict(),
            ema=self.ema,
            optimiser=flatten_optimiser(self.optimiser, {p: name for name, p in self.parameters.items()}),
            extra=self.extra,
            progress=self.progress,
        )
