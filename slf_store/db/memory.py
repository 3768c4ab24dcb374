"""Memory that PostgreSQL may take to build an index."""

from __future__ import annotations

from sqlalchemy import text

MOST_KB = 1 << 20
"""A gibibyte: what a machine that holds a store can spare for a while."""

LEND = text("""
    -- At least so much; the server's own setting where that is more.
    SELECT set_config('maintenance_work_mem', greatest(setting::bigint, :kilobytes) || 'kB', :until_commit)
    FROM pg_settings WHERE name = 'maintenance_work_mem'
""")
