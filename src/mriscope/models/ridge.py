"""Ridge regression with many more features than subjects; the penalty is chosen by leaving one subject out.

scikit-learn is imported where it is used, as it takes seconds and creating any model imports this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ABSENT = -30.0  # logit of a class that no subject has
_LOOSE = 100.0  # scores spread over a fraction of 1, so scikit-learn's usual penalty would flatten them

PENALTIES = 10.0 ** np.arange(-4, 3.1, 0.5)
"""Candidates, as multiples of the mean squared length of a subject's centred features."""


@dataclass(frozen=True)
class Ridge:
    """A linear rule, and its predictions of the subjects it was fitted to.

    Args:
        weights: float64 (D, K).
        offset: float64 (K,).
        left_out: float64 (N, K), the prediction of each subject when it is left out of the fit.
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
    """Fit ridge regressions on "worse than this class", one per class but the worst, and calibrate them to logits.

    Ordered classes are learned as steps (Frank and Hall, 2001). A multinomial logistic regression maps the regressions'
    predictions of left-out subjects to logits, so that it sees no score better than those of new subjects. Each block
    of features is scaled so that its variances over subjects add up to 1: none outweighs another by its size.

    Args:
        features: float (N, D).
        widths: how many features each block has, in order; D together.
        ranks: int64 (N,), the class of each subject by severity, from 0; at least two differ.
        classes: K.
    """
    variance = features.var(axis=0, dtype=np.float64)
    by_block = np.add.reduceat(variance, np.cumsum([0, *widths[:-1]]))
    scales = np.repeat(1 / np.sqrt(np.maximum(by_block, 1e-12)), widths)
    worse = (ranks[:, None] > np.arange(classes - 1)).astype(float)
    ridge = fit_ridge(features * scales, worse)
    coefficients, offsets = _calibrate(ridge.left_out, ranks, classes)
    weight = scales[:, None] * ridge.weights @ coefficients
    return ClassRule(weight, ridge.offset @ coefficients + offsets, ridge.left_out @ coefficients + offsets)


def fit_ridge(features: np.ndarray, targets: np.ndarray) -> Ridge:
    """Fit ridge regressions (Hoerl and Kennard, 1970) of least squared error over left-out subjects, by target.

    scikit-learn's RidgeCV leaves each subject out without a further fit (Allen, 1974). The offset is not penalised.

    Args:
        features: float (N, D), N at least 2; D may be far more.
        targets: float (N, K).
    """
    from sklearn.linear_model import RidgeCV

    scale = features.var(axis=0, dtype=np.float64).sum() or 1.0  # the mean squared length, centred
    model = RidgeCV(PENALTIES * scale, scoring="neg_mean_squared_error", store_cv_results=True, alpha_per_target=True)
    model.fit(np.asarray(features, np.float64), targets)
    chosen = np.broadcast_to(np.asarray(model.alpha_), targets.shape[1])  # RidgeCV drops the axis of a single target
    left_out = np.asarray(model.cv_results_).reshape(*targets.shape, -1)
    best = np.searchsorted(PENALTIES * scale, chosen)
    return Ridge(
        weights=np.asarray(model.coef_).reshape(targets.shape[1], -1).T,
        offset=np.asarray(model.intercept_).reshape(-1),
        left_out=np.take_along_axis(left_out, best[None, :, None], axis=2)[..., 0],
        penalty=PENALTIES[best],
    )


def _calibrate(scores: np.ndarray, ranks: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit a multinomial logistic regression from scores to classes; return coefficients (K - 1, K) and offsets (K,)."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_LOOSE, max_iter=1000).fit(scores, ranks)
    coefficients, offsets = np.zeros((classes - 1, classes)), np.full(classes, _ABSENT)
    if len(model.classes_) == 2:  # scikit-learn keeps the second's logit alone
        coefficients[:, model.classes_[1]], offsets[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        coefficients[:, model.classes_], offsets[model.classes_] = model.coef_.T, model.intercept_
    return coefficients, offsets
