"""Speak random syllables in a synthetic person's voice: glottal pulses and noise through formants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slf_store.dataset.synthetic.look import Look
from slf_store.dataset.synthetic.person import Person
from slf_store.dataset.synthetic.speech import NEUTRAL, Score, write_score

RATE = 16_000  # samples per second
HOP = 80  # samples between two steps of the score: 5 ms
_WINDOW = 320
_FFT = 1024
_BANDWIDTHS = np.array([55.0, 75.0, 110.0, 165.0, 230.0])  # Hz at damping 1

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class Voice:
    """A person's voice in physical units.

    Attributes:
        pitch: mean fundamental frequency, Hz. pitch_range: its spread, share of the mean.
        formants: factor on F1 … F5. damping: factor on their bandwidths.
        tilt: slope added to the source, dB per octave. breath: noise beside the pulses, amplitude share.
        nasal: 0 to 1. clarity: how far vowels keep from the middle one, 1 as written. hiss: loudness of consonants.
        sibilant: centre of /s/, Hz. jitter: pulse-to-pulse spread, share. rate: syllables per second.
    """

    pitch: float
    pitch_range: float
    formants: tuple[float, float, float, float, float]
    damping: float
    tilt: float
    breath: float
    nasal: float
    clarity: float
    hiss: float
    sibilant: float
    jitter: float
    rate: float


def voice_of(person: Person) -> Voice:
    """A person's voice traits in physical units.

    >>> from slf_store.dataset.synthetic.person import make_person
    >>> 60 < voice_of(make_person(0, 50000)).pitch < 400
    True
    """
    t, male = person.voice, person.gender == "m"
    tract = (0.94 if male else 1.10) * np.exp(-0.09 * t["tract"])  # a longer tract lowers every formant
    own = np.exp([0.14 * t["formant1"], 0.14 * t["formant2"], 0.12 * t["formant3"], 0.12 * t["formant4"], 0.0])
    return Voice(
        pitch=float((118 if male else 205) * np.exp(0.17 * t["pitch"])),
        pitch_range=float(np.clip(0.055 * np.exp(0.5 * t["pitch_range"]), 0.015, 0.16)),
        formants=tuple(float(x) for x in tract * own),  # type: ignore[arg-type]
        damping=float(np.exp(0.35 * t["damping"])),
        tilt=float(-2.0 + 2.2 * t["tilt"]),
        breath=float(0.10 * np.exp(0.75 * t["breath"])),
        nasal=float(np.clip(0.4 + 0.3 * t["nasality"], 0, 1)),
        clarity=float(np.exp(0.28 * t["clarity"])),
        hiss=float(0.7 * np.exp(0.45 * t["hiss"])),
        sibilant=float(np.clip(5200 * np.exp(0.13 * t["sibilant"]), 3400, 7200)),
        jitter=float(np.clip(0.008 * np.exp(0.7 * t["jitter"]), 0.001, 0.05)),
        rate=float(np.clip(5.6 * np.exp(0.18 * t["rate"]), 3.2, 8.0)),
    )


def speak(person: Person, look: Look, seconds: float, rng: np.random.Generator) -> tuple[Signal, Signal]:
    """Random syllables in a person's voice, as one video's microphone hears them.

    Args:
        seconds: length, > 0.
        rng: chooses the syllables and all noise.

    Returns:
        samples (n,) in -1 to 1 at 16 kHz, and the mouth's openness (steps,) 0 to 1 every 5 ms.

    >>> from slf_store.dataset.synthetic.look import make_look
    >>> from slf_store.dataset.synthetic.person import make_person
    >>> rng = np.random.default_rng(0)
    >>> samples, openness = speak(make_person(0, 50000), make_look(rng), 1.0, rng)
    >>> samples.shape, openness.shape, bool(abs(samples).max() <= 1)
    ((16000,), (200,), True)
    """
    voice = voice_of(person)
    total = round(seconds * RATE)
    score = write_score(-(-total // HOP), HOP / RATE, voice.rate, rng)
    pulses, breath = _source(voice, score, rng)
    hiss = rng.standard_normal(len(pulses))
    throat = _filtered(pulses + breath, _throat(voice, score)) + _filtered(hiss, _frication(voice, score))
    return _microphone(throat[:total], look, rng), score.open


def _source(voice: Voice, score: Score, rng: np.random.Generator) -> tuple[Signal, Signal]:
    """Glottal flow derivative and the breath that rides on it, (steps·HOP,) each."""
    steps = len(score.pitch)
    f0 = voice.pitch * np.exp(voice.pitch_range * score.pitch)
    f0 = np.repeat(f0, HOP) / RATE
    wobble = np.repeat(rng.standard_normal(steps * 2), HOP // 2) * voice.jitter * 2
    phase = np.cumsum(f0 * (1 + wobble))
    within = phase % 1.0
    opening, closing = 0.45, 0.65
    rise = np.sin(np.pi * within / opening) * (within < opening)
    snap = (within - opening) / (closing - opening)
    fall = -2.2 * snap * np.exp(1.0 - 1.0 / np.maximum(1 - snap, 1e-3)) * ((within >= opening) & (within < closing))
    pulse = 0.6 * rise + fall
    loud = np.repeat(score.voiced, HOP)
    noise = rng.standard_normal(len(pulse)) * (0.35 + 0.65 * (within < closing)) * voice.breath
    return pulse * loud, noise * loud


def _throat(voice: Voice, score: Score) -> NDArray[np.complex128]:
    """Response of the vocal tract at every step, (steps, bins): formants, nose, tilt."""
    f = np.fft.rfftfreq(_FFT, 1 / RATE)
    z = np.exp(-2j * np.pi * f / RATE)
    response = np.ones((len(score.pitch), len(f)), np.complex128)
    scale = np.asarray(voice.formants)
    for k in range(5):
        middle = NEUTRAL[k]
        centre = (middle * (score.formants[:, k, None] / middle) ** voice.clarity) * scale[k]
        response *= _resonance(z, centre, _BANDWIDTHS[k] * voice.damping)
    nasal = (voice.nasal * 0.6 + score.nasal * 0.8)[:, None]
    nose = _resonance(z, np.array([[270.0]]), 120.0) / _resonance(z, np.array([[480.0 * scale[0]]]), 160.0)
    response *= 1 + np.minimum(nasal, 1) * (nose - 1)
    octaves = np.log2(np.maximum(f, 60) / 500)
    return np.asarray(response * 10 ** (voice.tilt * octaves / 20))


def _frication(voice: Voice, score: Score) -> NDArray[np.complex128]:
    """Response for the hiss of consonants at every step, (steps, bins)."""
    f = np.fft.rfftfreq(_FFT, 1 / RATE)
    centre = score.place[:, None] * voice.sibilant
    shape = np.exp(-0.5 * ((f - centre) / (0.28 * centre)) ** 2) + 0.03
    return np.asarray(voice.hiss * score.hiss[:, None] * shape, np.complex128)


def _resonance(z: NDArray[np.complex128], centre: NDArray[np.float64], bandwidth: float) -> NDArray[np.complex128]:
    """Two-pole resonator with unit gain at 0 Hz; centre in Hz (steps, 1)."""
    radius = np.exp(-np.pi * bandwidth / RATE)
    b = 2 * radius * np.cos(2 * np.pi * np.minimum(centre, 0.47 * RATE) / RATE)
    return np.asarray((1 - b + radius**2) / (1 - b * z + radius**2 * z**2))


def _filtered(signal: Signal, response: NDArray[np.complex128]) -> Signal:
    """A signal (steps·HOP,) through a filter that changes every step (steps, bins), by overlapping windows."""
    steps = len(response)
    window = np.hanning(_WINDOW + 1)[:-1] / (_WINDOW / HOP / 2)
    padded = np.concatenate([np.zeros(_WINDOW // 2), signal, np.zeros(_WINDOW)])
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][:steps] * window
    heard = np.fft.irfft(np.fft.rfft(pieces, _FFT) * response, _FFT)
    blocks = _FFT // HOP + 1
    out = np.zeros((steps + blocks, HOP))
    heard = np.pad(heard, ((0, 0), (0, blocks * HOP - _FFT))).reshape(steps, blocks, HOP)
    for k in range(blocks):
        out[k : k + steps] += heard[:, k]
    return out.ravel()[_WINDOW // 2 : _WINDOW // 2 + steps * HOP]


def _microphone(signal: Signal, look: Look, rng: np.random.Generator) -> Signal:
    """A voice (n,) in a room, through a microphone of its own tone, level and noise."""
    size = 1 << int(np.ceil(np.log2(len(signal) + RATE // 4)))
    echo = np.zeros(RATE // 4)
    t = np.arange(len(echo)) / RATE
    echo[:] = rng.standard_normal(len(echo)) * np.exp(-6.9 * t / look.room) * 0.014
    echo[0] = 1.0
    f = np.fft.rfftfreq(size, 1 / RATE)
    slope = 10 ** (look.tone * np.log2(np.maximum(f, 80) / 1000) / 20)
    wet = np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(echo, size) * slope, size)[: len(signal)]
    wet /= np.abs(wet).max() + 1e-9
    level = np.sqrt(np.mean(wet**2)) * 10 ** (-look.hiss / 20)
    noisy = wet + level * rng.standard_normal(len(wet))
    return np.asarray(np.clip(noisy * 0.7 * 10 ** (look.gain / 20), -1, 1))
