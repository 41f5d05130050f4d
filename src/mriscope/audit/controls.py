"""Controls: what a score is worth that needs no training and knows no disease."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mriscope.audit.similarity import nearest, nearest_rows, standardised
from mriscope.data.slices import UNKNOWN, SliceSet, majority_labels
from mriscope.data.splits import Split, by_slice, by_subject
from mriscope.errors import DataError
from mriscope.evaluation.intervals import bootstrap, interval_unit
from mriscope.evaluation.metrics import accuracy, balanced_accuracy
from mriscope.evaluation.predictions import Predictions
from mriscope.results import Controls, ControlScore, PermutedScore

DRAWS = 10
PERMUTATIONS = 20
_RESAMPLES = 1000
_K = 128  # past the slices of its own subject, a slice's nearest in another is almost always among so many


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The slices most similar to each slice of a set, found once for every split of it.

    Args:
        images: uint8 (N, H, W), of which they are.
        similarity: float32 (N, k), correlation in [-1, 1] from the highest.
        index: int64 (N, k), which slices these are; never the slice itself.
        device: where more of them are looked for, as torch names it.
    """

    images: np.ndarray
    similarity: np.ndarray
    index: np.ndarray
    device: str = "cpu"

    def among(self, rows: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the most similar reference slice to each of some rows.

        Args:
            rows: int64 (R,).
            reference: int64 (M,), rows to choose from; one at least.

        Returns:
            float32 (R,), correlation, and int64 (R,), the row that it is with.
        """
        allowed = np.zeros(len(self.images), bool)
        allowed[reference] = True
        inside = allowed[self.index[rows]]
        first = (np.arange(len(rows)), inside.argmax(axis=1))
        similarity, index = self.similarity[rows][first], self.index[rows][first]
        beyond = np.flatnonzero(~inside.any(axis=1))
        if len(beyond):
            asking, there = (
                standardised(self.images, among=some, device=self.device) for some in (rows[beyond], reference)
            )
            further, which = nearest_rows(asking, there, 1, same=False)
            similarity[beyond], index[beyond] = further[:, 0], reference[which[:, 0]]
        return similarity, index


def find_neighbours(images: np.ndarray, *, device: str = "cpu") -> Neighbours:
    """Find the neighbours of every slice.

    Args:
        images: uint8 (N, H, W).
        device: where to compute, as torch names it.
    """
    return Neighbours(images, *nearest(images, None, _K, device=device), device)


@dataclass(frozen=True, eq=False)
class Matches:
    """Test slices of one split, each with its nearest slice of the training part: int64 (R,) each."""

    rows: np.ndarray
    nearest: np.ndarray


def run_controls(
    slices: SliceSet,
    neighbours: Neighbours,
    split: tuple[np.ndarray, np.ndarray] | None,
    *,
    draws: int = DRAWS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Controls:
    """Judge 1-nearest-neighbour on the audited split, on splits by slice and by subject, and with shuffled labels.

    Args:
        slices: the set.
        neighbours: find_neighbours of it.
        split: training rows and test rows of the audited split; None where none is audited.
        draws: how many splits by slice and by subject; their test share is that of the audited split, else 0.2.
        permutations: how often labels are shuffled.
        seed: of all draws; the first has this seed, each other one more.
    """
    share = len(split[1]) / (len(split[0]) + len(split[1])) if split else 0.2

    def drawn(make: Callable[..., Split]) -> list[Matches]:
        try:
            splits = [make(slices, test=share, seed=seed + draw) for draw in range(draws)]
        except DataError:  # too few units, or unknown subjects
            return []
        return [match(neighbours, np.concatenate([one.train, one.validation]), one.test) for one in splits]

    audited = [match(neighbours, *split)] if split else []
    slice_wise, subject_wise = drawn(by_slice), drawn(by_subject)
    return Controls(
        audited=score(slices, audited, seed=seed),
        by_slice=score(slices, slice_wise, seed=seed),
        by_subject=score(slices, subject_wise, seed=seed),
        audited_permuted=permuted(slices, audited, permutations, seed=seed),
        by_subject_permuted=permuted(slices, subject_wise, permutations, seed=seed),
    )


def match(neighbours: Neighbours, train: np.ndarray, test: np.ndarray) -> Matches:
    """Match each test row with its nearest training row."""
    return Matches(test, neighbours.among(test, train)[1])


def score(slices: SliceSet, draws: Sequence[Matches], *, seed: int = 0) -> ControlScore | None:
    """Score draws, with intervals by bootstrap over subjects where these are known; None without draws."""
    if not draws:
        return None
    rows, found = (np.concatenate([getattr(one, name) for one in draws]) for name in ("rows", "nearest"))
    predictions = _predictions(slices, rows, slices.labels[found])
    metrics = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
    estimates = bootstrap(predictions, metrics, resamples=_RESAMPLES, seed=seed)
    each = [float((slices.labels[one.rows] == slices.labels[one.nearest]).mean()) for one in draws]
    return ControlScore(
        draws=len(draws),
        n_slices=len(rows),
        n_subjects=len(np.unique(slices.subjects[rows])) if predictions.knows_subjects else None,
        **estimates,
        least=min(each),
        greatest=max(each),
        majority=float(np.bincount(slices.labels[rows]).max() / len(rows)),
        unit=interval_unit(predictions),
    )


def permuted(slices: SliceSet, draws: Sequence[Matches], permutations: int, *, seed: int = 0) -> PermutedScore | None:
    """Compute the accuracy with labels shuffled between subjects, a subject's class being that of most of its slices.

    None without draws, or where the subject of a slice is unknown.
    """
    if not draws or not slices.knows_subjects:
        return None
    classes, subject = subject_classes(slices)
    random = np.random.default_rng([seed, *b"labels"])
    means = []
    for _ in range(permutations):
        labels = random.permutation(classes)[subject]
        means.append(float(np.mean([(labels[one.rows] == labels[one.nearest]).mean() for one in draws])))
    return PermutedScore(
        permutations=permutations,
        mean=float(np.mean(means)),
        least=min(means),
        greatest=max(means),
        chance=chance_agreement(classes),
    )


def subject_classes(slices: SliceSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the majority class of each subject, int64 (S,), and the subject's index for each slice, int64 (N,).

    Raises:
        DataError: the subject of a slice is unknown.
    """
    if (slices.subjects == UNKNOWN).any():
        raise DataError("the subject of a slice is unknown, so subjects have no classes; name them with a manifest")
    subject = np.unique(slices.subjects, return_inverse=True)[1]
    return majority_labels(slices.labels, subject, len(slices.class_names)), subject


def chance_agreement(classes: np.ndarray) -> float:
    """Compute the probability that two subjects, drawn without replacement, share a class; nan for fewer than two."""
    counts, total = np.bincount(classes), len(classes)
    return float((counts * (counts - 1)).sum() / (total * (total - 1))) if total > 1 else float("nan")


def _predictions(slices: SliceSet, rows: np.ndarray, predicted: np.ndarray) -> Predictions:
    return Predictions(
        paths=slices.paths[rows],
        labels=slices.labels[rows],
        subjects=slices.subjects[rows],
        parts=np.full(len(rows), "test"),
        probabilities=np.eye(len(slices.class_names), dtype=np.float32)[predicted],
        class_names=slices.class_names,
        subject_ids=slices.subject_ids,
    )
