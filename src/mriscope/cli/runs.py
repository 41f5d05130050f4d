"""Commands about one run: train, evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from mriscope.choices import EvaluatedPart, Level, PoolingChoice, Task
from mriscope.cli.console import print_json
from mriscope.cli.early import check_condition, check_data, check_published, check_recipe, check_run
from mriscope.cli.options import (
    LOCAL_STORE,
    SOURCE,
    AsJson,
    Covariates,
    Device,
    Manifest,
    Out,
    RecipeName,
    Resume,
    RunFolder,
    SkipBad,
    Track,
    Where,
)
from mriscope.cli.reading import AS_NAMED, Reading, takes_reading
from mriscope.files import file_stem
from mriscope.imports import lasting_imports

app = typer.Typer()


@app.command(epilog="Example: mriscope train baseline_cnn --set training.epochs=3 --out runs/short")
@takes_reading
def train(
    recipe: RecipeName,
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help=f"{SOURCE} Default: the recipe's.")] = None,
    manifest: Manifest = None,
    reading: Reading = AS_NAMED,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run directory. Default: runs/ and the recipe's name.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = None,
    device: Device = "auto",
    resume: Resume = True,
    skip_bad: SkipBad = False,
    track: Track = LOCAL_STORE,
    as_json: AsJson = False,
) -> None:
    """Train a recipe, and evaluate it.

    All is written to a run directory. An unfinished run is finished, a finished one left alone.
    """
    from mriscope.recipe import read_recipe
    from mriscope.run_directory import RunDirectory

    named = {name: value for name, value in (("data", data), ("manifest", manifest)) if value is not None}
    settings = read_recipe(recipe, changes or []).model_copy(update=named)
    settings = settings.model_copy(update={"data": reading.of(settings.data)})
    check_recipe(settings)
    check_published(settings)
    with lasting_imports():
        from mriscope.reports.text import metrics_text
        from mriscope.training.devices import rank
        from mriscope.workflows.train import run

    folder = out or Path("runs", file_stem(recipe))
    was_finished = resume and RunDirectory(folder).finished
    directory = run(settings, folder, device=device, fresh=not resume, skip_bad=skip_bad, track=track)
    if rank() == 0 and as_json:
        print_json(directory.metrics().to_json())
    elif rank() == 0:
        if was_finished:
            print(f"{folder} was finished already; --fresh would train it anew")
        print(metrics_text(directory.metrics()))
        print(f"written to {folder}")


@app.command(epilog="Example: mriscope evaluate mriscope-demo/run --level subject --task non_vs_demented")
@takes_reading
def evaluate(
    run: RunFolder,
    part: Annotated[EvaluatedPart | None, typer.Option(help="Default: test.", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Evaluate on another source, all of it. " + SOURCE)
    ] = None,
    manifest: Manifest = None,
    reading: Reading = AS_NAMED,
    level: Annotated[Level, typer.Option(help="subject: one prediction for each subject.")] = "slice",
    task: Annotated[
        Task | None,
        typer.Option(help="The classes to evaluate in. Default: the run's own.", show_default=False),
    ] = None,
    pooling: Annotated[
        PoolingChoice | None,
        typer.Option(
            help="Of a subject's slices. Default: chosen, the best of the others on validation.", show_default=False
        ),
    ] = None,
    covariates: Covariates = None,
    where: Where = None,
    out: Out = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run: metrics with intervals.

    The run's own test part is evaluated, or another source, by slice or by subject, with its calibration before and
    after a temperature that is fitted on the run's validation part.
    """
    check_run(run)
    check_data(data, manifest)
    check_data(None, covariates)
    check_condition(where)
    with lasting_imports():
        from mriscope.reports.text import metrics_text
        from mriscope.workflows.evaluate import evaluate_run

    other = {"source": reading.of_another(data), "manifest": manifest, "skip_bad": skip_bad}
    chosen = {"level": level, "task": task, "pooling": pooling, "covariates": covariates, "where": where}
    metrics = evaluate_run(run, part=part, out=out, device=device, **other, **chosen)
    print_json(metrics.to_json()) if as_json else print(metrics_text(metrics))
