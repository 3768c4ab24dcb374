"""The command line without a store."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from slf_store.cli import context
from slf_store.errors import ClipError, ConfigError, SlfError
from slf_store.settings import load_settings

HEAVY = ("torch", "numpy", "sqlalchemy", "prefect", "librosa", "deepface", "diffusers", "h5py", "cv2", "av")


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, slf_store.cli.main; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_verb_is_in_the_readme() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slf_store.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    verbs = re.findall(r"^  ([a-z]+)  ", done.stdout.partition("Commands:")[2], re.M)
    assert len(verbs) >= 15
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert [verb for verb in verbs if f"slf {verb}" not in readme] == []


def test_where_there_is_no_terminal_progress_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(context.time, "monotonic", lambda: now)
    with context.Context(None, False, 0).progress("clips") as progress:
        for done in range(1, 201):
            now += 1
            progress(done, 2000)
    assert capsys.readouterr().err.splitlines() == [f"slf: clips: {n} of 2,000" for n in (60, 120, 180)]


def test_settings_come_from_variables_and_the_store_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slf.toml").write_text("chunk_size = 5\nworkers = 3\n")
    monkeypatch.setenv("SLF_WORKERS", "2")
    settings = load_settings(tmp_path)
    assert (settings.chunk_size, settings.workers, settings.home) == (5, 2, tmp_path)


@pytest.mark.parametrize(("name", "value"), [("SLF_WORKERS", "many"), ("SLF_PROFILE", "cloud"), ("SLF_SEED", "-1")])
def test_a_bad_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        load_settings()


def test_errors_cross_processes_whole() -> None:
    for error in (SlfError("what", hint="next"), ClipError("no_face", "what", hint="next")):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), type(again)) == (str(error), type(error))
    assert pickle.loads(pickle.dumps(ClipError("no_face", "what"))).code == "no_face"
