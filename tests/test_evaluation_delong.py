from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm, t, ttest_ind

from mriscope.errors import DataError
from mriscope.evaluation.delong import delong_difference, delong_interval
from mriscope.evaluation.differences import paired_difference
from mriscope.evaluation.influences import mean_influences, welch_degrees
from mriscope.evaluation.interval_formulas import score_interval_of_area
from mriscope.evaluation.intervals import bootstrap_values
from mriscope.evaluation.metrics import auroc, class_auroc
from mriscope.evaluation.predictions import Predictions

TWO = ("a", "b")


def scored(labels: np.ndarray, scores: np.ndarray) -> Predictions:
    probabilities = np.stack([1 - scores, scores], axis=1)
    return Predictions.of(labels, probabilities, subjects=np.arange(len(labels)), class_names=TWO)


def pair(
    seed: int, count: int, ties: bool = False, noises: tuple[float, float] = (0.1, 0.6)
) -> tuple[Predictions, Predictions]:
    """Two models that see the same thing, each through its noise."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 2)
    seen = labels + random.normal(0, 1, count)
    scores = [norm.cdf(seen + random.normal(0, noise, count)) for noise in noises]
    first, second = (scored(labels, np.round(one, 1) if ties else one) for one in scores)
    return first, second


def placements(p: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """By the definition: every pair of a row of the class and another."""
    scores = p.probabilities[:, 1].astype(float)
    ours, others = scores[p.labels == 1], scores[p.labels == 0]
    wins = np.array([1.0 if x > y else 0.5 if x == y else 0.0 for x, y in product(ours, others)])
    table = wins.reshape(len(ours), len(others))
    return table.mean(axis=1), table.mean(axis=0)


def by_definition(one: Predictions, other: Predictions) -> float:
    """Covariance of two areas."""
    (above, below), (above_other, below_other) = placements(one), placements(other)
    return float(
        np.cov(above, above_other)[0, 1] / len(above) + np.cov(below, below_other)[0, 1] / len(below),
    )


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(6, 40), st.booleans())
def test_it_is_what_the_placement_values_say(seed: int, count: int, ties: bool) -> None:
    one, other = pair(seed, count, ties)
    found = delong_interval(one, 1)
    assert found.value == pytest.approx(class_auroc(one)[1])
    spread, odds = found.value * (1 - found.value), by_definition(one, one)
    if spread > 1e-9 and odds > 1e-12:  # elsewhere it is the score interval
        variances = [float(np.var(part, ddof=1)) / len(part) for part in placements(one)]
        sizes = [len(part) for part in placements(one)]
        degrees = odds**2 / sum(v**2 / (n - 1) for v, n in zip(variances, sizes, strict=True))  # Welch's
        bounds = logit(found.value) + np.array([-1, 1]) * t.ppf(0.975, degrees) * np.sqrt(odds) / spread
        assert (found.low, found.high) == pytest.approx(tuple(expit(bounds)), abs=1e-6)
    difference = delong_difference(one, other, 1)
    assert difference.value == pytest.approx(auroc(one) - auroc(other))
    error = np.sqrt(max(by_definition(one, one) + by_definition(other, other) - 2 * by_definition(one, other), 0))
    assert (difference.high - difference.low) / 2 == pytest.approx(1.959964 * error, abs=1e-6)
    if error > 1e-6:
        assert difference.p == pytest.approx(2 * norm.sf(abs(difference.value) / error))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_either_class_and_either_order_give_the_same(seed: int, ties: bool) -> None:
    one, other = pair(seed, 30, ties)
    for index in (0, 1):
        here, there = delong_difference(one, other, index), delong_difference(other, one, index)
        assert (here.value, here.low, here.high) == pytest.approx((-there.value, -there.high, -there.low))
        assert here.p == pytest.approx(there.p)
    assert delong_interval(one, 0).low == pytest.approx(delong_interval(one, 1).low, abs=1e-6)


def test_it_agrees_with_the_bootstrap() -> None:
    one, other = pair(3, 200)
    ours, drawn = delong_interval(one, 1), np.quantile(bootstrap_values(one, auroc, 1500, 0), [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx(tuple(drawn), abs=0.015)
    ours, drawn = delong_difference(one, other, 1), paired_difference(one, other, auroc, resamples=1500)
    assert (ours.value, ours.low, ours.high) == pytest.approx((drawn.value, drawn.low, drawn.high), abs=0.012)
    assert ours.p == pytest.approx(drawn.p, abs=0.03)


def test_without_a_difference_small_p_values_are_as_rare_as_they_say() -> None:
    p_values = []
    for seed in range(400):
        one, other = pair(seed, 80, noises=(1, 1))
        p_values.append(delong_difference(one, other, 1).p)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p_values) < level) == pytest.approx(level, abs=0.02 + 3 * np.sqrt(level / 400) / 2)


def test_repeats_are_averaged_and_a_model_repeated_is_the_model() -> None:
    one, other = pair(5, 60)
    alone, repeated = delong_difference(one, other, 1), delong_difference([one, one], [other] * 3, 1)
    assert (repeated.value, repeated.p) == pytest.approx((alone.value, alone.p))
    both = delong_difference([one, other], other, 1)
    assert both.value == pytest.approx(alone.value / 2)
    assert both.p == pytest.approx(alone.p)  # half the difference, with half the standard error


def test_edges() -> None:
    labels = np.array([0, 0, 1, 1])
    perfect, reversed_ = scored(labels, np.array([0.1, 0.2, 0.8, 0.9])), scored(labels, np.array([0.9, 0.8, 0.2, 0.1]))
    assert delong_interval(perfect, 1) == delong_interval(perfect, 0)
    low, high = score_interval_of_area(1.0, 2, 2)
    assert (delong_interval(perfect, 1).low, delong_interval(perfect, 1).high) == (low, high)
    assert 0.3 < low < 0.5
    assert delong_difference(perfect, perfect, 1).p == 1
    assert delong_difference(perfect, reversed_, 1).p == 0
    single = delong_interval(scored(np.array([0, 0, 1]), np.array([0.1, 0.7, 0.5])), 1)
    assert single.value == 0.5
    assert np.isnan(single.low)
    none = scored(np.zeros(3, int), np.full(3, 0.5))
    assert np.isnan([delong_interval(none, 1).value, delong_difference(none, none, 1).p]).all()


def test_slices_of_one_brain_are_refused() -> None:
    p = Predictions.of([0, 1, 1], np.eye(2)[[0, 1, 1]], subjects=[1, 2, 2], class_names=TWO)
    with pytest.raises(DataError, match="the 3 slices are of 2 subjects; pool them by subject first"):
        delong_interval(p, 1)


def test_degrees_of_freedom_are_those_of_welchs_test() -> None:
    random = np.random.default_rng(5)
    one, other = random.normal(0, 3, 7), random.normal(0, 1, 40)
    group = np.arange(47) < 7
    influences = mean_influences(np.concatenate([one, other]), group)[1]
    influences += mean_influences(np.concatenate([one, other]), ~group)[1]
    found: Any = ttest_ind(one, other, equal_var=False)
    assert welch_degrees(influences, (group, ~group)) == pytest.approx(found.df)


def test_a_rare_class_widens_the_interval() -> None:
    """Ten of 200 have about nine degrees of freedom, so Student's t is near 2.26 where 100 of 200 have 1.97."""
    random = np.random.default_rng(6)
    labels = (np.arange(200) < 10).astype(int)
    p = scored(labels, norm.cdf(1.5 * labels + random.normal(size=200)))
    found = delong_interval(p, 1)
    step = np.sqrt(by_definition(p, p)) / (found.value * (1 - found.value))
    multiple = (logit(found.high) - logit(found.value)) / step
    assert 2.15 < multiple < t.ppf(0.975, 9) + 1e-6
