"""Looking for leftovers: of given names, everywhere; and of anything that should not be there any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, text

from slf_store.errors import ConfigError, ShardError
from slf_store.privacy.blocklist import read_blocklist
from slf_store.shards.reader import read_clip_ids

if TYPE_CHECKING:
    from slf_store.store import Store

SHORTEST = 4
"""A name shorter than this is in every file by chance."""
BLOCK = 1 << 22

COLUMNS = text("""
    -- Columns of every table that can hold text.
    SELECT format('%I.%I', nspname, relname) AS table, array_agg(quote_ident(attname) ORDER BY attnum) AS columns
    FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'public' AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
      AND atttypid IN ('text'::regtype, 'varchar'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text[]'::regtype)
    GROUP BY 1 ORDER BY 1
""")
STATISTICS = text("""
    SELECT DISTINCT tablename || '.' || attname FROM pg_stats
    WHERE schemaname = 'public' AND (strpos(most_common_vals::text, :name) > 0
                                     OR strpos(histogram_bounds::text, :name) > 0)
""")
CLIP_IDS = text("SELECT id FROM clip")
SHARDS = text("SELECT path FROM shard")
IDENTITIES = text("""
    SELECT source.name AS source, identity.name AS identity, video.name AS video, clip.name AS clip
    FROM identity JOIN source ON source.id = identity.source_id
    LEFT JOIN video ON video.identity_id = identity.id LEFT JOIN clip ON clip.video_id = video.id
""")
GENERATIONS = text("SELECT path FROM generation")
UNFINISHED = text("SELECT id FROM erasure WHERE state <> 'done'")


def check_names(
    store: Store, names: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Search every table, every statistic and every file of the store for names: what was found where.

    Args:
        store: open store.
        names: of an identity, of a video, or `identity/video/clip`.
        progress: called with (files done, files).

    Raises:
        ConfigError: a name is too short to be searched for.
    """
    if not names or min(map(len, names)) < SHORTEST:
        raise ConfigError(f"a name shorter than {SHORTEST} letters is everywhere by chance", hint="search another one")
    found: list[dict[str, Any]] = []
    with store.engine.connect() as connection:
        for name in names:
            found += _in_tables(connection, name)
    patterns = [name.encode("utf-8", "surrogateescape") for name in names]
    files = [path for path in sorted(store.settings.home.rglob("*")) if not path.is_symlink() and path.is_file()]
    data = store.settings.home / "pg"
    if data.is_symlink():
        files += [path for path in sorted(data.resolve().rglob("*")) if path.is_file()]
    for done, path in enumerate(files):
        found += _in_file(store.settings.home, path, patterns)
        if progress is not None:
            progress(done + 1, len(files))
    return found


def check_structure(store: Store) -> list[dict[str, Any]]:
    """What should not be there: values of clips that are gone, pictures without rows, blocked people, open erasures."""
    found: list[dict[str, Any]] = []
    with store.engine.connect() as connection:
        clips = np.array(connection.execute(CLIP_IDS).scalars().all(), np.int64)
        known = set(connection.execute(SHARDS).scalars())
        generations = set(connection.execute(GENERATIONS).scalars())
        blocklist = read_blocklist(connection, store.settings.home)
        if blocklist.digests:
            for row in connection.execute(IDENTITIES):
                if blocklist.has(row.identity, row.video, row.clip):
                    found.append({"where": f"source {row.source}", "what": "a clip that the block list keeps out"})
        for erasure in connection.execute(UNFINISHED).scalars():
            found.append({"where": f"erasure {erasure}", "what": "not finished: run `slf forget --resume`"})
    for path in sorted(store.shards.rglob("*.h5")):
        name = path.relative_to(store.shards).as_posix()
        try:
            gone = int((~np.isin(read_clip_ids(path), clips)).sum())
        except ShardError:
            what = "a file that cannot be read" + ("" if name in known else ", of a crashed writer")
            found.append({"where": f"shards/{name}", "what": what})
            continue
        if gone:
            found.append({"where": f"shards/{name}", "what": f"{gone} rows of clips that are not in the database"})
    for path in sorted(store.runs.glob("*/generated/*/*.png")):
        name = path.relative_to(store.settings.home).as_posix()
        if name not in generations and path.stem.isdecimal() and int(path.stem) not in clips:
            found.append({"where": name, "what": "a generated face of a clip that is not in the database"})
    return found


def _in_tables(connection: Connection, name: str) -> list[dict[str, Any]]:
    found = []
    for table, columns in connection.execute(COLUMNS):
        held = " OR ".join(f"strpos(CAST({column} AS text), :name) > 0" for column in columns)
        rows = connection.execute(text(f"SELECT count(*) FROM {table} WHERE {held}"), {"name": name}).scalar_one()
        if rows:
            found.append({"where": f"table {table}", "what": f"{rows} rows with the name"})
    for column in connection.execute(STATISTICS, {"name": name}).scalars():
        found.append({"where": f"statistics of {column}", "what": "the name"})
    return found


def _in_file(home: Path, path: Path, patterns: Sequence[bytes]) -> list[dict[str, Any]]:
    where = path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)
    found = [{"where": where, "what": "the name in its path"} for p in patterns if p in str(where).encode()]
    longest = max(map(len, patterns)) - 1
    try:
        with path.open("rb") as file:
            tail = b""
            while block := file.read(BLOCK):
                if any(pattern in tail + block for pattern in patterns):
                    found.append({"where": where, "what": "the name in its bytes"})
                    break
                tail = block[-longest:]
    except FileNotFoundError:  # temporary files come and go
        return found
    except PermissionError:
        found.append({"where": where, "what": "not readable for this user: not searched"})
    return found
