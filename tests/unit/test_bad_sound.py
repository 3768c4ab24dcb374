"""Speech from odd sound: what comes out is checked, not only that something does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from slf_store.errors import ClipError
from slf_store.media.frames import read_frames
from slf_store.media.probe import probe_file
from slf_store.media.speech import SPEECH_RATE, SPEECH_SAMPLES, read_speech

SIX = 6


def loudness(speech: NDArray[np.float32], hertz: float) -> float:
    """Amplitude of a sine in the middle of some speech."""
    middle = speech[speech.size // 4 : -speech.size // 4]
    wave = np.exp(-2j * np.pi * hertz * np.arange(middle.size) / SPEECH_RATE)
    return float(abs(middle @ wave) * 2 / middle.size)


def purity(speech: NDArray[np.float32], hertz: float) -> float:
    """Share of the power, in the middle of some speech, that is this sine."""
    middle = speech[speech.size // 4 : -speech.size // 4]
    return loudness(speech, hertz) ** 2 / 2 / float(np.square(middle).mean())


def refused(path: Path) -> str:
    with pytest.raises(ClipError) as caught:
        read_speech(path)
    return caught.value.code


@pytest.mark.parametrize(("layout", "share"), [("mono", 1), ("stereo", 1), ("5.1", 5 / 6), ("7.1", 7 / 8)])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_1_khz_stays_1_khz_at_the_same_level(
    tmp_path: Path, media_files: ModuleType, rate: int, layout: str, share: float
) -> None:
    """`share`: the channel for deep effects is the one that AAC takes 1 kHz from."""
    sound = media_files.tone(1.0, rate)
    speech = read_speech(media_files.write_clip(tmp_path / "a.mp4", frames=2, sound=sound, rate=rate, layout=layout))
    assert speech.dtype == np.float32
    assert abs(speech.size - SPEECH_RATE) <= 2 * 1024 * SPEECH_RATE / rate  # AAC comes in blocks of 1024
    assert loudness(speech, 1000) == pytest.approx(0.3 * share, rel=0.02)
    assert purity(speech, 1000) > 0.99


def test_what_16_khz_cannot_hold_is_filtered_out_not_folded_down(tmp_path: Path, media_files: ModuleType) -> None:
    sound = media_files.tone(1, 48000) + media_files.tone(1, 48000, hertz=11000)
    speech = read_speech(media_files.write_sound(tmp_path / "a.wav", sound, 48000, "stereo"))
    assert loudness(speech, 1000) == pytest.approx(0.3, rel=0.02)
    assert loudness(speech, 5000) < 0.001  # where 11 kHz would come down


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_every_sample_format_has_the_same_level(
    tmp_path: Path, media_files: ModuleType, codec: str, layout: str
) -> None:
    path = media_files.write_sound(tmp_path / "a.wav", media_files.tone(1, 44100), 44100, layout, codec)
    assert loudness(read_speech(path), 1000) == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("channel", range(SIX))
def test_no_channel_of_5_1_is_lost(tmp_path: Path, media_files: ModuleType, channel: int) -> None:
    planes = np.zeros((SIX, 48000), np.float32)
    planes[channel] = media_files.tone(1, 48000)
    speech = read_speech(media_files.write_sound(tmp_path / "a.wav", planes, 48000, "5.1"))
    assert loudness(speech, 1000) == pytest.approx(0.3 / SIX, rel=0.02)


def test_sixteen_channels_and_full_scale_in_all_stay_within_full_scale(tmp_path: Path, media_files: ModuleType) -> None:
    sound = media_files.tone(1, 16000, amplitude=0.99)
    for layout in ("stereo", "5.1", "hexadecagonal"):
        speech = read_speech(media_files.write_sound(tmp_path / "a.wav", sound, 16000, layout))
        assert np.abs(speech).max() == pytest.approx(0.99, rel=0.01)


def test_channels_that_cancel_out_are_heard_all_the_same(tmp_path: Path, media_files: ModuleType) -> None:
    sound = media_files.tone(1, 44100)
    path = media_files.write_clip(tmp_path / "a.mp4", sound=np.stack([sound, -sound]), rate=44100, layout="stereo")
    assert loudness(read_speech(path), 1000) == pytest.approx(0.3, rel=0.02)
    louder = media_files.write_sound(tmp_path / "b.wav", np.stack([0.9 * sound, -sound]), 44100, "stereo")
    assert loudness(read_speech(louder), 1000) == pytest.approx(0.3, rel=0.02)
    apart = np.stack([sound, media_files.tone(1, 44100, hertz=440)])
    mixed = read_speech(media_files.write_sound(tmp_path / "c.wav", apart, 44100, "stereo"))
    assert (loudness(mixed, 1000), loudness(mixed, 440)) == pytest.approx((0.15, 0.15), rel=0.02)


def test_a_track_whose_rate_and_channels_change_is_read_to_its_end(tmp_path: Path, media_files: ModuleType) -> None:
    parts = []
    for rate, layout in ((16000, "mono"), (48000, "stereo")):
        part = media_files.write_clip(
            tmp_path / "part.ts", frames=0, sound=media_files.tone(1, rate), rate=rate, layout=layout
        )
        parts.append(part.read_bytes())
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    speech = read_speech(tmp_path / "a.ts")
    assert speech.size == pytest.approx(2 * SPEECH_RATE, rel=0.06)
    assert loudness(speech[:SPEECH_RATE], 1000) == pytest.approx(0.3, rel=0.02)
    assert loudness(speech[-SPEECH_RATE:], 1000) == pytest.approx(0.3, rel=0.02)


def test_a_channel_map_of_its_own_does_not_kill_the_process(tmp_path: Path, media_files: ModuleType) -> None:
    planes = np.stack([media_files.tone(1, 16000), np.zeros(16000, np.float32)])
    path = media_files.reverse_channels(media_files.write_sound(tmp_path / "a.mov", planes, 16000, "stereo"))
    script = (
        "import sys, pathlib; from slf_store.media.speech import read_speech\n"
        "print({read_speech(pathlib.Path(sys.argv[1])).size for _ in range(20)})"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "{16000}"), done.stderr


def test_sound_that_begins_after_the_pictures_begins_with_sound(tmp_path: Path, media_files: ModuleType) -> None:
    for name in ("a.mp4", "a.mkv"):
        path = media_files.write_clip(
            tmp_path / name, frames=100, sound=media_files.tone(1, 16000), layout="mono", sound_starts_s=3.0
        )
        speech = read_speech(path)
        assert speech.size == pytest.approx(SPEECH_RATE, abs=2048)
        assert np.abs(speech[2048:4096]).max() > 0.25
        assert probe_file(path).duration_s == pytest.approx(4.0, abs=0.2)


def test_0_3_s_is_too_short_for_a_voice(tmp_path: Path, media_files: ModuleType) -> None:
    path = media_files.write_clip(tmp_path / "a.mp4", frames=8, sound=media_files.tone(0.3, 16000))
    assert refused(path) == "short_audio"
    assert (probe_file(path).frames, probe_file(path).has_audio) == (8, True)
    longer = media_files.write_clip(tmp_path / "b.mp4", frames=8, sound=media_files.tone(0.6, 16000))
    assert read_speech(longer).size > 0.5 * SPEECH_RATE


def test_silence_no_track_and_numbers_that_are_none_have_a_reason(tmp_path: Path, media_files: ModuleType) -> None:
    silence = np.zeros(16000, np.float32)
    assert refused(media_files.write_clip(tmp_path / "a.mp4", sound=silence)) == "silent"
    assert refused(media_files.write_sound(tmp_path / "b.wav", silence, 16000, "5.1")) == "silent"
    assert refused(media_files.write_clip(tmp_path / "c.mp4")) == "no_audio"
    holes = np.where(np.arange(48000) % 4800 == 7, np.nan, media_files.tone(1, 48000))
    for layout in ("mono", "stereo"):
        path = media_files.write_sound(tmp_path / "d.wav", holes, 48000, layout, "pcm_f32le")
        assert refused(path) == "not_finite"


def test_sound_of_an_unknown_kind_leaves_the_pictures_alone(tmp_path: Path, media_files: ModuleType) -> None:
    path = media_files.write_clip(tmp_path / "a.mov", sound=media_files.tone(1, 16000), audio_codec="pcm_s16le")
    media_files.replace_in(path, b"sowt", b"zzzz", after=b"stsd")
    assert refused(path) == "unreadable"
    assert probe_file(path).frames == 25


def test_damage_in_the_middle_costs_only_what_is_damaged(tmp_path: Path, media_files: ModuleType) -> None:
    path = media_files.write_clip(tmp_path / "a.mp4", frames=100, sound=media_files.tone(4, 16000))
    whole = read_speech(path).size
    content = bytearray(path.read_bytes())
    middle = (content.index(b"mdat") + content.index(b"moov")) // 2
    content[middle : middle + 1500] = b"\xff" * 1500
    path.write_bytes(content)
    assert whole - SPEECH_RATE < read_speech(path).size < whole
    found = read_frames(path, [0, 95])
    assert [media_files.index_of(picture) for picture in found.values()] == [0, pytest.approx(20, abs=15)]


def test_only_the_first_24_s_are_read(tmp_path: Path, media_files: ModuleType) -> None:
    sound = np.concatenate([media_files.tone(24, 8000), media_files.tone(6, 8000, hertz=440)])
    speech = read_speech(media_files.write_sound(tmp_path / "a.wav", sound, 8000, "mono"))
    assert speech.size == SPEECH_SAMPLES
    assert loudness(speech[-SPEECH_RATE:], 1000) == pytest.approx(0.3, rel=0.02)
    assert loudness(speech[-SPEECH_RATE:], 440) < 0.001
