"""`slf generate`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from slf_store.cli.scales import parse_scales

if TYPE_CHECKING:
    from slf_store.cli.context import Context

CONSENT = (
    "slf: faces and voices are personal data: use those of people who agreed. The pictures are machine-made, say so in"
    " their metadata, and may look like a real person."
)


def generate(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Trained run.")],
    on: Annotated[str | None, typer.Option("--on", help="Snapshot whose clips to generate for.")] = None,
    part: Annotated[str, typer.Option(help="Part of it: all, train or validation.")] = "all",
    clips: Annotated[str | None, typer.Option(help="Or which clips: an SQL condition over the view clips.")] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(help="Conditional scales: 0 | 1,2,4 | 0:8:0.5 (ends included); may be repeated [default: 1]."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With a clip's name it gives that clip's noise.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps of each U-Net [default: the run's].")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Clips at a time [default: as many as fit].")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    best: Annotated[
        bool, typer.Option("--best", help="Checkpoints of the lowest validation loss, not the last.")
    ] = False,
    from_wav: Annotated[Path | None, typer.Option(help="Own input: a sound file of somebody speaking.")] = None,
    guide: Annotated[Path | None, typer.Option(help="Own input: a picture with a face.")] = None,
    guide_is_face: Annotated[bool, typer.Option("--guide-is-face", help="The picture is a square face crop.")] = False,
    age: Annotated[float | None, typer.Option(min=0, max=130, help="Own input: years.")] = None,
    gender: Annotated[str | None, typer.Option(help="Own input: f or m.")] = None,
    ethnicity: Annotated[str | None, typer.Option(help="Own input: as the store names it.")] = None,
    language: Annotated[str | None, typer.Option(help="Own input: language spoken, e.g. English.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the faces of one's own input.")] = None,
) -> None:
    """Generate faces: for a snapshot's clips (--on), for any clips (--clips), or for one's own input (--out FOLDER).

    What is there is not made again. Exit status 3: done, but some clips lack an input and were left out.
    """
    context: Context = ctx.obj
    if part not in ("all", "train", "validation"):
        raise typer.BadParameter(f"{part!r} is none of all, train, validation", param_hint="--part")
    role: Literal["last", "best"] = "best" if best else "last"
    try:
        scales = parse_scales(scale or ["1"])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--scale") from None
    own = {
        "--from-wav": from_wav, "--guide": guide, "--age": age, "--gender": gender, "--ethnicity": ethnicity,
        "--language": language, "--out": out, "--guide-is-face": guide_is_face or None,
    }  # fmt: skip
    given = [name for name, value in own.items() if value is not None]
    if [on is not None, clips is not None, bool(given)].count(True) != 1:
        raise typer.BadParameter("give --on, or --clips, or one's own input with --out", param_hint="--on / --clips")
    if clips is not None and part != "all":
        raise typer.BadParameter("parts are of a snapshot: give --on", param_hint="--part")
    if given:
        if out is None or not set(given) - {"--out", "--guide-is-face"}:
            raise typer.BadParameter("one's own input needs --out FOLDER and at least one input", param_hint="--out")
        if guide_is_face and guide is None:
            raise typer.BadParameter("needs --guide IMAGE", param_hint="--guide-is-face")
        from slf_store.jobs.one_input import OneInput, generate_one

        print(CONSENT, file=sys.stderr)
        one = OneInput(from_wav, guide, guide_is_face, age, gender, ethnicity, language)
        with context.open_store() as store:
            made = generate_one(store, run, one, out, scales=scales, seed=seed, steps=steps, device=device, role=role)
        for warning in made.warnings:
            print(f"slf: {warning}", file=sys.stderr)
        told = {**asdict(made), "files": [str(path) for path in made.files]}
        lines = {key: ", ".join(value) if isinstance(value, list | tuple) else value for key, value in told.items()}
        context.show_one(told if context.json else lines, "generated")
        return
    from slf_store.jobs.generation import generate_run

    with context.open_store() as store, context.progress("generating faces") as progress:
        report = generate_run(
            store,
            run,
            on,
            clips=clips,
            part=cast("Any", part),
            scales=scales,
            seed=seed,
            steps=steps,
            batch_size=batch,
            device=device,
            role=role,
            progress=progress,
        )
    context.show_one(asdict(report), "generated")
    if report.skipped:
        raise typer.Exit(3)
