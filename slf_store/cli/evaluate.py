"""`slf evaluate`, `slf recall`, `slf compare`, `slf nearest`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context

GROUPED = ("gender", "age_group", "ethnicity", "language")
"""What `slf recall --by` knows."""


def evaluate(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Run whose generated faces are searched with.")],
    on: Annotated[str, typer.Option("--on", help="Snapshot whose real faces are searched in.")],
    scale: Annotated[
        list[float] | None, typer.Option("--scale", help="Conditional scale; repeat for more. All when left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the generations. All when left out.")] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=0, help="Solver steps of the generations, 0 = preset's. All when left out."),
    ] = None,
    part: Annotated[str, typer.Option("--part", help="Part of the snapshot: all, train or validation.")] = "all",
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Face embedding; repeat for more [default: SLF_FACE_MODEL].")
    ] = None,
    distance: Annotated[
        list[str] | None, typer.Option("--distance", help="euclidean or cosine; repeat for both [default: euclidean].")
    ] = None,
    attributes: Annotated[
        bool, typer.Option("--attributes/--no-attributes", help="Estimate age, gender, ethnicity of the faces.")
    ] = True,
    fid: Annotated[
        bool, typer.Option("--fid/--no-fid", help="Compute FID, where its weights are: `slf models fid --download`.")
    ] = True,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Measure random, bicubic-8x8 and real-vs-real beside.")
    ] = True,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 = as SLF_WORKERS says.")] = 0,
) -> None:
    """Measure how well a run's faces are recognised: recall@k, attributes, PSNR, SSIM, FID, groups, baselines."""
    from slf_store.evaluation import evaluate as measure
    from slf_store.evaluation import recall_rows
    from slf_store.evaluation.recall import one_line_each

    context: Context = ctx.obj
    rows: list[dict[str, Any]] = []
    with context.open_store() as store:
        for name in model or [store.settings.face_model]:
            for metric in distance or ["euclidean"]:
                with context.progress("embedding faces") as progress:
                    rows += measure(
                        store,
                        run,
                        on,
                        scales=scale or None,
                        seed=seed,
                        steps=steps,
                        part=part,
                        model=name,
                        distance=metric,
                        attributes=attributes,
                        fid=fid,
                        baselines=baselines,
                        workers=workers or store.settings.worker_count,
                        progress=progress,
                    )
        if context.json:
            context.show(rows)
            return
        key = ("gallery", "part", "embedding", "distance", "system", "scale", "seed", "steps")
        measured = {tuple(row[name] for name in key) for row in rows}
        found = [row for row in recall_rows(store, run) if tuple(row[name] for name in key) in measured]
        context.show(one_line_each(found), title=f"{run} on {on}")


def recall(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Argument(help="Run; all when left out.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="Only this k: 1, 3, 5 or 10.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="By group: gender, age_group, ethnicity or language.")] = None,
    attributes: Annotated[
        bool, typer.Option("--attributes", help="Recall of gender, ethnicity, age group; error of the age.")
    ] = False,
    undetected: Annotated[
        bool, typer.Option("--undetected", help="List the generated faces in which no face was detected.")
    ] = False,
) -> None:
    """Print recall@k of evaluated runs, baselines beside; or other results of the same evaluations."""
    from slf_store.evaluation.outcomes import undetected as list_undetected
    from slf_store.evaluation.recall import attribute_rows, group_rows, one_line_each, recall_rows

    context: Context = ctx.obj
    if [by is not None, attributes, undetected].count(True) > 1:
        raise typer.BadParameter("ask for one of them", param_hint="--by / --attributes / --undetected")
    if by is not None and by not in GROUPED:
        raise typer.BadParameter(f"{by!r} is none of {', '.join(GROUPED)}", param_hint="--by")
    with context.open_store() as store:
        if undetected:
            context.show(list_undetected(store, run), title="Generated faces without a detected face")
        elif attributes:
            context.show(attribute_rows(store, run), title="Attributes of generated faces")
        elif by is not None:
            context.show(group_rows(store, by, run, k), title=f"Recall by {by}; small: fewer than 10 people")
        else:
            rows = recall_rows(store, run, k)
            context.show(rows if context.json else one_line_each(rows), title="Recall")


def compare(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="RUN, RUN@SCALE or RUN:bicubic-8x8.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    on: Annotated[str, typer.Option("--on", help="Snapshot both were evaluated on.")],
    part: Annotated[str, typer.Option("--part", help="Part of the snapshot: all, train or validation.")] = "all",
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the generations [default: their mean].")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=0, help="Solver steps of the generations.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Face embedding [default: SLF_FACE_MODEL].")] = None,
    distance: Annotated[str, typer.Option("--distance", help="euclidean or cosine.")] = "euclidean",
) -> None:
    """Test two systems against each other on the same clips: difference, 95 % interval, p."""
    from slf_store.evaluation.paired import compare as test

    context: Context = ctx.obj
    with context.open_store() as store:
        rows = test(store, a, b, on, part=part, seed=seed, steps=steps, embedding=model, distance=distance)
    context.show(rows, title=f"{a} - {b} on {on}")


def nearest(
    ctx: typer.Context,
    face: Annotated[str, typer.Argument(help="A picture, or a clip: identity/video/clip.")],
    k: Annotated[int, typer.Option("--k", min=1, help="Faces wanted.")] = 10,
    model: Annotated[str | None, typer.Option("--model", help="Face embedding [default: SLF_FACE_MODEL].")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="By the index of `slf index`: quickly, and some may be missed.")
    ] = False,
    ef: Annotated[
        int | None, typer.Option("--ef", min=1, help="With --approximate: candidates to look at [default: 256].")
    ] = None,
) -> None:
    """List the real faces of the store nearest to the face of a picture or a clip."""
    from slf_store.evaluation.approximate import EF, approximate_faces
    from slf_store.evaluation.face_index import find_index
    from slf_store.evaluation.nearest import nearest_faces

    context: Context = ctx.obj
    if ef is not None and not approximate:
        raise typer.BadParameter("the exact search has no ef: give --approximate too", param_hint="--ef")
    with context.open_store() as store:
        if not approximate:
            context.show(nearest_faces(store, face, k, model), title=f"nearest to {face}")
            return
        context.show(approximate_faces(store, face, k, model, ef=ef or EF), title=f"nearest to {face}, approximately")
        index = find_index(store, model)
    known = index.measured_at(ef or EF)
    context.say(
        f"approximate: of the {known.k} nearest others {100 * known.recall:.1f} % were found on average, "
        f"{100 * known.worst:.0f} % for the worst face, and {100 * known.itself:.1f} % of the faces found themselves "
        f"({known.probes} faces at ef {known.ef}, {known.at[:10]}, among {known.faces:,}; now {index.faces:,})"
    )
