"""Advisory locks of a store's database: who waits for whom."""

from __future__ import annotations

from sqlalchemy import text

SEAL_LOCK = 0x51F0_0002
"""Shared from writing a file to committing its row; exclusive for whoever removes files or the rows that name them
(`gc`, retiring, erasure). `compact` and `backup` hold it shared: they add, and nothing may go under their feet."""

COMPACT_LOCK = 0x51F0_0003
"""One compaction at a time."""

BACKUP_LOCK = 0x51F0_0004
"""One backup at a time; whoever can have it knows that folders of links in the store are a dead backup's."""

FOLD_LOCK = 0x51F0_0005
"""One folding of the counts of extractions at a time."""

HOLD_SEAL_LOCK = text("SELECT pg_advisory_xact_lock_shared(:key)")
TAKE_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
TRY_LOCK = text("SELECT pg_try_advisory_lock(:key)")
RELEASE_LOCK = text("SELECT pg_advisory_unlock(:key)")
