"""Ridge regression with many more features than subjects; its penalty is chosen by leaving one subject out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

_ABSENT = -30.0  # logit of a class that no subject has
_LOOSE = 100.0  # scores spread over a fraction of 1, so scikit-learn's usual penalty would flatten them

PENALTIES = 10.0 ** np.arange(-4, 3.1, 0.5)
"""Times the mean squared length of a subject's features."""


@dataclass(frozen=True)
class Ridge:
    """A linear rule, and what it says of the subjects it was fitted to.

    Args:
        weights: float64 (D, K).
        offset: float64 (K,).
        left_out: float64 (N, K), what is said of each subject when it is left out of the fit.
        penalty: the one of PENALTIES that was chosen.
    """

    weights: np.ndarray
    offset: np.ndarray
    left_out: np.ndarray
    penalty: float


@dataclass(frozen=True)
class ClassRule:
    """Logits that are linear in the features.

    Args:
        weight: float64 (D, K).
        bias: float64 (K,).
        left_out: float64 (N, K), logits of each subject by the ridge regression without it.
    """

    weight: np.ndarray
    bias: np.ndarray
    left_out: np.ndarray


def fit_classes(features: np.ndarray, widths: Sequence[int], labels: np.ndarray, classes: int) -> ClassRule:
    """Ridge regression of each class's membership, made logits by a logistic regression on left-out scores.

    Each block of features is weighed so that its variances over subjects add up to 1: none outweighs another by its
    number of features.

    Args:
        features: float (N, D).
        widths: how many features each block has, in order; D together.
        labels: int64 (N,), of at least two classes.
        classes: K.
    """
    scales = _block_scales(features, widths)
    ridge = fit_ridge(features * scales, np.eye(classes)[labels])
    slopes, offsets = _calibration(ridge.left_out, labels, classes)
    weight = scales[:, None] * ridge.weights @ slopes
    return ClassRule(weight, ridge.offset @ slopes + offsets, ridge.left_out @ slopes + offsets)


def fit_ridge(features: np.ndarray, targets: np.ndarray) -> Ridge:
    """The ridge regression (Hoerl and Kennard, 1970) whose squared error over left-out subjects is least.

    Leaving each subject out costs no further fit (Allen, 1974). The offset carries no penalty.

    Args:
        features: float (N, D), N at least 2; D may be far more.
        targets: float (N, K).
    """
    middle, mean = features.mean(axis=0, dtype=np.float64), targets.mean(axis=0)
    centred, wanted = features - middle, targets - mean
    kernel = centred @ centred.T
    scale = max(np.trace(kernel) / len(kernel), np.finfo(float).tiny)
    values, vectors = np.linalg.eigh(kernel / scale)
    values, turned = np.maximum(values, 0), vectors.T @ wanted
    errors = [_left_out_errors(values, vectors, turned, wanted, penalty) for penalty in PENALTIES]
    best = int(np.argmin([np.square(error).mean() for error in errors]))
    dual = vectors @ (turned / (values + PENALTIES[best])[:, None])
    weights = centred.T @ dual / scale
    return Ridge(weights, mean - middle @ weights, targets - errors[best], float(PENALTIES[best]))


def _left_out_errors(
    values: np.ndarray, vectors: np.ndarray, turned: np.ndarray, wanted: np.ndarray, penalty: float
) -> np.ndarray:
    """float64 (N, K), the error on each subject when it is left out."""
    kept = values / (values + penalty)
    leverage = np.square(vectors) @ kept + 1 / len(values)  # the share is the offset's
    return (wanted - vectors @ (kept[:, None] * turned)) / np.maximum(1 - leverage, 1e-9)[:, None]


def _block_scales(features: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """float64 (D,), one factor for each block."""
    variance = features.var(axis=0, dtype=np.float64)
    sums = np.add.reduceat(variance, np.cumsum([0, *widths[:-1]]))
    return np.repeat(1 / np.sqrt(np.maximum(sums, 1e-12)), widths)


def _calibration(scores: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (K, K) and offsets (K,) of the multinomial logistic regression from scores to classes."""
    model = LogisticRegression(C=_LOOSE, max_iter=1000).fit(scores, labels)
    slopes, offsets = np.zeros((classes, classes)), np.full(classes, _ABSENT)
    if len(model.classes_) == 2:  # scikit-learn keeps the second's logit alone
        slopes[:, model.classes_[1]], offsets[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        slopes[:, model.classes_], offsets[model.classes_] = model.coef_.T, model.intercept_
    return slopes, offsets
