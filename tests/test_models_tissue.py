import numpy as np
import pytest
from scipy import ndimage

from mriscope.models.tissue import (
    BINS,
    MAP_WIDTH,
    Regions,
    _fill_holes,
    describe,
    normalize_volume,
    region_histograms,
    tissue_map,
    white_matter_level,
)

FLUID, GREY, WHITE = 60, 140, 200
RNG = np.random.default_rng(0)


def brain(fluid=20, white=WHITE, slices=4):
    """A white disc of radius 50 with a fluid square in its middle, and a grey rim of 5."""
    y, x = np.mgrid[:128, :128] - 63.5
    image = np.select([np.hypot(y, x) < 45, np.hypot(y, x) < 50], [white, GREY * white // WHITE], 0)
    image[(np.abs(y) < fluid / 2) & (np.abs(x) < fluid / 2)] = FLUID * white // WHITE
    return np.broadcast_to(image.astype(np.uint8), (slices, 128, 128)).copy()


def test_the_level_of_white_matter_is_the_mode_of_what_is_bright():
    noisy = np.where(brain()[0] > 0, np.clip(brain()[0] + RNG.normal(0, 4, (128, 128)), 1, 255), 0).astype(np.uint8)
    assert white_matter_level(brain()[0]) == WHITE
    assert white_matter_level(noisy) == pytest.approx(WHITE, abs=3)
    assert white_matter_level(np.zeros((8, 8), np.uint8)) == 1


def test_slices_stretched_one_by_one_become_alike():
    images = brain()
    images[1] = images[1] * 0.7
    volume = normalize_volume(images)
    assert np.median(volume[images > 0.9 * images.max()]) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(volume[1], volume[0], atol=0.02)
    assert (volume[images == 0] == 0).all()


def test_a_smooth_gain_is_taken_out():
    ramp = 1 + 0.08 * np.linspace(-1, 1, 128)
    white = normalize_volume((brain() * ramp).astype(np.uint8))[brain() == WHITE]
    assert white.std() < 0.01


def test_the_share_of_each_tissue_is_its_area():
    images = brain(fluid=20)
    shares = np.square(region_histograms(images / np.float32(WHITE), Regions(1, 1)))
    expected = np.zeros(BINS)
    for level in (0, FLUID, GREY, WHITE):  # bins of a tenth of white matter
        expected[int(level / WHITE * 10 + 1e-6)] = (images[0] == level).mean()
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_regions_are_counted_apart():
    images = brain(slices=4)
    images[2:] = brain(fluid=40, slices=2)
    shares = np.square(region_histograms(images / np.float32(WHITE), Regions(2, 2))).reshape(2, 2, BINS)
    np.testing.assert_allclose(shares.sum(axis=2), 1, rtol=1e-5)
    lower, upper = shares[:, 0, 3]  # fluid in the inner ring, of radius 0.42 times half the side
    assert upper / lower == pytest.approx(40**2 / 20**2, rel=0.01)


def test_pairs_hold_the_plain_histogram_as_their_margin():
    volume = normalize_volume(brain())
    pairs = np.square(region_histograms(volume, Regions(2, 2, 1 / 32))).reshape(4, BINS, BINS)
    plain = np.square(region_histograms(volume, Regions(2, 2))).reshape(4, BINS)
    np.testing.assert_allclose(pairs.sum(axis=2), plain, atol=1e-6)


@pytest.mark.parametrize("images", [np.zeros((3, 32, 32), np.uint8), brain(slices=1)])
def test_an_empty_or_single_slice_is_described_by_finite_numbers(images):
    assert np.isfinite(describe(images, [Regions(8, 4, 1 / 32)])).all()


def test_a_map_of_tissue_is_coarse_and_of_one_size():
    assert tissue_map(np.ones((5, 40, 40), np.float32)) == pytest.approx(np.ones(MAP_WIDTH), abs=1e-5)
    assert tissue_map(np.full((32, 128, 128), 0.3, np.float32)) == pytest.approx(np.zeros(MAP_WIDTH), abs=1e-6)
    half = np.zeros((32, 128, 128), np.float32)
    half[:, :, 64:] = 1
    seen = tissue_map(half).reshape(8, 16, 16)
    np.testing.assert_allclose(seen, np.broadcast_to(seen[0, 0], seen.shape), atol=1e-6)
    assert seen[0, 0, 8] == pytest.approx(0.5, abs=0.03)  # the first column right of the edge
    assert seen[0, 0, [0, 4]].max() < 1e-3 < 0.999 < seen[0, 0, [12, 15]].min()


def test_holes_are_those_that_scipy_fills():
    masks = np.random.default_rng(0).random((5, 24, 20)) < 0.6
    masks[0], masks[1] = True, False
    expected = np.stack([np.asarray(ndimage.binary_fill_holes(one)) for one in masks])
    assert (expected != masks).any()
    np.testing.assert_array_equal(_fill_holes(masks), expected)
