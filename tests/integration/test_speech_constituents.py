"""Speech constituents of the offline profile: against their libraries, alone and in batches, cut and replayed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from slf_store.constituents.camplusplus import CamPlusPlus, fbank
from slf_store.constituents.extractor import Extractor
from slf_store.constituents.mel import Mel
from slf_store.constituents.registry import extractors, known_extractors
from slf_store.constituents.resemblyzer_voice import ResemblyzerVoice
from slf_store.constituents.speech_network import SpeechNetwork
from slf_store.constituents.whisper_language import LANGUAGES
from slf_store.dataset.synthetic.look import make_look
from slf_store.dataset.synthetic.person import make_person
from slf_store.dataset.synthetic.voice import speak
from slf_store.errors import ClipError, ModelUnavailable
from slf_store.media.clip import ClipMedia
from slf_store.media.speech import SPEECH_RATE, SPEECH_SAMPLES
from slf_store.settings import Settings

pytestmark = pytest.mark.integration

DATA = Path(os.environ.get("SLF_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
ARRAYS = ("camplusplus", "resemblyzer", "mel", "pyaudioanalysis")
NETWORKS = ("camplusplus", "resemblyzer")
TOLERANCE = 1e-5
"""Greatest difference of an embedding's numbers (up to 2) that rounding may make."""

Samples = Any
MakeClip = Callable[..., ClipMedia]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("store"), device="cpu")


@pytest.fixture(scope="module")
def loaded(settings: Settings) -> Iterator[Callable[[str], Extractor]]:
    """Extractors by name, each loaded once; torch has one thread, as in an extraction process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    known, done = known_extractors(settings), set[str]()

    def get(name: str) -> Extractor:
        if name not in done:
            known[name].load()
            done.add(name)
        return known[name]

    yield get
    torch.set_num_threads(threads)


@pytest.fixture
def clip(tmp_path: Path) -> MakeClip:
    """A clip with these samples as its sound, at 16 kHz."""

    def make(samples: Samples, name: str = "a") -> ClipMedia:
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples, SPEECH_RATE, subtype="FLOAT")
        return ClipMedia(1, f"id00001/{name}/00001", path, 1)

    return make


def voice(number: int, seconds: float) -> Samples:
    """A synthetic person's speech: float32 samples at 16 kHz."""
    rng = np.random.default_rng(number)
    return speak(make_person(0, number), make_look(rng), seconds, rng)[0].astype(np.float32)


def real_speech() -> list[Path]:
    """LibriSpeech utterances, or the test is skipped."""
    found = sorted((DATA / "speech" / "librispeech").rglob("*.flac"))
    if not found:
        pytest.skip(f"no LibriSpeech at {DATA / 'speech' / 'librispeech'} (set SLF_TEST_DATA)")
    return found


def test_these_are_the_offline_speech_constituents(settings: Settings) -> None:
    offline = {extractor.name for extractor in extractors(settings)}
    faces = {"face", "target", "image_guide", "age_gender"}
    assert {name for name in offline - faces if not name.startswith("face_")} == {*ARRAYS, "language_whisper"}


@pytest.mark.parametrize("name", ARRAYS)
def test_values_have_the_declared_shape_and_are_finite(
    loaded: Callable[[str], Extractor], clip: MakeClip, name: str
) -> None:
    extractor = loaded(name)
    value = extractor.attempt(clip(voice(3, 2.5)))
    assert isinstance(value, np.ndarray), value
    assert (value.shape, str(value.dtype)) == (extractor.spec.shape, extractor.spec.dtype)
    shapes = {"camplusplus": (1, 192), "resemblyzer": (1, 256), "mel": (111, 128), "pyaudioanalysis": (79, 68)}
    assert value.shape == shapes[name]
    assert np.isfinite(value).all()
    assert value.astype(np.float32).std() > 0


@pytest.mark.parametrize("name", ARRAYS)
def test_together_is_as_one_by_one_and_neighbours_change_nothing(
    loaded: Callable[[str], Extractor], clip: MakeClip, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = loaded(name)
    monkeypatch.setattr(SpeechNetwork, "batch_seconds", {"cpu": 24.0 * 3})
    voices = [voice(1, 3.0), voice(2, 25.0), 20 * voice(3, 9.0), voice(4, 1.0)]
    clips = [clip(samples, f"v{index}") for index, samples in enumerate(voices)]
    alone = [extractor.attempt(one) for one in clips]
    for order in ((0, 1, 2), (3, 1, 0), (1, 3)):
        together = extractor.extract_many([clips[index] for index in order])
        for index, value in zip(order, together, strict=True):
            np.testing.assert_allclose(value, alone[index], rtol=0, atol=TOLERANCE)
    assert not np.allclose(alone[0], alone[1], atol=100 * TOLERANCE)


@pytest.mark.parametrize("name", ARRAYS)
def test_speech_is_cut_at_24_s_and_shorter_speech_is_replayed(
    loaded: Callable[[str], Extractor], clip: MakeClip, name: str
) -> None:
    extractor = loaded(name)
    long, short = voice(5, 27.0), voice(6, 3.3)
    replayed = np.tile(short, 8)[:SPEECH_SAMPLES]
    for given, same in ((long, long[:SPEECH_SAMPLES]), (short, replayed)):
        np.testing.assert_array_equal(extractor.extract(clip(given)), extractor.extract(clip(same, "same")))


@pytest.mark.parametrize("name", [*ARRAYS, "language_whisper"])
def test_a_bad_clip_in_the_middle_keeps_its_own_error(
    loaded: Callable[[str], Extractor], clip: MakeClip, name: str
) -> None:
    clips = [
        clip(voice(1, 2.0), "good"),
        clip(np.zeros(SPEECH_RATE, np.float32), "silent"),
        clip(voice(1, 0.3), "short"),
        clip(voice(2, 2.0), "also"),
    ]
    found = loaded(name).extract_many(clips)
    assert [getattr(value, "code", "fine") for value in found] == ["fine", "silent", "short_audio", "fine"]
    assert isinstance(found[1], ClipError)
    assert "silent.wav" in str(found[1])


def test_camplusplus_frozen_is_as_its_authors_module(
    loaded: Callable[[str], Extractor], settings: Settings, clip: MakeClip
) -> None:
    frozen, plain = loaded("camplusplus"), CamPlusPlus(settings)
    plain.load_plain()
    assert isinstance(frozen, CamPlusPlus)
    assert isinstance(frozen._network, torch.jit.ScriptModule)
    for samples in (voice(1, 24.0), 0.01 * voice(2, 3.0), np.random.default_rng(0).normal(0, 0.1, 99_999)):
        one = clip(samples)
        np.testing.assert_allclose(frozen.extract(one), plain.extract(one), rtol=0, atol=TOLERANCE)
    batch = np.stack([clip(voice(number, 4.0), f"b{number}").speech for number in range(3)])
    np.testing.assert_allclose(frozen.embed(batch), plain.embed(batch), rtol=0, atol=TOLERANCE)


def test_filter_bank_frames_are_the_librarys() -> None:
    import kaldi_native_fbank as knf

    speech = voice(1, 24.0)
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 80
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(SPEECH_RATE, speech.tolist())
    bank.input_finished()
    frames = np.array([bank.get_frame(index) for index in range(bank.num_frames_ready)])
    found = fbank(speech)
    assert found.shape == (2398, 80)
    np.testing.assert_array_equal(found, frames - frames.mean(axis=0))


def test_resemblyzer_is_as_the_library(loaded: Callable[[str], Extractor], clip: MakeClip) -> None:
    from resemblyzer import VoiceEncoder, normalize_volume

    library = VoiceEncoder("cpu", verbose=False)
    for samples in (voice(1, 24.0), 0.001 * voice(2, 3.0)):
        one = clip(samples)
        expected = library.embed_utterance(normalize_volume(one.speech, -30, increase_only=True))
        value = loaded("resemblyzer").extract(one)
        assert isinstance(value, np.ndarray)
        np.testing.assert_array_equal(value[0], expected)
        assert np.linalg.norm(value) == pytest.approx(1, abs=1e-5)


def test_resemblyzer_hears_the_voice_and_not_how_far_away_it_is(
    loaded: Callable[[str], Extractor], clip: MakeClip
) -> None:
    near, far = (loaded("resemblyzer").extract(clip(gain * voice(1, 5.0))) for gain in (0.05, 0.002))
    np.testing.assert_allclose(near, far, atol=1e-4)


def test_mel_is_as_librosa(loaded: Callable[[str], Extractor], clip: MakeClip) -> None:
    import librosa

    one = clip(voice(1, 5.0))
    spectrum = np.abs(librosa.stft(one.speech, n_fft=512, hop_length=3490)) ** 2
    power = librosa.filters.mel(sr=SPEECH_RATE, n_fft=512, n_mels=128) @ spectrum
    decibel = 10 * np.log10(np.maximum(power, 1e-10)).T
    np.testing.assert_allclose(loaded("mel").extract(one), decibel, rtol=1e-3, atol=1e-2)
    library = librosa.power_to_db(
        librosa.feature.melspectrogram(y=one.speech, sr=SPEECH_RATE, n_fft=512, hop_length=3490), top_db=None
    )
    np.testing.assert_array_equal(loaded("mel").extract(one), library.T.astype(np.float16))


def test_pyaudioanalysis_is_as_the_library(loaded: Callable[[str], Extractor], clip: MakeClip) -> None:
    extractor, one = loaded("pyaudioanalysis"), clip(voice(1, 5.0))
    value = extractor.extract(one)
    from pyAudioAnalysis import ShortTermFeatures

    features, names = ShortTermFeatures.feature_extraction(
        one.speech.astype(np.float64), SPEECH_RATE, 0.5 * SPEECH_RATE, 0.3 * SPEECH_RATE
    )
    assert (names[0], names[8], names[33], names[34]) == ("zcr", "mfcc_1", "chroma_std", "delta zcr")
    np.testing.assert_array_equal(value, features.T.astype(np.float16))


@pytest.mark.parametrize("seconds", [0.0, 1.0, 3.7, 11.53, 20.0, 23.9])
def test_mel_frames_are_seconds_of_the_speech_itself(settings: Settings, clip: MakeClip, seconds: float) -> None:
    """The published code counted its hop at 16 kHz on sound at 22.05 kHz: its frames came a third too often."""
    mel = Mel(settings, n_fft=8192)
    sound = np.zeros(SPEECH_SAMPLES, np.float32)
    sound[round(seconds * SPEECH_RATE)] = 1.0
    frame = int(np.asarray(mel.extract(clip(sound)), np.float32).mean(axis=1).argmax())
    assert frame == round(seconds * SPEECH_RATE / mel.hop)
    assert abs(frame * mel.hop / SPEECH_RATE - seconds) <= mel.hop / SPEECH_RATE / 2


def test_pyaudioanalysis_frames_are_seconds_of_the_speech_itself(
    loaded: Callable[[str], Extractor], clip: MakeClip
) -> None:
    sound = np.zeros(SPEECH_SAMPLES, np.float32)
    sound[10 * SPEECH_RATE] = 1.0
    energy = np.asarray(loaded("pyaudioanalysis").extract(clip(sound)), np.float32)[:, 1]
    loud = [index for index in range(79) if energy[index] > energy.min() + 0.5 * np.ptp(energy)]
    assert loud == [index for index in range(79) if 0.3 * index <= 10 < 0.3 * index + 0.5]


@pytest.mark.parametrize(
    ("parameters", "shape"),
    [
        ({"mel": {"hop": 1745}}, (221, 128)),
        ({"mel": {"mels": 40}}, (111, 40)),
        ({"pyaudioanalysis": {"hop_s": 0.1}}, (236, 68)),
    ],
)
def test_values_follow_the_parameters(
    settings: Settings, clip: MakeClip, parameters: dict[str, Any], shape: tuple[int, ...]
) -> None:
    (name,) = parameters
    changed = known_extractors(settings.model_copy(update={"parameters": parameters}))[name]
    assert changed.spec.version != known_extractors(settings)[name].spec.version
    value = changed.attempt(clip(voice(1, 2.0)))
    assert isinstance(value, np.ndarray), value
    assert value.shape == changed.spec.shape == shape


def test_whisper_gives_one_label_and_its_probability(loaded: Callable[[str], Extractor], clip: MakeClip) -> None:
    whisper, one = loaded("language_whisper"), clip(voice(1, 3.0))
    (value,) = whisper.extract(one)
    assert (value.name, value.number) == ("language", None)
    assert value.text in LANGUAGES.values()
    assert 0 < value.score <= 1
    assert whisper.extract(one) == [value]


def test_whisper_hears_english(loaded: Callable[[str], Extractor], clip: MakeClip) -> None:
    for path in real_speech()[::16]:
        (value,) = loaded("language_whisper").extract(clip(soundfile.read(path, dtype="float32")[0], path.stem))
        assert (value.text, value.score > 0.5) == ("English", True), path.name


@pytest.mark.parametrize("name", NETWORKS)
def test_real_voices_are_told_apart(loaded: Callable[[str], Extractor], clip: MakeClip, name: str) -> None:
    paths = [path for path in real_speech() if path.stem.endswith(("0", "1"))]
    rows = [loaded(name).extract(clip(soundfile.read(path, dtype="float32")[0], path.stem)) for path in paths]
    matrix = np.concatenate([np.asarray(row) for row in rows])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    alike = matrix @ matrix.T - 2 * np.eye(len(matrix))
    same = [paths[found].parent == path.parent for path, found in zip(paths, alike.argmax(axis=1), strict=True)]
    assert len(same) == 20
    assert np.mean(same) >= 0.9


def test_a_library_that_is_not_there_says_how_to_get_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "resemblyzer"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    with pytest.raises(ModelUnavailable, match=r"needs the package webrtcvad\n  next: pip install"):
        ResemblyzerVoice(settings).load()


def test_parts_of_whisper_that_do_not_fit_say_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slf_store.constituents.whisper_language.PARTS", ("model.bin.part2", "model.bin.part1"))
    with pytest.raises(ModelUnavailable, match=r"weights of Whisper base .* cannot be used"):
        known_extractors(settings)["language_whisper"].load()
