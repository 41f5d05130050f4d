"""mriscope.explain.metrics.cohort: means per class and position, with intervals over subjects."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from mriscope.data.slices import UNKNOWN
from mriscope.errors import MriscopeError
from mriscope.evaluation.intervals import bootstrap
from mriscope.evaluation.metrics import accuracy
from mriscope.evaluation.predictions import Predictions
from mriscope.explain.metrics.cohort import cohort_maps


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


@pytest.mark.parametrize("known", [True, False])
def test_each_pixel_has_the_interval_that_evaluation_gives_it_however_many_there_are(known: bool) -> None:
    right = np.random.default_rng(3).random((60, 3)) < 0.7
    people = np.repeat(np.arange(12), 5) if known else np.full(60, UNKNOWN)
    maps = torch.from_numpy(np.tile(right[:, None, :], (1, 2000, 1))).float()  # more pixels than are resampled at once
    found = cohort_maps(maps, np.ones(60, int), np.ones(60, int), people, resamples=1000, seed=2)[1, 1]
    for column in range(3):
        scores = np.where(right[:, column, None], [0.9, 0.1], [0.1, 0.9])
        predictions = Predictions.of(np.zeros(60, int), scores, subjects=people, class_names=("a", "b"))
        mine = partial(accuracy)  # a metric of the caller's has the percentile bootstrap, as pixels have
        other = bootstrap(predictions, {"": mine}, resamples=1000, seed=2)[""]
        for row in (0, 1999):
            one = [float(bound[row, column]) for bound in (found.mean, found.low, found.high)]
            assert one == pytest.approx([other.value, other.low, other.high])


def test_unknown_subjects_are_said() -> None:
    found = cohort_maps(some_maps(4), np.zeros(4, int), np.zeros(4, int), np.array([0, 1, 2, UNKNOWN]))[0, 0]
    assert found.n_subjects is None
    assert (found.low < found.high).all()


ONE = np.zeros(1, int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cohort_maps(some_maps(2), ONE, ONE, ONE), r"\(2, 3, 3\), with 1 labels"),
        (lambda: cohort_maps(some_maps(1), ONE, np.zeros(2, int), ONE), "2 positions"),
        (lambda: cohort_maps(some_maps(1) * torch.nan, ONE, ONE, ONE), "not finite"),
        (lambda: cohort_maps(some_maps(1), ONE, ONE, ONE, resamples=0), "resamples is 0"),
        (lambda: cohort_maps(some_maps(1), ONE, ONE, ONE, level=1), "level 1"),
    ],
)
def test_mistakes_are_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(MriscopeError, match=message):
        call()
