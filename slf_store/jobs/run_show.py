"""Everything there is to know of a run, for people and programs."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from slf_store.jobs.checkpoint_rows import checkpoint_rows
from slf_store.jobs.run_log import READ
from slf_store.jobs.training import run_row
from slf_store.store import Store

BARS = "▁▂▃▄▅▆▇█"


def describe_run(store: Store, name: str) -> dict[str, Any]:
    """A run: what it was trained on, its U-Nets with their checkpoints, losses and loss curve, its grids.

    Raises:
        NotFoundInStore: there is none of that name.
    """
    from slf_store.diffusion.config import DiffusionConfig

    run = run_row(store, name)
    config = DiffusionConfig.from_json(json.dumps(run["config"]))
    rows = checkpoint_rows(store, run["id"])
    with store.engine.connect() as connection:
        lines = [dict(line) for line in connection.execute(READ, {"run": run["id"]}).mappings()]
    folder = store.runs / name
    return {
        "name": name,
        "system": run["system"],
        "inputs": run["inputs"],
        "guide": run["guide"],
        "preset": run["preset"],
        "seed": run["seed"],
        "snapshot": run["snapshot"],
        "snapshot_hash": run["snapshot_hash"],
        "created_at": run["created_at"],
        "unets": [_unet(config, unet, rows, [line for line in lines if line["unet"] == unet]) for unet in (1, 2)],
        "erased_clips": max((row["erased_clips"] for row in rows), default=0),
        "grids": [path.relative_to(store.settings.home).as_posix() for path in sorted(folder.glob("grids/*.png"))],
        "card": (folder / "README.md").relative_to(store.settings.home).as_posix()
        if (folder / "README.md").is_file()
        else None,
    }


def _unet(config: Any, unet: Any, rows: list[dict[str, Any]], lines: list[dict[str, Any]]) -> dict[str, Any]:
    validated = [line for line in lines if line["validation_loss"] is not None]
    return {
        "unet": unet,
        "parameters": count_parameters(config.unet(unet)),
        "guide_dropout": config.training(unet).guide_dropout,
        "checkpoints": [row for row in rows if row["unet"] == unet],
        "loss": lines[-1]["loss"] if lines else None,
        "loss_curve": sparkline([line["loss"] for line in lines]),
        "samples_per_s": lines[-1]["samples_per_s"] if lines else None,
        "wait_share": lines[-1]["wait_share"] if lines else None,
        "memory_bytes": lines[-1]["memory_bytes"] if lines else None,
        "validation_loss": validated[-1]["validation_loss"] if validated else None,
        "validation_levels": validated[-1]["validation_levels"] if validated else None,
        "validation_curve": sparkline([line["validation_loss"] for line in validated]),
    }


def count_parameters(config: Any) -> int:
    """Parameters of a U-Net; nothing is computed, and no memory taken.

    >>> from slf_store.diffusion.config import preset
    >>> 4_000_000 < count_parameters(preset("tiny").unet1) < 5_000_000
    True
    """
    import torch

    from slf_store.diffusion.unet import SlfUnet

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in SlfUnet(config).parameters())


def sparkline(values: list[float], width: int = 60) -> str:
    """A curve as one line of text: means of equal stretches, the lowest ▁, the highest █.

    >>> sparkline([8, 4, 2, 1, 1])
    '█▄▂▁▁'
    """
    count = min(width, len(values))
    edges = [i * len(values) // count for i in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(BARS[round((mean - low) / span * (len(BARS) - 1)) if span else 0] for mean in means)
