"""The pitch of the voice, as long as the clip is: an extractor of somebody else's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from slf_store.constituents.extractor import Extractor
from slf_store.constituents.spec import ConstituentSpec
from slf_store.media.clip import ClipMedia
from slf_store.media.speech import SPEECH_RATE, SPEECH_SAMPLES


@dataclass(eq=False)
class Pitch(Extractor):
    """Fundamental frequency by YIN: (frames, 1) float32 in Hz, one frame every `hop` samples of 16 kHz speech."""

    name = "pitch"
    hop: PositiveInt = 256
    lowest: PositiveFloat = 65.0
    highest: PositiveFloat = 400.0

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "array", (1 + SPEECH_SAMPLES // self.hop, 1), "float32", unit="Hz", paper="none", variable=True
        )

    def extract(self, clip: ClipMedia) -> NDArray[np.float32]:
        import librosa

        speech = clip.recorded_speech
        pitch = librosa.yin(speech, fmin=self.lowest, fmax=self.highest, sr=SPEECH_RATE, hop_length=self.hop)
        return pitch.astype(np.float32)[:, None]
