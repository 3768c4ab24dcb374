"""Language spoken, one of CommonLanguage's 45, through SpeechBrain (hub)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.extractor import AttributeValue
from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.speech_network import SpeechNetwork
from slf_store.constituents.speechbrain_encoder import load_encoder
from slf_store.constituents.weights import HUB_INSTALL, Weights
from slf_store.errors import ClipError
from slf_store.media.speech import SPEECH

LABELS = 45
SPELLINGS = {"Ukrainian": "Ukranian", "Mangolian": "Mongolian"}
"""Revisions of the model spell two languages differently; ours is the data set's, of 2021."""
WEIGHTS = Weights(
    model="SpeechBrain ECAPA-TDNN (CommonLanguage)",
    files=("hyperparams.yaml", "embedding_model.ckpt", "classifier.ckpt", "label_encoder.txt"),
    licence="Apache-2.0",
    repo="speechbrain/lang-id-commonlanguage_ecapa",
    revision="bdd7e073671a833c2eb47bd82a5472d92863a453",
    folder="speechbrain/lang-id-commonlanguage_ecapa",
    install=HUB_INSTALL,
    megabytes=83,
)


@dataclass(eq=False)
class CommonLanguage(SpeechNetwork):
    """The language of 24 s of speech, with a score; rows `language` in `attribute`.

    The score is the cosine between the clip and the language in the classifier, 0 to 1; it is no probability.
    """

    name = "language_commonlanguage"
    profiles = frozenset({"hub"})

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (WEIGHTS,)

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "attribute",
            unit="CommonLanguage label; cosine",
            paper="Table 1, language spoken: SpeechBrain CommonLanguage",
            also={"score": "cosine", "spellings": SPELLINGS, "speech": SPEECH},
        )

    def load(self) -> None:
        self._encoder: Any = load_encoder(WEIGHTS, self.settings.models, self.device)
        with WEIGHTS.loading(self.settings.models):
            found = self._encoder.hparams.label_encoder.ind2lab
            self._labels = [SPELLINGS.get(found[index], found[index]) for index in range(len(found))]
            outputs = len(self._encoder.mods.classifier.weight)
            if not len(self._labels) == outputs == LABELS:
                raise ValueError(f"it names {len(self._labels)} languages and scores {outputs}, not {LABELS}")

    def embed(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of each wave and each language: (n, samples) float32 → (n, 45) float32."""
        import torch

        with torch.inference_mode():
            embeddings = self._encoder.encode_batch(torch.from_numpy(waves))
            scores: NDArray[np.float32] = self._encoder.mods.classifier(embeddings)[:, 0].cpu().numpy()
        return scores

    def value(self, rows: NDArray[np.float32]) -> list[AttributeValue]:
        scores = rows[0]
        if not np.isfinite(scores).all():
            raise ClipError("not_finite", f"{self.name}: scores hold NaN or infinity")
        best = int(scores.argmax())
        return [AttributeValue("language", text=self._labels[best], score=float(np.clip(scores[best], 0, 1)))]
