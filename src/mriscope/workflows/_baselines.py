"""The baselines of a run: kept in its directory, or fitted now to the training part of its source."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mriscope.data.slices import SliceSet
from mriscope.data.splits import Split, read_split
from mriscope.errors import MriscopeError
from mriscope.evaluation.baselines import predict_baselines, score_baselines
from mriscope.evaluation.predictions import Predictions, write_predictions
from mriscope.evaluation.scoring import EvaluationConfig, aggregate
from mriscope.results import BaselineScores
from mriscope.run_directory import BASELINE_FILES, BASELINE_FOLDER, SPLIT, RunDirectory, output_of_run
from mriscope.workflows._load import load

LOG = logging.getLogger("mriscope")


def write_baselines(directory: RunDirectory, slices: SliceSet, split: Split) -> dict[str, Predictions]:
    """Fit the baselines to the training part of a run, and keep their predictions of the other parts beside it."""
    rows = np.concatenate([split.validation, split.test])
    parts = np.repeat(["validation", "test"], [len(split.validation), len(split.test)])
    found = predict_baselines(slices[split.train], slices[rows], parts, directory.recipe.severity)
    output_of_run(directory.path).claim(BASELINE_FILES)
    folder = directory.path / BASELINE_FOLDER
    folder.mkdir(exist_ok=True)
    for name, one in found.items():
        write_predictions(one, folder / f"{name}.parquet")
    return found


def find_baselines(directory: RunDirectory) -> dict[str, Predictions]:
    """Return the predictions of a run's baselines; those that an earlier version did not make are made now.

    Returns:
        by name; none where the run's source cannot be read any more, or has changed, which is logged.
    """
    if kept := directory.baselines():
        return kept
    if not (directory.path / SPLIT).is_file():
        LOG.warning("%s stands without baselines, as it has no %s", directory.path, SPLIT)
        return {}
    try:
        slices, split = load_own(directory)
        return write_baselines(directory, slices, split)
    except MriscopeError as error:
        LOG.warning("%s stands without baselines: %s", directory.path, error)
        return {}


def predict_other(directory: RunDirectory, asked: SliceSet) -> dict[str, Predictions]:
    """Fit the baselines to the training part of a run, and predict the slices of another source.

    Returns:
        by name; none where the run's own source cannot be read any more, or has changed, which is logged.
    """
    if directory.imported:
        return {}
    try:
        slices, split = load_own(directory)
    except MriscopeError as error:
        LOG.warning("%s is evaluated without baselines: %s", directory.path, error)
        return {}
    return predict_baselines(slices[split.train], asked, "test", directory.recipe.severity)


def load_own(directory: RunDirectory) -> tuple[SliceSet, Split]:
    """Load the slices that a run was trained on, and its split of them.

    Raises:
        MriscopeError: the source cannot be read any more, or has changed.
    """
    recipe, environment = directory.recipe, directory.environment
    recipe = recipe.model_copy(update={"data": environment.source or recipe.data})
    slices = load(recipe.data, recipe=recipe, skip_bad=environment.skip_bad).slices
    return slices, read_split(directory.path / SPLIT, slices)


def score_beside(
    config: EvaluationConfig, rows: Predictions, beside: Mapping[str, Predictions], seed: int
) -> dict[str, BaselineScores]:
    """Score baselines at the task and level of an evaluation; a subject's slices are pooled by their mean."""
    pooled = replace(config, pooling="mean_probability") if config.level == "subject" else config
    return score_baselines(
        [rows], {name: [aggregate(pooled, one, None).rows] for name, one in beside.items()}, seed=seed
    )
