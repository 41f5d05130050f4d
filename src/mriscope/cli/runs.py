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
    SkipBad,
    Track,
    Where,
)
from mriscope.cli.published import (
    AS_CALLED,
    TableReading,
    evaluate_published,
    is_table,
    refuse_given,
    refuse_table_reading,
)
from mriscope.cli.reading import AS_NAMED, Reading, takes, takes_reading
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
@takes("table", TableReading)
@takes_reading
def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CSV",
            help="A run directory that `mriscope train` wrote, or a CSV file of predictions that any program wrote.",
        ),
    ],
    part: Annotated[EvaluatedPart | None, typer.Option(help="Default: test.", show_default=False)] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Of a run: evaluate on another source, all of it. Of a CSV file: the slices that were predicted. "
            + SOURCE,
        ),
    ] = None,
    manifest: Manifest = None,
    reading: Reading = AS_NAMED,
    level: Annotated[
        Level | None,
        typer.Option(
            help="subject: one prediction for each subject. Default: slice; of a CSV file both.", show_default=False
        ),
    ] = None,
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
    table: TableReading = AS_CALLED,
    out: Out = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run, or a CSV file of predictions.

    Each metric stands with its interval. A run's own test part is evaluated, or another source, by slice or by
    subject, with its calibration before and after a temperature that is fitted on the run's validation part.

    A CSV file has a row for each slice: label, and predicted or a probability_<class> for each class; path, subject and
    part (train, test) where they are known. Slices and subjects are scored side by side, beside baselines. Exit code 3:
    subjects that are evaluated also trained the model; 4: that cannot be told; 0: they did not.
    """
    chosen = {"part": part, "task": task, "pooling": pooling, "manifest": manifest, "out": out, "skip_bad": skip_bad}
    if is_table(run):
        of_run = {"covariates": covariates, "where": where, "device": None if device == "auto" else device}
        refuse_given(of_run, f"goes with a run, and {run} is a CSV file")
        check_data(data, manifest)
        check_data(None, str(run))
        raise typer.Exit(evaluate_published(run, table, reading, data, as_json=as_json, level=level, **chosen))
    refuse_table_reading(table, run)
    check_run(run)
    check_data(data, manifest)
    check_data(None, covariates)
    check_condition(where)
    with lasting_imports():
        from mriscope.reports.text import metrics_text
        from mriscope.workflows.evaluate import evaluate_run

    other = {"source": reading.of_another(data), "covariates": covariates, "where": where, "level": level or "slice"}
    metrics = evaluate_run(run, device=device, **other, **chosen)
    print_json(metrics.to_json()) if as_json else print(metrics_text(metrics))
