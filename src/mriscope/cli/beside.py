"""Commands beside a study: weights taken over, MLflow's page, the models there are, the demo."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mriscope.cli.options import LOCAL_STORE, AsJson, Track

app = typer.Typer()


@app.command(
    "import-weights", epilog="Example: mriscope import-weights study.pth --model baseline_cnn --out runs/study"
)
def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A state dict that torch.save wrote.")],
    model: Annotated[str, typer.Option(help="The network they belong to; see mriscope models.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run directory to make.")],
    scale: Annotated[str, typer.Option(help="What it was fed: raw, unit or imagenet.")] = "raw",
    size: Annotated[int, typer.Option(help="Height and width of what it was fed.")] = 128,
) -> None:
    """Take over a checkpoint of the study.

    The run directory that is made can be asked, explained, and judged on a source.
    """
    from mriscope.workflows.import_weights import import_weights

    import_weights(file, model, out, scale=scale, size=size)
    print(f"written to {out}; judge it with: mriscope evaluate {out} --data SOURCE")


@app.command(epilog="Example: mriscope ui --port 5001")
def ui(
    track: Track = LOCAL_STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine only.")] = 5000,
) -> None:
    """Open MLflow's page of the runs."""
    from mriscope.tracking.page import show_page

    show_page(track, port, lambda address: print(f"{address}\nCtrl-C ends it", flush=True))


@app.command(epilog="Example: mriscope models --json")
def models(as_json: AsJson = False) -> None:
    """List the models recipes can name."""
    from dataclasses import asdict

    from mriscope.models.registry import list_estimators, list_models
    from mriscope.reports.text import models_text

    cards = [asdict(card) for card in list_models()]
    print(json.dumps(cards, indent=2) if as_json else models_text(cards))
    if not as_json:
        print(f"estimators (fitted in closed form, so without a summary): {', '.join(list_estimators())}")


@app.command(epilog="Example: mriscope demo --out my-demo")
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the run and its report.")] = Path(
        "mriscope-demo"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew where a demo was made before.")] = False,
) -> None:
    """Do the whole job on synthetic brains.

    Data, training, evaluation, explanation and a report, in under two minutes.
    """
    from mriscope.workflows.demo import run_demo

    print(f"the report: {run_demo(out, fresh=fresh)}")
