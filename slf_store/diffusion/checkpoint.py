"""Checkpoint: one safetensors file with weights, their average, the optimiser and where training stands.

No pickle anywhere. Written beside its final name, flushed to the disk and renamed: a process killed at any moment
leaves either the old checkpoint or the new one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from slf_store.diffusion.config import DiffusionConfig, Which
from slf_store.diffusion.unet import SlfUnet
from slf_store.errors import CheckpointError, ConfigError

FORMAT = "slf-checkpoint-1"
Role = Literal["last", "best"]
"""The checkpoint that training goes on from, or the one with the lowest validation loss."""
LIBRARIES = ("torch", "diffusers", "safetensors")
"""Whose versions a checkpoint names."""
PARTS = ("weights", "ema", "optimiser")


@dataclass
class Checkpoint:
    """Everything a U-Net's training is at one moment.

    Tensors lie flat by name: parameters as in `SlfUnet.state_dict()`, optimiser state as `<parameter>|<key>`.
    """

    config: DiffusionConfig
    which: Which
    samples_seen: int
    steps: int
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimiser: dict[str, Tensor] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    """JSON values of the caller: snapshot hash, code version, licence notes."""
    progress: dict[str, Any] = field(default_factory=dict)
    """JSON values of the training: its last losses, the best validation so far."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Versions that wrote the file; only a loaded checkpoint knows them."""

    def unet(self, device: torch.device | str = "cpu", *, averaged: bool = True) -> SlfUnet:
        """The network with its averaged (EMA) or raw weights, in evaluation mode."""
        with torch.device("meta"):
            unet = SlfUnet(self.config.unet(self.which))
        unet.to_empty(device=device)
        load_weights(unet, self.ema if averaged else self.weights)
        return unet.eval()


def checkpoint_path(folder: Path | str, which: Which, role: Role = "last") -> Path:
    """Where U-Net `which` of a run lies: the last checkpoint, or the best one.

    >>> checkpoint_path("run", 2).as_posix(), checkpoint_path("run", 2, "best").as_posix()
    ('run/unet2.safetensors', 'run/unet2-best.safetensors')
    """
    return Path(folder) / f"unet{which}{'' if role == 'last' else '-best'}.safetensors"


def save_checkpoint(checkpoint: Checkpoint, folder: Path | str) -> Path:
    """Write a checkpoint atomically, replacing the one before.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    path = checkpoint_path(folder, checkpoint.which)
    partial = path.with_name(f".{path.name}.partial") / path.name
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part in PARTS
        for name, tensor in getattr(checkpoint, part).items()
    }
    metadata = {
        "format": FORMAT,
        "config": checkpoint.config.to_json(),
        "which": str(checkpoint.which),
        "samples_seen": str(checkpoint.samples_seen),
        "steps": str(checkpoint.steps),
        "extra": json.dumps(checkpoint.extra, sort_keys=True),
        "progress": json.dumps(checkpoint.progress, sort_keys=True),
        "libraries": json.dumps({name: version(name) for name in LIBRARIES}),
    }
    try:
        shutil.rmtree(partial.parent, ignore_errors=True)
        partial.parent.mkdir(parents=True)
        save_file(tensors, partial, metadata)
        _flush(partial)
        partial.replace(path)
        _flush(path.parent)
        partial.parent.rmdir()
    except OSError as error:
        shutil.rmtree(partial.parent, ignore_errors=True)
        raise CheckpointError(f"cannot write checkpoint {path}: {error}", hint="check space and rights") from error
    return path


def load_checkpoint(
    folder: Path | str, which: Which, role: Role = "last", *, parts: tuple[str, ...] = PARTS
) -> Checkpoint:
    """Read U-Net `which` of a run folder, as :func:`read_checkpoint` does."""
    return read_checkpoint(checkpoint_path(folder, which, role), which, parts=parts)


def read_checkpoint(path: Path, which: Which, *, parts: tuple[str, ...] = PARTS) -> Checkpoint:
    """Read a checkpoint; `parts=("ema",)` reads only what sampling needs, `parts=()` only what its header says.

    Raises:
        CheckpointError: missing, cut short, not a checkpoint, or of the other U-Net.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}", hint=f"train U-Net {which} of this run first")
    found: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    try:
        with safe_open(path, "pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            for key in file.keys() if parts else ():
                part, _, name = key.partition("/")
                if part in parts:
                    found[part][name] = file.get_tensor(key)
        if metadata.get("format") != FORMAT or metadata["which"] != str(which):
            raise CheckpointError(f"{path} is not a checkpoint of U-Net {which}", hint="check the run folder")
        return Checkpoint(
            config=DiffusionConfig.from_json(metadata["config"]),
            which=which,
            samples_seen=int(metadata["samples_seen"]),
            steps=int(metadata["steps"]),
            extra=json.loads(metadata["extra"]),
            progress=json.loads(metadata.get("progress", "{}")),
            libraries=json.loads(metadata.get("libraries", "{}")),
            **found,
        )
    except CheckpointError:
        raise
    except (SafetensorError, ConfigError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged: {error}", hint="delete it and train again, or restore a copy"
        ) from error


def load_weights(unet: SlfUnet, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a network of the same shape.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        unet.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(
            f"weights do not fit the network: {error}", hint="use the preset it was trained with"
        ) from (error)


def flatten_optimiser(optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """Optimiser state as named tensors: `<parameter>|<key>`."""
    return {
        f"{names[parameter]}|{key}": torch.as_tensor(value)
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> None:
    """Put named tensors back into an optimiser of the same parameters.

    Raises:
        CheckpointError: state of an unknown parameter, or of another shape.
    """
    for label, tensor in state.items():
        name, _, key = label.rpartition("|")
        parameter = parameters.get(name)
        if parameter is None or (tensor.ndim and tensor.shape != parameter.shape):
            raise CheckpointError(
                f"optimiser state {label!r} does not fit the network", hint="use the preset it was trained with"
            )
        # A parameter's state lies in memory as the parameter does: fused optimisers walk them side by side.
        optimiser.state[parameter][key] = torch.empty_like(parameter).copy_(tensor) if tensor.ndim else tensor


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
