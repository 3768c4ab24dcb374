"""Extraction: plan what is missing, then chunk after chunk: claim, extract, seal, commit."""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from slf_store.constituents.download import Progress, fetch
from slf_store.constituents.extractor import Extractor
from slf_store.constituents.registry import extractors
from slf_store.db.outage import is_gone, outlast
from slf_store.errors import ClipError, ExtractorBroken
from slf_store.jobs import queue
from slf_store.jobs.commit import Outcome, commit_chunk
from slf_store.jobs.constituents import register
from slf_store.jobs.heartbeat import Heartbeat, keep_lease
from slf_store.jobs.worker import new_owner
from slf_store.media.clip import ClipMedia
from slf_store.store import Store

CEILING_WINDOW = 200
"""Clips looked back on to tell a broken extractor from bad clips."""


@dataclass
class ChunkReport:
    """What one chunk, or many added up, came to.

    Attributes:
        clips: clips claimed.
        done, failed: values by constituent.
        seconds: time inside extractors by constituent, without decoding.
        media_seconds: time for what extractors share: `speech` (decoding sound), `face` (frames and detection).
        busy_seconds: time from claiming to committing.
        reasons: failures by reason code.
        places: clips by where they were extracted; filled by who runs chunks in several places.
        broken: unexpected errors among the last clips, one flag each, by constituent.
        first_unexpected: stack trace of the first error that is not about the clip.
    """

    clips: int = 0
    busy_seconds: float = 0.0
    done: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    media_seconds: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    broken: dict[str, list[bool]] = field(default_factory=dict)
    first_unexpected: dict[str, str] = field(default_factory=dict)

    def add(self, other: ChunkReport) -> None:
        """Add another chunk's counts."""
        self.clips += other.clips
        self.busy_seconds += other.busy_seconds
        for part in ("done", "failed", "reasons", "places"):
            mine = getattr(self, part)
            for name, count in getattr(other, part).items():
                mine[name] = mine.get(name, 0) + count
        for spent, more in ((self.seconds, other.seconds), (self.media_seconds, other.media_seconds)):
            for name, seconds in more.items():
                spent[name] = spent.get(name, 0.0) + seconds
        for name, flags in other.broken.items():
            self.broken[name] = (self.broken.get(name, []) + flags)[-CEILING_WINDOW:]
        for name, trace in other.first_unexpected.items():
            self.first_unexpected.setdefault(name, trace)

    def check_ceiling(self, ceiling: float) -> None:
        """Stop when an extractor fails on too many of the last clips with errors that are not about the clip.

        Raises:
            ExtractorBroken: with the stack trace of the first such error.
        """
        for name, flags in self.broken.items():
            if len(flags) == CEILING_WINDOW and sum(flags) > ceiling * CEILING_WINDOW:
                raise ExtractorBroken(
                    f"{name} failed unexpectedly on {sum(flags)} of the last {CEILING_WINDOW} clips; the first time:\n"
                    f"{self.first_unexpected.get(name, '(no trace)')}",
                    hint=f"repair the extractor, then run `slf extract --only {name} --retry-failed`",
                )


def fetch_models(store: Store, only: Collection[str] = (), progress: Progress | None = None) -> None:
    """In the profile hub, fetch weights that extraction would lack; in the offline profile no network is used.

    Raises:
        ModelUnavailable: one cannot be had.
    """
    if store.settings.profile == "hub":
        fetch(extractors(store.settings, only), progress)


def plan(store: Store, only: Collection[str] = (), *, retry_failed: bool = False) -> int:
    """Fetch weights (profile hub), register the constituents, queue what is missing, take back dead processes' leases.

    Args:
        store: open store.
        only: constituents to extract; all of the profile by default.
        retry_failed: queue again what failed before.

    Returns:
        Clips with open work.

    Raises:
        ModelUnavailable: weights are missing and cannot be fetched.
    """
    fetch_models(store, only)
    specs = [extractor.spec for extractor in extractors(store.settings, only)]
    with store.engine.begin() as connection:
        keys = register(connection, specs)
    queue.release_dead(store.engine)
    return queue.enqueue(store.engine, list(keys.values()), retry_failed=retry_failed)


def extract_chunk(store: Store, loaded: LoadedExtractors, *, clips: int | None = None) -> ChunkReport:
    """Claim one chunk, extract it, seal and commit it. A report of 0 clips means that nothing is open.

    Raises:
        ModelUnavailable: an extractor cannot be loaded; the chunk is given back.
        LeaseLost, ShardError: nothing of the chunk was written.
        DatabaseError: the database went away and stayed away (`database_patience_s`).
    """
    began, owner = time.perf_counter(), new_owner()
    lease_s = store.settings.lease_minutes * 60
    try:
        claimed = queue.claim(
            store.engine, loaded.keys, clips=clips or store.settings.chunk_size, owner=owner, lease_s=lease_s
        )
        if not claimed:
            return ChunkReport()
        with keep_lease(store.engine, owner, lease_s) as heart:
            results, media_seconds = _extract(store, loaded, claimed, heart)
            by_spec = {key: (loaded.by_key[key].spec, outcomes) for key, outcomes in results.items()}
            commit_chunk(store, owner, by_spec)
    except BaseException as error:
        patience_s = store.settings.database_patience_s if is_gone(error) else 0
        outlast(store.engine, partial(queue.release, store.engine, owner), patience_s)
        raise
    report = _report(loaded, results, len(claimed), media_seconds)
    report.busy_seconds = time.perf_counter() - began
    return report


class LoadedExtractors:
    """The extractors of one process: known to the database, models loaded once."""

    def __init__(self, store: Store, only: Collection[str] = ()) -> None:
        chosen = extractors(store.settings, only)
        with store.engine.begin() as connection:
            keys = register(connection, [extractor.spec for extractor in chosen])
        self.by_key: dict[int, Extractor] = {keys[extractor.name]: extractor for extractor in chosen}
        for extractor in chosen:
            extractor.load()

    @property
    def keys(self) -> list[int]:
        """Constituent keys, in the order of extraction."""
        return list(self.by_key)


def _extract(
    store: Store, loaded: LoadedExtractors, claimed: Sequence[queue.ClaimedClip], heart: Heartbeat
) -> tuple[dict[int, list[Outcome]], dict[str, float]]:
    """Every claimed value or its error, and the time media took.

    A batch of clips goes through extractor after extractor, so that networks get many at once; each clip is decoded
    once for all of them, and let go with its batch.
    """
    results: dict[int, list[Outcome]] = {}
    media_seconds: dict[str, float] = {}
    for start in range(0, len(claimed), store.settings.batch_clips):
        batch = [(clip, _open(clip)) for clip in claimed[start : start + store.settings.batch_clips]]
        for key, extractor in loaded.by_key.items():
            media = [opened for clip, opened in batch if key in clip.constituents]
            if media:
                results.setdefault(key, []).extend(_outcomes(extractor, media))
            heart.progress()
        for _, opened in batch:
            for part, seconds in opened.seconds.items():
                media_seconds[part] = media_seconds.get(part, 0.0) + seconds
    return results, media_seconds


def _open(clip: queue.ClaimedClip) -> ClipMedia:
    root = Path(clip.root)
    audio = None if clip.audio is None else root / clip.audio
    return ClipMedia(clip.clip_id, clip.key, root / clip.path, clip.frames, audio)


def _outcomes(extractor: Extractor, media: Sequence[ClipMedia]) -> list[Outcome]:
    """Values of some clips; the time is shared among them, without what decoding took."""
    decoded = _media_time(media)
    start = time.perf_counter()
    values = extractor.extract_many(media)
    seconds = time.perf_counter() - start - (_media_time(media) - decoded)
    return [Outcome(clip.clip_id, value, seconds / len(media)) for clip, value in zip(media, values, strict=True)]


def _media_time(media: Sequence[ClipMedia]) -> float:
    return sum(sum(clip.seconds.values()) for clip in media)


def _report(
    loaded: LoadedExtractors, results: dict[int, list[Outcome]], clips: int, media_seconds: dict[str, float]
) -> ChunkReport:
    report = ChunkReport(clips=clips, media_seconds=media_seconds)
    for key, outcomes in results.items():
        name = loaded.by_key[key].name
        errors = [outcome.value for outcome in outcomes if isinstance(outcome.value, Exception)]
        report.done[name] = len(outcomes) - len(errors)
        report.failed[name] = len(errors)
        report.seconds[name] = sum(outcome.seconds for outcome in outcomes)
        report.broken[name] = [_is_unexpected(outcome.value) for outcome in outcomes]
        for error in errors:
            code = error.code if isinstance(error, ClipError) else "unexpected"
            report.reasons[code] = report.reasons.get(code, 0) + 1
            if _is_unexpected(error) and name not in report.first_unexpected:
                report.first_unexpected[name] = "".join(traceback.format_exception(error))
    return report


def _is_unexpected(value: object) -> bool:
    """Whether this is an error that says nothing about the clip."""
    return isinstance(value, Exception) and not isinstance(value, ClipError)
