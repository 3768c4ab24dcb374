"""Resemblyzer speaker embedding of the whole clip, from the weights in its package (offline)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.speech_network import SpeechNetwork
from slf_store.constituents.weights import Weights
from slf_store.media.speech import SPEECH

DIMENSION = 256
LOUDNESS_DBFS = -30.0
"""Quieter speech is made this loud: the network sees power, not its logarithm, and so hears how loud a voice is."""
PARTIALS_PER_S = 1.3
"""How often a window of 1.6 s begins; the library's default."""
COVERAGE = 0.75
"""Share of the last window that has to be speech; the library's default."""
WEIGHTS = Weights(
    model="Resemblyzer (GE2E voice encoder)",
    files=("pretrained.pt",),
    licence="Apache-2.0",
    package="resemblyzer",
    install="pip install --no-deps resemblyzer==0.1.4 && pip install 'slf-store[offline]'",
    megabytes=17,
)


@dataclass(eq=False)
class ResemblyzerVoice(SpeechNetwork):
    """256-d Resemblyzer embedding of 24 s of speech: (1, 256) float32, ≥ 0, of length 1.

    The library's own volume normalisation and its mean over windows of 1.6 s. Silence is not cut out, as the library's
    `preprocess_wav` would, so that every constituent is made from the same 24 s.
    """

    name = "resemblyzer"
    profiles = frozenset({"offline"})

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (WEIGHTS,)

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "array",
            (1, DIMENSION),
            "float32",
            unit="embedding",
            paper="Table 1, speaker embeddings (one more that runs offline)",
            also={
                "coverage": COVERAGE,
                "loudness_dbfs": LOUDNESS_DBFS,
                "partials_per_s": PARTIALS_PER_S,
                "silence_cut": False,
                "speech": SPEECH,
            },
        )

    def load(self) -> None:
        with WEIGHTS.loading(self.settings.models) as folder:
            from resemblyzer import VoiceEncoder

            self._encoder: Any = VoiceEncoder(self.device, verbose=False, weights_fpath=folder / WEIGHTS.files[0])

    def embed(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        from resemblyzer import normalize_volume

        return np.stack(
            [
                self._encoder.embed_utterance(
                    normalize_volume(wave, LOUDNESS_DBFS, increase_only=True),
                    rate=PARTIALS_PER_S,
                    min_coverage=COVERAGE,
                )
                for wave in waves
            ]
        )
