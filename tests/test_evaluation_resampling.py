"""One way of drawing resamples for every interval."""

import math

import numpy as np
import pytest

from mriscope.evaluation.resampling import cluster_bootstrap, mean_interval, percentile_interval
from mriscope.results import Estimate


def test_each_resample_draws_as_many_units_as_there_are() -> None:
    drawn = np.array(list(cluster_bootstrap(7, 4000, seed=3)))
    assert drawn.shape == (4000, 7)
    assert (drawn.sum(axis=1) == 7).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.06)  # each unit once on average, of variance 6/7
    np.testing.assert_allclose(drawn.var(axis=0), 6 / 7, atol=0.08)
    assert [one.tolist() for one in cluster_bootstrap(0, 2, seed=0)] == [[], []]


def test_equal_seeds_draw_alike() -> None:
    one, same, other = (np.array(list(cluster_bootstrap(9, 20, seed=seed))) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_the_percentile_interval_leaves_out_what_does_not_exist() -> None:
    drawn = np.append(np.arange(101) / 100, np.nan)
    found = percentile_interval(0.5, drawn, 0.9)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.05, 0.95))
    assert percentile_interval(0.5, np.array([np.nan]), 0.9) == Estimate(0.5, math.nan, math.nan)
    assert percentile_interval(np.nan, drawn, 0.9) == Estimate(math.nan, math.nan, math.nan)


def test_a_mean_is_resampled_by_unit_and_each_brings_all_its_values() -> None:
    values, units = np.array([0.0, 0.0, 0.0, 1.0]), np.array([5, 5, 5, 9])
    found = mean_interval(values, units)  # of two units: both of the first, both of the second, or one of each
    assert (found.value, found.low, found.high) == (0.25, 0.0, 1.0)
    half = mean_interval(values, units, level=0.4)
    assert (half.low, half.high) == (0.25, 0.25)
    many = mean_interval(np.random.default_rng(0).normal(size=400), np.arange(400), seed=1)
    assert (many.high - many.low) / 2 == pytest.approx(1.96 / 20, rel=0.1)


def test_a_mean_without_values_or_of_one_unit_has_no_interval() -> None:
    assert mean_interval(np.array([np.nan, np.nan]), np.arange(2)) == Estimate(math.nan, math.nan, math.nan)
    assert mean_interval(np.array([0.25, 0.75]), np.zeros(2)) == Estimate(0.5, math.nan, math.nan)
    left_out = mean_interval(np.array([0.25, np.nan, 0.75]), np.arange(3))
    assert left_out == mean_interval(np.array([0.25, 0.75]), np.arange(2))
