"""Levels and links whose values are known."""

import numpy as np
import pytest
from scipy.stats import gumbel_r

from mriscope.audit.linking import FEWEST, connected, gumbel_level, link_slices, ranked_groups
from mriscope.audit.similarity import standardised
from mriscope.data.slices import SliceSet


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_the_level_of_the_best_follows_from_any_lower_rank(rank: int) -> None:
    """Of 200 Gumbel draws the highest is a Gumbel draw too, moved up by the scale times log 200."""
    location, scale, draws = 0.1, 0.02, 200
    every = gumbel_r.rvs(location, scale, size=(20_000, draws), random_state=0)
    values = np.sort(every, axis=1)[:, -rank]
    expected = gumbel_r.isf(0.01 / 6400, location + scale * np.log(draws), scale)
    assert gumbel_level(values, rank, 6400, 0.01) == pytest.approx(expected, rel=0.03)


def test_few_draws_give_no_level():
    values = np.linspace(0, 1, FEWEST)
    assert gumbel_level(values[1:], 1, 10, 0.01) == np.inf
    assert np.isfinite(gumbel_level(values, 1, 10, 0.01))


def test_the_level_rises_with_the_draws_and_falls_with_the_false_links_allowed():
    values = np.random.default_rng(0).random(100)
    levels = [gumbel_level(values, 3, count, expected) for count, expected in ((10, 1.0), (100, 1.0), (100, 0.1))]
    assert levels[0] < levels[1] < levels[2]
    assert levels[2] - levels[1] == pytest.approx(levels[1] - levels[0])


def test_groups_are_numbered_by_their_first_members():
    pairs = np.array([[5, 1], [1, 4], [2, 3], [3, 2]])
    assert connected(pairs, 7).tolist() == [0, 1, 2, 2, 1, 1, 3]
    assert connected(np.empty((0, 2), np.int64), 3).tolist() == [0, 1, 2]
    assert connected(np.empty((0, 2), np.int64), 0).tolist() == []


def test_the_nearest_of_other_groups_by_rank():
    groups = np.array([0, 0, 1, 1, 2, 3])
    index = np.array([[1, 2, 3, 4, 5], [2, 3, 0, 1, 4]])
    similarity = np.array([[0.9, 0.8, 0.7, 0.6, 0.5], [0.9, 0.8, 0.7, 0.6, -np.inf]], np.float32)
    own = np.array([0, 3])
    found = [ranked_groups(similarity, index, groups, own, rank) for rank in (1, 2, 3)]
    # of the first row other groups are 1, 2 and 3; of the second 1 and 0, as nothing was found of the last
    for values, expected in zip(found, ([0.8, 0.9], [0.6, 0.7], [0.5]), strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_noise_has_no_links_and_few_slices_have_no_level():
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32), np.uint8)
    links = link_slices(images, standardised(images))
    assert links.groups.tolist() == list(range(200))
    assert not len(links.pairs)
    assert np.isnan(links.weakest)
    few = images[: FEWEST - 1]
    links = link_slices(few, standardised(few))
    assert (links.level, links.groups.tolist()) == (np.inf, list(range(FEWEST - 1)))


def test_links_stay_within_a_brain_and_what_they_say_of_the_level_holds(phantom_brains: SliceSet):
    slices = phantom_brains
    links = link_slices(slices.images, standardised(slices.images))
    assert (slices.subjects[links.pairs[:, 0]] == slices.subjects[links.pairs[:, 1]]).all()
    assert links.strongest < links.level <= links.weakest
    assert links.groups.tolist() == connected(links.pairs, len(slices)).tolist()


def test_mirrored_phantom_brains_are_put_with_their_originals_or_left_in_doubt(phantom_brains: SliceSet):
    some = phantom_brains[phantom_brains.subjects < 4]
    images = np.concatenate([phantom_brains.images, some.images[:, :, ::-1]])
    truth = np.concatenate([phantom_brains.subjects, some.subjects])
    pairs = link_slices(images, standardised(images)).pairs
    assert (truth[pairs[:, 0]] == truth[pairs[:, 1]]).all()
