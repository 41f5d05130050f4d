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
