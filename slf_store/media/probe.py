"""What a media file is, without decoding it all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slf_store.errors import ClipError
from slf_store.media.container import decode, first_audio, first_video, open_media
from slf_store.media.ending import check_end

MOST_FRAMES = 2**31 - 1
"""What a column of the store holds."""


@dataclass(frozen=True)
class Probe:
    """Facts about a clip's file.

    Attributes:
        duration_s: seconds.
        fps: mean frames per second.
        frames: video frames, as the tables of an MP4 say; counted where these say none or more than the file has bytes,
            and in every other file.
        width, height: pixels as stored.
        audio_rate: Hz, None without an audio track.
        audio_channels: None without an audio track.
    """

    duration_s: float
    fps: float
    frames: int
    width: int
    height: int
    audio_rate: int | None
    audio_channels: int | None

    @property
    def has_audio(self) -> bool:
        return self.audio_rate is not None


def probe_file(path: Path) -> Probe:
    """Probe a media file and decode its first video frame.

    Raises:
        ClipError: `not_a_file`, `empty_file`, `unreadable` (not media, damaged), `truncated` (shorter than it says of
            itself), `no_video`, `too_large`.
    """
    with open_media(path) as container:
        video, audio = first_video(container, path), first_audio(container)
        check_end(path)
        first = next(decode(container, video), None)
        if first is None:
            raise ClipError("unreadable", f"{path}: no video frame can be decoded")
        frames, rate = video.frames, float(video.average_rate or video.base_rate or 0)
        duration = container.duration / 1_000_000 if container.duration else 0.0
        believed = container.format.name.startswith("mov") and 0 < frames <= min(path.stat().st_size, MOST_FRAMES)
        if not believed or rate <= 0:
            frames, rate, duration = _count(path, rate)
        elif duration * rate < 1:
            duration = frames / rate
        return Probe(
            duration_s=duration,
            fps=rate,
            frames=frames,
            width=first.width,
            height=first.height,
            audio_rate=audio.rate if audio else None,
            audio_channels=audio.channels if audio else None,
        )


def probe_audio(path: Path) -> tuple[int, int]:
    """Rate (Hz) and channels of the first audio track of a file, which needs no pictures.

    Raises:
        ClipError: `not_a_file`, `empty_file`, `unreadable`, `truncated`, `no_audio`.
    """
    with open_media(path) as container:
        audio = first_audio(container)
        check_end(path)
        if audio is None:
            raise ClipError("no_audio", f"{path} has no audio track")
        return audio.rate, audio.channels


def _count(path: Path, rate: float) -> tuple[int, float, float]:
    """Frames, frames per second and seconds of a file, from the times of all its packets; nothing is decoded.

    Args:
        path: the file.
        rate: frames per second, where a single frame does not tell.
    """
    times: dict[str, list[float]] = {"video": [], "audio": []}
    with open_media(path) as container:
        video, audio = first_video(container, path), first_audio(container)
        for packet in container.demux([video, audio] if audio else [video]):
            if packet.size and packet.pts is not None:
                times[packet.stream.type].append(float(packet.pts * packet.time_base))
    frames, shown = len(times["video"]), sorted(times["video"])
    if frames > 1 and shown[-1] > shown[0]:
        rate = (frames - 1) / (shown[-1] - shown[0])
    if not frames or not rate:
        raise ClipError("unreadable", f"{path}: its frames have no times")
    every = shown + times["audio"]
    return frames, rate, max(frames / rate, max(every) - min(every))
