"""NVIDIA NeMo speaker embeddings, TitaNet-L and SpeakerNet, through their ONNX exports and sherpa-onnx (hub)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.speech_network import SpeechNetwork
from slf_store.constituents.weights import HUB_INSTALL, Weights
from slf_store.media.speech import SPEECH, SPEECH_RATE

RELEASE = "https://github.com/k2-fsa/sherpa-onnx/releases/download/speaker-recongition-models/"
"""Release of the sherpa-onnx project with NeMo's published models as ONNX; the spelling is its own."""
FOLDER = "sherpa-onnx/speaker-recongition-models"


@dataclass(eq=False)
class NemoSpeaker(SpeechNetwork):
    """Base: a NeMo speaker network of the whole clip, on the CPU with one thread.

    sherpa-onnx takes one clip at a time and computes the features itself, so a batch is a loop: a value never depends
    on the clips beside it.
    """

    profiles = frozenset({"hub"})
    dimension: ClassVar[int]
    export: ClassVar[Weights]
    paper: ClassVar[str]

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (self.export,)

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "array",
            (1, self.dimension),
            "float32",
            unit="embedding",
            paper=self.paper,
            also={"features": "sherpa-onnx, NeMo's log-mel filter bank", "speech": SPEECH},
        )

    def load(self) -> None:
        with self.export.loading(self.settings.models) as folder:
            import sherpa_onnx

            (name,) = self.export.files
            check_export(folder / name, self.dimension)
            config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(
                model=str(folder / name), num_threads=1, provider="cpu"
            )
            self._extractor: Any = sherpa_onnx.SpeakerEmbeddingExtractor(config)

    def embed(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([self._embed_one(wave) for wave in waves])

    def _embed_one(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        stream = self._extractor.create_stream()
        stream.accept_waveform(SPEECH_RATE, wave)
        stream.input_finished()
        return np.array(self._extractor.compute(stream), np.float32)


@dataclass(eq=False)
class TitaNet(NemoSpeaker):
    """192-d TitaNet-L embedding of 24 s of speech: (1, 192) float32, as the network gives it (not normalised)."""

    name = "titanet"
    dimension = 192
    export = Weights(
        model="NeMo TitaNet-L (ONNX)",
        files=("nemo_en_titanet_large.onnx",),
        licence="CC-BY-4.0",
        url=RELEASE,
        folder=FOLDER,
        install=HUB_INSTALL,
        megabytes=97,
    )
    paper = "Table 1, NeMo TitaNet-L (published code: times 10)"


@dataclass(eq=False)
class SpeakerNet(NemoSpeaker):
    """256-d SpeakerNet embedding of 24 s of speech: (1, 256) float32, as the network gives it (not normalised)."""

    name = "speakernet"
    dimension = 256
    export = Weights(
        model="NeMo SpeakerNet (ONNX)",
        files=("nemo_en_speakerverification_speakernet.onnx",),
        licence="NGC Terms of Use",
        url=RELEASE,
        folder=FOLDER,
        install=HUB_INSTALL,
        megabytes=22,
    )
    paper = "Table 1, NeMo SpeakerNet"


def check_export(file: Path, dimension: int) -> None:
    """Look at an export before sherpa-onnx does, which ends the whole process where it finds a fault.

    Raises:
        ValueError: it is no NeMo export of a speaker network with this dimension.
        Exception: ONNX Runtime cannot read it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    numbers = ("output_dim", "sample_rate", "feat_dim", "window_size_ms", "window_stride_ms")
    if lacking := [name for name in (*numbers, "framework", "language") if not found.get(name)]:
        raise ValueError(f"its metadata lacks {', '.join(lacking)}")
    expected = {"framework": {"nemo"}, "output_dim": {str(dimension)}, "sample_rate": {str(SPEECH_RATE)}}
    expected["feature_normalize_type"] = {"", "per_feature"}
    for name, allowed in expected.items():
        if found.get(name, "") not in allowed:
            raise ValueError(f"its metadata says {name} = {found[name]}, not {' or '.join(sorted(allowed))}")
    if any(not found[name].isdigit() for name in numbers) or len(session.get_outputs()) < 2:
        raise ValueError("it is no speaker network of NeMo")
