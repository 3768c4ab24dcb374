"""Named fault points: places where a test, or an operator on a drill, has a process die or wait.

Set `SLF_FAULT=NAME` and the process is killed (SIGKILL) when it comes to the point of that name; `NAME:3` on the third
time; `NAME=pause` stops it there (SIGSTOP) until it is continued. Unset, a point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SLF_FAULT"

EXTRACTION = {
    "claim.before": "a chunk was chosen and leased, the transaction is not committed",
    "claim.after": "the leases are committed, nothing is extracted yet",
    "renew.before": "the leases were extended, the transaction is not committed",
    "renew.after": "the longer leases are committed",
    "seal.opened": "a shard's temporary file is there, empty",
    "seal.written": "all bytes are in the temporary file, perhaps not on disk",
    "seal.fsynced": "the temporary file is on disk",
    "seal.checksummed": "its checksum is known",
    "seal.renamed": "the shard has its name, which is perhaps not on disk",
    "seal.folder_fsynced": "the shard and its name are on disk; no row knows it",
    "commit.shard_row": "the shard's row was inserted, the transaction is not committed",
    "commit.values": "values that live in PostgreSQL were written, the transaction is not committed",
    "commit.finished": "the extractions were marked as done, the transaction is not committed",
    "commit.before": "the lease was found to hold; COMMIT is the next statement",
    "commit.after": "COMMIT was answered, nobody else was told",
    "release.before": "leases were given back, the transaction is not committed",
    "release.after": "the leases that were given back are committed",
}
"""Fault points of extraction, in the order a chunk meets them, and what is so when a process dies there."""

CARE = {
    "compact.sealed": "a merged shard is on disk; no row knows it",
    "compact.repointed": "rows were pointed at the merged shard, the transaction is not committed",
    "compact.committed": "the merged shard is in use, the old ones are marked superseded",
    "backup.linked": "files and snapshot are held fast, nothing is copied",
    "backup.copied": "every object is in the backup, its manifest is the one before",
    "restore.copied": "the files are in the new home, its database is empty",
    "restore.loaded": "the database is loaded, nothing is verified",
    "forget.planned": "rows were deleted and the block list written, the transaction is not committed",
    "forget.rows_deleted": "the rows are gone; shards, pictures and pages still hold bytes",
    "forget.shard_sealed": "a shard without the person is on disk; no row knows it",
    "forget.shard_committed": "rows point at the shard without the person, the old file is still there",
    "forget.shard_rewritten": "the old file of a shard is gone, other shards may wait",
    "forget.files_removed": "shards, pictures and reports are done; logs and texts are not",
    "forget.names_dropped": "nothing but pages of PostgreSQL holds anything",
    "forget.tables_rewritten": "tables are written anew, the write-ahead log is not",
    "forget.pages_rewritten": "every byte is gone, the receipt is not finished",
}
"""Fault points of compaction, backup, restore and erasure, and what is so when a process dies there."""

GENERATION = {
    "generate.written": "a face's temporary file is there, perhaps not on disk",
    "generate.files": "every face of a batch has its name; no row knows them",
    "generate.committed": "the rows of a batch are committed",
}
"""Fault points of generating faces, and what is so when a process dies there."""

ABLATION = {
    "ablate.stage": "a stage of an ablation is done: a U-Net, the choice of the scale, or the gallery",
}
"""Fault points of an ablation, and what is so when a process dies there."""

FAULT_POINTS = EXTRACTION | CARE | GENERATION | ABLATION

_passed: dict[str, int] = {}


def fault_point(name: str) -> None:
    """Die, or stop, here if `SLF_FAULT` says so.

    Args:
        name: one of :data:`FAULT_POINTS`.

    >>> fault_point("seal.written")  # nothing happens: SLF_FAULT does not name it
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    point, _, action = wanted.partition("=")
    point, _, turn = point.partition(":")
    if point != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] == int(turn or 1):
        os.kill(os.getpid(), signal.SIGSTOP if action == "pause" else signal.SIGKILL)
