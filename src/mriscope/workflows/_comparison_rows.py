"""Rows of a comparison: which runs belong together, and whether all were evaluated on the same slices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mriscope.errors import RunError
from mriscope.evaluation.predictions import Predictions
from mriscope.recipe import StudyRow
from mriscope.results import Metrics, TrainingSummary
from mriscope.run_directory import METRICS, RunDirectory

_OWN = {"seed", "data", "study"}  # settings that may differ between the runs of one recipe


@dataclass(frozen=True)
class EvaluatedRun:
    """A finished run, its metrics, what its training cost, and its predictions of its test part."""

    directory: RunDirectory
    metrics: Metrics
    training: TrainingSummary
    tested: Predictions

    def __str__(self) -> str:
        return str(self.directory.path)


@dataclass(frozen=True)
class Row:
    """A recipe to be ranked, with its runs in the order of their seeds."""

    name: str
    runs: tuple[EvaluatedRun, ...]
    study: StudyRow | None

    @property
    def tested(self) -> list[Predictions]:
        """The predictions of each run for its test part."""
        return [run.tested for run in self.runs]

    @property
    def devices(self) -> list[str]:
        """What its runs were trained on, each once."""
        return sorted({run.directory.environment.device for run in self.runs})


def group_by_recipe(runs: Sequence[RunDirectory]) -> list[Row]:
    """Group runs by recipe; where two of a recipe have also the seed in common, each stays a row of its own.

    Args:
        runs: finished ones, in any order.

    Raises:
        RunError: a run stands twice, or there are not two recipes.
    """
    seen: set[Path] = set()
    for run in runs:
        if run.path.resolve() in seen:
            raise RunError(f"{run.path} is named twice; name each run once")
        seen.add(run.path.resolve())
    groups: dict[str, list[RunDirectory]] = {}
    for run in runs:
        groups.setdefault(run.recipe.model_dump_json(exclude=_OWN), []).append(run)
    found: list[list[RunDirectory]] = []
    for group in groups.values():
        own_seeds = len({run.recipe.seed for run in group}) == len(group)
        found += [sorted(group, key=lambda run: run.recipe.seed)] if own_seeds else [[run] for run in group]
    if len(found) < 2:
        said = "these are runs of one recipe, which differ in their seed alone" if len(runs) > 1 else "this is one run"
        raise RunError(f"{said}; name runs of two recipes at least")
    names = [row[0].path.resolve().name for row in found]
    return [
        make_row(name if names.count(name) == 1 else str(row[0].path), row, row[0].recipe.study)
        for name, row in zip(names, found, strict=True)
    ]


def make_row(name: str, runs: Sequence[RunDirectory], study: StudyRow | None) -> Row:
    """Make a row of the finished runs of one recipe.

    Raises:
        RunError: a run's metrics or predictions are missing or damaged, or the metrics are of no training run.
    """
    evaluated = []
    for run in runs:
        metrics = run.metrics()
        if metrics.training is None:
            raise RunError(f"{run.path / METRICS} does not say how long training took; train the run anew with --fresh")
        evaluated.append(EvaluatedRun(run, metrics, metrics.training, run.predictions().of_part("test")))
    return Row(name, tuple(evaluated), study)


def check_comparable(rows: Sequence[Row]) -> None:
    """Refuse rows that were not evaluated on the same slices: all of one test part, or seed by seed of one.

    Raises:
        RunError: the data, the protocol, the test slices, their labels or their subjects differ; names two runs.
    """
    first, *others = [run for row in rows for run in row.runs]
    for run in others:
        _check_data(first, run)
    if all(same_slices(first, run) for run in others):
        pairs = [(first, run) for run in others]
    else:
        pairs = [pair for row in rows[1:] for pair in _seed_by_seed(rows[0], row)]
    for one, other in pairs:
        _check_slices(one, other)


def _check_data(one: EvaluatedRun, other: EvaluatedRun) -> None:
    """Refuse other data or another protocol; at another input size the same slices have another fingerprint."""
    same_size = one.directory.recipe.input.size == other.directory.recipe.input.size
    data = [run.metrics.data or "unknown" for run in (one, other)]
    if same_size and data[0] != data[1]:
        told = " and ".join(
            f"{run} on {len(run.tested):,} slices of data {print_[:12]}"
            for run, print_ in zip((one, other), data, strict=True)
        )
        raise RunError(f"only runs on one set of slices compare; {told}")
    protocols = [run.metrics.protocol for run in (one, other)]
    if protocols[0] != protocols[1]:
        raise RunError(
            f"{one} was evaluated by the protocol {protocols[0]} and {other} by {protocols[1]}; "
            "train both with the same split.protocol"
        )


def same_slices(one: EvaluatedRun, other: EvaluatedRun) -> bool:
    """Return whether two runs were evaluated on slices of the same paths."""
    return np.array_equal(np.sort(one.tested.paths), np.sort(other.tested.paths))


def _seed_by_seed(one: Row, other: Row) -> Iterator[tuple[EvaluatedRun, EvaluatedRun]]:
    if len(one.runs) != len(other.runs):
        raise RunError(
            f"each seed draws another test part, and {one.name} has {len(one.runs)} of them where {other.name} has "
            f"{len(other.runs)}; give both the same seeds"
        )
    return zip(one.runs, other.runs, strict=True)


def _check_slices(one: EvaluatedRun, other: EvaluatedRun) -> None:
    """Refuse other test slices, or other labels or subjects of the same."""
    if not same_slices(one, other):
        common = len(np.intersect1d(one.tested.paths, other.tested.paths))
        raise RunError(
            f"{one} was evaluated on {len(one.tested):,} test slices and {other} on {len(other.tested):,}, of which "
            f"{common:,} are the same; train both with the same split and seed"
        )
    orders = [np.argsort(run.tested.paths) for run in (one, other)]
    for name, column in (("labels", "labels"), ("subjects", "subject_names")):
        here, there = (getattr(run.tested, column)[order] for run, order in zip((one, other), orders, strict=True))
        if not np.array_equal(here, there):
            path = one.tested.paths[orders[0]][int((here != there).argmax())]
            raise RunError(
                f"{one} and {other} were evaluated on slices with other {name}, {path} for one; train both anew"
            )
