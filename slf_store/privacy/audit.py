"""The audit log: who did what, when; added to, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from slf_store.store import Store

RECORD = text("INSERT INTO audit_log (action, detail) VALUES (:action, CAST(:detail AS jsonb))")
LISTED = "SELECT id, at, actor, action, detail FROM audit_log ORDER BY id"


def record(connection: Connection, action: str, detail: Mapping[str, Any]) -> None:
    """Write one line, in the caller's transaction; `actor` is the database's session user.

    Args:
        connection: in a transaction: what is recorded and its record arrive together.
        action: `freeze`, `report`, `erase`, …
        detail: what was done; no names of people.
    """
    connection.execute(RECORD, {"action": action, "detail": json.dumps(dict(detail), default=str)})


def entries(store: Store) -> list[dict[str, Any]]:
    """All lines, oldest first: id, at, actor, action, detail."""
    return list(store.query(LISTED))
