"""Whom an erasure is about: an identity, a video of one, or a clip of one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from slf_store.errors import ConfigError, NotFoundInStore

if TYPE_CHECKING:
    from slf_store.store import Store

Kind = Literal["identity", "video", "clip"]

EXISTING = text("""
    -- Which of some ways to read a name is one of something in the store.
    SELECT DISTINCT wanted.position
    FROM unnest(CAST(:identities AS text[]), CAST(:videos AS text[]), CAST(:clips AS text[]))
         WITH ORDINALITY AS wanted (identity, video, clip, position)
    JOIN identity ON identity.name = wanted.identity
    JOIN source ON source.id = identity.source_id AND (CAST(:source AS text) IS NULL OR source.name = :source)
    LEFT JOIN video ON video.identity_id = identity.id AND video.name = wanted.video
    LEFT JOIN clip ON clip.video_id = video.id AND clip.name = wanted.clip
    WHERE (wanted.video IS NULL OR video.id IS NOT NULL) AND (wanted.clip IS NULL OR clip.id IS NOT NULL)
    ORDER BY wanted.position
""")


@dataclass(frozen=True)
class Target:
    """An identity, a video of one, or a clip of one.

    >>> Target("id00012", "21Uxsk56VDQ").kind
    'video'
    """

    identity: str
    video: str | None = None
    clip: str | None = None
    source: str | None = None

    @property
    def kind(self) -> Kind:
        """identity | video | clip."""
        return "clip" if self.clip is not None else "video" if self.video is not None else "identity"

    @property
    def name(self) -> tuple[str, ...]:
        """What the block list knows it by."""
        return tuple(part for part in (self.identity, self.video, self.clip) if part is not None)


def readings(typed: str, source: str | None = None) -> list[Target]:
    """Every way to read `IDENTITY`, `IDENTITY/VIDEO` or `IDENTITY/VIDEO/CLIP`.

    In a plain folder of videos the names have slashes of their own, so that there are several.

    >>> [target.name for target in readings("id00012/21Uxsk56VDQ")]
    [('id00012/21Uxsk56VDQ',), ('id00012', '21Uxsk56VDQ')]

    Raises:
        ConfigError: it names nobody.
    """
    typed = typed.strip()
    parts = typed.split("/")
    if not all(parts):
        raise ConfigError(f"{typed!r} names nobody", hint="write IDENTITY, IDENTITY/VIDEO or IDENTITY/VIDEO/CLIP")
    ends = range(1, len(parts))
    cuts = [(), *((i,) for i in ends), *combinations(ends, 2)]
    return [_cut(parts, cut, source) for cut in cuts]


def _cut(parts: list[str], cut: tuple[int, ...], source: str | None) -> Target:
    pieces = ["/".join(parts[start:end]) for start, end in zip((0, *cut), (*cut, len(parts)), strict=True)]
    identity, video, clip = [*pieces, None, None][:3]
    return Target(str(identity), video, clip, source)


def named(store: Store, typed: str, source: str | None = None, kind: str | None = None) -> Target:
    """What of the store a person means by a name.

    Args:
        store: open store.
        typed: as for :func:`readings`.
        source: where to look; everywhere by default.
        kind: identity, video or clip, where the name can be read as several of them.

    Raises:
        NotFoundInStore: nothing has that name.
        ConfigError: it names nobody, or several of them.
    """
    ways = [target for target in readings(typed, source) if kind in (None, target.kind)]
    values = {
        "identities": [target.identity for target in ways],
        "videos": [target.video for target in ways],
        "clips": [target.clip for target in ways],
        "source": source,
    }
    with store.engine.connect() as connection:
        positions = list(connection.execute(EXISTING, values).scalars())
    found: list[Target] = [ways[position - 1] for position in positions]
    if not found:
        raise NotFoundInStore(
            f"the store has no such {kind or 'identity, video or clip'}" + (f" in source {source!r}" if source else ""),
            hint="see the view clips for its names; `slf forget --check NAME` looks for traces",
        )
    if len(found) > 1:
        listed = ", ".join(target.kind for target in found)
        raise ConfigError(f"{typed!r} is the name of several: {listed}", hint="say which with --kind")
    return found[0]
