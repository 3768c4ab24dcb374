"""Log-mel spectrogram of the whole clip through librosa."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from slf_store.constituents.extractor import Extractor
from slf_store.constituents.spec import ConstituentSpec
from slf_store.media.clip import ClipMedia
from slf_store.media.speech import SPEECH, SPEECH_RATE, SPEECH_SAMPLES

AMIN = 1e-10
"""Power below which the logarithm is cut, -100 dB."""


@dataclass(eq=False)
class Mel(Extractor):
    """librosa mel spectrogram, power in dB: (frames, mels) float16, time first; (111, 128) by default.

    Attributes:
        n_fft: samples of a window; 512 are 32 ms at 16 kHz.
        hop: samples between frames; 3490 are 0.218 s, so that 24 s give 111 centred frames.
        mels: bands.
    """

    name = "mel"
    n_fft: PositiveInt = 512
    hop: PositiveInt = 3490
    mels: PositiveInt = 128

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "array",
            (1 + SPEECH_SAMPLES // self.hop, self.mels),
            "float16",
            unit="dB",
            paper="Table 1, librosa mel spectrogram (published code: same size, hop counted at another rate)",
            also={"rate": SPEECH_RATE, "power": 2.0, "amin": AMIN, "speech": SPEECH},
        )

    def extract(self, clip: ClipMedia) -> NDArray[np.float16]:
        import librosa

        power = librosa.feature.melspectrogram(
            y=clip.speech, sr=SPEECH_RATE, n_fft=self.n_fft, hop_length=self.hop, n_mels=self.mels, power=2.0
        )
        decibel = librosa.power_to_db(power, ref=1.0, amin=AMIN, top_db=None)
        return np.ascontiguousarray(decibel.T, dtype=np.float16)
