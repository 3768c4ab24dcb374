"""The main job by the command line, as the README tells it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from slf_store.cli.demo import CONSTITUENTS
from slf_store.cli.main import main

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(open_folder: Path) -> Path:
    return open_folder / "cli store"


def environment(**variables: str) -> dict[str, str]:
    fixed = {
        "SLF_WORKERS": "1", "SLF_THREADS": "1", "SLF_CHUNK_SIZE": "4", "SLF_CONSTITUENTS": json.dumps(CONSTITUENTS)
    }  # fmt: skip
    return {key: value for key, value in {**os.environ, **fixed, **variables}.items() if key != "SLF_DATABASE_URL"}


def slf(home: Path, *words: str, code: int = 0, **variables: str) -> str:
    """Run `slf` as a user does; its standard output, or what it says of its failure."""
    program = Path(sys.executable).with_name("slf")
    done = subprocess.run(
        [program, "--home", home, *words],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return _told(words, done.returncode, code, done.stdout, done.stderr)


def quick(home: Path, *words: str, code: int = 0) -> str:
    """The same in this process: no libraries to import again."""
    out, err, ended = io.StringIO(), io.StringIO(), 0
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with (
        mock.patch.object(sys, "argv", ["slf", "--home", str(home), *words]),
        mock.patch.dict(os.environ, environment(), clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            ended = int(end.code or 0)
        finally:
            for number, handler in signals.items():
                signal.signal(number, handler)
    return _told(words, ended, code, out.getvalue(), err.getvalue())


def _told(words: tuple[str, ...], ended: int, code: int, out: str, err: str) -> str:
    assert ended == code, f"slf {' '.join(words)}: {ended}\n{out}\n{err}"
    return out if code in (0, 3) else err


def as_json(home: Path, *words: str, code: int = 0) -> Any:
    return json.loads(quick(home, "--json", *words, code=code))


def test_the_main_job(home: Path, sample: Path, tmp_path: Path) -> None:
    assert "run `slf init`" in slf(home, "coverage", code=1)
    try:
        assert as_json(home, "init")["database"] == "embedded, running"
        assert as_json(home, "ingest", str(sample), "--direct")["new"] == 18
        extracted = json.loads(slf(home, "--json", "extract"))
        assert set(extracted["done"].values()) == {18}
        assert as_json(home, "extract", "--direct")["clips"] == 0
        assert {row["done"] for row in as_json(home, "coverage")} == {18}
        assert "add --freeze NAME" in quick(home, "select", "split = 'dev'")
        frozen = as_json(home, "select", "split = 'dev'", "--freeze", "train", "--validation", "0.2")
        assert (frozen["clips"], frozen["validation"]) == (12, 2)
        as_json(home, "select", "split = 'test'", "--per-identity", "1", "--freeze", "test")
        trained = as_json(home, "train", "train", "--samples", "48", "--name", "first")
        assert [row["samples_seen"] for row in trained] == [48, 48]
        assert as_json(home, "generate", "first", "--on", "test", "--scale", "0", "--scale", "1")["made"] == 6
        assert as_json(home, "generate", "first", "--on", "test", "--scale", "0", "--scale", "1")["made"] == 0
        as_json(home, "evaluate", "first", "--on", "test")
        rows = as_json(home, "recall", "first")
        assert {row["system"] for row in rows} == {"full-input", "random", "bicubic-8x8", "real-vs-real"}
        assert {row["k"] for row in rows} == {1, 3, 5, 10}
        page = tmp_path / "report.html"
        quick(home, "report", str(page))
        assert "synthetic" in page.read_text().lower()
        sql = as_json(
            home, "sql", "SELECT run, k, recall FROM recall_at_k WHERE system = 'random'", "--role", "analyst"
        )
        assert len(sql) == 4
        assert "permission denied" in quick(home, "sql", "SELECT path FROM clips", "--role", "analyst", code=1)
        assert as_json(home, "gc")["files"] == []
    finally:
        assert as_json(home, "stop") == {"stopped": True}
    assert as_json(home, "status")["database"] == "embedded, stopped"


def test_usage_errors_exit_with_2(home: Path) -> None:
    assert "No such command" in slf(home, "frobnicate", code=2)
    assert "--minutes" in slf(home, "train", "x", code=2)
    assert "SLF_SEED" in slf(home, "status", code=1, SLF_SEED="minus one")


def test_quarantined_clips_exit_with_3(open_folder: Path, tmp_path: Path) -> None:
    home = open_folder / "quarantine"
    (tmp_path / "videos" / "someone").mkdir(parents=True)
    (tmp_path / "videos" / "someone" / "text.mp4").write_text("no video")
    try:
        slf(home, "init")
        out = as_json(home, "ingest", str(tmp_path / "videos"), "--direct", code=3)
        assert out["quarantined"] == {"unreadable": 1}
    finally:
        slf(home, "stop")
