import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mriscope.audit import similarity
from mriscope.audit.similarity import block_means, nearest, neighbours, standardised, unit
from mriscope.data.slices import SliceSet
from mriscope.errors import DataError


def noise(count: int, side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), np.uint8)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(2, 20), st.integers(1, 50), st.integers(1, 9))
def test_the_nearest_are_those_of_numpys_correlation(count: int, side: int, k: int, rows: int) -> None:
    images = noise(count, side, seed=count)
    expected = np.corrcoef(images.reshape(count, -1))
    np.fill_diagonal(expected, -np.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "_ROWS", rows)  # blocks that do not fit the count
        found, index = nearest(images, k=k)
    assert found.shape == index.shape == (count, min(k, count - 1))
    np.testing.assert_allclose(found, -np.sort(-expected, axis=1)[:, : found.shape[1]], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(expected, index, 1), found, atol=1e-5)


def test_larger_images_are_compared_by_block_means():
    images = noise(6, 64)
    means = images.reshape(6, 32, 2, 32, 2).mean((2, 4)).reshape(6, -1)
    rows = standardised(images).numpy()
    np.testing.assert_allclose(rows @ rows.T, np.corrcoef(means), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 70), st.integers(2, 70), st.integers(2, 8), st.integers(2, 8))
def test_block_means_are_those_of_torch_to_the_last_bit(height: int, width: int, down: int, across: int) -> None:
    images = np.random.default_rng(height).integers(0, 256, (3, height * down, width * across), np.uint8)
    for size in ((height, width), (down, across)):  # blocks of one size, and often overlapping ones
        expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(images).float()[:, None], size)[:, 0]
        assert torch.equal(block_means(images, size), expected)


def test_block_means_of_the_largest_slices_do_not_overflow():
    images = np.full((1, 1024, 4), 255, np.uint8)
    for height in (4, 2):  # sums of 256 rows are the most that 16 bits hold
        assert block_means(images, (height, 1)).tolist() == [[[255.0]] * height]


def test_neighbours_in_another_set():
    images = noise(9)
    similarities, index = nearest(images[[7, 2]], images)
    assert index.ravel().tolist() == [7, 2]
    np.testing.assert_allclose(similarities, 1, atol=1e-5)


def test_a_blank_slice_is_like_no_other():
    images = noise(3)
    images[1] = 200
    assert nearest(images, k=2)[0][1].tolist() == [0, 0]


def test_brightness_and_contrast_change_nothing():
    images = noise(1) // 4
    assert nearest(images, (3 * images + 20).astype(np.uint8))[0][0, 0] == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_compared():
    with pytest.raises(DataError, match="uint8"):
        nearest(np.zeros((2, 4, 4)))
    with pytest.raises(DataError, match="resize one"):
        nearest(noise(2, 4), noise(2, 8))


def test_a_search_in_clusters_finds_the_neighbours_of_a_whole_search(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    walk = torch.randn(40, 50, 64, generator=torch.Generator().manual_seed(0)).cumsum(1)
    rows = unit(walk.reshape(-1, 64))
    _, whole = neighbours(rows, 2)
    monkeypatch.setattr(similarity, "SEARCHED_WHOLE", 100)
    similarity_found, found = neighbours(rows, 2)
    assert found.shape == whole.shape == similarity_found.shape
    assert np.mean([len(set(a) & set(b)) / 2 for a, b in zip(found.tolist(), whole.tolist(), strict=True)]) > 0.99


def test_components_find_the_neighbours_that_all_pixels_find(
    phantom_brains: SliceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.concatenate([phantom_brains.images, phantom_brains.images[:9]])
    whole, rows = nearest(images, None, 40)
    monkeypatch.setattr(similarity, "_COMPARED_WHOLE", 0)
    reduced, found = nearest(images, None, 40)
    np.testing.assert_allclose(reduced[:, :16], whole[:, :16], atol=2e-3)  # a slice that is missed has a near one
    np.testing.assert_allclose(reduced, whole, atol=2e-2)
    assert (found[:9, 0] == np.arange(768, 777)).all()  # copies
    assert (found[:, :8] == rows[:, :8]).mean() > 0.98
    assert (np.diff(reduced, axis=1) <= 0).all()
