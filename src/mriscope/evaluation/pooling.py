"""Pool the probabilities of a subject's slices into one prediction for the subject."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mriscope.data.slices import UNKNOWN, majority_labels
from mriscope.errors import DataError, UnknownNameError
from mriscope.evaluation.metrics import LEAST_PROBABILITY, log_loss
from mriscope.evaluation.predictions import Predictions


def pool_by_subject(predictions: Predictions, how: str) -> Predictions:
    """Pool the slices of each subject into one row; rows are in the order of the subjects' numbers.

    A subject's label is that of most of its slices, as in a split by subject, and of several that tie the first in the
    order of class_names. Its path is "subject-" and its name.

    Args:
        predictions: of slices whose subjects are all known; each subject's in one part.
        how: "mean_probability", "mean_logit" (the mean of log probabilities, brought back to the sum of 1; Genest and
            Zidek, 1986, call both opinion pools, linear and logarithmic) or "majority" (each slice votes for its most
            probable class, and the shares of votes are the probabilities; where classes tie, the first is predicted).

    Raises:
        UnknownNameError: there is no such way of pooling.
        DataError: a slice's subject is unknown, or a subject has slices in two parts.
    """
    if how not in POOLINGS:
        raise UnknownNameError("way of pooling", how, POOLINGS)
    check_subjects(predictions)
    numbers, first, subject_of_row = np.unique(predictions.subjects, return_index=True, return_inverse=True)
    parts = predictions.parts[first]
    if (divided := parts[subject_of_row] != predictions.parts).any():
        row = int(divided.argmax())
        raise DataError(
            f"subject {predictions.subject_names[row]} has slices in {parts[subject_of_row[row]]} and in "
            f"{predictions.parts[row]}; pool one part at a time, as of_part gives it"
        )
    pooled = _means(POOLINGS[how](predictions), subject_of_row)
    if how == "mean_logit":
        pooled = np.exp(pooled - pooled.max(axis=1, keepdims=True, initial=-np.inf))
    by_subject = Predictions.of(
        majority_labels(predictions.labels, subject_of_row, len(predictions.class_names)),
        pooled / pooled.sum(axis=1, keepdims=True),
        subjects=numbers,
        parts=parts,
        paths=[f"subject-{name}" for name in predictions.subject_names[first]],
        class_names=predictions.class_names,
    )
    return replace(by_subject, severity=predictions.severity, subject_ids=predictions.subject_ids)


def choose_pooling(validation: Predictions) -> str:
    """Choose the way of pooling with the least log loss over subjects; of several that tie the first.

    Args:
        validation: slices that did not train the model and do not evaluate it, in the classes of the evaluation.

    Raises:
        DataError: there are no slices, a slice's subject is unknown, or a subject has slices in two parts.
    """
    if not len(validation):
        raise DataError("the validation part is empty, and pooling is chosen on it; name the way of pooling")
    losses = {how: round(log_loss(pool_by_subject(validation, how)), 6) for how in POOLINGS}  # float32 tells no more
    return min(losses, key=losses.__getitem__)


def check_subjects(predictions: Predictions) -> None:
    """Refuse slices whose subject is unknown.

    Raises:
        DataError: there are some.
    """
    unknown = int((predictions.subjects == UNKNOWN).sum())
    if unknown:
        raise DataError(
            f"the subject of {unknown:,} of {len(predictions):,} slices is unknown, and pooling by subject needs every "
            "one; find them with `mriscope audit SOURCE --out DIR`, and give its slices.csv as a manifest"
        )


def divided_labels(predictions: Predictions) -> int:
    """Count how many subjects have slices of more than one class, so that pooling decides their label by majority."""
    pairs = np.unique(np.stack([predictions.subjects, predictions.labels]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def _probabilities(predictions: Predictions) -> np.ndarray:
    return predictions.probabilities.astype(np.float64)


def _logarithms(predictions: Predictions) -> np.ndarray:
    """Return log probabilities; one slice that excludes a class altogether does not exclude it for the subject."""
    return np.log(np.maximum(_probabilities(predictions), LEAST_PROBABILITY))


def _votes(predictions: Predictions) -> np.ndarray:
    return np.eye(len(predictions.class_names))[predictions.predicted]


POOLINGS: dict[str, Callable[[Predictions], np.ndarray]] = {
    "mean_probability": _probabilities,
    "mean_logit": _logarithms,
    "majority": _votes,
}
"""What each way of pooling takes the mean of: float64 (N, K)."""


def _means(values: np.ndarray, group_of_row: np.ndarray) -> np.ndarray:
    """Compute the mean of the rows (N, K) of each group: float64 (G, K)."""
    sums = np.zeros((group_of_row.max(initial=-1) + 1, values.shape[1]))
    np.add.at(sums, group_of_row, values)
    return sums / np.bincount(group_of_row, minlength=len(sums))[:, None]
