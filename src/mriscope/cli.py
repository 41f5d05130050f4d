"""The command line: each command reads its arguments, calls one function and prints.

Nothing heavy is imported before a command needs it, so that --help answers at once.
"""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mriscope import __version__
from mriscope.errors import Interrupted, MriscopeError

# The common kind of every mistake on the command line; typer carries it under a private name.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="mriscope",
    help="Train, rank, explain and honestly evaluate dementia classifiers on brain-MRI slices.\n\n"
    "A research tool, not a medical device: nothing it prints is a diagnosis.",
    epilog="Begin with: mriscope demo",
    add_completion=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at data, or fetch it.", rich_markup_mode=None)
app.add_typer(data_app, name="data")

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that `mriscope train` wrote.")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for what is written.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave unusable rows out and list them in bad_rows.csv, instead of stopping.")
]
Track = Annotated[
    str,
    typer.Option(
        metavar="URI", envvar="MRISCOPE_TRACK", help="Where MLflow keeps a record: a server, a database, or none."
    ),
]
LOCAL_STORE = "sqlite:///mlruns/mlflow.db"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Manifest = Annotated[
    str | None,
    typer.Option(metavar="CSV", help="Gives the slices their subjects: path, subject, position.", show_default=False),
]
SOURCE = "A parquet file, a folder of parquet files or of class folders, hf:owner/name, or phantom."


def main() -> None:
    """Run the command line; a user's mistake is a sentence on stderr and exit code 2."""
    logging.basicConfig(format="note: %(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    sys.exit(_run_app(sys.argv[1:]))


def _run_app(words: list[str]) -> int:
    if not words or words == ["data"]:
        words = [*words, "--help"]
    try:
        return app(words, prog_name="mriscope", standalone_mode=False) or 0
    except UsageError as error:
        return _fail(f"{error.format_message()} (mriscope --help shows how)", 2)
    except Interrupted as error:
        return _fail(str(error), 128 + error.signal)
    except MriscopeError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}", 2)


def _fail(message: str, code: int) -> int:
    print(f"mriscope: {message}", file=sys.stderr)
    return code


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@data_app.command("info", epilog="Example: mriscope data info phantom")
def data_info(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    manifest: Manifest = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Say what a source holds.

    Slices, size, published parts, classes and subjects are counted. Subjects that no one names are recovered from
    pixels where those leave no doubt.
    """
    from mriscope.experiment.subjects import describe_source
    from mriscope.reports.text import slices_text

    facts = describe_source(source, manifest=manifest, skip_bad=skip_bad)
    print(json.dumps(facts, indent=2) if as_json else slices_text(source, facts))


@data_app.command("fetch", epilog="Example: mriscope data fetch hf:Falah/Alzheimer_MRI")
def data_fetch(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="hf:owner/name.")] = "hf:Falah/Alzheimer_MRI",
) -> None:
    """Bring a data set to this machine.

    It comes from the Hugging Face hub; the folder it is in is printed.
    """
    from mriscope.data.readers import fetch

    print(fetch(source))


@app.command(epilog="Example: mriscope audit hf:Falah/Alzheimer_MRI --out audit")
def audit(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="published|PATH",
            help="The split to audit, or a run's split.json. Default: published, where the source publishes one.",
            show_default=False,
        ),
    ] = None,
    manifest: Manifest = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for what is written.")] = Path("audit"),
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Say whose brains a split shares.

    Duplicates, conflicting labels, subjects on both sides, and scores that need no training. audit.json, audit.html
    and slices.csv, which --manifest takes, are written. Exit code 3: train and test share subjects or slices; 4: that
    cannot be told; 0: they share none, or no split was audited.
    """
    from mriscope.experiment.auditing import audit_source, exit_code
    from mriscope.reports.audit import audit_text

    facts = audit_source(source, out, split=split, manifest=manifest, skip_bad=skip_bad)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        print(audit_text(facts), f"written to {out}; begin with {out / 'audit.html'}", sep="\n\n")
    raise typer.Exit(exit_code(facts))


@app.command(epilog="Example: mriscope train recipes/study/baseline_cnn.yaml --set training.epochs=3 --out runs/short")
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML recipe.")],
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help=f"{SOURCE} Default: the recipe's.")] = None,
    manifest: Manifest = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run directory. Default: runs/ and the recipe's name.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = None,
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on where a run was broken off, or begin it anew.")
    ] = True,
    skip_bad: SkipBad = False,
    track: Track = LOCAL_STORE,
) -> None:
    """Train a recipe, and judge it.

    All is written to a run directory. An unfinished run is finished, a finished one left alone.
    """
    from mriscope.experiment.running import run
    from mriscope.recipe import read_recipe
    from mriscope.reports.text import metrics_text
    from mriscope.run_directory import RunDirectory
    from mriscope.training.devices import rank

    named = {name: value for name, value in (("data", data), ("manifest", manifest)) if value is not None}
    settings = read_recipe(recipe, changes or []).model_copy(update=named)
    folder = out or Path("runs", recipe.stem)
    was_finished = resume and RunDirectory(folder).finished
    directory = run(settings, folder, device=device, fresh=not resume, skip_bad=skip_bad, track=track)
    if rank() == 0:
        if was_finished:
            print(f"{folder} was finished already; --fresh would train it anew")
        print(metrics_text(directory.metrics()))
        print(f"written to {folder}")


@app.command(epilog="Example: mriscope evaluate mriscope-demo/run --level subject --task non_vs_demented")
def evaluate(
    run: RunFolder,
    part: Annotated[str | None, typer.Option(help="test (the default) or validation.", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Judge the run on another source, all of it. " + SOURCE)
    ] = None,
    manifest: Manifest = None,
    level: Annotated[str, typer.Option(help="slice, or subject: one answer for each brain.")] = "slice",
    task: Annotated[
        str | None,
        typer.Option(help="four_classes, three_classes or non_vs_demented. Default: the run's own classes."),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="For subjects: mean_probability, mean_logit, majority or chosen (on validation; the default)."
        ),
    ] = None,
    out: Out = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Judge a run: metrics with intervals.

    The run's own test part is judged, or another source, by slice or by subject, with its calibration before and
    after a temperature that is fitted on the run's validation part.
    """
    from mriscope.experiment.judging import evaluate_run
    from mriscope.reports.text import metrics_text

    other = {"source": data, "manifest": manifest, "skip_bad": skip_bad}
    asked = {"level": level, "task": task, "pooling": pooling}
    metrics = evaluate_run(run, part=part, out=out, device=device, **other, **asked)
    print(json.dumps(metrics, indent=2) if as_json else metrics_text(metrics))


@app.command(epilog="Example: mriscope explain mriscope-demo/run --n 12 --out explained")
def explain(
    run: RunFolder,
    images: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="A JPEG, PNG or folder of them; may be repeated.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Dotted name; default: the last convolution.")] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="The class to explain; default: the predicted one.")
    ] = None,
    count: Annotated[
        int, typer.Option("--n", min=1, max=200, help="How many test slices, where no images are named.")
    ] = 8,
    seed: Annotated[int, typer.Option(help="Of the choice of slices.")] = 0,
    exponents: Annotated[
        bool, typer.Option("--study-exponents", help="Raise maps to the reference study's power for each class.")
    ] = False,
    colormap: Annotated[str, typer.Option(help="Of matplotlib.")] = "jet",
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Share of the colours.")] = 0.5,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Where the run's data is now, if it moved.")
    ] = None,
    out: Out = None,
    device: Device = "auto",
) -> None:
    """Show where a run sees evidence.

    Grad-CAM gives an overlay for each slice, and a grid of all.
    """
    from mriscope.experiment.explaining import Look, explain_run

    look = Look(layer, class_name, exponents, colormap, alpha)
    folder = out or run / "explain"
    written = explain_run(run, folder, look, images=images, count=count, seed=seed, source=data, device=device)
    print(f"{len(written)} pictures in {folder}; begin with {folder / 'grid.png'}")


@app.command(epilog="Example: mriscope predict mriscope-demo/run slice1.png slice2.jpg --json")
def predict(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="JPEG or PNG files, or folders of them.")],
    as_json: AsJson = False,
    device: Device = "auto",
) -> None:
    """Ask a run about images.

    It answers with a class and the probability of each class.
    """
    from mriscope.experiment.judging import predict_images
    from mriscope.reports.text import answers_text

    answers = predict_images(run, images, device=device)
    print(json.dumps(answers, indent=2) if as_json else answers_text(answers))


@app.command(epilog="Example: mriscope compare --recipes 'recipes/study/*.yaml' --data phantom --out compared")
def compare(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Finished runs, two at least.")] = None,
    recipes: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Recipes to train where they are not; may be repeated.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help=f"For --recipes. {SOURCE}")] = None,
    manifest: Manifest = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="For --recipes: runs of each.")] = 1,
    folder: Annotated[Path, typer.Option("--runs", metavar="DIR", help="For --recipes: where their runs are.")] = Path(
        "runs"
    ),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the ranking.")] = Path("comparison"),
    device: Device = "auto",
    skip_bad: SkipBad = False,
    track: Track = LOCAL_STORE,
) -> None:
    """Rank runs, with tests.

    ranking.csv, ranking.md, ranking.png and compare.html are written. With --recipes, what is missing is trained,
    what is finished is skipped, and a recipe that fails is reported while the others go on.
    """
    from mriscope.experiment.comparing import compare_recipes, compare_runs
    from mriscope.reports.comparison import comparison_text

    if bool(runs) == bool(recipes):
        raise MriscopeError("name finished runs, or recipes with --recipes; one of the two")
    if recipes:
        settings = {"manifest": manifest, "device": device, "skip_bad": skip_bad, "track": track}
        comparison = compare_recipes(recipes, out, source=data, seeds=seeds, folder=folder, **settings)
    else:
        comparison = compare_runs(runs or [], out)
    print(comparison_text(comparison))
    print(f"written to {out}; begin with {out / 'compare.html'}")
    if comparison.failures:
        raise typer.Exit(1)


@app.command(epilog="Example: mriscope crossval recipes/study/baseline_cnn.yaml --folds 5 --repeats 3")
def crossval(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML recipe.")],
    folds: Annotated[int, typer.Option(min=2, help="Each is the test part once.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Divisions into folds.")] = 1,
    protocol: Annotated[str, typer.Option(help="by_subject or by_slice.")] = "by_subject",
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help=f"{SOURCE} Default: the recipe's.")] = None,
    manifest: Manifest = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/, the recipe's name and -crossval.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    track: Track = LOCAL_STORE,
) -> None:
    """Cross-validate a recipe, fold by fold.

    Each fold is a run directory; finished ones are skipped, so that the same command goes on after a kill.
    summary.json, summary.md and predictions.parquet hold what all folds say, by slice and by subject.
    """
    from mriscope.experiment.crossvalidating import crossvalidate
    from mriscope.recipe import read_recipe
    from mriscope.reports.crossvalidation import crossvalidation_text

    named = {name: value for name, value in (("data", data), ("manifest", manifest)) if value is not None}
    settings = read_recipe(recipe, changes or []).model_copy(update=named)
    folder = out or Path("runs", f"{recipe.stem}-crossval")
    drawn = {"folds": folds, "repeats": repeats, "protocol": protocol}
    facts = crossvalidate(settings, folder, **drawn, device=device, skip_bad=skip_bad, track=track)
    print(crossvalidation_text(facts))
    print(f"written to {folder}")


@app.command(epilog="Example: mriscope split phantom --protocol by_subject --folds 5 --out splits")
def split(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")],
    protocol: Annotated[str, typer.Option(help="published, by_slice or by_subject.")] = "by_subject",
    folds: Annotated[int | None, typer.Option(min=2, help="A file for each fold.", show_default=False)] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="With --folds: divisions into folds.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    test: Annotated[float, typer.Option(help="Without --folds: share of the test part.")] = 0.2,
    validation: Annotated[float, typer.Option(help="Share of the training part.")] = 0.1,
    manifest: Manifest = None,
    skip_bad: SkipBad = False,
) -> None:
    """Write splits as files.

    A file names slices by their paths and checks them by their pixels, so that it is good on another machine.
    Train on one with: mriscope train RECIPE --set split.file=FILE
    """
    from mriscope.experiment.splitting import write_splits

    given: dict[str, Any] = {"test": test, "validation": validation, "manifest": manifest, "skip_bad": skip_bad}
    files = write_splits(source, out, protocol=protocol, folds=folds, repeats=repeats, seed=seed, **given)
    print("\n".join(map(str, files)))


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
    from mriscope.experiment.importing import import_weights

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
        print(f"fitted in one go, so without a card: {', '.join(list_estimators())}")


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
    from mriscope.experiment.demo import run_demo

    print(f"the report: {run_demo(out, fresh=fresh)}")
