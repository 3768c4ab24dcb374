"""What extractors share: parameters from the settings, checked shapes, windows and batches of speech networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slf_store.constituents.extractor import Extractor
from slf_store.constituents.registry import known_extractors
from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.speech_network import WHOLE, SpeechNetwork
from slf_store.errors import ClipError, ConfigError, ModelUnavailable
from slf_store.media.clip import ClipMedia
from slf_store.media.speech import SPEECH_RATE, SPEECH_SAMPLES
from slf_store.settings import Settings, load_settings


def of(folder: Path, name: str, toml: str = "") -> Extractor:
    """An extractor of a store whose slf.toml says this."""
    (folder / "slf.toml").write_text(toml)
    return known_extractors(load_settings(folder))[name]


def test_a_parameter_in_slf_toml_is_another_version_and_shape(tmp_path: Path) -> None:
    default = of(tmp_path, "mel").spec
    denser = of(tmp_path, "mel", "[parameters.mel]\nhop = 1745\n").spec
    assert (default.shape, denser.shape) == ((111, 128), (221, 128))
    assert denser.parameters["hop"] == 1745
    assert denser.version != default.version
    assert (
        of(tmp_path, "pyaudioanalysis", "[parameters.mel]\nhop = 1745\n").spec == of(tmp_path, "pyaudioanalysis").spec
    )


def test_the_default_written_out_is_the_same_version(tmp_path: Path) -> None:
    written = of(tmp_path, "mel", "[parameters.mel]\nhop = 3490\nn_fft = 512\nmels = 128\n").spec
    assert written.version == of(tmp_path, "mel").spec.version


def test_a_whole_number_of_seconds_may_be_written_without_a_point(tmp_path: Path) -> None:
    whole = of(tmp_path, "pyaudioanalysis", "[parameters.pyaudioanalysis]\nwindow_s = 1\n").spec
    point = of(tmp_path, "pyaudioanalysis", "[parameters.pyaudioanalysis]\nwindow_s = 1.0\n").spec
    assert whole.version == point.version


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("mel", "hops = 1745", "mel has no parameter 'hops'\n  next: it knows n_fft, hop, mels"),
        ("mel", "hop = 0", "[parameters.mel]: hop = 0: Input should be greater than 0\n  next: correct it in slf.toml"),
        ("mel", 'hop = "wide"', "hop = 'wide': Input should be a valid integer"),
        ("mel", "hop = 1745.0", "hop = 1745.0: Input should be a valid integer"),
        ("mel", "hop = true", "hop = True: Input should be a valid integer"),
        ("pyaudioanalysis", "window_s = 25", "window_s = 25: Input should be less than or equal to 24"),
        ("pyaudioanalysis", "hop_s = 1e-9", "hop_s = 1e-09: Input should be greater than or equal to"),
        ("pyaudioanalysis", "hop_s = inf", "hop_s = inf: Input should be less than or equal to 24"),
        ("language_whisper", 'compute_type = "int4"', "compute_type = 'int4': Input should be 'int8' or 'float32'"),
        ("camplusplus", "settings = 1", "camplusplus has no parameter 'settings'\n  next: it has none"),
        ("melody", "hop = 1", "settings name a constituent 'melody'\n  next: choose from camplusplus, "),
    ],
)
def test_a_parameter_that_cannot_be_says_so(tmp_path: Path, name: str, line: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(tmp_path, "mel", f"[parameters.{name}]\n{line}\n")
    assert says in str(caught.value)


@dataclass(eq=False)
class Given(Extractor):
    """Gives what it is given."""

    name = "given"
    value: Any = None
    variable: bool = False

    @cached_property
    def spec(self) -> ConstituentSpec:
        return ConstituentSpec("given", "array", (3, 2), "float32", "", "", 1, variable=self.variable)

    def extract(self, clip: ClipMedia) -> Any:
        return self.value


class Clip(ClipMedia):
    """A clip that says what it is told, or raises it."""

    def __init__(self, wave: Any = None) -> None:
        super().__init__(1, "id00001/a/00001", Path("clip.mp4"), 25)
        self.wave = wave

    @property
    def speech(self) -> Any:
        if isinstance(self.wave, Exception):
            raise self.wave
        return self.wave


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3,), (1, 3, 2), (0, 2)])
def test_another_shape_than_declared_is_the_extractors_fault(shape: tuple[int, ...]) -> None:
    found = Given(Settings(), np.zeros(shape)).attempt(Clip())
    assert isinstance(found, TypeError)
    assert str(found) == f"given gave {shape} where its spec declares (3, 2)"


@pytest.mark.parametrize(("shape", "fits"), [((3, 2), True), ((1, 2), True), ((0, 2), False), ((4, 2), False)])
def test_a_variable_constituent_may_have_fewer_rows_but_one(shape: tuple[int, ...], fits: bool) -> None:
    found = Given(Settings(), np.zeros(shape), variable=True).attempt(Clip())
    assert isinstance(found, np.ndarray if fits else TypeError)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_the_clips_fault(bad: float) -> None:
    found = Given(Settings(), np.full((3, 2), bad)).attempt(Clip())
    assert isinstance(found, ClipError)
    assert (found.code, str(found)) == ("not_finite", "clip.mp4: given holds NaN or infinity")


WINDOWS = ((3.0, 1.0), (6.0, 2.0), (12.0, 4.0), WHOLE)
STARTS = [*range(22), *range(0, 19, 2), *range(0, 13, 4), 0]
LENGTHS = [3] * 22 + [6] * 10 + [12] * 4 + [24]
POISON = -1.0


@dataclass(eq=False)
class Ends(SpeechNetwork):
    """First sample, last sample and length of every window; keeps the batches it saw."""

    name = "ends"
    windows = WINDOWS

    def __post_init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    @cached_property
    def spec(self) -> ConstituentSpec:
        return ConstituentSpec("ends", "array", (len(STARTS), 3), "float32", "", "", 1)

    def embed(self, waves: Any) -> Any:
        self.seen.append(waves.shape)
        if (waves == POISON).any():
            raise RuntimeError("poison")
        return np.stack([waves[:, 0], waves[:, -1], np.full(len(waves), waves.shape[1])], axis=1)


def count_up(first: int = 0) -> Any:
    """A wave whose samples tell their place."""
    return np.arange(first, first + SPEECH_SAMPLES, dtype=np.float32)


def expected(first: int = 0) -> Any:
    """What Ends makes of it, in a plain loop."""
    wave, rows = count_up(first), []
    for start, length in zip(STARTS, LENGTHS, strict=True):
        window = wave[start * SPEECH_RATE : (start + length) * SPEECH_RATE]
        rows.append([window[0], window[-1], len(window)])
    return np.array(rows, np.float32)


@pytest.fixture
def ends() -> Ends:
    return Ends(Settings(device="cpu"))


@pytest.mark.parametrize("batch_seconds", [0.5, 24.0, 30.0, 61.0, 24.0 * 64])
def test_windows_come_in_order_whatever_the_batches(
    ends: Ends, batch_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ends, "batch_seconds", {"cpu": batch_seconds})
    clips = [Clip(count_up(first)) for first in (0, 500_000, 1_000_000)]
    together = ends.extract_many(clips)
    for first, rows in zip((0, 500_000, 1_000_000), together, strict=True):
        np.testing.assert_array_equal(rows, expected(first))
    assert sum(count for count, _ in ends.seen) == 3 * len(STARTS)
    for count, samples in ends.seen:
        assert count == 1 or count * samples / SPEECH_RATE <= batch_seconds
    for clip, rows in zip(clips, together, strict=True):
        np.testing.assert_array_equal(ends.extract(clip), rows)


def test_a_batch_holds_windows_of_all_clips(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ends, "batch_seconds", {"cpu": 1e6})
    ends.extract_many([Clip(count_up()), Clip(count_up())])
    assert ends.seen == [(44, 48_000), (20, 96_000), (8, 192_000), (2, 384_000)]


def test_bad_clips_keep_their_own_errors_and_places(ends: Ends) -> None:
    silent, broken = ClipError("silent", "nothing to hear"), OSError("disk")
    found = ends.extract_many([Clip(silent), Clip(count_up()), Clip(broken), Clip(count_up(7))])
    assert (found[0], found[2]) == (silent, broken)
    np.testing.assert_array_equal(found[1], expected())
    np.testing.assert_array_equal(found[3], expected(7))


def test_a_batch_that_fails_is_tried_clip_by_clip(ends: Ends) -> None:
    poisoned = count_up()
    poisoned[SPEECH_SAMPLES // 2] = POISON
    silent = ClipError("silent", "nothing to hear")
    found = ends.extract_many([Clip(count_up()), Clip(poisoned), Clip(silent), Clip(count_up(7))])
    np.testing.assert_array_equal(found[0], expected())
    assert isinstance(found[1], RuntimeError)
    assert found[2] is silent
    np.testing.assert_array_equal(found[3], expected(7))


def test_rows_that_are_not_finite_take_only_their_clip(ends: Ends) -> None:
    odd = count_up()
    odd[0] = np.nan
    first, second = ends.extract_many([Clip(odd), Clip(count_up())])
    assert isinstance(first, ClipError)
    assert first.code == "not_finite"
    np.testing.assert_array_equal(second, expected())


def test_no_speech_at_all_needs_no_network(ends: Ends) -> None:
    silent = ClipError("silent", "nothing to hear")
    assert ends.extract_many([]) == []
    assert ends.extract_many([Clip(silent), Clip(silent)]) == [silent, silent]
    assert ends.seen == []


def test_a_model_that_is_not_there_stops_the_job(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(_: Any) -> Any:
        raise ModelUnavailable("no weights")

    monkeypatch.setattr(ends, "embed", unavailable)
    with pytest.raises(ModelUnavailable):
        ends.extract_many([Clip(count_up())])


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_says_what_to_set(device: str) -> None:
    with pytest.raises(ModelUnavailable, match="set SLF_DEVICE to cpu, cuda or auto"):
        Ends(Settings(device=device)).extract(Clip(count_up()))


def test_parameters_of_a_face_model_are_refused_instead_of_forgotten() -> None:
    with pytest.raises(ConfigError, match="face_dlib has no parameters"):
        known_extractors(Settings(parameters={"face_dlib": {"model": "ArcFace"}}))
