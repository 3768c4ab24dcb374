"""`slf train`, `slf runs`, `slf run show`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context

app = typer.Typer(name="run", help="One training run: show.", no_args_is_help=True)

RUNS = """
    -- Where each U-Net of each run stands.
    SELECT run.name, run.system, run.preset, snapshot.name AS snapshot, checkpoint.unet, checkpoint.samples_seen,
           checkpoint.loss, checkpoint.validation_loss,
           round(checkpoint.seconds::numeric, 1)::float8 AS seconds, run.created_at,
           CASE WHEN checkpoint.erased_clips > 0 THEN 'trained on ' || checkpoint.erased_clips || ' clips erased since'
               END AS erased
    FROM run JOIN snapshot ON snapshot.id = run.snapshot_id
    LEFT JOIN checkpoint ON checkpoint.run_id = run.id AND checkpoint.role = 'last'
    ORDER BY run.created_at, checkpoint.unet
"""


def runs(ctx: typer.Context) -> None:
    """List training runs and their checkpoints."""
    context: Context = ctx.obj
    with context.open_store() as store:
        context.show(store.query(RUNS), "runs")


@app.command()
def show(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Run, as `slf runs` says.")]) -> None:
    """Everything of a run: inputs, parameters, checkpoints, losses, validation by noise level, sample grids."""
    from slf_store.jobs.run_show import describe_run

    context: Context = ctx.obj
    with context.open_store() as store:
        found = describe_run(store, name)
    if context.json:
        context.show_one(found)
        return
    unets = found.pop("unets")
    erased = found.pop("erased_clips")
    if erased:
        found["erased"] = f"trained on {erased} clips erased since"
    found |= {"inputs": ", ".join(found["inputs"]), "grids": ", ".join(found["grids"])}
    context.show_one(found, f"run {found.pop('name')}")
    for unet in unets:
        kept = unet.pop("checkpoints")
        levels = unet["validation_levels"] or []
        unet["validation_levels"] = "  ".join(f"{level:.4g}" for level in levels)
        context.show_one(unet, f"U-Net {unet.pop('unet')}")
        if kept:
            context.show(kept, "checkpoints", ("role", "samples_seen", "loss", "validation_loss", "seconds", "path"))


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
    keep: Annotated[int, typer.Option(min=1, help="How many of the last checkpoints to keep; the best stays too.")] = 1,
    checkpoint_every: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")] = 5.0,
    validate_every: Annotated[
        int | None, typer.Option(min=1, help="Samples between validations [default: 1250 steps].")
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Samples computed at a time, gradients added up: less memory.")
    ] = None,
    guide_dropout: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Share of samples U-Net 1 sees without the image guide.")
    ] = None,
) -> None:
    """Train a system on a snapshot, or go on training it; also under `accelerate launch` or `torchrun`."""
    from slf_store.diffusion.ranks import leave_ranks, own_rank
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
        create_run(
            store,
            run_name,
            snapshot=snapshot,
            system_name=system,
            preset=preset,
            seed=seed,
            guide_dropout=guide_dropout,
        )
        trained = [
            run(
                store,
                run_name,
                cast("Any", number),
                minutes=minutes,
                samples=samples,
                device=device,
                micro_batch=micro_batch,
                keep=keep,
                checkpoint_every_s=60.0 * checkpoint_every,
                validate_every=validate_every,
                on_log=train_line(context),
            )
            for number in which
        ]
        if unet2_from and own_rank() == 0:
            share_unet2(store, run_name, unet2_from)
    leave_ranks()
    if own_rank() == 0:
        context.show([asdict(t) for t in trained], f"run {run_name}")


def train_line(context: Context) -> Any:
    """A progress line of training: overwritten on a terminal, one in a while elsewhere, none with --json."""

    def log(line: Any) -> None:
        text = (
            f"U-Net {line.which}  {line.samples_seen:>8} samples  {line.share:4.0%}  loss {line.loss:.4f}"
            f"  {line.samples_per_s:6.1f} samples/s  waiting {line.wait_share:.1%}  {line.memory_bytes / 2**20:.0f} MiB"
        )
        if line.validation:
            text += f"  validation {line.validation.loss:.4f}"
        if sys.stderr.isatty():
            print(f"\r{text}", end="\n" if line.share >= 1 or line.validation else "", file=sys.stderr, flush=True)
        elif context.verbose or line.share >= 1 or line.validation:
            print(text, file=sys.stderr, flush=True)

    return log if not context.json else (lambda line: None)
