"""A catalogue of VoxCeleb2's size without media: names and facts of clips, for tests of scale."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slf_store.dataset.clipfile import ClipFile
from slf_store.dataset.metadata import IdentityMeta, Statement, read_metadata

DEV_CLIPS, TEST_CLIPS = 1_092_009, 36_237
"""Clips of VoxCeleb2."""
DEV_IDENTITIES, TEST_IDENTITIES, TEST_LISTED = 5_994, 118, 120
"""Identities of VoxCeleb2; its metadata file lists two for the test split that the tree does not have."""
VIDEOS_EACH = 24
"""Videos of an identity, where they are made up."""
CLIPS_EACH = 7.2
"""Mean clips of a video."""
_LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
_START_NS = 1_500_000_000_000_000_000


@dataclass(frozen=True)
class Catalogue:
    """Who is in it: `meta` as a metadata file says, `videos` of each identity of the tree, and clips by split."""

    meta: Mapping[str, IdentityMeta]
    videos: Mapping[str, Sequence[str]]
    clips: Mapping[str, int]
    seed: int

    def files(self) -> Iterator[ClipFile]:
        """Every clip, in the order of a walk. The same for the same catalogue."""
        rng = np.random.default_rng([self.seed, 1])
        for split, clips in self.clips.items():
            here = [
                (identity, video)
                for identity in sorted(self.videos)
                if self.meta[identity].split == split
                for video in sorted(self.videos[identity])
            ]
            here = here[: max(1, round(clips / CLIPS_EACH))]
            counts = 1 + rng.multinomial(clips - len(here), np.full(len(here), 1 / len(here)))
            for (identity, video), count in zip(here, counts, strict=True):
                folder = f"{split}/mp4/{identity}/{video}"
                for number in range(1, count + 1):
                    yield ClipFile(split, identity, video, f"{number:05d}", f"{folder}/{number:05d}.mp4")

    def facts(self, count: int) -> list[tuple[Any, ...]]:
        """What probing the first `count` clips would find.

        Each is (duration in s, fps, frames, width, height, has_audio, rate in Hz, channels, file bytes, file time in
        ns, checksum).
        """
        rng = np.random.default_rng([self.seed, 2])
        frames = (100 + np.minimum(rng.exponential(95, count), 3500)).astype(int).tolist()
        return [
            (n / 25, 25.0, n, 224, 224, True, 16000, 1, 3000 * n + i % 997, _START_NS + i, f"{self.seed:08x}{i:024x}")
            for i, n in enumerate(frames)
        ]


def make_catalogue(
    dev: int = DEV_CLIPS, test: int = TEST_CLIPS, *, meta_folder: Path | None = None, seed: int = 0
) -> Catalogue:
    """A catalogue of some clips; smaller ones have fewer videos and identities.

    Args:
        dev, test: clips.
        meta_folder: folder of `vox2_meta.csv` and `vox2_person_videos.json.gz`; names are made up without it.
        seed: of what is made up.

    >>> small = make_catalogue(100, 20)
    >>> first = next(small.files())
    >>> first.split, first.clip, len(first.video), sum(1 for _ in small.files())
    ('dev', '00001', 11, 120)
    """
    if meta_folder is not None:
        meta = read_metadata(meta_folder / "vox2_meta.csv")
        with gzip.open(meta_folder / "vox2_person_videos.json.gz") as file:
            known: dict[str, list[str]] = json.load(file)
        videos = {identity: sorted(set(known[identity])) for identity in meta if known.get(identity)}
    else:
        meta, videos = _made_up(seed)
    listed = sorted(identity for identity, said in meta.items() if said.split == "test")
    absent = [identity for identity in listed if identity not in videos]
    for identity in (listed[::-1])[: max(0, TEST_LISTED - TEST_IDENTITIES - len(absent))]:
        videos.pop(identity, None)
    return Catalogue(meta, videos, {"dev": dev, "test": test}, seed)


def _made_up(seed: int) -> tuple[dict[str, IdentityMeta], dict[str, list[str]]]:
    rng = np.random.default_rng([seed, 0])
    count = DEV_IDENTITIES + TEST_LISTED
    letters = _LETTERS[rng.integers(len(_LETTERS), size=(count, VIDEOS_EACH, 11))]
    meta, videos = {}, {}
    for number in range(count):
        identity = f"id{number + 12:05d}"
        gender = "m" if number % 5 < 3 else "f"
        split = (
            "test" if number % (count // TEST_LISTED) == 0 and number // (count // TEST_LISTED) < TEST_LISTED else "dev"
        )
        row = {"VoxCeleb2 ID": identity, "VGGFace2 ID": f"n{number:06d}", "Gender": gender, "Set": split}
        meta[identity] = IdentityMeta(row, (Statement(None, "gender", text=gender),), split)
        videos[identity] = ["".join(name) for name in letters[number]]
    return meta, videos
