"""Base of extractors that run a network over speech: windows of many clips go through it together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.extractor import Extractor, Value
from slf_store.errors import ModelUnavailable
from slf_store.media.clip import ClipMedia
from slf_store.media.speech import SPEECH_RATE, SPEECH_SECONDS

if TYPE_CHECKING:
    import torch

Window = tuple[float, float]
"""Length and hop in seconds."""

WHOLE: Window = (SPEECH_SECONDS, SPEECH_SECONDS)


@dataclass(eq=False)
class SpeechNetwork(Extractor):
    """A subclass gives :meth:`embed`; its value is one row for each window, in the order of :attr:`windows`.

    Only windows of one length share a batch, so that nothing is ever padded and nothing can leak into an embedding.
    """

    windows: ClassVar[tuple[Window, ...]] = (WHOLE,)
    batch_seconds: ClassVar[dict[str, float]] = {"cpu": 24.0, "cuda": 24.0 * 16}
    """Seconds of speech that go through the network at once, by kind of device. ECAPA takes 5 GB for 16 clips."""

    def embed(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings of n waves of one length, 16 kHz mono: (n, samples) float32 → (n, d) float32."""
        raise NotImplementedError

    @cached_property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch_device(self.settings.device)

    def value(self, rows: NDArray[np.float32]) -> Value:
        """What is stored of one clip's rows, (windows, d) float32: the rows themselves."""
        return rows

    def extract(self, clip: ClipMedia) -> Value:
        (rows,) = self.embed_all([clip.speech])
        return self.value(rows)

    def extract_many(self, clips: Sequence[ClipMedia]) -> list[Value | Exception]:
        """As one by one, but the windows of all clips share batches; a batch that fails is tried clip by clip."""
        results: list[Value | Exception] = [ValueError("not extracted")] * len(clips)
        waves: dict[int, NDArray[np.float32]] = {}
        for position, clip in enumerate(clips):
            try:
                waves[position] = clip.speech
            except Exception as error:
                results[position] = error
        try:
            values = self.embed_all(list(waves.values()))
        except ModelUnavailable:
            raise
        except Exception:
            for position in waves:
                results[position] = self.attempt(clips[position])
            return results
        for position, rows in zip(waves, values, strict=True):
            try:
                results[position] = self.checked(clips[position], self.value(rows))
            except Exception as error:
                results[position] = error
        return results

    def embed_all(self, waves: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Rows of every wave: windows of one length of all waves in batches, put together again by wave."""
        import torch

        parts: list[list[NDArray[np.float32]]] = [[] for _ in waves]
        for window in self.windows:
            pieces = [cut_windows(wave, window) for wave in waves]
            if not pieces:
                continue
            stacked = np.concatenate(pieces)
            at_once = max(1, int(self.batch_seconds[self.device.type] / window[0]))
            with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
                # Otherwise a GPU's values depend on the batch in the third digit.
                rows = np.concatenate(
                    [self.embed(stacked[start : start + at_once]) for start in range(0, len(stacked), at_once)]
                )
            edges = np.cumsum([len(piece) for piece in pieces])[:-1]
            for part, block in zip(parts, np.split(rows, edges), strict=True):
                part.append(block)
        return [np.concatenate(part) for part in parts]


def cut_windows(wave: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Whole windows of a wave: (n, window samples); a rest shorter than a window is left out.

    >>> cut_windows(np.zeros(24 * SPEECH_RATE, np.float32), (6.0, 2.0)).shape
    (10, 96000)
    """
    length, hop = round(window[0] * SPEECH_RATE), round(window[1] * SPEECH_RATE)
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(wave, length)[::hop])


def count_windows(windows: Sequence[Window]) -> int:
    """How many rows these windows give for 24 s of speech.

    >>> count_windows([(3, 1), (6, 2), (12, 4), WHOLE])
    37
    """
    return sum(1 + int((SPEECH_SECONDS - length) // hop) for length, hop in windows)


def torch_device(name: str) -> torch.device:
    """The device of a name; `auto` is the first GPU, or else the CPU.

    Raises:
        ModelUnavailable: there is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelUnavailable(
            f"device {name!r}: {str(error).partition(chr(10))[0]}", hint="set SLF_DEVICE to cpu, cuda or auto"
        ) from error
    return device
