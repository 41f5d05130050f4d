import kornia.enhance
import kornia.geometry.transform as kornia_geometry
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mriscope.data.augmentation import (
    BACKGROUND,
    BIAS_ORDERS,
    TISSUE,
    add_gaussian_noise,
    add_rician_noise,
    affine_maps,
    apply_bias_field,
    augment,
    change_brightness_contrast,
    change_gamma,
    crop_maps,
    cut_out,
    warp,
)
from mriscope.data.batches import batch, scaled
from mriscope.data.readers import read
from mriscope.errors import RecipeError
from mriscope.recipe import AugmentationSettings, make_recipe, read_recipe, write_recipe

ALWAYS = {"probability": 1}
GEOMETRY = {
    "flip": 0.5,
    "affine": {**ALWAYS, "rotation": 15, "shift": 0.05, "scale": 0.05},
    "crop": ALWAYS,
}
INTENSITY = {
    "bias_field": ALWAYS,
    "brightness_contrast": {**ALWAYS, "brightness": 0.2, "contrast": 0.2},
    "gamma": ALWAYS,
    "gaussian_noise": {**ALWAYS, "sigma": [0.01, 0.1]},
    "coarse_dropout": ALWAYS,
}
EVERY = {**GEOMETRY, **INTENSITY, "rician_noise": {**ALWAYS, "sigma": [0.01, 0.1]}}
ONE_EACH = [pytest.param({name: options}, id=name) for name, options in EVERY.items()]


def make(options) -> AugmentationSettings:
    return AugmentationSettings.model_validate(options)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def assert_near(found: torch.Tensor, wanted: torch.Tensor, within: float = 1e-6) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= within


def flat(value: float, n: int = 1, side: int = 32) -> torch.Tensor:
    return torch.full((n, 1, side, side), value)


def random_slices(*shape: int, low: float = 0.0) -> torch.Tensor:
    return low + (1 - low) * torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def brains() -> torch.Tensor:
    slices = read("phantom:subjects=4,slices=4,size=64")
    return scaled(batch(slices, np.arange(16), torch.device("cpu"))[0], "unit")


# Geometry


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 56)])
def test_affine_agrees_with_kornia(height, width):
    slices = random_slices(5, height, width).double()
    rotation, scale = numbers(0, 15, -15, 90, 33).double(), numbers(1, 1.05, 0.95, 1, 0.8).double()
    shift = torch.tensor([[0, 0], [0.05, 0], [0, -0.05], [0.1, 0.2], [-0.3, 0.1]], dtype=torch.float64)
    sides = torch.tensor([width, height], dtype=torch.float64)
    centre = ((sides - 1) / 2).expand(5, 2)
    maps = kornia_geometry.get_affine_matrix2d(shift * sides, centre, scale[:, None].expand(5, 2), -rotation)
    theirs = kornia_geometry.warp_affine(slices[:, None], maps[:, :2], (height, width), align_corners=True)[:, 0]
    assert_near(warp(slices, affine_maps(rotation, shift, scale, width / height)), theirs, 1e-5)


def test_affine_in_single_precision_agrees_with_kornia_in_double(brains):
    rotation, scale, shift = torch.linspace(-20, 20, 16), torch.linspace(0.8, 1.2, 16), random_slices(16, 2) * 0.2 - 0.1
    centre = torch.full((16, 2), 31.5).double()
    maps = kornia_geometry.get_affine_matrix2d(
        shift.double() * 64, centre, scale.double()[:, None].expand(16, 2), -rotation.double()
    )
    theirs = kornia_geometry.warp_affine(brains.double(), maps[:, :2], (64, 64), align_corners=True)[:, 0]
    assert_near(warp(brains[:, 0], affine_maps(rotation, shift, scale)), theirs, 1e-5)


def test_a_quarter_turn_is_counter_clockwise():
    slices = random_slices(1, 6, 6)
    turned = warp(slices, affine_maps(numbers(90), torch.zeros(1, 2), numbers(1)))
    assert_near(turned, slices.rot90(1, (1, 2)), 1e-5)


def test_a_shift_by_a_pixel_goes_right_and_down_and_lets_black_in():
    slices = numbers(1, 2, 3, 4).reshape(1, 2, 2)
    right, down = (warp(slices, affine_maps(numbers(0), shift[None], numbers(1))) for shift in torch.eye(2) / 2)
    assert_near(right, numbers(0, 1, 0, 3).reshape(1, 2, 2))
    assert_near(down, numbers(0, 0, 1, 2).reshape(1, 2, 2))


def test_half_the_size_leaves_a_black_frame():
    halved = warp(torch.ones(1, 8, 8), affine_maps(numbers(0), torch.zeros(1, 2), numbers(0.5)))
    assert_near(halved, F.pad(torch.ones(1, 4, 4), (2, 2, 2, 2)))


def test_a_crop_agrees_with_kornia_between_the_same_pixels():
    slices = random_slices(3, 40, 40).double()
    area, ratio = numbers(0.5, 0.9, 0.25).double(), numbers(1.2, 0.95, 0.5).double()
    place = torch.tensor([[0.5, 0.5], [0, 1], [0.3, 0.8]], dtype=torch.float64)
    width, height = (area * ratio).sqrt() * 40, (area / ratio).sqrt() * 40
    left, top = (40 - width) * place[:, 0], (40 - height) * place[:, 1]
    # centres of the first and last pixels that the crop's 40 × 40 take from the slice
    x0, x1 = left + width / 80 - 0.5, left + width - width / 80 - 0.5
    y0, y1 = top + height / 80 - 0.5, top + height - height / 80 - 0.5
    corners = torch.stack([torch.stack(point, 1) for point in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], 1)
    theirs = kornia_geometry.crop_and_resize(slices[:, None], corners, (40, 40), align_corners=True)[:, 0]
    assert_near(warp(slices, crop_maps(area, ratio, place)), theirs, 1e-5)


def test_a_crop_of_whole_pixels_is_that_part_resized():
    slices = random_slices(1, 32, 32).double()
    cropped = warp(slices, crop_maps(numbers(0.25), numbers(1), torch.tensor([[0.25, 0.5]])))  # from row 8, column 4
    part = F.interpolate(slices[:, None, 8:24, 4:20], size=32, mode="bilinear", align_corners=False)[:, 0]
    assert_near(cropped[:, 1:-1, 1:-1], part[:, 1:-1, 1:-1])


def test_a_crop_of_everything_changes_nothing():
    slices = random_slices(1, 20, 30)
    whole = warp(slices, crop_maps(numbers(1), numbers(1), torch.rand(1, 2)))
    assert_near(whole, slices, 1e-5)


def ramps(n: int, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices that hold their own coordinate, x and y from 0 to 1: a warped one shows where its pixels come from."""
    x = ((torch.arange(side, dtype=torch.float32) + 0.5) / side).expand(n, 1, side, side)
    return x.contiguous(), x.mT.contiguous()


def drawn_maps(options, n: int, side: int = 64) -> torch.Tensor:
    """The (n, 2, 3) maps that augment drew, read off at the centre, where ramps are exactly linear."""
    x, y = (augment(ramp, make(options), seed=5)[:, 0].double() for ramp in ramps(n, side))
    low, high, step = side // 2 - 8, side // 2 + 8, 16 / side
    rows = [
        torch.stack(
            [
                (taken[:, low, high] - taken[:, low, low]) / step,
                (taken[:, high, low] - taken[:, low, low]) / step,
                taken[:, low : high + 1, low : high + 1].mean((1, 2)) - 0.5,
            ],
            1,
        )
        for taken in (x, y)
    ]
    return torch.stack(rows, 1)


def assert_uniform(values: torch.Tensor, low: float, high: float, slack: float = 1e-3) -> None:
    """`slack` is how far beyond the range a value may be read, as a share of the range."""
    assert values.min() >= low - slack * (high - low)
    assert values.max() <= high + slack * (high - low)
    assert stats.kstest(values.numpy(), "uniform", (low, high - low)).pvalue > 1e-3


def test_rotation_shift_and_scale_are_drawn_evenly_within_their_reach():
    maps = drawn_maps({"affine": {**ALWAYS, "rotation": 15, "shift": 0.05, "scale": 0.1}}, n=600)
    turn = maps[:, :, :2]
    scale = turn.det().rsqrt()
    assert_uniform(torch.rad2deg(torch.atan2(turn[:, 1, 0], turn[:, 0, 0])), -15, 15)
    assert_uniform(scale, 0.9, 1.1)
    # The ramps are read half a pixel beside the centre.
    beside = turn.sum(2) * 0.5 / 64
    shift = -torch.linalg.solve(turn, (maps[:, :, 2] - beside)[:, :, None])[:, :, 0]
    assert_uniform(shift[:, 0], -0.05, 0.05)
    assert_uniform(shift[:, 1], -0.05, 0.05)
    assert abs(np.corrcoef([shift[:, 0], shift[:, 1], scale]) - np.eye(3)).max() < 0.15


def test_crops_keep_their_area_and_stay_inside():
    maps = drawn_maps({"crop": {**ALWAYS, "area": [0.5, 1], "ratio": [0.75, 1.33]}}, n=600)
    width, height = maps[:, 0, 0], maps[:, 1, 1]
    assert_uniform(width * height, 0.5, 1)
    assert max(width.max(), height.max()) <= 1 + 1e-5
    assert (width / height).min() >= 0.75 - 1e-3
    assert (width / height).max() <= 1.33 + 1e-3
    assert ((width / height) < 0.9).float().mean() > 0.12
    assert ((width / height) > 1.1).float().mean() > 0.12
    offset = maps[:, :, 2] - torch.stack([width, height], 1) * 0.5 / 64
    assert (offset.abs() <= (1 - torch.stack([width, height], 1)) / 2 + 1e-3).all()


def test_crop_and_affine_are_one_warp_equal_to_one_after_the_other():
    crop = crop_maps(numbers(0.8), numbers(1.1), torch.tensor([[0.2, 0.9]]))
    affine = affine_maps(numbers(10), torch.tensor([[0.03, -0.02]]), numbers(0.97))
    x, _ = ramps(1)
    together, apart = warp(x[0], crop @ affine), warp(warp(x[0], crop), affine)
    inside = (slice(None), slice(12, -12), slice(12, -12))
    assert_near(together[inside], apart[inside], 1e-5)


def test_a_batch_is_cropped_first_and_then_turned():
    parts = {"affine": {**ALWAYS, "rotation": 30, "scale": 0.2}, "crop": {**ALWAYS, "area": [0.6, 0.8]}}
    both, affine, crop = (drawn_maps(options, n=20) for options in (parts, *({name: parts[name]} for name in parts)))
    # Reads of maps are half a pixel beside the centre; of the turns alone that does not matter.
    assert_near(both[:, :, :2], crop[:, :, :2] @ affine[:, :, :2], 1e-4)


def test_a_flip_swaps_left_and_right(brains):
    flipped = augment(brains, make({"flip": 1}), seed=0)
    assert torch.equal(flipped, kornia_geometry.hflip(brains))
    assert torch.equal(
        augment(numbers(0.1, 0.2, 0.3, 0.4).reshape(1, 1, 2, 2), make({"flip": 1}), 0).flatten(),
        numbers(0.2, 0.1, 0.4, 0.3),
    )


# Intensity


def test_gamma_agrees_with_kornia(brains):
    gamma = torch.linspace(0.5, 2, 16)
    theirs = kornia.enhance.adjust_gamma(brains, gamma)[:, 0]
    assert_near(change_gamma(brains[:, 0], gamma), theirs, 1e-5)


def test_brightness_agrees_with_kornia_where_all_is_brain():
    slices, brightness = random_slices(4, 16, 16, low=TISSUE), numbers(-0.2, 0, 0.1, 0.4)
    theirs = kornia.enhance.adjust_brightness(slices[:, None], brightness)[:, 0]
    ours = change_brightness_contrast(slices, brightness, torch.ones(4))
    assert_near(ours, theirs, 1e-5)


def test_contrast_spreads_about_the_mean_of_the_brain_alone():
    slices = numbers(0.2, 0.6, 0, 0).reshape(1, 2, 2)
    spread = change_brightness_contrast(slices, numbers(0), numbers(1.5))
    assert_near(spread.flatten(), numbers(0.1, 0.7, 0, 0))
    both = change_brightness_contrast(slices, numbers(0.1), numbers(0.5))
    assert_near(both.flatten(), numbers(0.4, 0.6, 0, 0))


def test_what_is_added_grows_from_background_to_tissue():
    levels = numbers(0, BACKGROUND, (BACKGROUND + TISSUE) / 2, TISSUE).reshape(1, 2, 2)
    wanted = levels.flatten() + numbers(0, 0, 0.1, 0.2)
    assert_near(change_brightness_contrast(levels, numbers(0.2), numbers(1)).flatten(), wanted)
    assert_near(add_gaussian_noise(levels, torch.full((1, 2, 2), 0.2)).flatten(), wanted)


def test_a_slice_without_a_brain_stays_as_it_is():
    empty = torch.full((1, 8, 8), 3 / 255)
    assert_near(change_brightness_contrast(empty, numbers(0.5), numbers(2)), empty)
    assert_near(apply_bias_field(empty, torch.ones(1, 9), numbers(0.9)), empty)


def test_a_bias_field_of_first_order_is_a_slope():
    slope = torch.zeros(1, 9)
    slope[0, BIAS_ORDERS.index((1, 0))] = 0.3
    field = apply_bias_field(torch.full((1, 4, 4), 0.5), slope, numbers(0.3))
    assert_near(field, 0.5 * numbers(0.7, 0.9, 1.1, 1.3).expand(1, 4, 4))


def test_a_bias_field_of_second_order_is_legendres():
    bowl = torch.zeros(1, 9)
    bowl[0, BIAS_ORDERS.index((0, 2))] = 2
    field = apply_bias_field(torch.full((1, 4, 4), 0.5), bowl, numbers(0.4))
    at_a_quarter, at_three_quarters = (3 * 0.25**2 - 1) / 2, (3 * 0.75**2 - 1) / 2
    low, high = 0.5 * (1 - 0.4), 0.5 * (1 - 0.4 * at_three_quarters / at_a_quarter)
    assert_near(field, numbers(high, low, low, high)[None, :, None].expand(1, 4, 4))


def test_bias_fields_reach_their_strength_within_the_brain(brains):
    slices, strength = brains[:, 0] * 0.5, torch.linspace(0.1, 0.9, 16)  # half, so that nothing is clipped
    gain = apply_bias_field(slices, random_slices(16, 9) * 2 - 1, strength) / slices
    reached = torch.where(slices > 0, gain - 1, 0).abs().amax((1, 2))
    assert_near(reached, strength, 1e-4)


def test_bias_fields_differ_in_shape_and_lean_nowhere():
    gain = augment(flat(0.5, 400), make({"bias_field": {**ALWAYS, "strength": 0.4}}), 0)[:, 0] / 0.5 - 1
    shape = gain / gain.abs().amax((1, 2), keepdim=True)
    assert shape.std(dim=0).min() > 0.1
    assert shape.mean(dim=0).abs().max() < 0.1


def test_drawn_strengths_of_bias_fields_are_even():
    gain = augment(flat(0.5, 400), make({"bias_field": {**ALWAYS, "strength": 0.4}}), 0) / 0.5
    assert_uniform((gain - 1).abs().amax((1, 2, 3)), 0, 0.4)


def test_drawn_brightness_contrast_and_gamma_are_even():
    halves = torch.cat([flat(0.4, 500, 8), flat(0.6, 500, 8)], dim=3)
    changed = augment(halves, make({"brightness_contrast": {**ALWAYS, "brightness": 0.1, "contrast": 0.3}}), 0)
    brightness, contrast = changed.mean((1, 2, 3)) - 0.5, (changed[:, 0, 0, -1] - changed[:, 0, 0, 0]) / 0.2
    assert_uniform(brightness, -0.1, 0.1)
    assert_uniform(contrast, 0.7, 1.3)
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.15
    gamma = augment(flat(0.5, 500, 4), make({"gamma": {**ALWAYS, "range": [0.5, 2]}}), 0)[:, 0, 0, 0].log2().neg()
    assert_uniform(gamma, 0.5, 2)


# Noise


def test_gaussian_noise_has_its_sigma():
    noisy = augment(flat(0.5, 20, 128), make({"gaussian_noise": {**ALWAYS, "sigma": [0.05, 0.05]}}), 0)
    assert abs(noisy.mean() - 0.5) < 5e-4
    assert abs(noisy.std() - 0.05) < 5e-4
    per_slice = augment(flat(0.5, 300, 64), make({"gaussian_noise": {**ALWAYS, "sigma": [0.01, 0.05]}}), 0)
    assert_uniform(per_slice.std(dim=(1, 2, 3)), 0.01, 0.05, slack=0.08)


@pytest.mark.parametrize("signal", [0.0, 0.05, 0.5])
def test_rician_noise_has_the_moments_of_a_magnitude_image(signal):
    sigma = 0.05
    noisy = augment(flat(signal, 20, 128), make({"rician_noise": {**ALWAYS, "sigma": [sigma, sigma]}}), 0).double()
    mean, variance = stats.rice.stats(signal / sigma, scale=sigma)
    assert abs(noisy.mean() - mean) < 3e-4
    assert abs(noisy.var() - variance) < 2e-5
    assert abs((noisy**2).mean() - (signal**2 + 2 * sigma**2)) < 2e-4


def test_rician_noise_by_hand():
    noisy = add_rician_noise(numbers(0, 0.2, 0.9).reshape(1, 1, 3), numbers(0.3, 0.1, 0.3).reshape(1, 1, 3),
                             numbers(0.4, -0.4, 0).reshape(1, 1, 3))  # fmt: skip
    assert_near(noisy.flatten(), numbers(0.5, 0.5, 1))


# Holes


def test_holes_by_hand():
    holes = cut_out(torch.ones(2, 3, 4), torch.tensor([[0, 1], [3, 1]]), torch.tensor([[0, 2], [0, 1]]), size=2)
    assert holes[0].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]
    assert holes[1].tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1]]


def test_a_hole_is_a_whole_square_anywhere_in_the_slice():
    black = augment(flat(1, 500, 16), make({"coarse_dropout": {**ALWAYS, "holes": 1, "size": 5}}), 0)[:, 0] == 0
    rows, columns = black.any(2), black.any(1)
    assert (black.sum((1, 2)) == 25).all()
    assert (rows.sum(1) == 5).all()
    assert (columns.sum(1) == 5).all()
    for first in (rows.int().argmax(1), columns.int().argmax(1)):
        assert stats.chisquare(np.bincount(first, minlength=12)).pvalue > 1e-3  # rows 0 to 11, each as often


def test_one_to_n_holes_are_drawn_equally_often():
    options = {"coarse_dropout": {**ALWAYS, "holes": 4, "size": 1}}
    holes = (augment(flat(1, 1000, 128), make(options), 0) == 0).sum((1, 2, 3))
    counts = np.bincount(holes, minlength=5)  # two holes in one pixel are rarer than 1 in 2,000
    assert counts[0] == 0
    assert stats.chisquare(counts[1:5]).pvalue > 1e-3
    assert len(counts) == 5


def test_holes_as_large_as_a_slice_are_refused():
    with pytest.raises(RecipeError, match=r"coarse_dropout\.size: 32 leaves nothing of a slice with a side of 32"):
        augment(flat(1), make({"coarse_dropout": {"size": 32}}), 0)


# Chance


def test_with_all_off_the_images_come_back_themselves(brains):
    assert augment(brains, AugmentationSettings(), seed=3) is brains


@pytest.mark.parametrize("options", ONE_EACH[1:])  # but for the flip, which has two outcomes
def test_every_slice_draws_for_itself(options, brains):
    changed = augment(brains[:1].repeat(12, 1, 1, 1), make(options), seed=0)
    assert len({slice_.numpy().tobytes() for slice_ in changed}) == 12


@pytest.mark.parametrize("options", ONE_EACH)
def test_the_seed_decides(options, brains):
    first, again, other = (augment(brains, make(options), seed) for seed in (11, 11, 12))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", EVERY)
def test_as_many_slices_change_as_the_probability_says(name):
    options = 0.3 if name == "flip" else {**EVERY[name], "probability": 0.3}
    images = random_slices(1, 1, 16, 16, low=0.1).repeat(1500, 1, 1, 1)
    changed = (augment(images, make({name: options}), seed=4) != images).any((1, 2, 3))
    assert abs(changed.sum() - 450) < 4 * (1500 * 0.3 * 0.7) ** 0.5


@pytest.mark.parametrize("options", ONE_EACH)
def test_other_slices_of_the_batch_do_not_matter(options, brains):
    others = brains.clone()
    others[1:] = 0.5
    assert torch.equal(augment(brains, make(options), 2)[0], augment(others, make(options), 2)[0])


def test_switching_one_transform_on_leaves_the_draws_of_the_others(brains):
    plain = augment(brains, make(GEOMETRY), 6)
    holed = augment(brains, make({**GEOMETRY, "coarse_dropout": {"probability": 0.5}}), 6)
    assert not torch.equal(plain, holed)
    assert torch.equal(torch.where(holed == 0, holed, plain), holed)


def test_the_global_generator_is_left_alone(brains):
    before = torch.get_rng_state()
    augment(brains, make(EVERY), 0)
    assert torch.equal(torch.get_rng_state(), before)


# Whatever is drawn


def probabilities(options: dict) -> st.SearchStrategy:
    some = {name: st.none() | st.just(value) for name, value in options.items()}
    return st.fixed_dictionaries(some)


@settings(max_examples=40)
@given(options=probabilities(EVERY), seed=st.integers(0, 2**63 - 1), n=st.integers(1, 5), first=st.booleans())
def test_pixels_stay_in_range_and_images_as_they_were(options, seed, n, first):
    images = scaled((random_slices(n, 24, 32) * 255).to(torch.uint8), "unit")
    images = images.contiguous(memory_format=torch.contiguous_format).clone() if first else images
    before = images.clone()
    changed = augment(images, make(options), seed)
    assert changed.shape == images.shape
    assert changed.stride() == images.stride()
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(images, before)


@settings(max_examples=40)
@given(options=probabilities(INTENSITY), seed=st.integers(0, 2**32))
def test_the_background_stays_black(options, seed):
    images = random_slices(3, 1, 24, 24)
    images[images < 0.5] = 0
    assert (augment(images, make(options), seed)[images == 0] == 0).all()


def test_the_background_stays_black_when_brains_move(brains):
    moved, both = (augment(brains, make(options), 1) for options in (GEOMETRY, {**GEOMETRY, **INTENSITY}))
    assert (moved == 0).float().mean() > 0.3
    assert (both[moved == 0] == 0).all()


def test_autocast_changes_nothing(brains):
    plain = augment(brains, make(EVERY), 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(brains, make(EVERY), 0), plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_parameters(brains):
    options = make({**GEOMETRY, **{name: INTENSITY[name] for name in INTENSITY if name != "gaussian_noise"}})
    theirs = augment(brains.cuda(), options, 3).cpu()
    assert_near(theirs, augment(brains, options, 3), 1e-4)


# The recipe


def test_settings_come_from_a_recipe_and_go_back_to_one(tmp_path):
    recipe = make_recipe({"model": "m", "training": {"augmentation": EVERY}})
    (tmp_path / "recipe.yaml").write_text(write_recipe(recipe))
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe.training.augmentation == make(EVERY)
    assert make_recipe({"model": "m"}).training.augmentation == AugmentationSettings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affine": {"rotatoin": 5}}, "affine.rotatoin: unknown key; did you mean rotation?"),
        ({"flop": 0.5}, "flop: unknown key; did you mean flip?"),
        ({"flip": 1.5}, "flip: 1.5 should be less than or equal to 1"),
        ({"crop": {"area": [1, 0.8]}}, "crop.area: [1, 0.8] should be two numbers, the lower one first"),
        ({"crop": {"ratio": [1]}}, "crop.ratio: [1] should be two numbers, the lower one first"),
        ({"gamma": {"range": "wide"}}, "gamma.range: 'wide' should be two numbers, the lower one first"),
        ({"gamma": {"range": [0, 1]}}, "gamma.range.0: 0 should be greater than or equal to 0.1"),
        ({"coarse_dropout": {"holes": 0}}, "coarse_dropout.holes: 0 should be greater than or equal to 1"),
    ],
)
def test_unfit_settings_say_why(options, message):
    with pytest.raises(RecipeError) as caught:
        make_recipe({"model": "m", "training": {"augmentation": options}})
    assert f"training.augmentation.{message}" in str(caught.value)
