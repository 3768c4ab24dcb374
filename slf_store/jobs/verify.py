"""Verification: everything read again and held against what PostgreSQL says of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from slf_store.jobs.constituents import require_names
from slf_store.jobs.verify_files import FileCheck, check_checkpoint, check_picture
from slf_store.jobs.verify_rows import check_embeddings, check_values, damaged_page
from slf_store.jobs.verify_shard import Finding, ShardCheck, check_shard
from slf_store.store import Store

SHARDS = text("""
    -- Shards with what their files must hold.
    SELECT shard.id, shard.path, shard.rows, shard.bytes, shard.checksum, shard.state, shard.constituent_id,
           constituent.name, constituent.version, constituent.shape, constituent.dtype, constituent.spec
    FROM shard JOIN constituent ON constituent.id = shard.constituent_id
    WHERE (CAST(:names AS text[]) IS NULL OR constituent.name = ANY(:names))
      AND (CAST(:since AS timestamptz) IS NULL OR shard.created_at >= :since)
    ORDER BY shard.path
""")

ROWS = text("""
    -- What PostgreSQL knows of the values in one shard.
    SELECT clip_id, shard_row, value_hash, value_rows FROM extraction
    WHERE constituent_id = :constituent AND shard_id = :shard AND state = 'done' ORDER BY shard_row
""")

KEYS = text("""
    SELECT clip.id, identity.name || '/' || video.name || '/' || clip.name AS key
    FROM clip JOIN video ON video.id = clip.video_id JOIN identity ON identity.id = video.identity_id
    WHERE clip.id = ANY(:clips)
""")

CHECKPOINTS = text("""
    -- Two runs may share a file; a run that trained on has replaced it under the other's row.
    SELECT path, array_agg(checksum) AS checksums, max(samples_seen) AS samples_seen, max(created_at) AS created_at
    FROM checkpoint GROUP BY path ORDER BY path
""")
PICTURES = text("SELECT path, checksum FROM generation ORDER BY path")

STILL_SHARD = text("SELECT true FROM shard WHERE path = :path")
STILL_RUN_FILE = text("""
    SELECT true FROM (SELECT path FROM checkpoint UNION SELECT path FROM generation) known WHERE path = :path
""")

Progress = Callable[[int, int], None]


@dataclass
class VerifyReport:
    """What verification looked at and what it found.

    Attributes:
        shards, checkpoints, pictures: files read.
        bytes: their size.
        values: values held against their checksum.
        unhashed: values without a checksum, extracted before there was one; the shard's checksum covers them.
        rows: rows of faces, attributes and embeddings looked at.
        seconds: time it took.
        findings: everything that is not as it should be.
        unknown: files in the shard folder that no row knows: not damage, `slf gc` removes them.
        notes: what is worth knowing and no damage.
    """

    shards: int = 0
    checkpoints: int = 0
    pictures: int = 0
    bytes: int = 0
    values: int = 0
    unhashed: int = 0
    rows: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    unknown: int = 0
    notes: list[str] = field(default_factory=list)


def verify(
    store: Store, only: Collection[str] = (), *, since: str | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Read every file and every value, and hold them against their rows. Takes no lock: writers go on.

    A file that went while it was read, because `gc`, a retirement or an erasure removed it, is no finding.

    Args:
        store: open store.
        only: constituent names; with it, files of runs are left out.
        since: only shards sealed from this moment on (ISO 8601).
        progress: called with (bytes read, bytes to read).

    Raises:
        NotFoundInStore: there is no constituent of a name in `only`.
    """
    began, report = time.perf_counter(), VerifyReport()
    selected = {"names": list(only) or None, "since": since}
    with store.engine.connect() as connection:
        require_names(connection, only)
        shards = [dict(row) for row in connection.execute(SHARDS, selected).mappings()]
        checkpoints = [] if only else connection.execute(CHECKPOINTS).mappings().all()
        pictures = [] if only else connection.execute(PICTURES).mappings().all()
    report.shards, report.checkpoints, report.pictures = len(shards), len(checkpoints), len(pictures)
    meter = _Meter(sum(shard["bytes"] for shard in shards), progress)
    with ThreadPoolExecutor(store.settings.worker_count) as pool:
        for check in pool.map(lambda shard: _shard(store, shard, meter), shards):
            report.bytes += check.bytes
            report.values += check.values
            report.unhashed += check.unhashed
            report.findings += check.findings
        home = store.settings.home
        jobs = [(check_checkpoint, home, dict(row)) for row in checkpoints]
        jobs += [(check_picture, home, dict(row)) for row in pictures]
        for found in pool.map(lambda job: _run_file(store, *job), jobs):
            report.bytes += found.bytes
            report.findings += found.findings
            report.notes += found.notes
    with store.engine.connect() as connection:
        for findings, rows in (check_values(connection, only), check_embeddings(connection, only)):
            report.rows += rows
            report.findings += findings
        _name_clips(connection, report.findings)
    report.unknown = _unknown(store)
    report.seconds = time.perf_counter() - began
    return report


def _shard(store: Store, shard: dict[str, Any], meter: _Meter) -> ShardCheck:
    try:
        with store.engine.connect() as connection:
            rows = connection.execute(ROWS, {"constituent": shard["constituent_id"], "shard": shard["id"]}).all()
    except DBAPIError as error:
        return ShardCheck(findings=[damaged_page(error, f"{shard['name']}@{shard['version']}")])
    check = check_shard(store.shards, shard, rows, meter.add)
    if check.findings:
        check.findings = _still_there(store, shard, check.findings)
    return check


def _still_there(store: Store, shard: dict[str, Any], findings: list[Finding]) -> list[Finding]:
    """Findings that are true now: not those of a shard, or of values, that went while the file was read."""
    with store.engine.connect() as connection:
        if connection.execute(STILL_SHARD, {"path": shard["path"]}).first() is None:
            return []
        now = {
            row.clip_id
            for row in connection.execute(ROWS, {"constituent": shard["constituent_id"], "shard": shard["id"]})
        }
    return [finding for finding in findings if finding.clip_id is None or finding.clip_id in now]


def _run_file(store: Store, check: Callable[..., FileCheck], home: Any, row: dict[str, Any]) -> FileCheck:
    found = check(home, row)
    if found.findings:
        with store.engine.connect() as connection:
            if connection.execute(STILL_RUN_FILE, {"path": row["path"]}).first() is None:
                found.findings = []
    return found


def _name_clips(connection: Connection, findings: list[Finding]) -> None:
    """Give every finding the natural key of its clip."""
    clips = sorted({finding.clip_id for finding in findings if finding.clip_id is not None})
    keys = {row.id: row.key for row in connection.execute(KEYS, {"clips": clips})}
    for finding in findings:
        if finding.clip_id is not None:
            finding.clip = keys.get(finding.clip_id, str(finding.clip_id))


def _unknown(store: Store) -> int:
    present = {path.relative_to(store.shards).as_posix() for path in store.shards.rglob("*") if path.is_file()}
    with store.engine.connect() as connection:  # after the files: one that became known meanwhile is known
        return len(present - set(connection.execute(text("SELECT path FROM shard")).scalars()))


class _Meter:
    """Bytes read so far, by all threads."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress = total, progress
        self.done, self._lock = 0, Lock()

    def add(self, size: int) -> None:
        if self.progress is None:
            return
        with self._lock:
            self.done += size
            self.progress(min(self.done, self.total), self.total)


def by_kind(report: VerifyReport) -> Iterator[tuple[str, int]]:
    """(kind, findings of it), most frequent first."""
    counts: dict[str, int] = {}
    for finding in report.findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
    yield from sorted(counts.items(), key=lambda item: -item[1])
