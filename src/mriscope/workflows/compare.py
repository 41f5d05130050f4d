"""Compare recipes on one test part: train what is missing, rank, and write the ranking."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.errors import ArgumentTypeError, MriscopeError, RecipeError, RunError
from mriscope.evaluation.intervals import interval_unit
from mriscope.evaluation.plots import ranked, save
from mriscope.evaluation.ranking import Place, RunsSummary, paired_test_text, rank_recipes, summarize_runs
from mriscope.evaluation.titles import LEAKY
from mriscope.files import file_stem, read_file, write_text
from mriscope.output_folder import OutputFolder, written_with
from mriscope.recipe import Recipe, read_recipe
from mriscope.recipe_yaml import dump_yaml
from mriscope.recipes import find_recipes
from mriscope.reports.comparison import comparison_csv, comparison_markdown, comparison_page
from mriscope.reports.text import protocol_text
from mriscope.results import Comparison, Estimate, Metrics, RunsEstimate, Standing
from mriscope.run_directory import RECIPE, RunDirectory, open_run
from mriscope.sweep import choose_executor, sweep
from mriscope.workflows._comparison_rows import Row, check_comparable, group_by_recipe, make_row, same_slices
from mriscope.workflows._training_task import TrainingTask, run_task

LOG = logging.getLogger("mriscope")

FILES = ("ranking.csv", "ranking.md", "ranking.png", "compare.html")


def compare_runs(folders: Sequence[str | Path], out: str | Path) -> Comparison:
    """Rank finished runs; those whose recipes differ in the seed alone become one row.

    Args:
        folders: two runs at least.
        out: folder that gets ranking.csv, ranking.md, ranking.png and compare.html.

    Raises:
        RunError: a run is missing, unfinished or named twice, or two runs were not evaluated on the same slices.
        WriteError: a file cannot be written, or one of its name is in `out` that mriscope did not write.
    """
    if isinstance(folders, str | Path):
        raise ArgumentTypeError(f"folders is {str(folders)!r}; give a list of two or more runs")
    output = _checked_output(Path(out))
    return _compare(group_by_recipe([open_run(folder) for folder in folders]), output, {})


def compare_recipes(
    patterns: Sequence[str],
    out: str | Path,
    *,
    source: str | None = None,
    manifest: str | None = None,
    seeds: int = 1,
    folder: str | Path = "runs",
    executor: str = "here",
    **settings: Any,
) -> Comparison:
    """Train what is missing of some recipes, and rank them.

    A finished run is left alone and an unfinished one finished. A recipe that fails, with any of its seeds, is left out
    of the ranking and named with its reason in `failures`, as a mean over the seeds that went well would flatter it.

    Args:
        patterns: YAML files or recipes of the package by name, or patterns of them such as study/baseline*.
        out: folder that gets ranking.csv, ranking.md, ranking.png and compare.html.
        source: data to put in the place of the recipes'.
        manifest: a CSV file that gives the source's slices their subjects, to put in the place of the recipes'.
        seeds: how many runs of each recipe; the first has the recipe's own seed, each other one more.
        folder: of the run directories, <recipe> and <recipe>_seed1 and so on.
        executor: where they are trained: here, serial, processes, processes:N, ray or ray:ADDRESS, as
            mriscope.sweep.parse_executor takes it.
        settings: further arguments of mriscope.workflows.train.run, such as device.

    Raises:
        RecipeError: there are fewer than two recipes, or two of one name.
        RunError: fewer than two recipes gave a row, or two were not evaluated on the same slices.
        WriteError: a file cannot be written, or one of its name is in `out` that mriscope did not write.
        InterruptedTrainingError: Ctrl-C; the same call goes on.
    """
    if isinstance(patterns, str):
        raise ArgumentTypeError(f"patterns is {patterns!r}; give a list of recipes or patterns of them")
    output = _checked_output(Path(out))
    recipes, failures = _read_recipes(_recipe_files(patterns), {"data": source, "manifest": manifest})
    _check_alike(recipes)
    runs = _train_missing(recipes, seeds, Path(folder), executor, settings, failures)
    if len(runs) < 2:
        reasons = "".join(f"\n  {name}: {why}" for name, why in failures.items())
        raise RunError(f"{len(runs)} of the recipes could be trained; a comparison needs two{reasons}")
    rows = [make_row(name, done, recipes[name].study) for name, done in runs.items()]
    return _compare(rows, output, failures)


def _recipe_files(patterns: Sequence[str]) -> list[Path]:
    files: dict[Path, None] = {}  # in order, each once
    for pattern in patterns:
        files |= dict.fromkeys(find_recipes(pattern))
    if len(files) < 2:
        raise RecipeError("--recipes", [f"names {file_stem(next(iter(files)))} alone; a comparison needs two recipes"])
    for one, other in pairwise(sorted(files, key=file_stem)):
        if file_stem(one) == file_stem(other):
            raise RecipeError("--recipes", [f"{one} and {other} would share a run directory; rename one"])
    return list(files)


def _read_recipes(
    files: Sequence[Path], settings: Mapping[str, str | None]
) -> tuple[dict[str, Recipe], dict[str, str]]:
    """Read recipes by name, and say why others cannot be read."""
    recipes, failures = {}, {}
    changes = [f"{name}={dump_yaml(value)}" for name, value in settings.items() if value]
    for file in files:
        try:
            recipes[file_stem(file)] = read_recipe(file, changes)
        except RecipeError as error:
            _note_failure(failures, file_stem(file), str(error))
    return recipes, failures


def _check_alike(recipes: Mapping[str, Recipe]) -> None:
    """Refuse recipes that would be evaluated on different test parts, before the first of them is trained."""
    deciding = {name: _describe_test_part(recipe) for name, recipe in recipes.items()}
    for (one, here), (other, there) in pairwise(deciding.items()):
        if here != there:
            raise RecipeError("--recipes", [f"{one} splits by {here} and {other} by {there}; give both the same split"])


def _describe_test_part(recipe: Recipe) -> str:
    """Describe what decides a recipe's test part."""
    split = recipe.split
    if split.file is not None:
        return f"the file {split.file}"
    if split.folds is not None:
        return f"{split.protocol}, fold {split.fold} of {split.folds}, repeat {split.repeat or 0}, seed {recipe.seed}"
    return (
        split.protocol if split.protocol == "published" else f"{split.protocol}, test {split.test}, seed {recipe.seed}"
    )


def _train_missing(
    recipes: Mapping[str, Recipe],
    seeds: int,
    folder: Path,
    executor: str,
    settings: Mapping[str, Any],
    failures: dict[str, str],
) -> dict[str, list[RunDirectory]]:
    """Return finished runs by recipe, one seed after the other; recipes that fail go to `failures` instead."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("compare trains in one process; start `mriscope train` with torchrun, and compare its runs")
    where = choose_executor(executor, len(recipes) * seeds, settings.get("device", "auto"))
    runs: dict[str, list[RunDirectory]] = {name: [] for name in recipes}
    missing: dict[str, tuple[str, Recipe]] = {}
    for step in range(seeds):
        for name, first in recipes.items():
            recipe = first.model_copy(update={"seed": first.seed + step})
            directory = RunDirectory(folder / (f"{name}_seed{recipe.seed}" if step else name))
            runs[name].append(directory)
            try:
                if not directory.holds(recipe):
                    missing[str(directory.path)] = name, recipe
            except MriscopeError as error:
                _note_failure(failures, name, str(error), f"seed {recipe.seed}: " if seeds > 1 else "")
    if missing:
        own = {} if where.kind in ("here", "serial") else {"silent": True}
        tasks = {path: TrainingTask(recipe, Path(path), {**settings, **own}) for path, (_, recipe) in missing.items()}
        done = sweep(
            run_task,
            tasks,
            where,
            doing="training",
            of=len(recipes) * seeds,
            skip=lambda path: missing[path][0] in failures,
        )
        for path, outcome in done:
            name, recipe = missing[path]
            if outcome.problem is not None:
                _note_failure(failures, name, outcome.problem, f"seed {recipe.seed}: " if seeds > 1 else "")
    return {name: done for name, done in runs.items() if name not in failures}


def _note_failure(failures: dict[str, str], name: str, problem: str, before: str = "") -> None:
    failures.setdefault(name, before + " ".join(problem.split()))
    LOG.warning("%s failed and is left out: %s", name, failures[name])


def _checked_output(out: Path) -> OutputFolder:
    """Return the folder of a comparison; ranking.csv shows which files there an older version wrote."""
    if (out / RECIPE).is_file():
        raise RunError(f"{out} is a run directory; name another folder for the comparison with --out")
    output = OutputFolder(out, "compare", written_with("ranking.csv", _check_ranking, FILES))
    output.check(FILES)
    return output


def _check_ranking(path: Path) -> None:
    try:
        if read_file(path).startswith(b"rank,recipe,"):
            return
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from error
    raise RunError(f"{path} is no ranking of mriscope")


def _compare(rows: Sequence[Row], out: OutputFolder, failures: Mapping[str, str]) -> Comparison:
    check_comparable(rows)
    first = rows[0].runs[0]
    tested = [row.tested for row in rows]
    comparison = Comparison(
        standings=[_make_standing(rows[place.index], place) for place in rank_recipes(tested)],
        evaluated=protocol_text(first.metrics.model_copy(update={"leaky": None})),  # marked row by row
        unit=interval_unit(first.tested),
        test=paired_test_text(tested),
        notes=list(_list_notes(rows)),
        failures=dict(failures),
        baselines={name: one.metrics for name, one in first.metrics.baselines.items()},
        class_counts={name: one.n_slices for name, one in first.metrics.classes.items()},
    )
    with out.writing(FILES) as folder:
        write_text(folder / "ranking.csv", comparison_csv(comparison))
        write_text(folder / "ranking.md", comparison_markdown(comparison))
        picture = folder / "ranking.png"
        _draw(comparison, picture)
        write_text(folder / "compare.html", comparison_page(comparison, picture.read_bytes()))
    return comparison


def _make_standing(row: Row, place: Place) -> Standing:
    first, *others = row.runs
    recipe, leaky = first.directory.recipe, {run.metrics.leaky for run in row.runs}
    summary = summarize_runs(row.tested) if others else _read_summary(first.metrics)
    training = [run.training for run in row.runs]
    return Standing(
        name=row.name,
        rank=place.rank,
        runs=len(row.runs),
        metrics=summary.metrics,
        recalls=summary.recalls,
        parameters=training[0].parameters,
        macs=_count_macs(recipe, len(row.tested[0].class_names)),
        seconds=float(np.mean([one.seconds for one in training])),
        slices_per_second=float(np.mean([one.slices_per_second for one in training])),
        device=", ".join(row.devices),
        leaky=True if True in leaky else None if None in leaky else False,
        study=row.study,
        above=place.above,
        leader=place.leader,
    )


def _read_summary(metrics: Metrics) -> RunsSummary:
    """Take the metrics of a single run as it recorded them; its spread is that one value."""

    def alone(estimate: Estimate) -> RunsEstimate:
        told = {"method": estimate.method, "reliable": estimate.reliable}
        return RunsEstimate(estimate.value, estimate.low, estimate.high, estimate.value, estimate.value, **told)

    return RunsSummary(
        {name: alone(estimate) for name, estimate in metrics.metrics.items()},
        {name: alone(one.recall) for name, one in metrics.classes.items()},
    )


def _count_macs(recipe: Recipe, classes: int) -> int | None:
    """Count the multiply-accumulate operations of a network; None for an estimator, or where it cannot be made here."""
    import torch

    from mriscope.models.registry import count_macs, create_model

    size = recipe.input.size
    try:
        with torch.device("meta"):  # shapes without memory or arithmetic
            model = create_model(
                recipe.model, classes=classes, size=size, options=recipe.model_options, pretrained=False
            )
        return count_macs(model.eval(), size)
    except MriscopeError:
        return None


def _list_notes(rows: Sequence[Row]) -> Iterator[str]:
    """List what a reader should know besides."""
    runs = [run for row in rows for run in row.runs]
    note = min((run.metrics.interval.note or "" for run in runs), key=len)  # what is said of every run
    for text in filter(None, (note, runs[0].metrics.omitted)):
        yield f"{text[:1].upper()}{text[1:]}."
    if any(row.study for row in rows):
        yield "What the study reports was measured on its own test part."
    if not all(same_slices(runs[0], run) for run in runs):
        yield "Each seed draws a test part of its own; the first is the one that is counted above."
    if len({device for row in rows for device in row.devices}) > 1:
        yield "Rows were trained on different devices, so that their times do not compare."
    if len({run.directory.recipe.input.size for run in runs}) > 1:
        yield "Recipes take slices of different sizes; MACs count one slice at the size that the recipe takes."


def _draw(comparison: Comparison, picture: Path) -> None:
    standings = comparison.standings
    note = "With 95 % intervals. Rows that share a rank do not differ significantly from its first row."
    figure = ranked(
        [f"{one.rank}. {one.name}{' LEAKY' if one.leaky else ''}" for one in standings],
        [one.metrics["accuracy"] for one in standings],
        [one.study.accuracy / 100 if one.study else None for one in standings],
        title=f"Accuracy, {comparison.evaluated}{f', {LEAKY}' if comparison.leaky else ''}",
        note=note,
    )
    save(figure, picture)
