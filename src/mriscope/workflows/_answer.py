"""From a model's numbers to typed answers that say what they rest on. Imports no torch."""

import math
from collections.abc import Sequence

import numpy as np

from mriscope.errors import DataError
from mriscope.evaluation.conformal import prediction_sets
from mriscope.results import Answer, ModelDescription, ModelOrigin, SlicePrediction
from mriscope.run_directory import RunDirectory

IMPORTED_STATEMENT = "No metrics on unseen subjects: another program trained the weights, on data that is not known."
LEAKY_STATEMENT = "No metrics on unseen subjects: test subjects also have slices in training."
UNKNOWN_STATEMENT = "No metrics on unseen subjects: subjects are unknown, so that training may have seen them."
UNSEEN_STATEMENT = "Metrics are those of test subjects that are unseen in training."


def describe_origin(directory: RunDirectory) -> ModelOrigin:
    """Describe where the model of a run comes from; its metrics are told only where test subjects are unseen.

    Raises:
        RunError: a file of the run is damaged.
    """
    environment, leaky = directory.environment, directory.leaky
    metrics = None if directory.imported else directory.metrics()
    statement = {True: LEAKY_STATEMENT, False: UNSEEN_STATEMENT, None: UNKNOWN_STATEMENT}[leaky]
    return ModelOrigin(
        run=directory.name,
        model=directory.recipe.model,
        mriscope=environment.mriscope,
        commit=environment.commit,
        protocol=directory.protocol,
        leaky=leaky,
        unseen_subjects=metrics.metrics if metrics is not None and leaky is False else None,
        n_subjects=metrics.n_subjects if metrics is not None else None,
        statement=IMPORTED_STATEMENT if metrics is None else statement,
    )


def make_answer(
    description: ModelDescription, paths: Sequence[str], probabilities: np.ndarray, distances: np.ndarray
) -> Answer:
    """Make the answer of a model.

    Args:
        description: of the model.
        paths: N names of slices.
        probabilities: float32 (N, K), calibrated.
        distances: float32 (N,), nan where the model has no reference.

    Raises:
        DataError: a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise DataError("the model's outputs are not finite (did the training diverge?); use other weights")
    names, inference = description.class_names, description.inference
    sets = None if inference.conformal is None else prediction_sets(probabilities, inference.conformal)
    threshold = inference.distance
    slices = [
        SlicePrediction(
            path=path,
            class_name=names[int(probabilities[row].argmax())],
            probabilities=dict(zip(names, map(float, probabilities[row]), strict=True)),
            prediction_set=None if sets is None else [names[at] for at in np.flatnonzero(sets[row])],
            out_of_distribution=None if threshold is None else not distances[row] <= threshold.value,
            distance=math.nan if threshold is None else float(distances[row]),
        )
        for row, path in enumerate(paths)
    ]
    return Answer(origin=description.origin, inference=inference, slices=slices)
