"""Ridge regression with many more features than subjects; its penalty is chosen by leaving one subject out."""

from dataclasses import dataclass

import numpy as np

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
