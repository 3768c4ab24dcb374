"""Media files for tests, written with PyAV: sound and pictures whose values are known, and damage to them.

The fixture `media_files` hands this module to tests.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Picture = Callable[[int], NDArray[np.uint8]]
GREYS = 25
"""Levels that :func:`grey` tells apart."""


def tone(seconds: float, rate: int, *, hertz: float = 1000, amplitude: float = 0.3) -> NDArray[np.float32]:
    """A sine: (samples,) float32."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def grey(index: int, width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    """A picture whose level says which frame it is: (height, width, 3) uint8."""
    return np.full((height, width, 3), index % GREYS * 10, np.uint8)


def index_of(picture: NDArray[np.uint8]) -> int:
    """Which frame :func:`grey` drew, modulo GREYS."""
    return round(float(picture.mean()) / 10)


def write_clip(
    path: Path,
    *,
    frames: int = 25,
    fps: int = 25,
    picture: Picture = grey,
    times_ms: Sequence[int] | None = None,
    sound: NDArray[np.float32] | None = None,
    rate: int = 16000,
    layout: str = "mono",
    audio_codec: str = "aac",
    sound_starts_s: float = 0.0,
    video_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    file_format: str | None = None,
) -> Path:
    """Write a clip.

    Args:
        path: its suffix says which container, unless `file_format` does.
        frames: number of pictures; 0 for no video track.
        times_ms: when each is shown, for a variable rate.
        sound: (samples,) for every channel alike, or (channels, samples); None for no audio track.
        sound_starts_s: where the audio track begins.
    """
    with av.open(str(path), "w", format=file_format, container_options=container_options or {}) as out:
        video = audio = None
        if frames:
            first = picture(0)
            video = out.add_stream(
                "libx264", rate=fps, options={"preset": "ultrafast", "crf": "4"} | (video_options or {})
            )
            video.height, video.width, video.pix_fmt = first.shape[0], first.shape[1], "yuv420p"
            if times_ms is not None:
                video.codec_context.time_base = Fraction(1, 1000)
        if sound is not None:
            audio = out.add_stream(audio_codec, rate=rate, layout=layout)
        for index in range(frames if video else 0):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            out.mux(video.encode(frame))
        if video:
            out.mux(video.encode(None))
        if audio is not None and sound is not None:
            for packet in [*audio.encode(sound_frame(sound, rate, layout, sound_starts_s)), *audio.encode(None)]:
                out.mux(packet)
    return path


def sound_frame(sound: NDArray[np.float32], rate: int, layout: str, starts_s: float = 0.0) -> av.AudioFrame:
    """Sound as one frame; (samples,) is given to every channel."""
    channels = av.AudioLayout(layout).nb_channels
    packed = np.broadcast_to(sound, (channels, sound.shape[-1])).T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed, dtype=np.float32), format="flt", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, round(starts_s * rate), Fraction(1, rate)
    return frame


def write_sound(path: Path, planes: NDArray[np.float32], rate: int, layout: str, codec: str = "pcm_s16le") -> Path:
    """A file of sound alone; `planes` as for :func:`write_clip`."""
    return write_clip(path, frames=0, sound=planes, rate=rate, layout=layout, audio_codec=codec)


def write_song(path: Path, *, frames: int) -> Path:
    """An MP4 with cover art before its sound and, unless `frames` is 0, its pictures."""
    with av.open(str(path), "w") as out:
        cover = out.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 80, 80, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        audio = out.add_stream("aac", rate=16000, layout="mono")
        pictures = [(cover, [grey(24, 80, 80)])]
        if frames:
            video = out.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            pictures.append((video, [grey(index) for index in range(frames)]))
        for stream, shown in pictures:
            for picture in shown:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode(None))
        for packet in [*audio.encode(sound_frame(tone(1, 16000), 16000, "mono")), *audio.encode(None)]:
            out.mux(packet)
    return path


def write_long(path: Path, seconds: int, *, hertz: float = 1000) -> Path:
    """A long clip at 25 fps with B-frames and a key frame every second: one second, muxed again and again."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"x264-params": "keyint=25:scenecut=0:bframes=2"})
        video.width = video.height = 64
        audio = out.add_stream("aac", rate=8000, layout="mono")
        pictures = [video.encode(av.VideoFrame.from_ndarray(grey(index), format="rgb24")) for index in range(GREYS)]
        shown = [packet for packets in [*pictures, video.encode(None)] for packet in packets]
        heard = [*audio.encode(sound_frame(tone(16.384, 8000, hertz=hertz), 8000, "mono")), *audio.encode(None)][:128]
        turns = [(shown, 25, turn) for turn in range(seconds)]
        turns += [(heard, 128 * 1024, turn) for turn in range(int(seconds / 16.384) + 1)]
        for packets, length, turn in sorted(turns, key=lambda t: t[2] * (1.0 if t[1] == 25 else 16.384)):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.stream, again.time_base, again.duration = packet.stream, packet.time_base, packet.duration
                again.is_keyframe = packet.is_keyframe
                ticks = round(length / (25 if packets is shown else 8000) / packet.time_base) * turn
                again.pts, again.dts = packet.pts + ticks, packet.dts + ticks
                out.mux(again)
    return path


def write_bomb(path: Path, side: int, *, good_frames: int = 0) -> Path:
    """A small file whose pictures claim side × side pixels, after some that are honest about their 64 × 64."""
    from PIL import Image

    with av.open(str(path), "w") as out:
        video = out.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuvj420p"
        video.codec_context.open()
        plain = io.BytesIO()
        Image.new("RGB", (64, 64), (50, 50, 50)).save(plain, "JPEG", subsampling=2)
        claims = bytearray(plain.getvalue()) + bytes(side * side // 200)  # decoders know that so little cannot hold it
        start = claims.find(b"\xff\xc0") + 5
        claims[start : start + 4] = struct.pack(">HH", side, side)
        for index in range(good_frames + 3):
            packet = av.Packet(plain.getvalue() if index < good_frames else bytes(claims))
            packet.stream, packet.pts, packet.dts, packet.duration = video, index, index, 1
            packet.time_base, packet.is_keyframe = Fraction(1, 25), True
            out.mux(packet)
    return path


def replace_in(path: Path, old: bytes, new: bytes, *, after: bytes = b"") -> Path:
    """Overwrite the first `old` behind `after` in a file by as many other bytes."""
    content = path.read_bytes()
    start = content.index(old, content.index(after))
    assert len(old) == len(new)
    path.write_bytes(content[:start] + new + content[start + len(old) :])
    return path


def turn(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write an orientation into an MP4 as cameras do: a pixel at (x, y) is shown at (ax + cy, bx + dy), y downwards."""

    def matrix(a: int, b: int, c: int, d: int) -> bytes:
        return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)

    return replace_in(path, matrix(1, 0, 0, 1), matrix(a, b, c, d), after=b"tkhd")


def reverse_channels(path: Path) -> Path:
    """Say in a stereo .mov that its first channel is the right one: a channel map of its own."""
    content = path.read_bytes()
    start = content.index(b"chan") - 4
    length = struct.unpack(">I", content[start : start + 4])[0]
    channels = b"".join(struct.pack(">II3f", label, 0, 0, 0, 0) for label in (2, 1))
    atom = struct.pack(">I4s4I", 24 + len(channels), b"chan", 0, 0, 0, 2) + channels
    grown = bytearray(content[:start] + atom + content[start + length :])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"sowt"):
        at = content.rindex(parent, 0, start) - 4
        grown[at : at + 4] = struct.pack(">I", struct.unpack(">I", content[at : at + 4])[0] + len(atom) - length)
    path.write_bytes(grown)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep the first share of a file's bytes."""
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    return path
