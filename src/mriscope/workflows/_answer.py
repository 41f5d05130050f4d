"""From a model's numbers to typed answers that say what they rest on. Imports no torch."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mriscope.data.images import SliceOrigin
from mriscope.data.read_options import ReadOptions
from mriscope.data.slices import UNKNOWN
from mriscope.errors import DataError
from mriscope.evaluation.conformal import prediction_sets
from mriscope.evaluation.metrics import chance
from mriscope.results import Answer, ModelDescription, ModelOrigin, SlicePrediction, SubjectPrediction
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
    unseen = metrics if metrics is not None and leaky is False else None
    return ModelOrigin(
        run=directory.name,
        model=directory.recipe.model,
        mriscope=environment.mriscope,
        commit=environment.commit,
        protocol=directory.protocol,
        leaky=leaky,
        unseen_subjects=None if unseen is None else unseen.metrics,
        by_chance=None if unseen is None else chance([one.n_slices for one in unseen.classes.values()]),
        n_subjects=metrics.n_subjects if metrics is not None else None,
        statement=IMPORTED_STATEMENT if metrics is None else statement,
    )


def options_of(description: ModelDescription) -> ReadOptions:
    """Return how slices are read that a model is asked about: as those that it was trained on."""
    return ReadOptions(stretch=description.stretch, plane=description.plane, slices=description.slices)


def make_answer(
    description: ModelDescription,
    paths: Sequence[str],
    probabilities: np.ndarray,
    distances: np.ndarray,
    origins: Sequence[SliceOrigin] = (),
) -> Answer:
    """Make the answer of a model.

    Args:
        description: of the model.
        paths: N names of slices.
        probabilities: float32 (N, K), calibrated.
        distances: float32 (N,), nan where the model has no reference.
        origins: of the slices; () where nothing is known of any.

    Raises:
        DataError: a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise DataError("the model's outputs are not finite (did the training diverge?); use other weights")
    names, inference, order = description.class_names, description.inference, description.display_order
    sets = None if inference.conformal is None else prediction_sets(probabilities, inference.conformal)
    threshold = inference.distance
    whose = origins or [SliceOrigin()] * len(paths)
    slices = [
        SlicePrediction(
            path=path,
            class_name=names[int(probabilities[row].argmax())],
            probabilities={names[at]: float(probabilities[row, at]) for at in order},
            prediction_set=None if sets is None else [names[at] for at in order if sets[row, at]],
            out_of_distribution=None if threshold is None else not distances[row] <= threshold.value,
            distance=math.nan if threshold is None else float(distances[row]),
            subject=whose[row].subject or None,
            session=whose[row].session or None,
            position=whose[row].position,
        )
        for row, path in enumerate(paths)
    ]
    together = _pool(description, slices, whose, probabilities)
    return Answer(origin=description.origin, inference=inference, slices=slices, subjects=together)


def _pool(
    description: ModelDescription,
    slices: Sequence[SlicePrediction],
    origins: Sequence[SliceOrigin],
    probabilities: np.ndarray,
) -> list[SubjectPrediction]:
    """Answer for each subject, and for each volume of several slices whose subject is unknown."""
    cut = Counter(one.volume for one in origins)
    keys = [("subject", one.subject) if one.subject else ("volume", one.volume) for one in origins]
    number_of: dict[tuple[str, str], int] = {}
    for (unit, name), origin in zip(keys, origins, strict=True):
        if unit == "subject" or (name and cut[origin.volume] > 1):
            number_of.setdefault((unit, name), len(number_of))
    if not number_of:
        return []
    from mriscope.evaluation.pooling import pool_by_subject
    from mriscope.evaluation.predictions import Predictions

    names, inference, order = description.class_names, description.inference, description.display_order
    numbers = np.array([number_of.get(key, UNKNOWN) for key in keys], np.int64)
    rows = np.flatnonzero(numbers != UNKNOWN)
    unlabelled = Predictions.of(
        np.zeros(len(rows), np.int64), probabilities[rows], subjects=numbers[rows], class_names=names
    )
    pooled = pool_by_subject(unlabelled, inference.pooling).probabilities
    sets = None if inference.conformal_subjects is None else prediction_sets(pooled, inference.conformal_subjects)
    found = []
    for (unit, name), at in number_of.items():
        flags = [bool(slices[row].out_of_distribution) for row in np.flatnonzero(numbers == at).tolist()]
        share = math.nan if inference.distance is None else sum(flags) / len(flags)
        found.append(
            SubjectPrediction(
                name=name,
                unit="subject" if unit == "subject" else "volume",
                n_slices=len(flags),
                class_name=names[int(pooled[at].argmax())],
                probabilities={names[one]: float(pooled[at, one]) for one in order},
                prediction_set=None if sets is None else [names[one] for one in order if sets[at, one]],
                share_out_of_distribution=share,
                out_of_distribution=None if inference.distance is None else share > 1 - inference.distance.level,
            )
        )
    return found
