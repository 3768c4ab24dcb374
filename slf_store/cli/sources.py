"""Verbs of sources: sample, ingest; list and move them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


app = typer.Typer(name="source", help="List sources; say where one has moved.", no_args_is_help=True)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """Every source: where it is, how many clips it has, how many of them cannot be used or are gone."""
    from slf_store.jobs.sources import list_sources

    context: Context = ctx.obj
    with context.open_store() as store:
        rows = [dict(row) for row in list_sources(store)]
    if not context.json:
        for row in rows:
            row["created_at"] = f"{row['created_at']:%Y-%m-%d %H:%M}"
    context.show(rows, "sources")


@app.command()
def move(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the source, as `slf source list` says.")],
    root: Annotated[Path, typer.Argument(help="Folder it is in now.")],
) -> None:
    """Say that a source's folder has moved. Some clips are looked at first; nothing is extracted again."""
    from slf_store.jobs.sources import move_source

    context: Context = ctx.obj
    with context.open_store() as store:
        moved = move_source(store, name, root)
    context.show_one(asdict(moved), f"source {name} moved")


def sample(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder to write the sample into.")],
    dev: Annotated[int, typer.Option(min=1, help="Identities to train on.")] = 100,
    test: Annotated[int, typer.Option(min=1, help="Identities to test on.")] = 40,
    videos: Annotated[int, typer.Option(min=1, help="Videos of each identity.")] = 2,
    clips: Annotated[int, typer.Option(min=1, help="Clips of each video.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Length of a clip.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a synthetic VoxCeleb2-shaped sample: drawn faces, synthesised voices, no real person."""
    from slf_store.dataset.synthetic.tree import write_sample

    context: Context = ctx.obj
    with context.progress("drawing clips") as progress:
        report = write_sample(
            folder,
            dev_identities=dev,
            test_identities=test,
            videos=videos,
            clips=clips,
            seconds=seconds,
            seed=seed,
            workers=context.settings.worker_count,
            progress=progress,
        )
    context.show_one(
        {"clips": report.clips, "identities": report.identities, "megabytes": round(report.bytes / 1e6, 1),
         "seconds": round(report.seconds, 1)},
        f"synthetic sample in {report.root}",
    )  # fmt: skip


def ingest(
    ctx: typer.Context,
    root: Annotated[
        Path, typer.Argument(help="Tree {dev,test}/mp4/<identity>/<video>/<clip>.mp4, or a folder of videos.")
    ],
    meta: Annotated[Path | None, typer.Option(help="Metadata file [default: vox2_meta.csv in the root].")] = None,
    meta_column: Annotated[
        list[str] | None,
        typer.Option(help="MEANING=COLUMN of the metadata file, e.g. identity=speaker; repeat for several."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the source [default: the root's].")] = None,
    split: Annotated[str, typer.Option(help="Split of a plain folder: dev or test.")] = "dev",
    direct: Annotated[bool, typer.Option("--direct", help="Run without Prefect.")] = False,
) -> None:
    """Register the clips of a source: probe what is new or changed. Safe to repeat and to interrupt."""
    from slf_store.dataset.metadata import read_metadata
    from slf_store.dataset.voxceleb2 import find_layout

    context: Context = ctx.obj
    columns = dict(_pair(text) for text in meta_column or ())
    find_layout(root)  # a wrong argument is one plain error, before any flow starts
    if meta is not None:
        read_metadata(meta, columns)
    with context.progress("probing clips") as progress:
        if direct:
            from slf_store.jobs.ingest import ingest as run

            with context.open_store() as store:
                report = run(
                    store, root, meta=meta, columns=columns, name=name, split=split, progress=progress
                ).as_dict()
        else:
            from flows.runtime import prepare

            home = context.settings.home
            context.open_store().close()
            prepare(home)
            from flows.ingest import run_ingest

            report = run_ingest(home, root, meta, name, split, columns=columns, progress=progress)
    if not context.json:
        del report["examples"]
    context.show_one(report, f"source {report['source']}")
    if report["quarantined"]:
        raise typer.Exit(3)


def _pair(text: str) -> tuple[str, str]:
    """`identity=speaker` as a pair."""
    meaning, _, column = text.partition("=")
    if not meaning or not column:
        raise typer.BadParameter(f"{text!r} is not MEANING=COLUMN", param_hint="--meta-column")
    return meaning, column
