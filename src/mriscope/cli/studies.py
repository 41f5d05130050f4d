"""Commands about several runs: their ranking, cross-validation, and the splits they share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mriscope.choices import FoldProtocol, Protocol
from mriscope.cli.early import check_data, check_recipe
from mriscope.cli.options import LOCAL_STORE, SOURCE, Device, Executor, Manifest, Resume, SkipBad, SubjectPattern, Track
from mriscope.errors import ArgumentError
from mriscope.files import file_stem

app = typer.Typer()


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
    executor: Executor = "auto",
    skip_bad: SkipBad = False,
    track: Track = LOCAL_STORE,
) -> None:
    """Rank runs, with tests.

    ranking.csv, ranking.md, ranking.png and compare.html are written. With --recipes, what is missing is trained,
    what is finished is skipped, and a recipe that fails is reported while the others go on.
    """
    from mriscope.reports.comparison import comparison_text
    from mriscope.workflows.compare import compare_recipes, compare_runs

    if bool(runs) == bool(recipes):
        raise ArgumentError("name finished runs, or recipes with --recipes; one of the two")
    if recipes:
        settings = {"manifest": manifest, "device": device, "skip_bad": skip_bad, "track": track}
        asked = {"seeds": seeds, "folder": folder, "executor": executor}
        comparison = compare_recipes(recipes, out, source=data, **asked, **settings)
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
    protocol: Annotated[FoldProtocol, typer.Option(help="Whether folds divide subjects or slices.")] = "by_subject",
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help=f"{SOURCE} Default: the recipe's.")] = None,
    manifest: Manifest = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/, the recipe's name and -crossval.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = None,
    device: Device = "auto",
    executor: Executor = "auto",
    resume: Resume = True,
    skip_bad: SkipBad = False,
    subject_pattern: SubjectPattern = None,
    track: Track = LOCAL_STORE,
) -> None:
    """Cross-validate a recipe, fold by fold.

    Each fold is a run directory; finished ones are skipped, so that the same command resumes after a kill.
    summary.json, summary.md and predictions.parquet hold the results of all folds, by slice and by subject.
    """
    from mriscope.data.read_options import with_options
    from mriscope.recipe import read_recipe

    named = {name: value for name, value in (("data", data), ("manifest", manifest)) if value is not None}
    settings = read_recipe(recipe, changes or []).model_copy(update=named)
    if subject_pattern is not None:
        settings = settings.model_copy(update={"data": with_options(settings.data, subject_pattern=subject_pattern)})
    check_recipe(settings)
    from mriscope.reports.crossvalidation import crossvalidation_text
    from mriscope.workflows.crossval import crossvalidate

    folder = out or Path("runs", f"{file_stem(recipe)}-crossval")
    drawn = {"folds": folds, "repeats": repeats, "protocol": protocol, "executor": executor}
    summary = crossvalidate(settings, folder, **drawn, fresh=not resume, device=device, skip_bad=skip_bad, track=track)
    print(crossvalidation_text(summary))
    print(f"written to {folder}")


@app.command(epilog="Example: mriscope split phantom --protocol by_subject --folds 5 --out splits")
def split(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")],
    protocol: Annotated[
        Protocol, typer.Option(help="Whether to divide subjects or slices, or as published.")
    ] = "by_subject",
    folds: Annotated[int | None, typer.Option(min=2, help="A file for each fold.", show_default=False)] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="With --folds: divisions into folds.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    test: Annotated[float, typer.Option(help="Without --folds: share of the test part.")] = 0.2,
    validation: Annotated[float, typer.Option(help="Share of the training part.")] = 0.1,
    manifest: Manifest = None,
    skip_bad: SkipBad = False,
    subject_pattern: SubjectPattern = None,
) -> None:
    """Write splits as files.

    A file names slices by their paths and checks them by their pixels, so that it can be used on another machine.
    Train on one with: mriscope train RECIPE --set split.file=FILE
    """
    check_data(source, manifest)
    from mriscope.data.read_options import with_options
    from mriscope.workflows.split import write_splits

    source = with_options(source, subject_pattern=subject_pattern)

    given: dict[str, Any] = {"test": test, "validation": validation, "manifest": manifest, "skip_bad": skip_bad}
    files = write_splits(source, out, protocol=protocol, folds=folds, repeats=repeats, seed=seed, **given)
    print("\n".join(map(str, files)))
