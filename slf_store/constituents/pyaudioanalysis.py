"""Classical short-term audio features through pyAudioAnalysis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from slf_store.constituents.extractor import Extractor
from slf_store.constituents.spec import ConstituentSpec
from slf_store.media.clip import ClipMedia
from slf_store.media.speech import SPEECH, SPEECH_RATE, SPEECH_SAMPLES, SPEECH_SECONDS

FEATURES = 68
"""34 short-term features and their 34 deltas."""


@dataclass(eq=False)
class PyAudioAnalysis(Extractor):
    """pyAudioAnalysis short-term features with deltas: (frames, 68) float16, time first; (79, 68) by default.

    Attributes:
        window_s: seconds, 0.02 (the library cannot make chroma features of less) to 24.
        hop_s: seconds, 0.001 to 24.
    """

    name = "pyaudioanalysis"
    window_s: Annotated[float, Field(ge=0.02, le=SPEECH_SECONDS)] = 0.5
    hop_s: Annotated[float, Field(ge=0.001, le=SPEECH_SECONDS)] = 0.3

    @cached_property
    def spec(self) -> ConstituentSpec:
        window, hop = self._samples
        return self.declare(
            "array",
            (1 + (SPEECH_SAMPLES - window) // hop, FEATURES),
            "float16",
            unit="mixed, see pyAudioAnalysis",
            paper="Table 1, pyAudioAnalysis features (window 0.5 s, hop 0.3 s)",
            also={"rate": SPEECH_RATE, "deltas": True, "speech": SPEECH},
        )

    @property
    def _samples(self) -> tuple[int, int]:
        return round(self.window_s * SPEECH_RATE), round(self.hop_s * SPEECH_RATE)

    def load(self) -> None:
        import matplotlib

        matplotlib.use("Agg")

    def extract(self, clip: ClipMedia) -> NDArray[np.float16]:
        from pyAudioAnalysis import ShortTermFeatures

        features, _ = ShortTermFeatures.feature_extraction(
            clip.speech.astype(np.float64), SPEECH_RATE, *self._samples, deltas=True
        )
        return np.ascontiguousarray(features.T, dtype=np.float16)
