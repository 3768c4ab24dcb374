"""Flow `verify`: every shard against its checksum, every row against its shard."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows import words
from flows.progress import ProgressPage
from slf_store.errors import ShardError
from slf_store.jobs.verify import verify
from slf_store.settings import load_settings
from slf_store.store import Store


@flow(
    name="verify",
    flow_run_name=words.verify_name,
    description="Read every shard again and hold it against the database. Fails when anything is damaged.",
    persist_result=False,
    timeout_seconds=48 * 3600,
)
def verify_flow(home: Path) -> dict[str, Any]:
    """Read everything again; what was looked at, counted.

    Args:
        home: the store.

    Raises:
        ShardError: something is damaged or gone; `slf verify` names it.
    """
    with Store.open(settings=load_settings(home)) as store:
        report = asdict(verify(store, progress=ProgressPage("verifying", "bytes read")))
    damaged = len(report.pop("findings"))
    table = [{"what": name.replace("_", " "), "count": str(value)} for name, value in report.items() if name != "notes"]
    table.append({"what": "not as it should be", "count": str(damaged)})
    create_table_artifact(key="verification", table=table, description="What was read, and what is wrong")
    if damaged:
        raise ShardError(f"{damaged} things are not as they should be", hint="`slf verify` names each: docs/care.md")
    get_run_logger().info("everything is as the database says")
    return report
