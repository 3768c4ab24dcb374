"""Speaker embeddings of sliding windows and of the whole clip through pyannote.audio (hub, gated)."""

from __future__ import annotations

import os
import pickletools
import warnings
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slf_store.compat import import_torchaudio_safely
from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.speech_network import WHOLE, SpeechNetwork, Window, count_windows
from slf_store.constituents.weights import HUB_INSTALL, Weights
from slf_store.media.speech import SPEECH, SPEECH_RATE

if TYPE_CHECKING:
    import torch

DIMENSION = 512
WEIGHTS = Weights(
    model="pyannote/embedding",
    files=("pytorch_model.bin",),
    licence="MIT",
    repo="pyannote/embedding",
    folder="pyannote/embedding",
    install=HUB_INSTALL,
    gated=True,
    megabytes=96,
)
_PICKLED = frozenset(
    {
        *(f"torch {kind}Storage" for kind in ("Float", "Long", "Int", "Bool", "Half", "Double")),
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch.torch_version TorchVersion",
        *(f"pyannote.audio.core.task {kind}" for kind in ("Specifications", "Problem", "Resolution")),
        "pyannote.audio.core.model Introspection",
        "pytorch_lightning.callbacks.early_stopping EarlyStopping",
        "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint",
        "omegaconf.base Metadata",
        "omegaconf.base ContainerMetadata",
        "omegaconf.dictconfig DictConfig",
        "omegaconf.listconfig ListConfig",
        "omegaconf.nodes AnyNode",
        "collections OrderedDict",
        "collections defaultdict",
        "typing Any",
        *(f"__builtin__ {kind}" for kind in ("dict", "list", "set", "tuple", "int", "long", "float")),
    }
)
"""What a checkpoint may name: what `pyannote/embedding` does, by the hub's own list of its pickle imports."""


@dataclass(eq=False)
class Pyannote(SpeechNetwork):
    """512-d x-vectors with SincNet features: (37, 512) float32, as the network gives them (not normalised).

    Rows 0-21 are windows of 3 s, 1 s apart; 22-31 of 6 s, 2 s apart; 32-35 of 12 s, 4 s apart; 36 is the whole clip.
    """

    name = "pyannote"
    profiles = frozenset({"hub"})
    windows: ClassVar[tuple[Window, ...]] = ((3.0, 1.0), (6.0, 2.0), (12.0, 4.0), WHOLE)

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
            paper="Table 1, pyannote embedding (published code: windows of 3, 6, 12, 24 s, divided by 400)",
            also={"windows": self.windows, "speech": SPEECH},
        )

    def load(self) -> None:
        with WEIGHTS.loading(self.settings.models) as folder:
            self._network: Any = _load(folder / WEIGHTS.files[0], self.device)

    def embed(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(waves[:, np.newaxis]).to(self.device)
            embeddings: NDArray[np.float32] = self._network(batch).cpu().numpy()
        return embeddings


def _load(file: Path, device: torch.device) -> Any:
    """The network of a checkpoint.

    pyannote.audio reads checkpoints with `weights_only=False`, and the published one needs it: it holds objects. So
    what it names is looked at first, without running it.
    """
    foreign = pickled_names(file) - _PICKLED
    if foreign:
        raise ValueError(f"read as a checkpoint it would run {', '.join(sorted(foreign)[:3])}")
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is missing is looked at below
        model = import_model().from_pretrained(file, map_location="cpu", strict=False)
    given = torch.load(file, map_location="cpu", weights_only=False)["state_dict"]
    lacking = [key for key in model.state_dict() if key not in given and not key.endswith("num_batches_tracked")]
    if lacking:  # `strict` is off because the loss of the training, which the file may hold, is not needed
        raise ValueError(f"it lacks {len(lacking)} of the network's tensors, e.g. {lacking[0]}")
    found = (model.dimension, model.hparams.sample_rate)
    if found != (DIMENSION, SPEECH_RATE):
        raise ValueError(f"it embeds in {found[0]} dimensions at {found[1]} Hz, not {DIMENSION} at {SPEECH_RATE} Hz")
    return model.eval().to(device)


def import_model() -> Any:
    """pyannote.audio's `Model`; its import takes 7 to 17 s, and sends nothing anywhere."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    import_torchaudio_safely()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchcodec, which is not used
        from pyannote.audio import Model

    return Model


def pickled_names(file: Path) -> set[str]:
    """Every `module name` that a file of `torch.save` asks for when it is read; nothing of it is run.

    Raises:
        ValueError: it is no such file, or not of pickle protocol 2, which `torch.save` writes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            (data,) = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
            operations = list(pickletools.genops(archive.read(data)))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError("it is cut short, or no checkpoint") from error
    if strange := {code.name for code, _, _ in operations} & {"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}:
        raise ValueError(f"its pickle holds {', '.join(strange)}, which torch.save does not write")
    return {str(argument) for code, argument, _ in operations if code.name == "GLOBAL"}
