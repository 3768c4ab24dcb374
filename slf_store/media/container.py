"""Opening a media file, which of its tracks are meant, and decoding past damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, overload

from slf_store.errors import ClipError
from slf_store.media.ending import check_end

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, VideoFrame, VideoStream
    from av.container import InputContainer

MAX_PIXELS = 36_000_000
"""A larger frame is refused before memory is given to it; 8K has 33 million pixels."""
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,wav"
"""What may be opened, whatever a file is called. Play lists are left out: they make FFmpeg open other files."""
_NOT_A_CLIP = 1 << 10 | 1 << 11
"""Dispositions of pictures that come with a file: cover art, timed thumbnails."""


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """An open media file. What FFmpeg raises inside becomes `unreadable`, or `truncated` where that is why.

    Raises:
        ClipError: `not_a_file` (missing, a folder, a pipe, a link that leads nowhere), `empty_file`, `unreadable`,
            `truncated`.
    """
    import av

    if not path.is_file():
        raise ClipError("not_a_file", f"{path} is not a regular file")
    if path.stat().st_size == 0:
        raise ClipError("empty_file", f"{path} has no bytes")
    try:
        with av.open(
            str(path.absolute()), metadata_errors="replace", container_options={"format_whitelist": _CONTAINERS}
        ) as container:
            yield container
    except ClipError:
        raise
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError, LookupError) as error:
        with suppress(OSError):
            check_end(path)
        raise ClipError("unreadable", f"{path}: {error}") from error


def first_video(container: InputContainer, path: Path) -> VideoStream:
    """The first track of moving pictures, ready to be decoded in one thread.

    Raises:
        ClipError: `no_video` (none, or only cover art), `too_large` (frames of more than 36 million pixels),
            `unreadable` (no decoder for it).
    """
    tracks = [stream for stream in container.streams.video if not stream.disposition.value & _NOT_A_CLIP]
    if not tracks:
        raise ClipError("no_video", f"{path} has no video track")
    video = tracks[0]
    if video.codec_context is None:
        raise ClipError("unreadable", f"{path}: its video is of an unknown kind")
    if video.width * video.height > MAX_PIXELS:
        raise ClipError("too_large", f"{path}: frames of {video.width}×{video.height} pixels")
    video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # the header may say less than the frames hold
    video.thread_count = 1
    return video


def first_audio(container: InputContainer) -> AudioStream | None:
    """The first audio track that can be decoded, or None. Call once for an open file, before decoding."""
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            _count_channels_only(stream)
            return stream
    return None


def _count_channels_only(stream: AudioStream) -> None:
    """Replace a track's channel layout by one without a map of its own.

    PyAV 17.1 to 18.1 frees such a map twice, which kills the process; nothing here asks which channel is which.
    """
    layout = stream.codec_context.layout
    if layout.nb_channels > 0:
        stream.codec_context.layout = {1: "mono", 2: "stereo"}.get(layout.nb_channels, f"{layout.nb_channels} channels")


@overload
def decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]: ...
@overload
def decode(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]: ...
def decode(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[VideoFrame] | Iterator[AudioFrame]:
    """Frames of a track in the order they are shown or heard; what is damaged or cut off is left out.

    Raises:
        FFmpegError, IndexError: there is something, but nothing of it can be decoded.
    """
    import av

    nothing_but: Exception | None = None
    some = False
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            if packet.size == 0 and packet.dts is not None:
                continue  # an empty packet in the middle would end the decoder
            frames = stream.decode(packet)
        except (av.error.FFmpegError, IndexError) as error:  # IndexError: PyAV, where a track turns up late
            nothing_but = error
            continue
        for frame in frames:
            some = True
            yield frame
    if nothing_but is not None and not some:
        raise nothing_but
