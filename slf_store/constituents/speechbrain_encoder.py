"""Loading SpeechBrain's `EncoderClassifier` from a local folder, once per process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slf_store.compat import import_speechbrain_classifiers
from slf_store.constituents.weights import Weights

if TYPE_CHECKING:
    import torch

NETWORKS = ("embedding_model", "classifier")


def load_encoder(weights: Weights, models: Path, device: torch.device) -> Any:
    """The encoder of these weights on a device; extractors of one process that ask for the same get the same.

    Reads only the folder: SpeechBrain's own `hyperparams.yaml` names the hub for the checkpoints, which is overridden.
    That file is code as much as data (it names the classes to build), so a revision of the hub's is pinned and its
    checksum is part of the spec. Checkpoints are read with `weights_only=True`, torch's default.

    Raises:
        ModelUnavailable: files or the library are missing, or the files are damaged or of another model.
    """
    name = str(device) if device.index is not None or device.type == "cpu" else f"{device.type}:0"
    return _load(weights, models, name, tuple(weights.checksums(models).items()))


@lru_cache(maxsize=4)
def _load(weights: Weights, models: Path, device: str, checksums: tuple[tuple[str, str], ...]) -> Any:
    with weights.loading(models) as folder:
        classifiers = import_speechbrain_classifiers()
        from speechbrain.utils.fetching import FetchConfig

        encoder = classifiers.EncoderClassifier.from_hparams(
            source=str(folder),
            overrides={"pretrained_path": str(folder)},
            fetch_config=FetchConfig(allow_network=False),
            run_opts={"device": device},
        )
        if encoder.mods.mean_var_norm.norm_type != "sentence":
            raise ValueError("it normalises over a batch, so that a clip's values would depend on its neighbours")
        for network in NETWORKS:
            _check_complete(encoder.mods[network], folder / f"{network}.ckpt")
    return encoder


def _check_complete(network: Any, file: Path) -> None:
    """SpeechBrain leaves what a checkpoint does not hold as it was: random."""
    import torch

    given = torch.load(file, map_location="cpu", weights_only=True)
    lacking = [key for key in network.state_dict() if key not in given and not key.endswith("num_batches_tracked")]
    if lacking:
        raise ValueError(f"{file.name} lacks {len(lacking)} of the network's tensors, e.g. {lacking[0]}")
