"""`slf`: global options, the verbs, exit codes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from slf_store import __version__
from slf_store.cli import (
    ablation,
    care,
    constituents,
    explore,
    features,
    index,
    layout,
    report,
    selections,
    serve,
    server,
    snapshots,
    sources,
    systems,
    training,
)
from slf_store.cli import evalset as evalsets
from slf_store.cli import evaluate as evaluation
from slf_store.cli import generate as generation
from slf_store.cli import models as weights
from slf_store.cli import privacy as privacies
from slf_store.cli import quality as qualities
from slf_store.cli.context import Context
from slf_store.errors import SlfError

DONE, FAILED, USAGE, QUARANTINED = 0, 1, 2, 3
"""Exit codes: all done; failed; wrong use; finished, but some clips are quarantined."""

INTERRUPTED = 130

app = typer.Typer(
    name="slf",
    help="A feature store for face-and-speech research: PostgreSQL, HDF5 constituents, diffusion, recall by SQL.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"slf-store {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    home: Annotated[Path | None, typer.Option(help="The store [default: $SLF_HOME, else ./.slf].")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv shows tracebacks.")] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Exit codes: 0 done, 1 failed, 2 wrong use, 3 finished with quarantined clips."""
    if home is not None:
        os.environ["SLF_HOME"] = str(home.absolute())
    ctx.obj = Context(home, json, verbose)


for verb in (
    server.init,
    server.status,
    server.stop,
    sources.sample,
    sources.ingest,
    weights.models,
    features.extract,
    features.coverage,
    qualities.quality,
    care.migrate,
    care.verify,
    care.gc,
    care.compact,
    care.backup,
    care.restore,
    selections.select,
    training.train,
    training.runs,
    generation.generate,
    evaluation.evaluate,
    evaluation.recall,
    evaluation.compare,
    evaluation.nearest,
    ablation.ablate,
    ablation.sweep,
    ablation.significance,
    report.report,
    explore.explore,
    serve.serve_flows,
    privacies.forget,
    privacies.blocked,
    privacies.audit,
    server.sql,
    server.demo,
):
    app.command()(verb)
app.add_typer(constituents.app)
app.add_typer(layout.app)
app.add_typer(sources.app)
app.add_typer(snapshots.app)
app.add_typer(evalsets.app)
app.add_typer(index.app)
app.add_typer(systems.app)
app.add_typer(training.app)


_stopped_by = int(signal.SIGINT)


def _terminated(number: int, _frame: object) -> NoReturn:
    """A request to end is an interruption: what is under way is given back, as after Ctrl-C."""
    global _stopped_by
    _stopped_by = number
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of `slf`."""
    signal.signal(signal.SIGTERM, _terminated)
    verbose = sum(a.count("v") for a in sys.argv[1:] if a.startswith("-v"))
    try:
        app()
    except SlfError as error:
        if verbose >= 2:
            raise
        print(f"slf: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except (KeyboardInterrupt, SystemExit) as error:  # typer turns an interruption into status 130, without a word
        if isinstance(error, SystemExit) and error.code != INTERRUPTED:
            raise
        print("slf: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(128 + _stopped_by)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
