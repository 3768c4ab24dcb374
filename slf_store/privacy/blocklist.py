"""The block list: what was erased does not come back with the next ingest."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, text

from slf_store.errors import ConfigError

KEY_FILE = "blocklist.key"
READ = text("SELECT digest, kind FROM blocked")
ADD = text("INSERT INTO blocked (digest, kind) VALUES (:digest, :kind) ON CONFLICT DO NOTHING")
REMOVE = text("DELETE FROM blocked WHERE digest = :digest AND kind <> 'key'")
COUNT = "SELECT kind, count(*) AS blocked FROM blocked WHERE kind <> 'key' GROUP BY kind ORDER BY kind"


@dataclass(frozen=True)
class BlockList:
    """Digests of what is blocked, and the store's key to make them with.

    Names of public data sets can be listed, so whoever has the key can try them: it lies beside the store, not in the
    database, and neither alone tells a name.
    """

    key: bytes
    digests: frozenset[str]

    def has(self, identity: str, video: str | None = None, clip: str | None = None) -> bool:
        """Whether the identity, this video of it, or this clip is blocked."""
        if not self.digests:
            return False
        return (
            _digest(self.key, identity) in self.digests
            or (video is not None and _digest(self.key, identity, video) in self.digests)
            or (clip is not None and _digest(self.key, identity, video or "", clip) in self.digests)
        )


def read_blocklist(connection: Connection, home: Path) -> BlockList:
    """The block list of a store; empty, without a look at the key, where nothing is blocked.

    Raises:
        ConfigError: the key file is missing or is another one, so that the list would let everybody through.
    """
    rows = {row.digest: row.kind for row in connection.execute(READ)}
    if not rows:
        return BlockList(b"", frozenset())
    key = read_key(home)
    if key is None or rows.get(_digest(key)) != "key":
        raise ConfigError(
            f"the block list cannot be read: {home / KEY_FILE} is {'gone' if key is None else 'of another store'}",
            hint="bring that file back from where the store was copied or backed up: without it erased people return",
        )
    return BlockList(key, frozenset(digest for digest, kind in rows.items() if kind != "key"))


def block(connection: Connection, home: Path, kind: str, names: Iterable[tuple[str, ...]]) -> int:
    """Put identities `(identity,)`, videos `(identity, video)` or clips `(identity, video, clip)` on the list."""
    if connection.execute(READ).first() is None:
        connection.execute(ADD, {"digest": _digest(_make_key(home)), "kind": "key"})
    key = read_blocklist(connection, home).key
    return sum(connection.execute(ADD, {"digest": _digest(key, *name), "kind": kind}).rowcount for name in names)


def allow(connection: Connection, home: Path, name: tuple[str, ...]) -> bool:
    """Take one entry from the list; False when it was not there."""
    key = read_blocklist(connection, home).key
    return bool(connection.execute(REMOVE, {"digest": _digest(key, *name)}).rowcount)


def read_key(home: Path) -> bytes | None:
    """The store's key, or None where it has none."""
    path = home / KEY_FILE
    return path.read_bytes() if path.is_file() else None


def _make_key(home: Path) -> bytes:
    found = read_key(home)
    if found is not None:
        return found
    fresh = home / f"{KEY_FILE}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(home / KEY_FILE)
    return (home / KEY_FILE).read_bytes()


@lru_cache(1 << 16)
def _digest(key: bytes, *name: str) -> str:
    return hashlib.blake2b("\0".join(name).encode("utf-8", "surrogateescape"), key=key, digest_size=32).hexdigest()
