"""What every command shares: the store it works on and how it speaks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slf_store.settings import Settings
    from slf_store.store import Store

Progress = Callable[[int, int], None]
LINE_EVERY_S = 60
"""Seconds between two lines of progress where there is no terminal."""


@dataclass
class Context:
    """Global options of one command.

    Attributes:
        home: `--home`, or None for SLF_HOME and the default.
        json: print JSON instead of tables.
        verbose: count of `-v`.
    """

    home: Path | None
    json: bool
    verbose: int

    @property
    def settings(self) -> Settings:
        """Settings of the store."""
        from slf_store.settings import load_settings

        return load_settings(self.home)

    def open_store(self) -> Store:
        """The open store."""
        from slf_store.store import Store

        return Store.open(settings=self.settings)

    @contextmanager
    def progress(self, description: str) -> Iterator[Progress]:
        """A progress bar on a terminal; in a log a line a minute; nothing with --json."""
        if self.json:
            yield lambda done, total: None
            return
        if not sys.stderr.isatty():
            yield _lines(description)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(description, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def show(self, rows: Sequence[Mapping[str, Any]], title: str = "", columns: Sequence[str] | None = None) -> None:
        """Print rows as a table, or as a JSON list of objects."""
        if self.json:
            print(json.dumps([dict(row) for row in rows], default=str, ensure_ascii=False))
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        names = list(columns or (rows[0] if rows else ()))
        table = Table(title=title or None, title_justify="left")
        for name in names:
            numeric = any(isinstance(row.get(name), int | float) for row in rows)
            table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(_cell(row.get(name))) for name in names))
        width = None if sys.stdout.isatty() else 200
        Console(width=width).print(table if rows else f"{title}: none" if title else "no rows")

    def show_one(self, values: Mapping[str, Any], title: str = "") -> None:
        """Print one object: JSON, or a line for each key."""
        if self.json:
            print(json.dumps(dict(values), default=str, ensure_ascii=False))
            return
        if title:
            print(title)
        for key, value in values.items():
            text = (
                ", ".join(f"{k} {_cell(v)}" for k, v in value.items()) if isinstance(value, Mapping) else _cell(value)
            )
            print(f"  {key.replace('_', ' ')}: {text or '-'}")

    def say(self, text: str) -> None:
        """A line for people: on standard error with --json, so that standard output stays JSON."""
        print(text, file=sys.stderr if self.json else sys.stdout, flush=True)


def _lines(description: str) -> Progress:
    """Progress as lines on standard error, one a minute at most."""
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= LINE_EVERY_S:
            told = time.monotonic()
            print(f"slf: {description}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return tell


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
