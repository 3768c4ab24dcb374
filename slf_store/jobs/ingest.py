"""Registering the clips of a source: walk, probe what is new or changed, write in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from slf_store.dataset.clipfile import ClipFile, file_name, stored_name
from slf_store.dataset.metadata import IdentityMeta, read_metadata
from slf_store.dataset.voxceleb2 import find_layout, walk
from slf_store.errors import ClipError, DatasetError
from slf_store.jobs import sql_ingest as statements
from slf_store.jobs.commit import HOLD_SEAL_LOCK, SEAL_LOCK
from slf_store.jobs.register import Writer, register_metadata
from slf_store.jobs.scan import Difference, compare, look_at, mark
from slf_store.media.probe import probe_audio, probe_file
from slf_store.privacy.blocklist import read_blocklist
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

BATCH = 10_000
"""Clips per transaction, and compared with the store at a time."""
SYNTHETIC_MARK = "SYNTHETIC.txt"
"""A source with this file in its root holds drawn faces and synthesised voices."""
EXAMPLES = 10
"""Paths named of each kind of difference."""

Progress = Callable[[int, int], None]


@dataclass
class IngestReport:
    """What an ingest found.

    Attributes:
        source: name of the source.
        found: clip files in the tree.
        blocked: of those, erased before and on the block list: neither opened nor written.
        unchanged: known already, same size and time: not opened.
        new, changed: probed and written.
        vanished: known clips whose file is gone; they and their values stay in the store.
        returned: clips that had vanished and are there again, as they were.
        quarantined: clips of this source that cannot be used, by reason.
        with_audio_file: clips with a file of sound beside them (`aac/…/*.m4a`).
        audio_without_video: files of sound that no clip goes with.
        with_track: clips with a face track (`txt/…/*.txt`).
        without_metadata: identities found that the metadata file does not name.
        listed_absent: identities that it names and the tree does not have, by split.
        other_split: identities that it lists in another split than the one they are found in.
        examples: up to 10 paths or identities of each kind of difference.
    """

    source: str
    found: int = 0
    blocked: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    vanished: int = 0
    returned: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    with_audio_file: int = 0
    audio_without_video: int = 0
    with_track: int = 0
    without_metadata: int = 0
    listed_absent: dict[str, int] = field(default_factory=dict)
    other_split: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def show(self, kind: str, names: Sequence[str]) -> None:
        """Keep some names as examples."""
        if names:
            some = self.examples.setdefault(kind, [])
            some += names[: EXAMPLES - len(some)]

    def add(self, difference: Difference) -> None:
        """Count what some identities differ in."""
        self.unchanged += difference.unchanged
        self.new += len(difference.new)
        self.changed += len(difference.changed)
        self.vanished += difference.gone
        self.returned += len(difference.returned)
        self.show("new", [file.path for file in difference.new[:EXAMPLES]])
        self.show("changed", [file.path for file in difference.changed[:EXAMPLES]])
        self.show("vanished", list(difference.vanished.values()))
        self.show("returned", list(difference.returned.values()))

    def check_metadata(self, files: Sequence[ClipFile], facts: Mapping[str, IdentityMeta]) -> None:
        """Count how a tree and a metadata file differ."""
        splits: dict[str, set[str]] = {}
        for file in files:
            splits.setdefault(file.identity, set()).add(file.split)
        unnamed = sorted(splits.keys() - facts.keys())
        absent = sorted(facts.keys() - splits.keys())
        other = sorted(
            name for name, where in splits.items() if name in facts and facts[name].split not in (None, *where)
        )
        self.without_metadata, self.other_split = len(unnamed), len(other)
        self.listed_absent = dict(sorted(Counter(facts[name].split or "no split" for name in absent).items()))
        self.show("without_metadata", unnamed)
        self.show("listed_absent", absent)
        self.show("other_split", other)


def ingest(
    store: Store,
    root: Path,
    *,
    meta: Path | None = None,
    columns: Mapping[str, str] | None = None,
    name: str | None = None,
    split: str = "dev",
    progress: Progress | None = None,
) -> IngestReport:
    """Register every clip below a root. Safe to repeat and to interrupt: what is known and unchanged is skipped.

    Args:
        store: open store.
        root: official VoxCeleb2 tree, one split of it, or a plain folder of videos.
        meta: metadata file (`vox2_meta.csv`); found by itself when it lies in the root. Another one, with ages say, can
            be given to a later ingest: what it states is added.
        columns: {meaning: column} of the metadata file, as for :func:`slf_store.dataset.metadata.read_metadata`.
        name: name of the source; the root folder's name by default.
        split: split of a plain folder's clips.
        progress: called with (done, total).

    Raises:
        DatasetError: the root or the metadata file cannot be understood, or holds no clip.
    """
    root = root.absolute()
    layout = find_layout(root)
    if meta is None and (root / "vox2_meta.csv").is_file():
        meta = root / "vox2_meta.csv"
    facts = read_metadata(meta, columns) if meta else {}
    orphans: list[str] = []
    files = list(walk(root, split=split, orphans=orphans))
    if not files:
        raise DatasetError(f"no clip below {root}", hint="expected {dev,test}/mp4/<identity>/<video>/<clip>.mp4")
    with store.engine.begin() as connection:
        source = register_source(connection, root, name or stored_name(root.name), layout)
        splits = sorted({file.split for file in files})
        connection.execute(statements.NEW_PLACES, {"source_id": source["id"], "splits": splits})
        blocklist = read_blocklist(connection, store.settings.home)
    report = IngestReport(source["name"], found=len(files), audio_without_video=len(orphans))
    files = [file for file in files if not blocklist.has(file.identity, file.video, file.clip)]
    facts = {identity: fact for identity, fact in facts.items() if not blocklist.has(identity)}
    report.blocked = report.found - len(files)
    report.with_audio_file = sum(file.audio for file in files)
    report.with_track = sum(file.track for file in files)
    report.show("audio_without_video", orphans)
    done = 0
    with (
        ThreadPoolExecutor(store.settings.worker_count) as pool,
        Writer(store.engine, source["id"], partial(_not_erased, store.settings.home)) as writer,
    ):
        for difference in compare(store.engine, source["id"], files, partial(look_at, root), BATCH):
            report.add(difference)
            mark(store.engine, difference)
            done += difference.unchanged
            todo = difference.new + difference.changed
            for start in range(0, len(todo), BATCH):
                rows = []
                for row in pool.map(partial(_probe_row, root), todo[start : start + BATCH]):
                    rows.append(row)
                    done += 1
                    if progress:
                        progress(done, len(files))
                writer.add(rows)
    if facts:
        register_metadata(store.engine, source["id"], facts)
        report.check_metadata(files, facts)
    with store.engine.connect() as connection:
        report.quarantined = {r.reason: r.clips for r in connection.execute(statements.QUARANTINED, source)}
    return report


def register_source(connection: Connection, root: Path, name: str, layout: str) -> dict[str, Any]:
    """The source of a root, made where there is none: its `id` and `name`.

    Raises:
        DatasetError: the name is another root's.
    """
    synthetic = (root / SYNTHETIC_MARK).is_file()
    values = {"root": stored_name(str(root)), "name": name, "layout": layout, "synthetic": synthetic}
    row = connection.execute(statements.SOURCE_BY_ROOT, values).mappings().first()
    if row is None:
        if connection.execute(statements.SOURCE_BY_NAME, values).first() is not None:
            raise DatasetError(
                f"another root is registered as source {name!r}",
                hint=f"give this one a --name of its own; where the files have moved: `slf source move {name} NEWROOT`",
            )
        row = connection.execute(statements.NEW_SOURCE, values).mappings().one()
    return dict(row)


def _not_erased(home: Path, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows that the block list lets through; until the transaction ends nothing is erased, and so none is undone."""
    connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})
    blocklist = read_blocklist(connection, home)
    return [row for row in rows if not blocklist.has(row[0], row[2], row[3])]


def _probe_row(root: Path, file: ClipFile) -> tuple[Any, ...]:
    """One row for the staging table; a clip that cannot be used carries its reason."""
    path = root / file_name(file.path)
    size = mtime = 0
    facts: tuple[Any, ...] = (None,) * 8
    sound: tuple[Any, ...] = (None,) * 4
    checksum = reason = message = None
    try:
        with suppress(OSError):
            stat = path.stat()
            size, mtime = stat.st_size, stat.st_mtime_ns
        probe = probe_file(path)
        checksum = file_checksum(path)
        facts = (probe.duration_s, probe.fps, probe.frames, probe.width, probe.height, probe.has_audio)
        facts += (probe.audio_rate, probe.audio_channels)
        sound = _sound_beside(root, file, used=not probe.has_audio)
        if not probe.has_audio and sound[0] is not None:
            facts = (*facts[:5], *_audio_facts(root / file_name(sound[0])))
    except ClipError as error:
        reason, message = error.code, error.what
    except OSError as error:
        reason, message = "unreadable", f"{path}: {error.strerror}"
    except Exception as error:  # one odd file must not end the ingest of a million others
        reason, message = "unexpected", f"{path}: {error!r}"
    if message is not None:
        message = message.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:1000]
    state = "ok" if reason is None else "quarantined"
    key = (file.identity, file.split, file.video, file.clip, file.path)
    return (*key, state, reason, message, *facts, size, mtime, checksum, *sound)


def _sound_beside(root: Path, file: ClipFile, *, used: bool) -> tuple[Any, ...]:
    """Path where it is used, size, time, and checksum where it is used, of the file of sound beside a clip."""
    if file.audio_path is None:
        return (None,) * 4
    path = root / file_name(file.audio_path)
    try:
        stat = path.stat()
        checksum = file_checksum(path) if used else None
    except OSError:  # extraction will say what is wrong with it
        return (file.audio_path if used else None, None, None, None)
    return (file.audio_path if used else None, stat.st_size, stat.st_mtime_ns, checksum)


def _audio_facts(path: Path) -> tuple[bool, int | None, int | None]:
    """has_audio, rate (Hz), channels of a file of sound; one that cannot be read has none, the clip's face is there."""
    try:
        return True, *probe_audio(path)
    except ClipError:
        return False, None, None
