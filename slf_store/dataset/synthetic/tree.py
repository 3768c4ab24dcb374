"""Write the whole synthetic sample: an official VoxCeleb2 tree of people who do not exist."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from slf_store.dataset.synthetic.clip import write_clip
from slf_store.dataset.synthetic.face import draw_head
from slf_store.dataset.synthetic.look import make_look
from slf_store.dataset.synthetic.motion import FPS, make_motion
from slf_store.dataset.synthetic.person import make_person
from slf_store.dataset.synthetic.scene import draw_backdrop, frames
from slf_store.dataset.synthetic.voice import HOP, RATE, speak
from slf_store.errors import DatasetError, ModelUnavailable

NOTE = "SYNTHETIC.txt"
META = "vox2_meta.csv"
# First identity of each split. The official ones end at id09272, so no synthetic person can be taken for a real one.
FIRST = {"dev": 50_000, "test": 90_000}
ROOM = {"dev": 40_000, "test": 10_000}
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class SampleReport:
    """What :func:`write_sample` leaves behind.

    Attributes:
        root: the tree's root. identities, videos, clips: how many were asked for and are there.
        seconds: wall time taken. bytes: size of these clips.
    """

    root: Path
    identities: int
    videos: int
    clips: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class _Task:
    """One video's clips to write."""

    folder: Path
    seed: int
    number: int
    video: int
    clips: int
    seconds: float


def write_sample(
    root: Path,
    *,
    dev_identities: int = 100,
    test_identities: int = 40,
    videos: int = 2,
    clips: int = 1,
    seconds: float = 4.0,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SampleReport:
    """Write ``{dev,test}/mp4/<identity>/<video>/<clip>.mp4``, ``vox2_meta.csv`` and ``SYNTHETIC.txt``.

    A clip depends on the seed, its identity, video and clip number and its length only, so a larger sample of the
    same seed contains the smaller one. Clips already there are kept.

    Args:
        root: folder to write; created if missing.
        dev_identities, test_identities: how many people in each split, at most 40,000 and 10,000.
        videos, clips: videos per person, clips per video.
        seconds: length of a clip, ≥ 0.2.
        seed: of the whole sample.
        workers: processes.
        progress: called with (clips done, clips in all).

    Raises:
        DatasetError: the folder holds something else, or a sample of another seed or length.
        ModelUnavailable: OpenCV is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = write_sample(Path(folder) / "s", dev_identities=1, test_identities=1, videos=1, seconds=0.2)
    >>> report.identities, report.videos, report.clips
    (2, 2, 2)
    """
    began = time.monotonic()
    wanted = {"dev": dev_identities, "test": test_identities}
    _check(wanted, videos, clips, seconds, seed, workers)
    _claim(root, seed, seconds)
    tasks = list(_tasks(root, wanted, videos, clips, seconds, seed))
    done = size = 0
    for written in _each(tasks, workers):
        done += clips
        size += written
        if progress:
            progress(done, len(tasks) * clips)
    _write_meta(root, seed)
    people = dev_identities + test_identities
    return SampleReport(root, people, len(tasks), len(tasks) * clips, time.monotonic() - began, size)


def video_name(seed: int, number: int, video: int) -> str:
    """An eleven-letter video id like the official ones; some begin with ``-`` or ``_``.

    >>> len(video_name(0, 50000, 0))
    11
    """
    rng = np.random.default_rng([seed, number, video, 1])
    first = str(rng.choice(["-", "_"])) if rng.random() < 0.08 else str(rng.choice(list(_LETTERS)))
    return first + "".join(rng.choice(list(_LETTERS + "-_"), 10).tolist())


def _check(wanted: dict[str, int], videos: int, clips: int, seconds: float, seed: int, workers: int) -> None:
    if find_spec("cv2") is None:
        raise ModelUnavailable(
            "the synthetic sample is drawn with OpenCV, which is not installed", hint="pip install 'slf-store[extract]'"
        )
    if min(*wanted.values(), seed) < 0 or min(videos, clips, workers) < 1 or seconds < 0.2:
        raise DatasetError(
            f"cannot write a sample of {wanted}, {videos} videos, {clips} clips, {seconds} s, seed {seed}, "
            f"{workers} workers",
            hint="identities and seed ≥ 0; videos, clips and workers ≥ 1; seconds ≥ 0.2",
        )
    for split, count in wanted.items():
        if count > ROOM[split]:
            raise DatasetError(
                f"{count} synthetic {split} identities asked for", hint=f"at most {ROOM[split]:,} have a number"
            )


def _claim(root: Path, seed: int, seconds: float) -> None:
    """Make ``root`` this sample's folder, or refuse it."""
    note = root / NOTE
    text = (
        "This tree is SYNTHETIC. Every face is drawn by a program and every voice is synthesised by a program.\n"
        "No real person is shown or heard, and how a voice goes with a face here says nothing about real people.\n"
        "Written by slf-store in the folder layout of VoxCeleb2; it contains nothing of VoxCeleb2.\n"
        f"\nseed: {seed}\nseconds per clip: {seconds:g}\n"
    )
    if note.exists():
        if note.read_text(encoding="utf-8") != text:
            raise DatasetError(
                f"{root} holds a synthetic sample of another seed or clip length (see {NOTE})",
                hint="name another folder, or remove this one",
            )
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DatasetError(
            f"{root} exists and is not a synthetic sample (no {NOTE})", hint="name a new or empty folder"
        )
    else:
        root.mkdir(parents=True, exist_ok=True)
        _write(note, text.encode())


def _tasks(root: Path, wanted: dict[str, int], videos: int, clips: int, seconds: float, seed: int) -> Iterator[_Task]:
    for split, count in wanted.items():
        for number in range(FIRST[split], FIRST[split] + count):
            for video in range(videos):
                folder = root / split / "mp4" / f"id{number:05d}" / video_name(seed, number, video)
                yield _Task(folder, seed, number, video, clips, seconds)


def _each(tasks: list[_Task], workers: int) -> Iterator[int]:
    """Carry out the tasks, one thread in each process; the sizes come in order."""
    import cv2

    if workers > 1 and len(tasks) > 1:
        with get_context("spawn").Pool(min(workers, len(tasks)), cv2.setNumThreads, (1,)) as pool:
            yield from pool.imap(_write_video, tasks, chunksize=max(1, min(8, len(tasks) // (4 * workers))))
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from map(_write_video, tasks)
    finally:
        cv2.setNumThreads(threads)


def _write_video(task: _Task) -> int:
    """Write the clips of one video that are missing; the size of all of them in bytes."""
    paths = [task.folder / f"{clip:05d}.mp4" for clip in range(1, task.clips + 1)]
    missing = [clip for clip, path in enumerate(paths) if not path.exists()]
    if missing:
        task.folder.mkdir(parents=True, exist_ok=True)
        person = make_person(task.seed, task.number)
        look = make_look(np.random.default_rng([task.seed, task.number, task.video, 2]))
        head, backdrop = draw_head(person, look), draw_backdrop(look)
        per_frame = RATE // HOP // FPS
        for clip in missing:
            rng = np.random.default_rng([task.seed, task.number, task.video, 3, clip])
            pictures = max(1, round(task.seconds * FPS))
            samples, openness = speak(person, look, pictures / FPS, rng)
            motion = make_motion(openness.reshape(pictures, per_frame).mean(1), rng)
            write_clip(paths[clip], frames(head, backdrop, look, motion), samples)
    return sum(path.stat().st_size for path in paths)


def _write_meta(root: Path, seed: int) -> None:
    """``vox2_meta.csv`` of every identity in the tree, in the official form: BOM, CRLF, a blank after each field."""
    lines = ["VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set "]
    for split in FIRST:
        for folder in sorted((root / split / "mp4").glob("id*")):
            number = int(folder.name[2:])
            lines.append(f"{folder.name} ,n{number:06d} ,{make_person(seed, number).gender} ,{split} ")
    _write(root / META, "".join(line + "\r\n" for line in lines).encode("utf-8-sig"))


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    partial.replace(path)
