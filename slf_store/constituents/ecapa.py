"""ECAPA-TDNN speaker embeddings through SpeechBrain: of the whole clip, and of sliding windows (hub)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.speech_network import WHOLE, SpeechNetwork, Window, count_windows
from slf_store.constituents.speechbrain_encoder import load_encoder
from slf_store.constituents.weights import HUB_INSTALL, Weights
from slf_store.media.speech import SPEECH

DIMENSION = 192
WEIGHTS = Weights(
    model="SpeechBrain ECAPA-TDNN (VoxCeleb)",
    files=(
        "hyperparams.yaml",
        "embedding_model.ckpt",
        "mean_var_norm_emb.ckpt",
        "classifier.ckpt",
        "label_encoder.txt",
    ),
    licence="Apache-2.0",
    repo="speechbrain/spkrec-ecapa-voxceleb",
    revision="5c0be3875fda05e81f3c004ed8c7c06be308de1e",
    folder="speechbrain/spkrec-ecapa-voxceleb",
    install=HUB_INSTALL,
    megabytes=89,
)


@dataclass(eq=False)
class Ecapa(SpeechNetwork):
    """192-d ECAPA embedding of 24 s of speech: (1, 192) float32, as the network gives it (not normalised)."""

    name = "ecapa"
    profiles = frozenset({"hub"})
    windows: ClassVar[tuple[Window, ...]] = (WHOLE,)

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (WEIGHTS,)

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "array",
            (count_windows(self.windows), DIMENSION),
            "float32",
            unit="embedding",
            paper="Table 1, SpeechBrain ECAPA",
            also={"windows": self.windows, "speech": SPEECH},
        )

    def load(self) -> None:
        self._encoder: Any = load_encoder(WEIGHTS, self.settings.models, self.device)

    def embed(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            embeddings: NDArray[np.float32] = self._encoder.encode_batch(torch.from_numpy(waves))[:, 0].cpu().numpy()
        return embeddings


@dataclass(eq=False)
class EcapaWindows(Ecapa):
    """The same of sliding windows: (14, 192) float32; rows 0-9 are 6 s long, 2 s apart, rows 10-13 12 s, 4 s apart."""

    name = "ecapa_windows"
    windows: ClassVar[tuple[Window, ...]] = ((6.0, 2.0), (12.0, 4.0))
