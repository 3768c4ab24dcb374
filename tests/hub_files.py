"""Model files as the hubs have them, with random weights, and damage to them; written by the libraries themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from slf_store.compat import import_speechbrain_classifiers
from slf_store.constituents import pyannote_embedding
from slf_store.constituents.inception_network import Inception
from slf_store.constituents.weights import Weights

HYPERPARAMS = """
pretrained_path: {repo}
n_mels: 80
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: {norm}
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [32, 32, 32, 32, 96]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 16
    lin_neurons: 192
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 192
    out_neurons: {classes}
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        mean_var_norm_emb: !ref <mean_var_norm_emb>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        mean_var_norm_emb: !ref <pretrained_path>/mean_var_norm_emb.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""
"""As the hub's, with narrower layers."""


def write_speechbrain(weights: Weights, folder: Path, labels: list[str], norm: str = "sentence") -> None:
    import_speechbrain_classifiers()
    from hyperpyyaml import load_hyperpyyaml
    from speechbrain.utils.checkpoints import DEFAULT_SAVE_HOOKS, get_default_hook

    folder.mkdir(parents=True)
    text = HYPERPARAMS.format(repo=weights.repo, classes=len(labels), norm=norm)
    if "mean_var_norm_emb.ckpt" not in weights.files:
        text = "\n".join(line for line in text.splitlines() if not line.strip().startswith("mean_var_norm_emb: !ref"))
    (folder / "hyperparams.yaml").write_text(text)
    torch.manual_seed(1)
    built = load_hyperpyyaml(text)
    built["label_encoder"].update_from_iterable(labels, sequence_input=False)
    for name, thing in built["pretrainer"].loadables.items():
        file = folder / (f"{name}.txt" if name == "label_encoder" else f"{name}.ckpt")
        hook = get_default_hook(thing, DEFAULT_SAVE_HOOKS)
        hook(thing, file) if hook else thing.save(file)


def write_pyannote(file: Path, dimension: int = 512, **more: Any) -> None:
    pyannote_embedding.import_model()
    import lightning
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import XVectorSincNet

    torch.manual_seed(2)
    model = XVectorSincNet(dimension=dimension)
    model.specifications = Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0)
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": lightning.__version__,
        **more,
    }
    model.on_save_checkpoint(checkpoint)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, file)


def write_onnx(file: Path, dimension: int, **metadata: str) -> None:
    """A network with the inputs, outputs and metadata of sherpa-onnx's exports from NeMo."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(3)
    floats = {"W": random.normal(size=(80, dimension)), "C": random.normal(size=(dimension, 5))}
    nodes = [
        helper.make_node("Relu", ["audio_signal"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["pooled"], axes=[2], keepdims=0),
        helper.make_node("MatMul", ["pooled", "W"], ["embs"]),
        helper.make_node("MatMul", ["embs", "C"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "random",
        [
            helper.make_tensor_value_info("audio_signal", TensorProto.FLOAT, ["B", 80, "T"]),
            helper.make_tensor_value_info("length", TensorProto.INT64, ["B"]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 5]),
            helper.make_tensor_value_info("embs", TensorProto.FLOAT, ["B", dimension]),
        ],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in floats.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    facts = {"framework": "nemo", "language": "English", "sample_rate": "16000", "output_dim": str(dimension)}
    facts |= {"feature_normalize_type": "per_feature", "window_size_ms": "25", "window_stride_ms": "10"}
    facts |= {"window_type": "hann", "feat_dim": "80", **metadata}
    helper.set_model_props(model, {key: value for key, value in facts.items() if value})
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, file)


def write_inception(file: Path) -> None:
    """Weights of FID's network, named and saved as the published ones of before torch 1.6."""
    random = np.random.default_rng(4)
    state = {}
    for name, values in Inception().state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        drawn = 2 * random.random(tuple(values.shape)) - 1
        if values.ndim == 4:
            drawn *= np.sqrt(6 / values[0].numel())  # so that the last layer's values are as large as the first's
        elif name.endswith(("bn.weight", "bn.running_var")):
            drawn = 1 + 0.5 * drawn
        else:
            drawn *= 0.1
        state[name] = torch.from_numpy(drawn.astype(np.float32))
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file, _use_new_zipfile_serialization=False)


def noisy_pictures(seed: int, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pictures of 128×128 pixels that differ: coarse and fine noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 200, (count, 8, 8, 3)).repeat(16, axis=1).repeat(16, axis=2)
    return np.asarray(coarse + random.integers(0, 56, (count, 128, 128, 3)), np.uint8)


def voice(seed: int, seconds: float = 24.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    random = np.random.default_rng(seed)
    time_s = np.arange(round(16_000 * seconds)) / 16_000
    pitch = 80 + 20 * seed + 30 * np.sin(2 * np.pi * (0.2 + 0.05 * seed) * time_s)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    tone = sum(np.sin(k * phase + seed) / k for k in range(1, 12))
    return np.asarray(0.1 * tone + 0.01 * random.normal(size=time_s.size), np.float32)


def write_mute(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        for packet in [*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode()]:
            container.mux(packet)


PAGE = b"<!DOCTYPE html><html><body>404: not found</body></html>"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def page(file: Path) -> None:
    file.write_bytes(PAGE)


def other_shapes(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    name = next(iter(state))
    torch.save({**state, name: torch.zeros(3, 3)}, file)


def fewer_tensors(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    state.popitem()
    torch.save(state, file)


def batch_norm(file: Path) -> None:
    file.write_text(file.read_text().replace("norm_type: sentence", "norm_type: batch"))


def fewer_labels(file: Path) -> None:
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if "Welsh" not in line))


def pyannote_without(file: Path) -> None:
    checkpoint = torch.load(file, weights_only=False)
    del checkpoint["state_dict"]["embedding.weight"]
    torch.save(checkpoint, file)


class Trap:
    """Pickled, a call of `os.mkdir`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def nemo_with(**metadata: str) -> Callable[[Path], None]:
    return lambda file: write_onnx(file, 192, **metadata)
