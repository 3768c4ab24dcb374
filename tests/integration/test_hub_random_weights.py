"""Extractors of the hub profile: the libraries' own networks and file formats, with RANDOM weights.

The real weights cannot be had where tests run. What is shown here is shapes, windows, batches and errors; nothing here
says how well anything is recognised.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_files import (
    Trap,
    batch_norm,
    cut,
    fewer_labels,
    fewer_tensors,
    nemo_with,
    other_shapes,
    page,
    pyannote_without,
    voice,
    write_mute,
    write_onnx,
    write_pyannote,
    write_speechbrain,
)

from slf_store.constituents import commonlanguage, ecapa, nemo, pyannote_embedding
from slf_store.constituents.extractor import AttributeValue
from slf_store.constituents.pyannote_embedding import pickled_names
from slf_store.constituents.registry import extractors, known_extractors
from slf_store.constituents.speech_network import SpeechNetwork
from slf_store.errors import ClipError, ModelUnavailable
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.media.clip import ClipMedia
from slf_store.query.encode import LANGUAGES
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

HUB = ("ecapa", "ecapa_windows", "pyannote", "titanet", "speakernet", "language_commonlanguage")
SHAPES = {"ecapa": (1, 192), "ecapa_windows": (14, 192), "pyannote": (37, 512), "titanet": (1, 192)}
SHAPES["speakernet"] = (1, 256)
TOLERANCE = 1e-4
"""Largest difference between a clip in a batch and alone, as a share of its largest value (float32)."""
SECRET = "hf_ThisIsASecretToken"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder as the hub's downloads leave it."""
    torch.set_num_threads(1)
    models = tmp_path_factory.mktemp("the models")  # with a space
    write_speechbrain(ecapa.WEIGHTS, ecapa.WEIGHTS.where(models), [f"id{n}" for n in range(7)])
    today = {"Ukranian": "Ukrainian", "Mongolian": "Mangolian"}  # as revisions of the hub's file spell them
    labels = [today.get(label, label) for label in reversed(LANGUAGES)]
    write_speechbrain(commonlanguage.WEIGHTS, commonlanguage.WEIGHTS.where(models), labels)
    write_pyannote(pyannote_embedding.WEIGHTS.where(models) / "pytorch_model.bin")
    for kind in (nemo.TitaNet, nemo.SpeakerNet):
        write_onnx(kind.export.where(models) / kind.export.files[0], kind.dimension)
    return models


def settings(models: Path) -> Settings:
    return Settings(home=models / "home", models_dir=models, device="cpu", profile="hub")


@pytest.fixture
def models(written: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "models"))


@pytest.fixture(scope="module")
def loaded(written: Path) -> dict[str, SpeechNetwork]:
    """Every extractor, loaded; batches so large that all windows of a test's clips share one."""
    found: dict[str, SpeechNetwork] = {}
    for extractor in extractors(settings(written), HUB):
        assert isinstance(extractor, SpeechNetwork)
        extractor.batch_seconds = {"cpu": 1e6}  # type: ignore[misc]
        extractor.load()
        found[extractor.name] = extractor
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[ClipMedia]]:
    """Clips by name: a number is a voice; `silent` and `mute` (no audio track) are what they say."""
    folder = tmp_path_factory.mktemp("clips")

    def make(*names: int | str) -> list[ClipMedia]:
        found = []
        for index, name in enumerate(names):
            path = folder / f"{name}.{'mp4' if name == 'mute' else 'wav'}"
            if name == "mute":
                write_mute(path)
            else:
                sound = np.zeros(48_000) if name == "silent" else voice(int(name), 5.0 + 7 * int(name))
                with wave.open(str(path), "wb") as file:
                    file.setparams((1, 2, 16_000, 0, "NONE", ""))
                    file.writeframes((sound * 20_000).astype("<i2").tobytes())
            found.append(ClipMedia(index, str(name), path, 1))
        return found

    return make


def close(found: Any, expected: Any) -> bool:
    if isinstance(found, list):
        return [(v.name, v.text) for v in found] == [(v.name, v.text) for v in expected] and np.allclose(
            [v.score for v in found], [v.score for v in expected], atol=TOLERANCE
        )
    return bool(np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("name", HUB)
def test_random_weights_give_what_the_spec_declares(
    name: str, loaded: dict[str, SpeechNetwork], clips: Callable[..., list[ClipMedia]]
) -> None:
    extractor = loaded[name]
    (clip,) = clips(3)  # 26 s: nothing is replayed
    value = extractor.attempt(clip)
    if name == "language_commonlanguage":
        (language,) = value  # type: ignore[misc]
        assert isinstance(language, AttributeValue)
        assert language.name == "language"
        assert language.text in LANGUAGES
        assert language.score is not None
        assert 0 <= language.score <= 1
        assert (extractor.spec.kind, extractor.spec.dtype) == ("attribute", None)
    else:
        assert isinstance(value, np.ndarray), value
        assert (value.shape, value.dtype.name) == (SHAPES[name], "float32")
        assert (extractor.spec.shape, extractor.spec.dtype) == (SHAPES[name], "float32")
        assert len(np.unique(value, axis=0)) == len(value)  # every window has its own
    assert extractor.profiles == {"hub"}


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("ecapa", [(0, 24)]),
        ("ecapa_windows", [*((2 * k, 6) for k in range(10)), *((4 * k, 12) for k in range(4))]),
        (
            "pyannote",
            [
                *((k, 3) for k in range(22)),
                *((2 * k, 6) for k in range(10)),
                *((4 * k, 12) for k in range(4)),
                (0, 24),
            ],
        ),
    ],
)
def test_random_weights_rows_are_the_windows_in_their_order(
    name: str,
    windows: list[tuple[int, int]],
    loaded: dict[str, SpeechNetwork],
    clips: Callable[..., list[ClipMedia]],
) -> None:
    (clip,) = clips(1)
    rows = loaded[name].extract(clip)
    assert isinstance(rows, np.ndarray)
    assert len(rows) == len(windows)
    for row, (start, length) in zip(rows, windows, strict=True):
        piece = clip.speech[start * 16_000 : (start + length) * 16_000]
        assert close(row, loaded[name].embed(piece[np.newaxis])[0]), (start, length)


@pytest.mark.parametrize("name", HUB)
def test_random_weights_batched_is_one_by_one(
    name: str, loaded: dict[str, SpeechNetwork], clips: Callable[..., list[ClipMedia]]
) -> None:
    several = clips(0, 1, 2, 3)
    together = loaded[name].extract_many(several)
    alone = [loaded[name].extract(clip) for clip in several]
    for found, expected in zip(together, alone, strict=True):
        assert close(found, expected)
        if name in ("titanet", "speakernet"):
            assert (np.asarray(found) == np.asarray(expected)).all()
    assert str(together[0]) != str(together[1])


@pytest.mark.parametrize("name", HUB)
def test_random_weights_no_clip_reaches_anothers_rows(
    name: str, loaded: dict[str, SpeechNetwork], clips: Callable[..., list[ClipMedia]]
) -> None:
    one = loaded[name].extract_many(clips(0, 1, 2))[1]
    other = loaded[name].extract_many(clips(3, 1, 4))[1]
    assert str(np.asarray(one).tolist()) == str(np.asarray(other).tolist())  # to the bit


@pytest.mark.parametrize("name", HUB)
def test_random_weights_clips_without_sound_have_their_own_error(
    name: str, loaded: dict[str, SpeechNetwork], clips: Callable[..., list[ClipMedia]]
) -> None:
    found = loaded[name].extract_many(clips(0, "silent", 1, "mute", 2))
    assert [value.code if isinstance(value, ClipError) else None for value in found] == [
        None, "silent", None, "no_audio", None,
    ]  # fmt: skip
    for value, expected in zip(found[::2], loaded[name].extract_many(clips(0, 1, 2)), strict=True):
        assert str(np.asarray(value).tolist()) == str(np.asarray(expected).tolist())


def test_random_weights_both_ecapas_share_one_network(loaded: dict[str, SpeechNetwork]) -> None:
    shared = loaded["ecapa"], loaded["ecapa_windows"]
    assert shared[0]._encoder is shared[1]._encoder  # type: ignore[attr-defined]
    assert shared[0].spec.version != shared[1].spec.version


def test_random_weights_speechbrain_normalises_each_utterance_by_itself(loaded: dict[str, SpeechNetwork]) -> None:
    encoder = loaded["ecapa"]._encoder  # type: ignore[attr-defined]
    waves = torch.from_numpy(np.stack([voice(0, 3), 9 * voice(5, 3), 0.01 * voice(3, 3)]))
    features = encoder.mods.compute_features(waves)
    together = encoder.mods.mean_var_norm(features, torch.ones(3))
    for row, feature in zip(together, features, strict=True):
        assert torch.equal(row, encoder.mods.mean_var_norm(feature[None], torch.ones(1))[0])
        assert row.mean(dim=0).abs().max() < 1e-3
    assert torch.equal(encoder.encode_batch(waves), encoder.encode_batch(waves, torch.ones(3)))


def test_random_weights_speechbrain_leaves_the_process_as_it_was(loaded: dict[str, SpeechNetwork]) -> None:
    assert "ecapa" in loaded
    assert [name for name, module in sys.modules.items() if type(module).__name__ == "DeprecatedModuleRedirect"] == []
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_random_weights_languages_have_our_labels(loaded: dict[str, SpeechNetwork]) -> None:
    labels = loaded["language_commonlanguage"]._labels  # type: ignore[attr-defined]
    assert labels == list(reversed(LANGUAGES))


@pytest.mark.parametrize("name", HUB)
def test_random_weights_other_bytes_are_another_version(name: str, models: Path) -> None:
    (extractor,) = extractors(settings(models), [name])
    (weights,) = extractor.weights
    versions = [extractor.spec.version]
    for file in weights.files:
        with (weights.where(models) / file).open("ab") as stream:
            stream.write(b"\n")
        (again,) = extractors(settings(models), [name])
        versions.append(again.spec.version)
    assert len(set(versions)) == 1 + len(weights.files)


@pytest.mark.parametrize("name", HUB)
def test_random_weights_a_missing_file_is_one_clear_error(name: str, models: Path) -> None:
    (extractor,) = extractors(settings(models), [name])
    (weights,) = extractor.weights
    (weights.where(models) / weights.files[-1]).unlink()
    for ask in (extractor.load, lambda: extractor.spec):
        with pytest.raises(ModelUnavailable, match="missing") as caught:
            ask()
        assert all(
            word in str(caught.value)
            for word in (weights.model, str(weights.where(models)), weights.files[-1], "slf models --download")
        )


@pytest.mark.parametrize(
    ("name", "file", "damage"),
    [
        *(("ecapa", "embedding_model.ckpt", damage) for damage in (cut, page, other_shapes, fewer_tensors)),
        ("ecapa", "hyperparams.yaml", page),
        ("ecapa", "hyperparams.yaml", batch_norm),
        ("ecapa_windows", "mean_var_norm_emb.ckpt", page),
        ("language_commonlanguage", "classifier.ckpt", cut),
        ("language_commonlanguage", "label_encoder.txt", fewer_labels),
        ("language_commonlanguage", "label_encoder.txt", page),
        *(("pyannote", "pytorch_model.bin", damage) for damage in (cut, page, pyannote_without)),
        ("pyannote", "pytorch_model.bin", lambda file: write_pyannote(file, dimension=256)),
        ("pyannote", "pytorch_model.bin", lambda file: torch.save({"state_dict": {}}, file)),
        *(("titanet", "nemo_en_titanet_large.onnx", damage) for damage in (cut, page)),
        # without the check, sherpa-onnx ends the process
        ("titanet", "nemo_en_titanet_large.onnx", nemo_with(framework="")),
        ("titanet", "nemo_en_titanet_large.onnx", nemo_with(framework="wespeaker")),
        ("titanet", "nemo_en_titanet_large.onnx", nemo_with(feature_normalize_type="all_features")),
        ("titanet", "nemo_en_titanet_large.onnx", nemo_with(window_size_ms="")),
        ("titanet", "nemo_en_titanet_large.onnx", nemo_with(feat_dim="eighty")),
        ("speakernet", "nemo_en_speakerverification_speakernet.onnx", nemo_with()),  # TitaNet's size
    ],
)
def test_random_weights_damaged_is_an_error_when_loaded(
    name: str, file: str, damage: Callable[[Path], None], models: Path
) -> None:
    (extractor,) = extractors(settings(models), [name])
    (weights,) = extractor.weights
    damage(weights.where(models) / file)
    with pytest.raises(ModelUnavailable, match="cannot be used") as caught:
        extractor.load()
    assert all(word in str(caught.value) for word in (weights.model, str(weights.where(models)), "next: "))
    assert len(str(caught.value).splitlines()) == 2


def test_random_weights_a_checkpoint_that_runs_something_is_refused(models: Path, tmp_path: Path) -> None:
    file = pyannote_embedding.WEIGHTS.where(models) / "pytorch_model.bin"
    write_pyannote(file, trap=Trap(tmp_path / "trapped"))
    (extractor,) = extractors(settings(models), ["pyannote"])
    with pytest.raises(ModelUnavailable, match=r"would run \w+ mkdir"):
        extractor.load()
    assert not (tmp_path / "trapped").exists()


def test_random_weights_a_checkpoint_with_the_published_ones_objects_is_read(models: Path) -> None:
    import pytorch_lightning.callbacks as callbacks
    from omegaconf import OmegaConf
    from pyannote.audio.core.model import Introspection

    file = pyannote_embedding.WEIGHTS.where(models) / "pytorch_model.bin"
    write_pyannote(
        file,
        callbacks={callbacks.EarlyStopping: {"patience": 9}, callbacks.ModelCheckpoint: {}},
        task=OmegaConf.create({"min_duration": 2, "of": [1, {"two": 3}]}),
        introspection=Introspection(),
        **{"loss": {"loss_func.W": torch.zeros(3)}},
    )
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["state_dict"]["loss_func.W"] = torch.zeros(3)  # of the training, not of the network
    torch.save(checkpoint, file)
    assert "omegaconf.dictconfig DictConfig" in pickled_names(file)
    (extractor,) = extractors(settings(models), ["pyannote"])
    extractor.load()


def test_random_weights_the_token_is_nowhere(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    caplog.set_level(0)
    found = settings(models)
    (extractor,) = extractors(found, ["pyannote"])
    extractor.load()
    said = [json.dumps(extractor.spec.as_json()), found.model_dump_json(), repr(extractor), repr(found)]
    page(pyannote_embedding.WEIGHTS.where(models) / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable) as caught:
        extractor.load()
    said += [str(caught.value), caplog.text, *capfd.readouterr()]
    assert SECRET not in "".join(said)


@pytest.fixture
def hub_store(store: Store, sample: Path, models: Path, tmp_path: Path) -> Store:
    """A store with three clips of the sample, profile hub, the random weights in its models folder."""
    for index, clip in enumerate(sorted(sample.rglob("*.mp4"))[:3]):
        (tmp_path / "clips" / f"id{index:05}").mkdir(parents=True)
        shutil.copy(clip, tmp_path / "clips" / f"id{index:05}" / "clip.mp4")
    ingest(store, tmp_path / "clips")
    store.settings.profile, store.settings.models_dir, store.settings.device = "hub", models, "cpu"
    return store


def test_random_weights_go_through_the_whole_job(hub_store: Store) -> None:
    names = ["ecapa", "ecapa_windows", "titanet", "speakernet", "language_commonlanguage"]
    assert extract(hub_store, names).done == dict.fromkeys(names, 3)
    rows = hub_store.query("SELECT DISTINCT name, source FROM attribute WHERE source <> 'metadata'")
    assert rows == [{"name": "language", "source": "language_commonlanguage"}]


@pytest.mark.parametrize(("damage", "words"), [(Path.unlink, "cannot be fetched"), (page, "cannot be used")])
def test_random_weights_a_bad_model_stops_the_job_before_any_clip(
    hub_store: Store, models: Path, damage: Callable[[Path], Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    damage(ecapa.WEIGHTS.where(models) / "classifier.ckpt")
    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match=rf"ECAPA-TDNN \(VoxCeleb\) .*{words}"):
        extract(hub_store, ["mel", "ecapa"])
    assert time.monotonic() - began < 60
    assert hub_store.query("SELECT count(*) AS n FROM extraction WHERE state <> 'pending'") == [{"n": 0}]


def test_random_weights_every_hub_extractor_is_known(written: Path) -> None:
    known = known_extractors(settings(written))
    assert [name for name in known if name in HUB] == list(HUB)
