"""Commands beside a study: weights taken over, MLflow's page, the models and recipes there are, the demo."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mriscope.choices import Scale
from mriscope.cli.console import print_json
from mriscope.cli.options import LOCAL_STORE, AsJson, Track

app = typer.Typer()


@app.command(
    "import-weights", epilog="Example: mriscope import-weights study.pth --model baseline_cnn --out runs/study"
)
def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A state dict that torch.save wrote.")],
    model: Annotated[str, typer.Option(help="The network they belong to; see mriscope models.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run directory to make.")],
    scale: Annotated[Scale, typer.Option(help="Of its input: raw is 0 to 255, unit is 0 to 1.")] = "raw",
    size: Annotated[int, typer.Option(help="Height and width of its input.")] = 128,
) -> None:
    """Take over a checkpoint of the study.

    The run directory that is made can predict, be explained, and be evaluated on a source.
    """
    from mriscope.workflows.import_weights import import_weights

    import_weights(file, model, out, scale=scale, size=size)
    print(f"written to {out}; evaluate it with: mriscope evaluate {out} --data SOURCE")


@app.command(epilog="Example: mriscope ui --port 5001")
def ui(
    track: Track = LOCAL_STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine only.")] = 5000,
) -> None:
    """Show the tracked runs in MLflow's web interface."""
    from mriscope.tracking.page import show_page

    show_page(track, port, lambda address: print(f"{address}\nCtrl-C ends it", flush=True))


@app.command(epilog="Example: mriscope models --json")
def models(as_json: AsJson = False) -> None:
    """List the models that a recipe can name."""
    from mriscope.models.names import ESTIMATORS, SUMMARIES
    from mriscope.reports.text import models_text

    summaries = [asdict(summary) for summary in SUMMARIES]
    print(json.dumps(summaries, indent=2) if as_json else models_text(summaries))
    if not as_json:
        print(f"estimators (fitted in closed form, so without a summary): {', '.join(ESTIMATORS)}")


@app.command(epilog="Example: mriscope recipes 'study/*'")
def recipes(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Those of a name or a group alone.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the recipes that come with mriscope."""
    from mriscope.reports.text import table
    from mriscope.workflows.recipes import list_recipes

    found = [asdict(recipe) for recipe in list_recipes(pattern)]
    if as_json:
        print_json(json.dumps(found, indent=2))
    else:
        print(table(["name", "group", "model", "split", "about"], [list(recipe.values()) for recipe in found]))


@app.command(epilog="Example: mriscope demo --out my-demo")
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the run and its report.")] = Path(
        "mriscope-demo"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over where there is a demo.")] = False,
) -> None:
    """Run every step on synthetic brains.

    The same network on a split by slice and on unseen subjects, an audit, baselines, maps and a report; in a minute.
    """
    # Threads that wait leave the processor to other programs; set before torch is imported. It costs larger networks'
    # training little, small ones' a third, so that it is the demo's alone.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from mriscope.workflows.demo import run_demo

    found = run_demo(out, fresh=fresh)
    print(*found.lines, "", f"the report: {found.report}", "", "next, with your own data:", sep="\n")
    print("  mriscope data info YOUR_FOLDER")
    print("  mriscope audit YOUR_FOLDER --out audit")
    print("  mriscope crossval tissue_families --data YOUR_FOLDER --folds 5 --out runs/crossval")
