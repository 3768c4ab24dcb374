"""Comparing a source tree with what the store knows of it: what is new, changed, gone, or back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path

from sqlalchemy import Engine

from slf_store.dataset.clipfile import ClipFile, file_name
from slf_store.jobs import sql_ingest as statements

Look = tuple[int, int, int | None, int | None]
"""Size (bytes) and time (ns) of a clip's file, and of the file of sound beside it."""
Batch = list[tuple[str, str, list[ClipFile]]]
"""Split, identity, and its files there."""


@dataclass
class Difference:
    """How some identities of a tree differ from the store.

    Attributes:
        new, changed: to be probed.
        unchanged: how many need not be looked at.
        vanished, returned: {key: path} of clips whose file is newly gone, or as it was again.
        gone: how many are gone in all.
    """

    new: list[ClipFile] = field(default_factory=list)
    changed: list[ClipFile] = field(default_factory=list)
    unchanged: int = 0
    vanished: dict[int, str] = field(default_factory=dict)
    returned: dict[int, str] = field(default_factory=dict)
    gone: int = 0


def look_at(root: Path, file: ClipFile) -> Look | None:
    """Size and times as the file system has them; None where the file cannot be looked at."""
    try:
        stat = (root / file_name(file.path)).stat()
    except OSError:
        return None
    sound = None
    if file.audio_path is not None:
        with suppress(OSError):
            sound = (root / file_name(file.audio_path)).stat()
    return stat.st_size, stat.st_mtime_ns, sound and sound.st_size, sound and sound.st_mtime_ns


def compare(
    engine: Engine, source_id: int, files: Iterable[ClipFile], look: Callable[[ClipFile], Look | None], size: int
) -> Iterator[Difference]:
    """Compare a tree with the store, some identities at a time; last come those of which nothing is left.

    Args:
        engine: of the store.
        source_id: key of the source.
        files: of the whole tree, all of one identity and split in a row.
        look: how a file is looked at.
        size: about how many files at a time.
    """
    walked: set[tuple[str, str]] = set()
    with ThreadPoolExecutor(1) as pool:  # the database is asked of the next batch while one is compared
        asked: deque[tuple[Batch, Future[dict[str, str]]]] = deque()
        for batch in _batches(files, size):
            walked.update((split, identity) for split, identity, _ in batch)
            asked.append((batch, pool.submit(_stored, engine, source_id, batch)))
            if len(asked) > 1:
                before, stored_lines = asked.popleft()
                yield _difference(engine, source_id, before, stored_lines.result(), look)
        for before, stored_lines in asked:
            yield _difference(engine, source_id, before, stored_lines.result(), look)
    with engine.connect() as connection:
        stored = {(row.split, row.name) for row in connection.execute(statements.KNOWN_IDENTITIES, _values(source_id))}
    for split, rest in groupby(sorted(stored - walked), key=lambda key: key[0]):
        left = [identity for _, identity in rest]
        for start in range(0, len(left), 100):
            yield _all_gone(engine, source_id, split, left[start : start + 100])


def _batches(files: Iterable[ClipFile], size: int) -> Iterator[Batch]:
    """Whole identities of one split, about `size` files."""
    batch: Batch = []
    for (split, identity), group in groupby(files, key=attrgetter("split", "identity")):
        if batch and (batch[0][0] != split or sum(len(some) for _, _, some in batch) >= size):
            yield batch
            batch = []
        batch.append((split, identity, list(group)))
    if batch:
        yield batch


def _stored(engine: Engine, source_id: int, batch: Batch) -> dict[str, str]:
    """{identity: lines of its clips}, of those that are stored."""
    values = _values(source_id, batch[0][0], [identity for _, identity, _ in batch])
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(statements.LOOKS, values).all()}


def _difference(
    engine: Engine,
    source_id: int,
    batch: Batch,
    stored: Mapping[str, str],
    look: Callable[[ClipFile], Look | None],
) -> Difference:
    """Compare line by line where an identity is as it was; row by row, which takes five times as long, where not."""
    difference = Difference()
    other: dict[str, list[tuple[ClipFile, Look | None]]] = {}
    for _, identity, files in batch:
        if identity not in stored:
            difference.new += files
            continue
        looks = list(map(look, files))
        if set(map(_line, files, looks)) == set(stored[identity].split("\n")):
            difference.unchanged += len(files)
        else:
            other[identity] = list(zip(files, looks, strict=True))
    if other:
        _by_row(engine, _values(source_id, batch[0][0], list(other)), other, difference)
    return difference


def _line(file: ClipFile, look: Look | None) -> str:
    """As the statement `LOOKS` makes it. A name with a line break in it matches no line: row by row it will."""
    if look is None:
        return file.path
    size, time_ns, sound_size, sound_time_ns = look
    if sound_size is None:
        return f"{file.path}\t{size}\t{time_ns}"
    return f"{file.path}\t{size}\t{time_ns}\t{sound_size}\t{sound_time_ns}"


def _by_row(
    engine: Engine,
    values: Mapping[str, object],
    looks: Mapping[str, Sequence[tuple[ClipFile, Look | None]]],
    difference: Difference,
) -> None:
    with engine.connect() as connection:
        known = {row.path: row for row in connection.execute(statements.KNOWN, values)}
    for file, look in chain.from_iterable(looks.values()):
        before = known.pop(file.path, None)
        if before is None:
            difference.new.append(file)
        elif look != tuple(before[2:6]):
            difference.changed.append(file)
        else:
            difference.unchanged += 1
            if before.vanished:
                difference.returned[before.id] = file.path
    difference.gone = len(known)
    difference.vanished = {row.id: path for path, row in known.items() if not row.vanished}


def _all_gone(engine: Engine, source_id: int, split: str, identities: list[str]) -> Difference:
    with engine.connect() as connection:
        rows = connection.execute(statements.KNOWN, _values(source_id, split, identities)).all()
    return Difference(vanished={row.id: row.path for row in rows if not row.vanished}, gone=len(rows))


def _values(source_id: int, split: str = "", identities: Sequence[str] = ()) -> dict[str, object]:
    return {"source_id": source_id, "split": split, "identities": list(identities)}


def mark(engine: Engine, difference: Difference) -> None:
    """Note in the store which clips are gone and which are back. Pending extractions of those that are gone go."""
    with engine.begin() as connection:
        if difference.vanished:
            for statement in statements.VANISH:
                connection.execute(statement, {"clips": list(difference.vanished)})
        if difference.returned:
            connection.execute(statements.RETURN, {"clips": list(difference.returned)})
