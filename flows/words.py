"""What the flows say: names of runs, and pages for someone who never saw the code. Counts only, never a clip's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.runtime import flow_run, task_run

from flows.progress import duration


def extract_name() -> str:
    """Name of a run of `extract`: what it makes, and when it began."""
    wanted = flow_run.parameters.get("only") or []
    what = _listed(wanted) if wanted else "everything missing"
    again = ", failed ones again" if flow_run.parameters.get("retry_failed") else ""
    return f"extract {what}{again} · {_when()}"


def ingest_name() -> str:
    """Name of a run of `ingest`."""
    return f"ingest {'one source' if flow_run.parameters.get('root') else 'every source again'} · {_when()}"


def verify_name() -> str:
    """Name of a run of `verify`."""
    return f"verify the whole store · {_when()}"


def evaluate_name() -> str:
    """Name of a run of `evaluate`."""
    return f"evaluate {flow_run.parameters['run']} on {flow_run.parameters['on']} · {_when()}"


def ablate_name() -> str:
    """Name of a run of `ablate`."""
    return f"ablate {flow_run.parameters['on']}, measured on {flow_run.parameters['gallery']} · {_when()}"


def chunk_name() -> str:
    """Name of a task that extracts a chunk."""
    given = task_run.parameters
    what = _listed(given["only"]) or "every constituent"
    return f"chunk {given['number']}: up to {given['clips']} clips, {what}, on {given['device'].upper()}"


def extract_plan(lanes: Sequence[Any], where: str) -> str:
    """The first line of a run of `extract`."""
    parts = [f"{', '.join(lane.only) or 'every constituent'} on {lane.device.upper()}" for lane in lanes]
    return f"extracting what clips lack of {' and '.join(parts)}, {where}"


def extract_page(report: Mapping[str, Any], seconds: float) -> str:
    """What a run of `extract` came to, as Markdown."""
    done, failed = sum(report["done"].values()), sum(report["failed"].values())
    if not report["clips"]:
        return "## Nothing to do\n\nEvery usable clip has every constituent, or a reason why it has not."
    lines = [
        "## Extraction",
        "",
        f"**{done:,} values** of {report['clips']:,} clips in {duration(seconds)}: "
        f"{report['clips'] / max(seconds, 1e-9):.2f} clips a second. **{failed:,} values could not be made**; "
        "the reasons are kept with the clips and counted in the table *failures*.",
        "",
        "| where | clips |",
        "|---|---:|",
        *(f"| {place} | {clips:,} |" for place, clips in sorted(report["places"].items())),
        "",
        "Interrupted or failed runs lose nothing: what was not committed is made by the next run.",
    ]
    return "\n".join(lines)


def throughput(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each constituent of a run: values made, values failed, seconds a clip."""
    return [
        {
            "constituent": name,
            "made": made,
            "could not be made": report["failed"].get(name, 0),
            "seconds a clip": round(report["seconds"][name] / max(made + report["failed"].get(name, 0), 1), 3),
        }
        for name, made in sorted(report["done"].items())
    ]


def failures(reasons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Why clips lack constituents, counted; the messages, which may name files, stay in the store."""
    return [
        {"constituent": r["constituent"], "reason": r["reason"] or r["state"], "clips": r["clips"]} for r in reasons
    ]


def ingest_page(reports: Sequence[Mapping[str, Any]], failed: int) -> str:
    """What a run of `ingest` came to, as Markdown."""
    lines = [
        "## Ingest",
        "",
        "| source | found | new | changed | vanished | cannot be used |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for report in reports:
        unusable = sum(report["quarantined"].values())
        counts = [report[name] for name in ("found", "new", "changed", "vanished")] + [unusable]
        lines.append(f"| {report['source']} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    if failed:
        lines += ["", f"**{failed} sources could not be read**: their folders are gone or hold no clip. See the log."]
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} constituents"


def _when() -> str:
    start = flow_run.scheduled_start_time
    return start.strftime("%a %d %b %H:%M UTC") if start else ""
