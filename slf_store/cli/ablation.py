"""`slf ablate`, `slf sweep`, `slf significance`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slf_store.cli.scales import parse_scales

if TYPE_CHECKING:
    from slf_store.cli.context import Context

SCALES = "Conditional scales: 0 | 1,2,4 | 0:10:0.5 (ends included); may be repeated"


def ablate(
    ctx: typer.Context,
    on: Annotated[str, typer.Option("--on", help="Snapshot to train on; its validation part chooses the scales.")],
    gallery: Annotated[str, typer.Option(help="Snapshot of other people, to measure on.")],
    systems: Annotated[
        list[str] | None, typer.Option(help="Systems, a,b or repeated [default: all, the paper's].")
    ] = None,
    preset: Annotated[str, typer.Option(help="tiny (CPU, minutes), base or paper (GPU).")] = "tiny",
    seeds: Annotated[list[str] | None, typer.Option(help="Training seeds, 0,1 or repeated [default: 0].")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Budget of U-Net 1, samples seen.")] = 30_000,
    samples2: Annotated[int | None, typer.Option(min=1, help="Budget of U-Net 2 [default: as --samples].")] = None,
    scales: Annotated[
        list[str] | None, typer.Option("--scales", "--scale", help=f"{SCALES} [default: 1,1.5,2,3,4,6].")
    ] = None,
    all_scales: Annotated[
        bool, typer.Option("--all-scales", help="Measure every scale on the gallery, for the curves.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Solver steps of each U-Net [default: the preset's].")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    direct: Annotated[bool, typer.Option("--direct", help="Run without Prefect.")] = False,
) -> None:
    """Train, generate and evaluate what is missing of an ablation: every system, every seed. Resumable at any point.

    The conditional scale of each run is chosen on validation identities of --on, never on the gallery.
    """
    from slf_store.cli.training import train_line
    from slf_store.jobs.ablate import ALL, SCALES, Ablation
    from slf_store.jobs.ablate import ablate as run

    context: Context = ctx.obj
    plan = Ablation(
        on, gallery, _words(systems) or (ALL,), _seeds(seeds), preset, samples, samples2,
        _scales(scales, "--scales") or SCALES, all_scales, steps, device,
    )  # fmt: skip
    with context.open_store() as store:
        if direct:
            told = None if context.json else (lambda text: print(f"slf: {text}", file=sys.stderr, flush=True))
            rows = [asdict(done) for done in run(store, plan, on_stage=told, on_log=train_line(context))]
        else:
            from flows.runtime import prepare

            prepare(store.settings.home)
            from flows.ablate import run_ablate

            with context.progress("stages of the ablation") as progress:
                rows = run_ablate(store.settings.home, plan, progress=progress)
    if not context.json:
        for row in rows:
            recall = row.pop("recall")
            done = row.pop("done")
            row |= {f"recall@{k}": f"{100 * value:.1f} %" for k, value in recall.items()}
            row["done now"] = ", ".join(done) or "nothing: it was there"
    context.show(rows, f"ablation on {gallery}")


def sweep(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Trained run.")],
    scales: Annotated[
        list[str] | None, typer.Option("--scales", "--scale", help=f"{SCALES} [default: 0:10:1].")
    ] = None,
    on: Annotated[str | None, typer.Option("--on", help="Snapshot to measure on as well, for the curve.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generations.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps of each U-Net [default: the run's].")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Measure a run over conditional scales; choose the best on validation identities, never on those of --on."""
    from slf_store.jobs.sweep import sweep as measure

    context: Context = ctx.obj
    wanted = _scales(scales or ["0:10:1"], "--scales")
    with context.open_store() as store:
        with context.progress(f"faces of {run}") as progress:
            found = measure(store, run, wanted, gallery=on, seed=seed, steps=steps, device=device, progress=progress)
        rows = [
            row
            for row in store.query(SWEEP, run=run, scales=list(found.scales), seed=seed, steps=steps or 0)
            if (row["gallery"], row["part"]) == (on, "all") or row["part"] == "validation"
        ]
    if context.json:
        context.show_one({**asdict(found), "rows": rows})
        return
    shown = [row for row in rows if row["metric"] != "identity_recall"]  # --json has it
    context.show(_by_scale(shown), f"{run} over the conditional scale")
    print(f"best scale on validation identities: {found.scale:g} ({found.made} faces made now)")


SWEEP = """
    SELECT gallery, part, embedding, distance, scale, metric, k, value, ci_low, ci_high, n, undetected, chosen
    FROM scale_sweep
    WHERE run = :run AND scale = ANY(CAST(:scales AS double precision[])) AND seed = :seed AND steps = :steps
    ORDER BY gallery, part, embedding, distance DESC, scale, metric <> 'recall', metric, k
"""


def significance(
    ctx: typer.Context,
    weights: Annotated[
        str, typer.Option(help="Of the recall increases at k = 1, 3, 5, 10: four numbers.")
    ] = "1,0.3333333333333333,0.2,0.1",
    gallery: Annotated[str | None, typer.Option(help="Only this gallery.")] = None,
) -> None:
    """Significance S of each input, as the paper defines it, and how much it hangs on the weights."""
    from slf_store.evaluation.significance import significance as read

    context: Context = ctx.obj
    try:
        numbers = [float(weight) for weight in weights.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{weights!r}: write four numbers, 1,0.5,0.2,0.1", param_hint="--weights") from None
    with context.open_store() as store:
        rows = read(store, numbers, gallery)
    if context.json:
        context.show(rows)
        return
    shown = [
        {
            "input": row["input"],
            "gallery": row["gallery"],
            "preset": row["preset"],
            "S": _percent(row["s"]),
            "band": row["band"] or "–",
            "seeds": row["seeds"],
            "over seeds": _interval(row["ci_low"], row["ci_high"]),
            "over people": _interval(row["people_low"], row["people_high"]),
            **{name: f"{_percent(s)} {band or ''}".strip() for name, (s, band) in row["weightings"].items()},
        }
        for row in rows
    ]
    context.show(shown, "significance S of each input, percent; the last columns: other weights")


def _by_scale(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        names = ("gallery", "part", "embedding", "distance", "scale")
        line = lines.setdefault(tuple(row[name] for name in names), {name: row[name] for name in names})
        line["chosen"] = "*" if row["chosen"] else ""
        name = f"{row['metric']}@{row['k']}" if row["k"] else row["metric"]
        line[name] = f"{100 * row['value']:.1f} %" if row["k"] else f"{row['value']:.4g}"
    return list(lines.values())


def _percent(s: float | None) -> str:
    return "–" if s is None else f"{s:.0f} %"


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None and high is None else f"{_end(low)} to {_end(high)}"


def _end(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _words(given: list[str] | None) -> list[str]:
    return [word.strip() for text in given or () for word in text.split(",") if word.strip()]


def _seeds(given: list[str] | None) -> list[int]:
    words = _words(given) or ["0"]
    if not all(word.isdecimal() for word in words):
        raise typer.BadParameter(f"{', '.join(words)}: seeds are whole numbers, 0,1,2", param_hint="--seeds")
    return [int(word) for word in words]


def _scales(given: list[str] | None, option: str) -> list[float]:
    try:
        return parse_scales(given or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
