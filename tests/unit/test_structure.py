"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "slf_store"
FORBIDDEN = {
    "diffusion": {"db", "jobs", "query", "store", "evaluation", "cli", "shards"},
    "shards": {"db", "jobs", "query", "store", "evaluation", "cli", "constituents", "diffusion"},
    "media": {"db", "jobs", "query", "store", "evaluation", "cli", "constituents"},
    "dataset": {"db", "jobs", "query", "store", "evaluation", "cli"},
    "constituents": {"db", "jobs", "query", "store", "evaluation", "cli"},
    "query": {"jobs", "evaluation", "cli"},
    "evaluation": {"cli", "explorer"},
    "explorer": {"cli"},
    "jobs": {"cli"},
    "privacy": {"cli", "query", "evaluation"},
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_go_one_way(room: str) -> None:
    wrong = {
        (path.name, name)
        for path in (PACKAGE / room).rglob("*.py")
        for name in imports(path)
        if name.startswith("slf_store.") and name.split(".")[1] in FORBIDDEN[room]
    }
    allowed = {(p, n) for p, n in wrong if n == "slf_store.store" and room == "query"}
    assert wrong - allowed == set()


def test_no_file_is_over_500_lines() -> None:
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "flows").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert [path.name for path in files if len(path.read_text("utf-8").splitlines()) > 500] == []


def test_everything_declared_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    declared = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ]", name)[0].lower()) for name in declared}
    assert names - pinned - {"slf-store"} == set()
