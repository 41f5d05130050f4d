"""Commands about several runs: their ranking, cross-validation, and the splits they share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mriscope.choices import FoldProtocol, Level, Protocol
from mriscope.cli.console import print_json
from mriscope.cli.early import check_condition, check_data, check_recipe
from mriscope.cli.options import (
    LOCAL_STORE,
    SOURCE,
    AsJson,
    Covariates,
    Device,
    Executor,
    Manifest,
    RecipeName,
    Resume,
    SkipBad,
    Track,
    Where,
)
from mriscope.cli.reading import AS_NAMED, Reading, takes_reading
from mriscope.errors import ArgumentError
from mriscope.files import file_stem
from mriscope.recipes import find_recipes

app = typer.Typer()


@app.command(epilog="Example: mriscope compare --recipes 'study/baseline*' --data phantom --out compared")
def compare(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Finished runs, two at least.")] = None,
    recipes: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Recipes to train where they are not, by name or file; may be repeated."),
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
    as_json: AsJson = False,
) -> None:
    """Rank runs, with tests.

    ranking.csv, ranking.md, ranking.png and compare.html are written. With --recipes, what is missing is trained,
    what is finished is skipped, and a recipe that fails is reported while the others go on.
    """
    if bool(runs) == bool(recipes):
        raise ArgumentError("name finished runs, or recipes with --recipes; one of the two")
    for pattern in recipes or []:
        find_recipes(pattern)
    from mriscope.reports.comparison import comparison_text
    from mriscope.workflows.compare import compare_recipes, compare_runs

    if recipes:
        settings = {"manifest": manifest, "device": device, "skip_bad": skip_bad, "track": track}
        asked = {"seeds": seeds, "folder": folder, "executor": executor}
        comparison = compare_recipes(recipes, out, source=data, **asked, **settings)
    else:
        comparison = compare_runs(runs or [], out)
    if as_json:
        print_json(comparison.to_json())
    else:
        print(comparison_text(comparison), f"written to {out}; begin with {out / 'compare.html'}", sep="\n")
    if comparison.failures:
        raise typer.Exit(1)


@app.command(epilog="Example: mriscope crossval baseline_cnn --folds 5 --repeats 3")
@takes_reading
def crossval(
    recipe: RecipeName,
    folds: Annotated[int, typer.Option(min=2, help="Each is the test part once.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Divisions into folds.")] = 1,
    protocol: Annotated[FoldProtocol, typer.Option(help="Whether folds divide subjects or slices.")] = "by_subject",
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help=f"{SOURCE} Default: the recipe's.")] = None,
    manifest: Manifest = None,
    covariates: Covariates = None,
    where: Where = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/, the recipe's name and -crossval.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = None,
    permute: Annotated[
        int, typer.Option(min=0, metavar="N", help="Refit N times with the subjects' labels permuted, for a p value.")
    ] = 0,
    device: Device = "auto",
    executor: Executor = "auto",
    resume: Resume = True,
    skip_bad: SkipBad = False,
    reading: Reading = AS_NAMED,
    track: Track = LOCAL_STORE,
    as_json: AsJson = False,
) -> None:
    """Cross-validate a recipe, fold by fold.

    Each fold is a run directory; finished ones are skipped, so that the same command resumes after a kill.
    summary.json, summary.md and predictions.parquet hold the results of all folds, by slice and by subject. With
    --permute, --json prints the permutation test.
    """
    from mriscope.recipe import read_recipe

    named = {name: value for name, value in (("data", data), ("manifest", manifest)) if value is not None}
    settings = read_recipe(recipe, changes or []).model_copy(update=named)
    settings = settings.model_copy(update={"data": reading.of(settings.data)})
    check_recipe(settings)
    check_data(None, covariates)
    check_condition(where)
    if permute and where is not None:
        raise ArgumentError("--permute evaluates all slices of every permutation; leave --where out, or --permute")
    from mriscope.reports.crossvalidation import crossvalidation_text
    from mriscope.workflows.crossval import crossvalidate

    folder = out or Path("runs", f"{file_stem(recipe)}-crossval")
    drawn = {"folds": folds, "repeats": repeats, "protocol": protocol, "executor": executor}
    drawn |= {"covariates": covariates, "where": where}
    summary = crossvalidate(settings, folder, **drawn, fresh=not resume, device=device, skip_bad=skip_bad, track=track)
    texts, results = [crossvalidation_text(summary)], [summary.to_json()]
    if permute:
        from mriscope.reports.crossvalidation import permutation_text
        from mriscope.workflows.permutation import permute as permute_crossval

        options = {"device": device, "skip_bad": skip_bad, "track": track, **drawn}
        permuted = permute_crossval(settings, folder, permutations=permute, **options)
        texts, results = [*texts, f"\n{permutation_text(permuted)}"], [permuted.to_json()]
    print_json(results[0]) if as_json else print(*texts, f"written to {folder}", sep="\n")


@app.command(epilog="Example: mriscope compare-crossval runs/a-crossval runs/b-crossval --test non_vs_demented/auroc")
def compare_crossval(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Finished cross-validations.")],
    test: Annotated[
        list[str], typer.Option(metavar="TASK/METRIC", help="A test of the declared family; may be repeated.")
    ],
    level: Annotated[Level, typer.Option(help="What is paired.")] = "subject",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for comparison.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare cross-validations on the same subjects.

    Each is compared with the first, by DeLong's test and by paired bootstrap; p values are corrected by Holm's method
    for all tests that were declared with --test.
    """
    from mriscope.reports.crossvalidation import crossval_comparison_text
    from mriscope.workflows.compare_crossval import compare_crossvals

    comparison = compare_crossvals(folders, test, level=level, out=out)
    print_json(comparison.to_json()) if as_json else print(crossval_comparison_text(comparison))
    if out is not None and not as_json:
        print(f"written to {out}")


@app.command(epilog="Example: mriscope split phantom --protocol by_subject --folds 5 --out splits")
@takes_reading
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
    reading: Reading = AS_NAMED,
) -> None:
    """Write splits as files.

    A file names slices by their paths and checks them by their pixels, so that it can be used on another machine.
    Train on one with: mriscope train RECIPE --set split.file=FILE
    """
    check_data(source, manifest)
    from mriscope.workflows.split import write_splits

    given: dict[str, Any] = {"test": test, "validation": validation, "manifest": manifest, "skip_bad": skip_bad}
    files = write_splits(reading.of(source), out, protocol=protocol, folds=folds, repeats=repeats, seed=seed, **given)
    print("\n".join(map(str, files)))
