"""Copies of one ingested store, and all that a store holds, for tests of faults."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from slf_store.jobs.gc import collect_garbage
from slf_store.settings import Settings
from slf_store.shards.reader import read_shard
from slf_store.store import Store

ROWS = """
    SELECT constituent.name AS constituent, identity || '/' || video || '/' || clip AS key, extraction.*, shard.path,
           to_jsonb(face) - 'id' AS face
    FROM extraction
    JOIN constituent ON constituent.id = extraction.constituent_id
    JOIN clips ON clips.clip_id = extraction.clip_id
    LEFT JOIN shard ON shard.id = extraction.shard_id
    LEFT JOIN face ON face.constituent_id = extraction.constituent_id AND face.clip_id = extraction.clip_id
"""
STATISTICS = ("value_hash", "value_min", "value_mean", "value_max", "value_rms", "value_rows", "zero_rows")


@dataclass
class Stores:
    """A database with clips ingested that is copied for each test: far quicker than ingesting anew."""

    server_url: str
    template: str
    folder: Path

    @contextmanager
    def fresh(self, **settings: object) -> Iterator[Store]:
        """A store of its own, with nothing extracted; removed after the block."""
        name = f"fault_{uuid.uuid4().hex[:10]}"
        values = {"workers": 1, "chunk_size": 2, "batch_clips": 2, **settings}
        with psycopg.connect(self.server_url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {self.template}")
            url = self.server_url.rpartition("/")[0] + "/" + name
            home = self.folder / name
            try:
                with Store.create(settings=Settings(home=home, database_url=url, **values)) as store:  # type: ignore[arg-type]
                    yield store
            finally:
                for process in multiprocessing.active_children():  # a stopped one would never end
                    process.kill()
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
                shutil.rmtree(home, ignore_errors=True)


def contents(store: Store) -> dict[tuple[str, str], tuple[Any, ...]]:
    """{(constituent, identity/video/clip): state, error, value, statistics}; each value as stored, bytes of a shard."""
    found: dict[tuple[str, str], tuple[Any, ...]] = {}
    shards = {row["path"]: read_shard(store.shards / row["path"]) for row in store.query("SELECT path FROM shard")}
    for row in store.query(ROWS):
        value = row["face"]
        if row["path"]:
            shard = shards[row["path"]]
            assert shard.clip_ids[row["shard_row"]] == row["clip_id"]
            value = shard.values[row["shard_row"]].tobytes()
        elif value:
            value = {name: item for name, item in value.items() if name != "clip_id"}
        statistics = tuple(row[name] for name in STATISTICS)
        found[row["constituent"], row["key"]] = (row["state"], row["error_code"], value, statistics)
    return found


def attempts(store: Store) -> dict[str, int]:
    """How often each clip was claimed."""
    return {row["key"]: row["attempts"] for row in store.query(ROWS)}


def in_shards(store: Store) -> list[tuple[str, int]]:
    """(constituent, clip) of every row of every shard file there is."""
    files = [read_shard(path) for path in store.shards.rglob("*.h5") if not path.name.startswith(".")]
    return sorted((file.constituent, int(clip)) for file in files for clip in file.clip_ids)


def leftovers(store: Store) -> list[str]:
    """Files that no row knows. Fails when a row's file is missing."""
    found = collect_garbage(store)
    assert found.missing == []
    return found.files


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own at a folder, which keeps what it held."""
    if os.geteuid() != 0:
        pytest.skip("nothing can be mounted here")
    held = folder.with_name(f"{folder.name}-held")
    shutil.copytree(folder, held)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        shutil.rmtree(held)
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(held, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(held)


def resize(folder: Path, size: str) -> None:
    """Another size for :func:`small_disk`."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
