"""Model card: what lies in a run's folder, for whoever finds it. Written from the checkpoints' own headers."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slf_store.diffusion.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from slf_store.diffusion.config import Which

CODE_LICENCE = "Apache-2.0"
DATA_NOTES = {
    True: "The people in the training data are synthetic: drawn and voiced by a program, no real person among them.",
    False: "The training data shows and lets hear real people. VoxCeleb2 is given out for research only; what was "
    "learned from it stays under its terms. Use these weights only on people who consented, and never to identify, or "
    "to make pictures of, strangers. A generated face is a guess, not evidence of what somebody looks like.",
    None: "Whose faces and voices the training data holds is not stated here: take them for real people's, for "
    "research only, and identify no strangers with these weights.",
}
"""By whether the training data is synthetic; None = unknown."""

FACTS = {
    "system": "System",
    "inputs": "Inputs",
    "snapshot": "Snapshot",
    "snapshot_hash": "Snapshot hash",
    "clips": "Training clips",
    "identities": "Training identities",
    "validation_clips": "Validation clips",
    "validation_identities": "Validation identities",
    "seed": "Seed",
    "slf_store": "slf-store",
}
"""What a training says in `extra`, and how the card calls it."""


def write_card(folder: Path | str) -> Path:
    """Write `README.md` of a run folder, atomically, from the checkpoints that lie in it."""
    path = Path(folder) / "README.md"
    found = [load_checkpoint(folder, which, parts=()) for which in _there(folder)]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(card(found, Path(folder).name), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def card(checkpoints: list[Checkpoint], name: str) -> str:
    """The text: facts, numbers, terms, configuration.

    Args:
        checkpoints: of one run, at least one; their headers are enough.
        name: of the run.
    """
    newest = max(checkpoints, key=lambda checkpoint: checkpoint.samples_seen)
    extra = newest.extra
    lines = [
        f"# {name}",
        "",
        "Weights of a diffusion model after the paper *Speaking the Language of Faces*: faces from what is known of a "
        "speaker's voice, attributes and, where the system has it, an 8×8 picture. U-Net 1 makes 32×32 pictures, "
        "U-Net 2 makes 128×128 pictures of them.",
        "",
        *(f"- {label}: {_told(extra[key])}" for key, label in FACTS.items() if key in extra),
        f"- Preset: {newest.config.preset}",
        *(f"- {library}: {number}" for library, number in newest.libraries.items()),
        f"- Licence of the code: {CODE_LICENCE}",
        "",
        "## Data",
        "",
        extra.get("data_notes", DATA_NOTES[None]),
        "",
        "## Training",
        "",
        "| U-Net | samples seen | steps | loss | validation loss | best validation loss | at samples |",
        "|---|---|---|---|---|---|---|",
        *(_row(checkpoint) for checkpoint in checkpoints),
        "",
        "Each file holds the weights, their average (used for sampling), the optimiser's state, and these facts in its "
        "header; no pickle. Losses are the training's own weighted squared errors.",
        "",
        "## Configuration",
        "",
        "```json",
        json.dumps(asdict(newest.config), indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def _there(folder: Path | str) -> list[Which]:
    both: tuple[Which, ...] = (1, 2)
    return [which for which in both if checkpoint_path(folder, which).is_file()]


def _row(checkpoint: Checkpoint) -> str:
    progress = checkpoint.progress
    best = progress.get("best", {})
    cells = [
        checkpoint.which,
        checkpoint.samples_seen,
        checkpoint.steps,
        _number(progress.get("loss")),
        _number(progress.get("validation_loss")),
        _number(best.get("validation_loss")),
        best.get("samples_seen", "–"),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
