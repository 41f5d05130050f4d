import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from mriscope.models.ridge import PENALTIES, fit_ridge

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(3, 1, (20, 50))
TARGETS = FEATURES[:, :2] - FEATURES[:, 2:4] + RNG.normal(0, 0.5, (20, 2))


def reference(rows):
    centred = FEATURES - FEATURES.mean(axis=0)
    scale = np.square(centred).sum() / len(FEATURES)
    return Reference(alpha=fit_ridge(FEATURES, TARGETS).penalty * scale).fit(FEATURES[rows], TARGETS[rows])


def solve(features, targets, alpha):
    """Weights and offset by the dual equations of as many rows as there are."""
    mean, middle = targets.mean(axis=0), features.mean(axis=0)
    centred = features - middle
    weights = centred.T @ np.linalg.solve(centred @ centred.T + alpha * np.eye(len(features)), targets - mean)
    return weights, mean - middle @ weights


def closed_form(features, targets):
    """Weights, left-out predictions and penalties of every target, each subject left out by a fit of its own."""
    alphas = PENALTIES * features.var(axis=0).sum()
    left_out = np.empty((len(alphas), *targets.shape))
    for row, rest in enumerate(~np.eye(len(features), dtype=bool)):
        for place, alpha in enumerate(alphas):
            weights, offset = solve(features[rest], targets[rest], alpha)
            left_out[place, row] = features[row] @ weights + offset
    best = np.square(left_out - targets).mean(axis=1).argmin(axis=0)
    columns = np.arange(targets.shape[1])
    weights = [solve(features, targets[:, k], alphas[best[k]])[0] for k in columns]
    return np.stack(weights, axis=1), left_out[best, :, columns].T, PENALTIES[best]


@pytest.mark.parametrize("targets", [TARGETS, TARGETS[:, :1], TARGETS > 0], ids=["two", "one", "steps"])
def test_it_agrees_with_the_closed_form(targets):
    ours = fit_ridge(FEATURES, targets.astype(float))
    weights, left_out, penalty = closed_form(FEATURES, targets.astype(float))
    np.testing.assert_array_equal(ours.penalty, penalty)
    np.testing.assert_allclose(ours.weights, weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.left_out, left_out, rtol=0, atol=1e-10)  # weak penalties all but interpolate
    assert ours.weights.shape == (50, targets.shape[1])
    mean = targets.mean(axis=0)
    np.testing.assert_allclose(FEATURES.mean(axis=0) @ ours.weights + ours.offset, mean, rtol=0, atol=1e-12)


def test_it_is_scikit_learns_ridge():
    ours, theirs = fit_ridge(FEATURES, TARGETS), reference(np.arange(20))
    np.testing.assert_allclose(ours.weights.T, theirs.coef_, atol=1e-8)
    np.testing.assert_allclose(ours.offset, theirs.intercept_, atol=1e-7)


def test_left_out_scores_are_those_of_fits_without_the_subject():
    ours = fit_ridge(FEATURES, TARGETS)
    for row in range(20):
        without = reference(np.delete(np.arange(20), row))
        np.testing.assert_allclose(ours.left_out[row], without.predict(FEATURES[[row]])[0], atol=1e-8)


def test_noise_gets_the_strongest_penalty_and_a_clean_signal_a_weak_one():
    noise = RNG.normal(size=(200, 1))
    assert fit_ridge(RNG.normal(size=(200, 20)), noise).penalty[0] >= 10
    clean = RNG.normal(size=(40, 5))
    assert fit_ridge(clean, clean[:, :1]).penalty[0] == PENALTIES[0]


def test_features_without_variance_say_the_mean():
    ours = fit_ridge(np.ones((4, 3)), np.array([[0.0], [0], [1], [1]]))
    assert np.ones(3) @ ours.weights + ours.offset == pytest.approx(0.5)
