"""The steps of `mriscope prepare`, each against a planted truth."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from preparing import add_skull, bias_field, changed_volumes, position_errors, slice_correlations
from scipy import ndimage

from mriscope.data import anatomy
from mriscope.data.volumes import Volume
from mriscope.errors import DataError
from mriscope.preparation.bias import estimate_bias
from mriscope.preparation.grey import WHITE, to_grey, white_peak
from mriscope.preparation.grids import Grid, orient
from mriscope.preparation.options import PrepareOptions
from mriscope.preparation.registration import register
from mriscope.preparation.skull import LinkNet, find_brain
from mriscope.preparation.template import load_template
from mriscope.preparation.tiles import Tile
from mriscope.preparation.volume import MIDDLE, Prepared, prepare_volume

pytest.importorskip("SimpleITK")

PLAIN = PrepareOptions(strip="none", bias="none", registration="none")


@pytest.fixture(scope="module")
def coarse() -> Volume:
    """The template on 3 mm, as a volume that came without its skull."""
    grid = load_template()
    made = grid.resampled(grid.affine[:3, 3], grid.affine[:3, 3] + 2 * (np.array(grid.data.shape) - 1), 3.0)
    return Volume(np.where(made.data > 0.02, made.data, 0), made.affine)


@pytest.fixture(scope="module")
def plain(coarse: Volume) -> Prepared:
    return prepare_volume(coarse, PrepareOptions())


def test_template_lies_where_the_phantoms_anatomy_does() -> None:
    """Both come from one average, but were cut and reduced apart: they must agree in mm."""
    template = load_template()
    points = template.points()[:, 10:-10:3, 20:-20:3, 20:58:3]
    other = anatomy.sample(anatomy._read_template(), points.reshape(3, -1), step=1)
    assert np.corrcoef(other, template.sample(points).ravel())[0, 1] > 0.99


def test_changed_volume_gives_the_same_slices(coarse: Volume, plain: Prepared) -> None:
    """Given a skull, shaded, turned and re-gridded."""
    changed, matrix = changed_volumes(coarse)["all of it"]
    found = prepare_volume(changed, PrepareOptions())
    assert found.measures.skull == "removed"
    assert slice_correlations(plain, found).min() > 0.99
    assert position_errors(plain, found, matrix).max() < 1.5  # mm, half a voxel


def test_flipped_axes_change_nothing(coarse: Volume) -> None:
    flipped, _ = changed_volumes(coarse)["flipped axes"]
    options = PrepareOptions(strip="none", bias="none", registration="none", size=32)
    expected, found = prepare_volume(coarse, options), prepare_volume(flipped, options)
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.positions.tolist() == expected.positions.tolist()


def test_cropped_brain_is_known_to_have_no_skull(coarse: Volume) -> None:
    cropped, _ = changed_volumes(coarse)["cropped"]
    assert find_brain(orient(cropped, "header"), fine=False).is_stripped


def test_skull_is_told_where_it_stays(coarse: Volume) -> None:
    head = add_skull(orient(coarse, "header"))
    tiles: list[Tile] = []
    found = prepare_volume(head, PLAIN, tiles)
    assert found.measures.skull == "not stripped"
    assert found.measures.outside > 0.2
    assert found.measures.matrix == np.eye(4).tolist()
    assert [tile.step for tile in tiles] == ["as read"] * 2 + ["brain"] * 2 + ["on template"] * 2 + ["slice"] * 2


def test_network_finds_the_brain_below_a_skull(coarse: Volume) -> None:
    grid = orient(coarse, "header")
    head = orient(add_skull(grid), "header")
    brain = np.asarray(ndimage.binary_fill_holes(grid.data > 0), bool)
    extra = (np.array(head.data.shape) - grid.data.shape) // 2
    truth = np.pad(brain, [(side, side) for side in extra])
    found = find_brain(head, fine=False).brain
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.94


def test_network_takes_sides_that_32_divides() -> None:
    with torch.inference_mode():
        found = LinkNet()(torch.zeros(1, 1, 32, 64, 96))
    assert found.shape == (1, 2, 32, 64, 96)
    torch.testing.assert_close(found.sum(1), torch.ones(1, 32, 64, 96))


def test_planted_bias_field_is_found() -> None:
    template = load_template()
    grid = template.resampled(template.affine[:3, 3], -template.affine[:3, 3] * [1, 0.7, 1], 4.0)
    inside = grid.data > 0.1
    planted = bias_field(grid)
    plain = estimate_bias(grid, inside).data[inside]  # N4 finds a field in the template's own contrast too
    found = estimate_bias(grid.with_data(grid.data * planted), inside).data[inside]
    assert planted[inside].std() > 0.05
    assert np.corrcoef(np.log(found / plain), np.log(planted[inside]))[0, 1] > 0.95
    assert (found / plain / planted[inside]).std() < 0.25 * planted[inside].std()


def test_what_is_no_brain_is_refused() -> None:
    noise = np.random.default_rng(0).random((40, 44, 40)).astype(np.float32)
    with pytest.raises(DataError, match=r"not like the template after registration \(correlation"):
        register(Grid(noise, np.diag([4.0, 4, 4, 1])))
    with pytest.raises(DataError, match="one value throughout"):
        prepare_volume(Volume(np.ones((20, 20, 20)), np.eye(4)), PLAIN)


@pytest.mark.parametrize(
    ("voxels", "side", "words"),
    [
        (lambda brain: brain, 0.03, r"measures 1\.\d+ × .* mm, where a head has 100 to 300"),
        (lambda brain: brain, 45.0, "correct the voxel sizes in its header"),
        (lambda brain: np.full_like(brain, np.nan), 3.0, "one value throughout"),
        (lambda brain: brain[20:21, 20:21], 3.0, "shows no(thing| brain)"),
        (lambda brain: np.where(brain > 0, 1, 0), 3.0, "one value throughout"),
    ],
)
def test_what_is_no_head_is_one_sentence(coarse: Volume, voxels: Any, side: float, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        prepare_volume(Volume(voxels(coarse.data), np.diag([side, side, side, 1])), PLAIN)
    assert "\n" not in str(caught.value)


def test_pixels_lie_where_the_field_of_view_has_them() -> None:
    """A volume whose values are its own x or y: a pixel's value tells its place, interpolated without error."""
    grid = load_template()
    points = grid.points()
    options = PrepareOptions(strip="none", bias="none", registration="none", slices="0:10", spacing=5, size=32)
    for axis, along, field in ((0, 1, 186.0), (1, 0, -222.0)):
        values = points[axis] + 200.0  # above 0 throughout
        images = prepare_volume(Volume(values, grid.affine), options).images.astype(float)
        assert images.shape == (3, 32, 32)
        seen = images[0].mean(axis=1 - along)
        step = np.diff(seen)[8:24].mean()
        assert np.sign(step) == np.sign(field)
        assert (np.diff(images[0], axis=1 - along) == 0).mean() > 0.9


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_planes_and_choices(coarse: Volume, plane: str) -> None:
    settings = {"strip": "none", "bias": "none", "registration": "none", "plane": plane, "size": 32, "spacing": 4.0}
    everything = prepare_volume(coarse, PrepareOptions(**settings, slices="all"))
    best = prepare_volume(coarse, PrepareOptions(**settings, slices="7"))
    assert len(best.images) == 7
    assert set(best.positions.tolist()) <= set(everything.positions.tolist())
    assert (np.diff(everything.positions) == 4).all()
    if plane == "axial":  # the field of view is higher than wide
        square = prepare_volume(coarse, PrepareOptions(**settings, slices="all", stretch=False))
        assert square.images.any(axis=(0, 1)).sum() < everything.images.any(axis=(0, 1)).sum()


def test_wrong_header_is_passed_over_with_axes(coarse: Volume) -> None:
    lying = Volume(
        coarse.data, np.diag([3.0, 3, 3, 1]) @ np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    )
    grid = orient(lying, "axes")
    np.testing.assert_array_equal(grid.data, np.asarray(coarse.data, np.float32))
    middle = grid.affine[:3, :3] @ ((np.array(grid.data.shape) - 1) / 2) + grid.affine[:3, 3]
    np.testing.assert_allclose(middle, 0, atol=1e-9)


def test_values_below_zero_and_their_background() -> None:
    """Of a volume in standard scores, background in all corners is the darkest, though a brain has values below it."""
    grid = load_template()
    scores = np.where(grid.data > 0.02, (grid.data - 0.6) / 0.2, 0)
    found = prepare_volume(Volume(scores, grid.affine), PLAIN)
    plain = prepare_volume(Volume(np.where(grid.data > 0.02, grid.data, 0), grid.affine), PLAIN)
    assert found.images[:, 0, 0].max() == 0
    assert slice_correlations(plain, found).min() > 0.98


@given(st.floats(20, 2000), st.integers(0, 3))
def test_white_matter_has_one_grey_level(white: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    brain = np.concatenate([draw.normal(0.65 * white, 0.06 * white, 6000), draw.normal(white, 0.05 * white, 5000)])
    assert white_peak(brain) == pytest.approx(white, rel=0.04)
    grey = to_grey(np.full((1, 1, 2), [0, white], np.float32), brain, "tissue")
    assert grey[0, 0].tolist() == [0, pytest.approx(WHITE, abs=9)]


def test_grey_levels_by_slice_and_by_percentile() -> None:
    images = np.array([[[0, 5, 10]], [[10, 15, 30]]], np.float32)
    assert to_grey(images, np.ones(1), "minmax").tolist() == [[[0, 128, 255]], [[0, 64, 255]]]
    brain = np.linspace(0, 20, 1001)
    assert to_grey(images, brain, "percentiles")[1].tolist() == [[128, 191, 255]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strip": "bet"}, "there is no strip 'bet'; did you mean deepbet?"),
        ({"intensity": "tisue"}, "there is no intensity 'tisue'; did you mean tissue?"),
        ({"plane": "oblique"}, "there is no plane 'oblique'"),
        ({"slices": "0"}, "slices is '0'"),
        ({"spacing": 0}, "spacing is 0 mm; choose 0.25 to 20"),
        ({"size": 4096}, "size is 4096 pixels; choose 32 to 512"),
    ],
)
def test_options_that_do_not_exist(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        PrepareOptions(**settings)  # type: ignore[arg-type]


def test_field_of_view_is_that_of_the_phantom() -> None:
    from mriscope.data import phantom

    assert MIDDLE[[1, 0]].tolist() == phantom._MIDDLE.tolist()
