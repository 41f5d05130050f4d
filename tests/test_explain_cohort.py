"""mriscope.explain.cohort: means per class and position, with intervals over subjects."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mriscope.data.slices import UNKNOWN
from mriscope.errors import MriscopeError
from mriscope.evaluation.intervals import bootstrap
from mriscope.evaluation.metrics import accuracy
from mriscope.evaluation.predictions import Predictions
from mriscope.explain.cohort import cohort_maps, mean_over_subjects, region_shares


def some_maps(count: int, size: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed))


def test_the_groups_and_their_means() -> None:
    maps = some_maps(7)
    labels, positions = np.array([2, 2, 0, 2, 0, 2, 2]), np.array([5, 5, 5, 6, 5, 5, 6])
    found = cohort_maps(maps, labels, positions, torch.tensor([1, 1, 2, 1, 2, 3, 4]), resamples=50)
    assert list(found) == [(0, 5), (2, 5), (2, 6)]
    torch.testing.assert_close(found[2, 5].mean, maps[[0, 1, 5]].mean(0))
    torch.testing.assert_close(found[2, 6].mean, maps[[3, 6]].mean(0))
    assert [(one.n_slices, one.n_subjects) for one in found.values()] == [(2, 1), (3, 2), (2, 2)]
    assert found[0, 5].low.isnan().all()  # one subject says nothing of others
    assert found[0, 5].high.isnan().all()
    assert (found[2, 5].low <= found[2, 5].mean).all()
    assert (found[2, 5].mean <= found[2, 5].high).all()


def test_two_subjects_have_the_bounds_of_all_their_resamples() -> None:
    maps = torch.stack([torch.full((2, 2), value) for value in (0.1, 0.3, 0.8)])
    people = np.array([4, 4, 9])
    found = cohort_maps(maps, np.zeros(3, int), np.zeros(3, int), people)[0, 0]
    # Draws: twice the first (mean 0.2), one of each (0.4, three slices), twice the second (0.8).
    torch.testing.assert_close(found.low, torch.full((2, 2), 0.2))
    torch.testing.assert_close(found.mean, torch.full((2, 2), 0.4))
    torch.testing.assert_close(found.high, torch.full((2, 2), 0.8))


def test_each_pixel_has_the_interval_of_its_own_numbers_however_many_there_are() -> None:
    maps, people = some_maps(12, 80), np.repeat(np.arange(4), 3)
    found = cohort_maps(maps, np.ones(12, int), np.ones(12, int), people, resamples=1000, seed=5)[1, 1]
    for row, column in ((0, 0), (3, 7), (79, 79)):
        one = mean_over_subjects(maps[:, row, column], people, resamples=1000, seed=5)
        assert [found.low[row, column], found.high[row, column]] == pytest.approx([one.low, one.high])


@pytest.mark.parametrize("known", [True, False])
def test_a_mean_has_the_interval_that_evaluation_gives_it(known: bool) -> None:
    right = np.random.default_rng(3).random(60) < 0.7
    people = np.repeat(np.arange(12), 5) if known else np.full(60, UNKNOWN)
    scores = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    predictions = Predictions.of(np.zeros(60, int), scores, subjects=people, class_names=("a", "b"))
    other = bootstrap(predictions, {"": accuracy}, resamples=500, seed=2)[""]
    found = mean_over_subjects(right, people, resamples=500, seed=2)
    assert [found.value, found.low, found.high] == pytest.approx([other.value, other.low, other.high])


def test_what_does_not_exist_is_left_out_of_a_mean() -> None:
    people = np.arange(6)
    holes = mean_over_subjects(np.array([0.1, np.nan, 0.3, 0.5, np.nan, 0.9]), people)
    assert holes == mean_over_subjects(np.array([0.1, 0.3, 0.5, 0.9]), people[:4])
    nothing = mean_over_subjects(np.array([np.nan, np.nan]), people[:2])
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    alone = mean_over_subjects(np.array([0.2, 0.4]), np.array([7, 7]))
    assert alone.value == pytest.approx(0.3)
    assert np.isnan([alone.low, alone.high]).all()


def test_unknown_subjects_are_said() -> None:
    found = cohort_maps(some_maps(4), np.zeros(4, int), np.zeros(4, int), np.array([0, 1, 2, UNKNOWN]))[0, 0]
    assert found.n_subjects is None
    assert (found.low < found.high).all()


def test_shares_of_a_region() -> None:
    maps = torch.tensor([[[1.0, 3.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    region = np.array([[True, True], [False, False]])
    assert region_shares(maps, region).tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    own = torch.tensor([[[True, False], [False, False]]] * 2)
    assert region_shares(maps, own).tolist() == pytest.approx([0.125, np.nan], nan_ok=True)


ONE = np.zeros(1, int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cohort_maps(some_maps(2), ONE, ONE, ONE), r"\(2, 3, 3\), with 1 labels"),
        (lambda: cohort_maps(some_maps(1), ONE, np.zeros(2, int), ONE), "2 positions"),
        (lambda: cohort_maps(some_maps(1) * torch.nan, ONE, ONE, ONE), "not finite"),
        (lambda: cohort_maps(some_maps(1), ONE, ONE, ONE, resamples=0), "resamples is 0"),
        (lambda: mean_over_subjects(np.zeros(2), ONE), "subjects"),
        (lambda: mean_over_subjects(np.zeros(1), ONE, level=1), "level 1"),
        (lambda: region_shares(some_maps(2), np.zeros((3, 3))), "float64"),
        (lambda: region_shares(some_maps(2), np.zeros((2, 2), np.bool_)), r"\(2, 2\)"),
        (lambda: region_shares(-some_maps(2), np.zeros((3, 3), np.bool_)), "negative"),
    ],
)
def test_mistakes_are_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(MriscopeError, match=message):
        call()
