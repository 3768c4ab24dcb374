"""A layout as a picture: rows coloured by input and, for a clip, its values and its mask beside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slf_store.errors import ConfigError, SelectionError
from slf_store.query.clip_matrix import ClipMatrix
from slf_store.query.layout import COLUMNS, ROWS, Block, Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
DPI = 110
LABEL_ROWS = 6.0
"""Least distance of two labels, in rows of the matrix."""
PALE = 0.3
"""How strong the colour of a row is outside the columns that its input fills."""
SHOWN = 3.0
"""Values are coloured from -3 to 3; what lies outside has the colour of the end."""


def draw_layout(layout: Layout, path: Path, clip: ClipMatrix | None = None) -> None:
    """Draw a layout into a PNG or SVG file, whole or not at all.

    Args:
        layout: what to draw.
        path: file to write, `.png` or `.svg`; what is there is replaced.
        clip: values and mask to draw beside. They are features of a person: handle the picture like the store.

    Raises:
        SelectionError: another kind of file, or it cannot be written.
        ConfigError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise SelectionError(f"picture {path}", hint=f"end its name in {' or '.join(FORMATS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("pictures need matplotlib", hint="pip install 'slf-store[tools]'") from None

    figure = Figure(figsize=(14 if clip else 9.5, 9), dpi=DPI, layout="constrained")
    if clip is None:
        axes = [figure.subplots()]
        figure.suptitle(f"layout {layout.name}")
    else:
        axes = list(figure.subplots(1, 3, sharey=True, width_ratios=(10, 10, 1.2)))
        made_up = ", synthetic" if clip.synthetic else ""
        figure.suptitle(f"layout {layout.name}: clip {clip.clip}{made_up} ({clip.statistics})")
        image = axes[1].imshow(
            clip.values, cmap="RdBu_r", vmin=-SHOWN, vmax=SHOWN, aspect="auto", interpolation="nearest"
        )
        axes[1].set(title="values", xlabel="column")
        figure.colorbar(image, ax=axes[1], extend="both", fraction=0.035, pad=0.02)
        axes[2].imshow(1 - clip.mask[:, None], cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes[2].set(title="mask", xlabel="black:\nvisible", xticks=[])
    _draw_blocks(axes[0], layout)
    _write(path, figure)


def _draw_blocks(axes: Axes, layout: Layout) -> None:
    from matplotlib import colormaps

    colours = [colour for i in (0, 1) for colour in colormaps["tab20"].colors[i::2]]  # type: ignore[attr-defined]
    picture = np.ones((ROWS, COLUMNS, 3))
    blocks = sorted(layout.blocks, key=lambda block: block.first)
    heights = _spread([block.first + (block.rows - 1) / 2 for block in blocks])
    for i, (block, height) in enumerate(zip(blocks, heights, strict=True)):
        colour = np.array(colours[i % len(colours)])
        rows, _ = block.area
        picture[rows] = 1 - PALE * (1 - colour)
        picture[block.area] = colour
        axes.annotate(
            _label(block),
            xy=(COLUMNS, block.first + (block.rows - 1) / 2),
            xytext=(COLUMNS * 1.12, height),
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 0},
        )
    axes.imshow(picture, aspect="auto", interpolation="nearest")
    axes.set(title="rows and columns", ylabel="row", xlabel="column")
    axes.set_yticks([0, 32, 64, 96, 128, 160, 192, 224, 255])
    axes.set_xticks([0, 192, 384, 576, 767])


def _label(block: Block) -> str:
    last = block.first + block.rows - 1
    where = f"{block.first}" if block.rows == 1 else f"{block.first}–{last}"
    return f"{block.name}  {where}  ({block.rows}×{block.columns}, {block.scaling})"


def _spread(wanted: list[float]) -> list[float]:
    """Heights of labels: near what is wanted (in rising order), pushed apart, within the rows where they fit.

    >>> _spread([0.0, 1.0, 100.0])
    [0.0, 6.0, 100.0]
    """
    heights: list[float] = []
    for height in wanted:
        heights.append(max(height, heights[-1] + LABEL_ROWS) if heights else height)
    limit = float(ROWS - 1)
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], limit)
        limit = heights[i] - LABEL_ROWS
    return heights


def _write(path: Path, figure: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(
            temporary, format=path.suffix[1:].lower(), metadata={"Date": None} if "svg" in path.suffix else None
        )
        temporary.replace(path)
    except OSError as error:
        raise SelectionError(
            f"picture {path} cannot be written: {error.strerror}", hint="choose another path"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
