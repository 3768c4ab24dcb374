"""`slf train`, `slf runs`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context

RUNS = """
    SELECT run.name, run.system, run.preset, snapshot.name AS snapshot, checkpoint.unet, checkpoint.samples_seen,
           checkpoint.loss, round(checkpoint.seconds::numeric, 1)::float8 AS seconds, run.created_at,
           CASE WHEN checkpoint.erased_clips > 0 THEN 'trained on ' || checkpoint.erased_clips || ' clips erased since'
               END AS erased
    FROM run JOIN snapshot ON snapshot.id = run.snapshot_id LEFT JOIN checkpoint ON checkpoint.run_id = run.id
    ORDER BY run.created_at, checkpoint.unet
"""


def runs(ctx: typer.Context) -> None:
    """List training runs and their checkpoints."""
    context: Context = ctx.obj
    with context.open_store() as store:
        context.show(store.query(RUNS), "runs")


def train(
    ctx: typer.Context,
    snapshot: Annotated[str, typer.Argument(help="Snapshot to train on.")],
    system: Annotated[str, typer.Option(help="System to train.")] = "full-input",
    preset: Annotated[str, typer.Option(help="tiny (CPU, minutes), base or paper (GPU).")] = "tiny",
    unet: Annotated[list[int] | None, typer.Option(help="1, 2 or both [default: both].")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Budget of this call, for each U-Net.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Budget in samples seen, for each U-Net.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run [default: SNAPSHOT-SYSTEM-PRESET].")] = None,
    unet2_from: Annotated[str | None, typer.Option(help="Share the U-Net 2 of this run.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a system on a snapshot, or go on training it."""
    from slf_store.jobs.training import create_run, share_unet2
    from slf_store.jobs.training import train as run

    context: Context = ctx.obj
    if (minutes is None) == (samples is None):
        raise typer.BadParameter("give --minutes or --samples", param_hint="--minutes / --samples")
    which = unet or ([1] if unet2_from else [1, 2])
    if not set(which) <= {1, 2}:
        raise typer.BadParameter(f"{which}: a run has U-Nets 1 and 2", param_hint="--unet")
    run_name = name or f"{snapshot}-{system}-{preset}"
    with context.open_store() as store:
        create_run(store, run_name, snapshot=snapshot, system_name=system, preset=preset, seed=seed)
        trained = [
            run(store, run_name, number, minutes=minutes, samples=samples, device=device, on_log=train_line(context))  # type: ignore[arg-type]
            for number in which
        ]
        if unet2_from:
            share_unet2(store, run_name, unet2_from)
    context.show([asdict(t) for t in trained], f"run {run_name}")


def train_line(context: Context) -> Any:
    """A progress line of training: overwritten on a terminal, one in a while elsewhere, none with --json."""

    def log(line: Any) -> None:
        text = (
            f"U-Net {line.which}  {line.samples_seen:>8} samples  {line.share:4.0%}  loss {line.loss:.4f}"
            f"  {line.samples_per_s:6.1f} samples/s  waiting {line.wait_share:.1%}  {line.memory_bytes / 2**20:.0f} MiB"
        )
        if sys.stderr.isatty():
            print(f"\r{text}", end="\n" if line.share >= 1 else "", file=sys.stderr, flush=True)
        elif context.verbose or line.share >= 1:
            print(text, file=sys.stderr, flush=True)

    return log if not context.json else (lambda line: None)
