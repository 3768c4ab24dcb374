"""Which checkpoints of a U-Net stay: the last, some earlier ones, and the best."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from slf_store.diffusion.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from slf_store.diffusion.config import Which
from slf_store.errors import CheckpointError


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written, and the files that lie beside it now.

    Attributes:
        checkpoint: what was written.
        path: of it.
        earlier: {samples seen: file} of those before it that were kept.
        best: the file with the lowest validation loss, and whether it is this very checkpoint.
    """

    checkpoint: Checkpoint
    path: Path
    earlier: dict[int, Path] = field(default_factory=dict)
    best: Path | None = None
    is_best: bool = False


def keep_checkpoint(checkpoint: Checkpoint, folder: Path, *, keep: int = 1, best: bool = False) -> Saved:
    """Write a checkpoint as the last one; the one before gets a name of its own while it is among the last `keep`.

    Names are hard links where the disk has them, so that a checkpoint lies there once.

    Args:
        checkpoint: to write.
        folder: of the run.
        keep: how many of the last ones to keep, this one included.
        best: whether it has the lowest validation loss so far.

    Raises:
        CheckpointError: the folder cannot be written; the checkpoint before is as it was.
    """
    which, last = checkpoint.which, checkpoint_path(folder, checkpoint.which)
    try:
        if keep > 1 and last.exists():
            seen = load_checkpoint(folder, which, parts=()).samples_seen
            _second_name(last, folder / f"unet{which}-{seen:09}.safetensors")
        save_checkpoint(checkpoint, folder)
        if best:
            _second_name(last, checkpoint_path(folder, which, "best"))
        earlier = earlier_checkpoints(folder, which)
        kept = sorted(seen for seen in earlier if seen < checkpoint.samples_seen)[-(keep - 1) :] if keep > 1 else []
        for seen, path in earlier.items():
            if seen not in kept:
                path.unlink()
    except OSError as error:
        raise CheckpointError(f"cannot keep checkpoints in {folder}: {error}", hint="check space and rights") from error
    best_path = checkpoint_path(folder, which, "best")
    return Saved(
        checkpoint, last, {seen: earlier[seen] for seen in kept}, best_path if best_path.exists() else None, best
    )


def earlier_checkpoints(folder: Path, which: Which) -> dict[int, Path]:
    """{samples seen: file} of the checkpoints kept under a number."""
    named = re.compile(rf"unet{which}-(\d+)\.safetensors")
    found = ((named.fullmatch(path.name), path) for path in folder.glob(f"unet{which}-*.safetensors"))
    return {int(match[1]): path for match, path in found if match}


def _second_name(path: Path, name: Path) -> None:
    """Atomically give a file another name too; a copy where the disk has no links."""
    temporary = name.with_name(f".{name.name}.partial")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(name)
    temporary.unlink(missing_ok=True)  # POSIX leaves it there when both were the same file already
