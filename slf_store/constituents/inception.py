"""Inception features of pictures, for FID. They are no constituent: evaluations ask for them, extraction never does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.download import download
from slf_store.constituents.frozen import Network, freeze_for_inference
from slf_store.constituents.speech_network import torch_device
from slf_store.constituents.weights import HUB_INSTALL, Weights
from slf_store.media.face import TARGET_SIZE
from slf_store.settings import Settings

if TYPE_CHECKING:
    import torch

WEIGHTS = Weights(
    model="Inception v3 of FID (2015-12-05)",
    files=("pt_inception-2015-12-05-6726825d.pth",),
    licence="Apache-2.0",
    install=HUB_INSTALL,
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/",
    folder="pytorch-fid",
    fetch="run `slf models fid --download`",
    megabytes=96,
)


@dataclass(eq=False)
class InceptionFeatures:
    """The network of FID (Heusel et al. 2017) with its published weights: what `slf models` calls `fid`.

    Attributes:
        settings: of the store.
    """

    settings: Settings
    name: ClassVar[str] = "fid"
    profiles: ClassVar[frozenset[str]] = frozenset({"hub"})
    weights: ClassVar[tuple[Weights, ...]] = (WEIGHTS,)
    batch: ClassVar[dict[str, int]] = {"cpu": 16, "cuda": 256}
    """Pictures that go through the network at once, by kind of device. 16 take 0.2 GB."""

    @property
    def is_here(self) -> bool:
        """Whether the weights are in the models folder."""
        return not WEIGHTS.missing(self.settings.models)

    def download(self) -> None:
        """Fetch the weights into the models folder; does nothing where they are.

        Raises:
            ModelUnavailable: they cannot be had.
        """
        download(WEIGHTS, self.settings.models)

    def load(self) -> None:
        """Load the network.

        Raises:
            ModelUnavailable: the weights or torch are missing, or the file is damaged or another network's.
        """
        import torch

        with WEIGHTS.loading(self.settings.models) as folder:
            from slf_store.constituents.inception_network import Inception

            network = Inception()
            state = torch.load(folder / WEIGHTS.files[0], map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        example = torch.zeros(1, 3, TARGET_SIZE, TARGET_SIZE, device=self.device)
        self._network: Network = freeze_for_inference(network.requires_grad_(False).to(self.device), example)

    @cached_property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch_device(self.settings.device)

    def features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of pictures of one size: (n, h, w, 3) uint8 RGB → (n, 2048) float32.

        As pytorch-fid feeds them: 0 to 1, resized to 299×299 by the network itself (bilinear, without smoothing).
        About 0.1 s a picture on one core.
        """
        import torch

        from slf_store.constituents.inception_network import FEATURES

        at_once = self.batch[self.device.type]
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            found = [
                self._network(self._input(pictures[start : start + at_once])).cpu().numpy()
                for start in range(0, len(pictures), at_once)
            ]
        return np.concatenate([np.empty((0, FEATURES), np.float32), *found])

    def _input(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        import torch

        return torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float().div(255)
