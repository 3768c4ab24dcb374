"""Speech: 16 kHz mono, made 24 s long by trimming or replaying from the start (paper, section "Dataset")."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ClipError
from slf_store.media.container import decode, first_audio, open_media

if TYPE_CHECKING:
    from av import AudioFrame

SPEECH_RATE = 16_000
"""Hz."""
SPEECH_SECONDS = 24
"""Length every clip's speech is brought to, seconds."""
SPEECH_SAMPLES = SPEECH_RATE * SPEECH_SECONDS
SPEECH = "24 s, 16 kHz, channels averaged, trimmed or replayed"
"""The same in words, for specs."""
SHORTEST_S = 0.5
"""Shorter audio than this cannot tell a voice, seconds."""
BLOCK = 8192
"""Samples handled at a time."""
CANCELLED = 0.01
"""Where the mean of the channels has less than this share of their power, they cancel out (one is inverted)."""


def read_speech(path: Path) -> NDArray[np.float32]:
    """Decode the first audio track to 16 kHz mono, at most 24 s of it: (n,) float32.

    Full scale is ±1; a lossy or floating-point track may go over it. Channels are averaged, as librosa does; where they
    cancel each other out, the loudest stands for all. Silence before the track begins is not part of it.

    Raises:
        ClipError: `no_audio` (no audio track), `short_audio` (< 0.5 s), `silent`, `not_finite` (NaN in the samples),
            and those of :func:`slf_store.media.container.open_media`.
    """
    speech, mixer = _decode_mono(path, _Mixer())
    if speech.size < SHORTEST_S * SPEECH_RATE:
        raise ClipError("short_audio", f"{path}: {speech.size / SPEECH_RATE:.2f} s of audio, {SHORTEST_S} s needed")
    if not np.isfinite(speech).all():
        raise ClipError("not_finite", f"{path}: the audio track holds NaN or infinity")
    if mixer.mixed < CANCELLED * mixer.channels.mean():
        speech, _ = _decode_mono(path, _Mixer(only=int(mixer.channels.argmax())))
    if not np.abs(speech).max() > 1e-4:
        raise ClipError("silent", f"{path}: the audio track is silent")
    return speech


def fit_length(speech: NDArray[np.float32], samples: int = SPEECH_SAMPLES) -> NDArray[np.float32]:
    """Trim to `samples`, or replay from the start until there are as many: (samples,) float32.

    >>> fit_length(np.array([1, 2, 3], np.float32), 7).tolist()
    [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]
    >>> fit_length(np.array([1, 2, 3], np.float32), 2).tolist()
    [1.0, 2.0]
    """
    return np.resize(speech, samples)


class _Mixer:
    """Makes sound of several channels mono, and adds up how much power goes in and comes out.

    Args:
        only: the channel to take instead of the mean of all.
    """

    def __init__(self, only: int | None = None) -> None:
        self.only = only
        self.channels: NDArray[np.float64] = np.zeros(1)
        self.mixed = 0.0

    def mix(self, frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
        """Mono frames from frames of floats, one sample of every channel after the other."""
        import av

        for frame in frames:
            count = frame.layout.nb_channels
            if count == 1:
                yield frame
                continue
            samples = frame.to_ndarray().reshape(-1, count)
            mono = samples.mean(axis=1) if self.only is None else samples[:, min(self.only, count - 1)]
            self.channels = np.pad(self.channels, (0, max(0, count - self.channels.size)))
            self.channels[:count] += np.einsum("tc,tc->c", samples, samples)
            self.mixed += float(mono @ mono)
            made = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono[None]), format="flt", layout="mono")
            made.sample_rate, made.pts, made.time_base = frame.sample_rate, frame.pts, frame.time_base
            yield made


def _decode_mono(path: Path, mixer: _Mixer) -> tuple[NDArray[np.float32], _Mixer]:
    """The first 24 s of the first audio track, (n,) float32 at 16 kHz, and the mixer with what it saw."""
    blocks: list[NDArray[np.float32]] = []
    have = 0
    with open_media(path) as container:
        if not container.streams.audio:
            raise ClipError("no_audio", f"{path} has no audio track")
        stream = first_audio(container)
        if stream is None:
            raise ClipError("unreadable", f"{path}: its audio is of an unknown kind")
        mono = mixer.mix(_convert(decode(container, stream)))
        for piece in _convert(mono, layout="mono", rate=SPEECH_RATE):
            blocks.append(piece.to_ndarray()[0].copy())
            have += blocks[-1].size
            if have >= SPEECH_SAMPLES:
                break
    speech = np.concatenate(blocks)[:SPEECH_SAMPLES] if blocks else np.empty(0, np.float32)
    return np.ascontiguousarray(speech, dtype=np.float32), mixer


def _convert(
    frames: Iterator[AudioFrame], *, layout: str | None = None, rate: int | None = None
) -> Iterator[AudioFrame]:
    """Frames of packed floats, also where rate, format or channels change on the way. None leaves as it is.

    PyAV reads planes that are not there from a planar frame of eight channels; a packed one has a single plane.
    """
    import av

    resampler, before = None, None
    for frame in frames:
        kind = (frame.sample_rate, frame.format.name, frame.layout.name)
        if resampler is None or kind != before:
            if resampler is not None:
                yield from resampler.resample(None)
            resampler, before = av.AudioResampler("flt", layout, rate, BLOCK), kind
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)
