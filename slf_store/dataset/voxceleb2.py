"""The official VoxCeleb2 tree, and plain folders of videos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from slf_store.dataset.clipfile import ClipFile, relative, stored_name
from slf_store.errors import DatasetError

SPLITS = ("dev", "test")
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})

Layout = Literal["voxceleb2", "folder"]


def find_layout(root: Path) -> Layout:
    """`voxceleb2` when the root holds `{dev,test}/mp4` or is one split (`mp4` in it); else `folder`.

    Raises:
        DatasetError: the root is no readable folder.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder", hint="name the folder that holds dev/ and test/")
    return "voxceleb2" if split_folders(root) else "folder"


def split_folders(root: Path) -> dict[str, Path]:
    """{split: folder of identities} of an official tree; empty where the root is none."""
    found = {split: root / split / "mp4" for split in SPLITS if (root / split / "mp4").is_dir()}
    if found:
        return found
    if (root / "mp4").is_dir():
        return {root.name if root.name in SPLITS else "dev": root / "mp4"}
    return {}


def walk(root: Path, *, split: str = "dev", orphans: list[str] | None = None) -> Iterator[ClipFile]:
    """Every clip file below a root, in the order of their names.

    Args:
        root: root of an official tree, of one split of it, or of a plain folder of videos.
        split: split of a plain folder's clips.
        orphans: gets the files of sound (`aac/…/*.m4a`) that no clip goes with.

    Raises:
        DatasetError: the root is no readable folder, or `split` is neither dev nor test.
    """
    if split not in SPLITS:
        raise DatasetError(f"unknown split {split!r}", hint="use dev or test")
    if find_layout(root) == "folder":
        yield from _walk_folder(root, split)
        return
    for name, folder in split_folders(root).items():
        sounds, tracks = folder.with_name("aac"), folder.with_name("txt")
        orphaned = orphans if sounds.is_dir() else None
        heard = set(_names(sounds))
        for identity in _folders(folder):
            heard.discard(identity.name)
            yield from _walk_identity(root, name, identity, sounds, tracks, orphaned)
        if orphaned is not None:
            for who in sorted(heard):
                for video in _names(sounds / who):
                    orphaned += _orphans(sounds / who / video, root, _names(sounds / who / video))


def _walk_identity(
    root: Path, split: str, identity: os.DirEntry[str], sounds: Path, tracks: Path, orphans: list[str] | None
) -> Iterator[ClipFile]:
    """The clips of one identity of an official tree."""
    who, heard = stored_name(identity.name), set(_names(sounds / identity.name))
    for video in _folders(Path(identity.path)):
        heard.discard(video.name)
        what, place = stored_name(video.name), relative(Path(video.path), root)
        sound = set(_names(sounds / identity.name / video.name))
        alone = set(sound)
        track = set(_names(tracks / identity.name / video.name))
        for clip in _entries(Path(video.path)):
            if clip.name.lower().endswith(".mp4"):
                stem = Path(clip.name).stem
                yield ClipFile(
                    split,
                    who,
                    what,
                    stored_name(_clip_name(clip.name)),
                    f"{place}/{stored_name(clip.name)}",
                    f"{stem}.m4a" in sound,
                    f"{stem}.txt" in track,
                )
                alone.discard(f"{stem}.m4a")
        if orphans is not None:
            orphans += _orphans(sounds / identity.name / video.name, root, alone)
    if orphans is not None:
        for video_name in sorted(heard):
            folder = sounds / identity.name / video_name
            orphans += _orphans(folder, root, _names(folder))


def _orphans(folder: Path, root: Path, names: Iterable[str]) -> list[str]:
    return [relative(folder / name, root) for name in sorted(names) if name.endswith(".m4a")]


def _names(folder: Path) -> list[str]:
    """Names in a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)
        raise


def _clip_name(file: str) -> str:
    """`00001` for `00001.mp4`; any other spelling keeps its suffix, so that no two files of a folder have one name."""
    stem = file.removesuffix(".mp4")
    return stem if stem and not stem.lower().endswith(".mp4") else file


def _walk_folder(root: Path, split: str) -> Iterator[ClipFile]:
    """Identity = first folder (the root's own name for files in it), video = what is between, clip = file name."""
    home, followed = root.resolve(), set[Path]()
    for folder, folders, names in os.walk(root, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _leads_on(Path(folder, name), home, followed)]
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix.lower() in VIDEO_SUFFIXES:
                parts = path.relative_to(root).parts
                identity = parts[0] if len(parts) > 1 else home.name
                if len(parts) > 1 and identity == home.name:
                    identity += f"/{identity}"  # the root's own name stands for the files in it
                video = "/".join(parts[1:-1]) or name
                yield ClipFile(
                    split, stored_name(identity), stored_name(video), stored_name(name), relative(path, root)
                )


def _leads_on(folder: Path, home: Path, followed: set[Path]) -> bool:
    """Whether a folder is to be walked: a real one, or a link to one that is nowhere else in the tree."""
    if not folder.is_symlink():
        return True
    target = folder.resolve()
    if target.is_relative_to(home) or home.is_relative_to(target) or target in followed:
        return False
    followed.add(target)
    return True


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder) if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        _refuse(error)
        raise


def _refuse(error: OSError) -> None:
    raise DatasetError(
        f"cannot list {error.filename}: {error.strerror}", hint="correct its permissions and run again"
    ) from error
