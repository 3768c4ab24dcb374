"""What every page is made with: the store as a role reads it, and templates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from psycopg import Connection, sql
from sqlalchemy import create_engine
from starlette.requests import Request
from starlette.responses import HTMLResponse

from slf_store.db.readers import URLS, Role, connect_reader
from slf_store.store import Store

HERE = Path(__file__).parent
PAGE = 50
"""Rows of a page."""


class Explorer:
    """The pages' view of a store: every query is a read-only transaction of the role's own login, with a time limit.

    What the role may not see is not hidden by the pages: PostgreSQL refuses it.

    Args:
        owner: open store; its engine only makes the role's connections, and finds Prefect's runs.
        role: whose eyes to look through.

    Attributes:
        store: the same store on the role's connections.
    """

    def __init__(self, owner: Store, role: Role) -> None:
        self.owner, self.role = owner, role
        engine = create_engine(
            owner.engine.url, creator=partial(_connect, owner, role), pool_size=5, max_overflow=10, pool_pre_ping=True
        )
        engine.update_execution_options(**{URLS: owner.engine.get_execution_options().get(URLS, {})})
        self.store = Store(owner.settings, engine)
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters |= {"cell": cell, "bytes": as_bytes, "share": share}
        self._templates.globals |= {"role": role, "faces": role == "researcher"}

    def rows(self, statement: str, /, **parameters: Any) -> Sequence[dict[str, Any]]:
        """Rows of a statement, parameters bound by name."""
        return self.store.query(statement, **parameters)

    def page(self, request: Request, name: str, status: int = 200, /, **values: Any) -> HTMLResponse:
        """A template as an answer."""
        text = self._templates.get_template(f"{name}.html").render(path=request.url.path, **values)
        return HTMLResponse(text, status)

    def close(self) -> None:
        """Close the role's connections; the owner's store stays open."""
        self.store.close()


def _connect(owner: Store, role: Role) -> Connection[Any]:
    connection = connect_reader(owner.engine, role)
    connection.read_only = True  # also where the settings name a login of another's making
    limit = int(owner.settings.statement_timeout_s * 1000)
    connection.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(limit)))
    connection.commit()
    return connection


def number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number of the query string, from 0 to `most`; what is none counts as left out."""
    text = request.query_params.get(name, "")
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < 19 else default


def cell(value: object) -> str:
    """A value as a table shows it.

    >>> cell(None), cell(0.123456), cell(1234567), cell(True)
    ('–', '0.1235', '1,234,567', 'yes')
    """
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case int():
            return f"{value:,}"
        case dt.datetime():
            return f"{value.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
        case list() | tuple():
            return ", ".join(map(cell, value)) or "–"
        case dict():
            return ", ".join(f"{key} {cell(item)}" for key, item in value.items()) or "–"
        case _:
            return str(value)


def as_bytes(size: float | None) -> str:
    """A size for people.

    >>> as_bytes(0), as_bytes(78_000), as_bytes(5_400_000_000)
    ('0 B', '78.0 kB', '5.4 GB')
    """
    size = float(size or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def share(part: float | None, whole: float = 1) -> str:
    """A share in percent.

    >>> share(1, 8), share(None), share(0, 0)
    ('12.5 %', '–', '–')
    """
    return "–" if part is None or not whole else f"{100 * part / whole:.1f} %"
