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
        penalty: float64 (K,), the one of PENALTIES that was chosen for each target.
    """

    weights: np.ndarray
    offset: np.ndarray
    left_out: np.ndarray
    penalty: np.ndarray


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


def fit_classes(features: np.ndarray, widths: Sequence[int], ranks: np.ndarray, classes: int) -> ClassRule:
    """Ridge regressions on "worse than this class", one for each but the worst, made logits by a logistic regression.

    Classes in order are learned as steps (Frank and Hall, 2001). The logistic regression is fitted to what the ridge
    regressions say of left-out subjects, so that it sees no score better than those of new subjects. Each block of
    features is weighed so that its variances over subjects add up to 1: none outweighs another by its size.

    Args:
        features: float (N, D).
        widths: how many features each block has, in order; D together.
        ranks: int64 (N,), the class of each subject by severity, from 0; at least two differ.
        classes: K.
    """
    scales = _block_scales(features, widths)
    worse = (ranks[:, None] > np.arange(classes - 1)).astype(float)
    ridge = fit_ridge(features * scales, worse)
    slopes, offsets = _calibration(ridge.left_out, ranks, classes)
    weight = scales[:, None] * ridge.weights @ slopes
    return ClassRule(weight, ridge.offset @ slopes + offsets, ridge.left_out @ slopes + offsets)


def fit_ridge(features: np.ndarray, targets: np.ndarray) -> Ridge:
    """Ridge regressions (Hoerl and Kennard, 1970) of least squared error over left-out subjects, target by target.

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
    errors = np.stack([_left_out_errors(values, vectors, turned, wanted, penalty) for penalty in PENALTIES])
    best = np.square(errors).mean(axis=1).argmin(axis=0)
    dual = vectors @ (turned / (values[:, None] + PENALTIES[best]))
    weights = centred.T @ dual / scale
    left_out = np.take_along_axis(errors, best[None, None], axis=0)[0]
    return Ridge(weights, mean - middle @ weights, targets - left_out, PENALTIES[best])


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


def _calibration(scores: np.ndarray, ranks: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (K - 1, K) and offsets (K,) of the multinomial logistic regression from scores to classes."""
    model = LogisticRegression(C=_LOOSE, max_iter=1000).fit(scores, ranks)
    slopes, offsets = np.zeros((classes - 1, classes)), np.full(classes, _ABSENT)
    if len(model.classes_) == 2:  # scikit-learn keeps the second's logit alone
        slopes[:, model.classes_[1]], offsets[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        slopes[:, model.classes_], offsets[model.classes_] = model.coef_.T, model.intercept_
    return slopes, offsets
