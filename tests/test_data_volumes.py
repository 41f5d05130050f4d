"""cut_volume: however a volume is stored, its slices are the same, at the same places."""

import itertools

import nibabel
import numpy as np
import pytest
from volume_files import brain

from mriscope.data.volumes import Cut, Volume, cut_volume, highest_entropy, to_grey
from mriscope.errors import DataError

TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def turned(voxels: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[int, ...]) -> Volume:
    """The same voxels at the same places, stored with other axes first and other ends first."""
    other = np.eye(4)
    other[:3, :3] = np.eye(3)[:, list(order)] * flips
    for axis, flip in zip(order, flips, strict=True):
        other[axis, 3] = 0 if flip > 0 else voxels.shape[axis] - 1
    stored = voxels.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    return Volume(stored, affine @ other)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_are_the_same_in_all_48_ways_to_store_a_volume(plane: str):
    voxels, affine = brain(0), np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -30, 12.5, 40
    expected = cut_volume(Volume(voxels, affine), Cut(plane))
    for order, flips in TURNS:
        found = cut_volume(turned(voxels, affine, order, flips), Cut(plane))
        assert np.array_equal(found.images, expected.images), (order, flips)
        assert np.allclose(found.positions, expected.positions)
        assert found.indices.tolist() == expected.indices.tolist()


def test_rows_go_down_from_the_top_and_columns_to_the_right():
    """Voxels of value x + 10 y + 100 z tell where each pixel comes from."""
    x, y, z = np.meshgrid(range(3), range(4), range(5), indexing="ij")
    volume = Volume(x + 10 * y + 100 * z, np.eye(4), limits=(0, 510))
    axial, coronal, sagittal = (cut_volume(volume, Cut(plane)).images for plane in ("axial", "coronal", "sagittal"))
    half = lambda value: int(value / 2 + 0.5)  # noqa: E731
    assert axial[2].tolist() == [[half(200 + 10 * y + x) for x in range(3)] for y in (3, 2, 1, 0)]
    assert coronal[1].tolist() == [[half(100 * z + 10 + x) for x in range(3)] for z in (4, 3, 2, 1, 0)]
    assert sagittal[2].tolist() == [[half(100 * z + 10 * y + 2) for y in range(4)] for z in (4, 3, 2, 1, 0)]


def test_positions_are_millimetres_of_the_centre_of_each_slice():
    affine = np.array([[0, 0, 2.0, -20], [1.5, 0, 0, 7], [0, -3, 0, 60], [0, 0, 0, 1]])
    found = cut_volume(Volume(brain(1, (5, 6, 7)), affine), Cut("axial"))
    assert found.positions.tolist() == [45, 48, 51, 54, 57, 60]  # the second axis runs down from 60 by 3 mm
    assert found.spacing == 1.5


@pytest.mark.parametrize("degrees", [-25, -5, 10, 30])
def test_an_oblique_volume_keeps_its_planes_and_its_places(degrees: float):
    angle = np.deg2rad(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([-1, 1, 1.0]), (5, -9, 3)
    voxels = brain(2)
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, affine))
    canonical = np.asarray(image.dataobj)
    found = cut_volume(Volume(voxels, affine, limits=(0, 999)), Cut())
    assert np.array_equal(found.images, to_grey(canonical, (0, 999)).transpose(2, 1, 0)[:, ::-1])
    centre = (np.array(canonical.shape) - 1) / 2
    places = [(image.affine @ [centre[0], centre[1], k, 1])[2] for k in range(canonical.shape[2])]
    assert np.allclose(found.positions, places)
    assert (np.diff(found.positions) > 0).all()


def test_the_coarser_side_of_a_pixel_is_interpolated_to_the_finer():
    """A linear ramp sampled every 3 mm is the same ramp at every mm; the border repeats the outermost voxel."""
    ramp = np.arange(6) * 30.0
    voxels = np.broadcast_to(ramp[None, :, None], (8, 6, 2)).copy()
    voxels[0, 0, 0] = 1  # no background
    found = cut_volume(Volume(voxels, np.diag([1.0, 3.0, 2.0, 1.0]), limits=(0, 255)), Cut())
    assert found.images.shape == (2, 18, 8)
    assert found.images[1, ::-1, 3].tolist() == [0, *range(0, 151, 10), 150]


def test_layers_with_gaps_keep_their_own_places_and_are_cut_in_no_other_plane():
    voxels = brain(3, (4, 5, 3))
    origins = np.array([[0, 0, 0.0], [0, 0, 4], [0, 0, 20]])
    volume = Volume(voxels[:, :, ::-1], np.diag([1, 1, -10.0, 1]), origins=origins[::-1])
    assert cut_volume(volume, Cut()).positions.tolist() == [0, 4, 20]
    with pytest.raises(DataError, match=r"is axial with gaps between its slices.*--plane axial"):
        cut_volume(volume, Cut("sagittal"))


def test_grey_levels_are_linear_between_two_percentiles_and_background_is_0():
    values = np.linspace(100, 1100, 1000).reshape(10, 10, 10)
    values[np.ix_([0, -1], [0, -1], [0, -1])] = 0
    inner = values[values != 0]
    low, high = np.percentile(inner, [0.1, 99.9])
    grey = to_grey(values, None)
    expected = np.clip(np.floor(values * 255 / high + 0.5), 0, 255)  # background lies below: it is the black end
    assert low > 0
    assert np.abs(grey - expected).max() <= 1
    standard = to_grey((values - 600) / 250, None)  # values around 0, as after z-scoring, and another background
    assert (standard[values == 0] == 0).all()


def test_background_above_the_darkest_tissue_is_still_0():
    values = np.random.default_rng(0).normal(0, 1, (8, 8, 8))
    values[:2], values[-2:] = 0, 0
    grey = to_grey(values, None)
    assert (grey[values == 0] == 0).all()
    assert abs(int(np.median(grey[2:-2])) - 128) < 12


def test_what_is_no_number_is_black():
    values = np.full((4, 4, 4), 50.0)
    values[1], values[2] = np.nan, 100
    grey = to_grey(values, (0, 100))
    assert grey[1].max() == grey[0].max() == 128
    assert grey[2].min() == 255


def test_slices_of_one_value_are_left_out_and_counted():
    voxels = brain(4)
    voxels[:, :, [0, 1, 5]] = 0
    found = cut_volume(Volume(voxels, np.eye(4)), Cut())
    assert found.empty == 3
    assert found.indices.tolist() == [2, 3, 4, 6, 7, 8, 9, 10, 11]
    with pytest.raises(DataError, match="shows nothing"):
        cut_volume(Volume(np.zeros((3, 3, 3)), np.eye(4)), Cut())


def test_a_slab_is_chosen_by_millimetres():
    volume = Volume(brain(5), np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2.0, -10], [0, 0, 0, 1]]))
    assert cut_volume(volume, Cut(slices="-6:2")).positions.tolist() == [-6, -4, -2, 0, 2]
    assert cut_volume(volume, Cut("coronal", "3:4.5")).positions.tolist() == [3, 4]
    with pytest.raises(DataError, match=r"no axial slice from 50 to 60 mm; its slices lie from -10.0 to 12.0 mm"):
        cut_volume(volume, Cut(slices="50:60"))


def test_the_slices_of_highest_entropy_come_in_their_order():
    images = np.zeros((4, 16, 16), np.uint8)
    images[0, 0, 0] = 9
    images[1] = np.arange(256).reshape(16, 16)  # 8 bits
    images[2] = np.arange(256).reshape(16, 16) // 128  # 1 bit
    images[3] = np.arange(256).reshape(16, 16) // 64  # 2 bits
    assert highest_entropy(images, 2).tolist() == [1, 3]
    assert highest_entropy(images, 3).tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="has 4 slices that show something, and 5 are wanted"):
        highest_entropy(images, 5)


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (np.diag([0.0, 1, 1, 1]), "voxels of 0 × 1 × 1 mm; expected 0.02 to 50 mm"),
        (np.diag([1e-3, 1, 1, 1]), "voxels of 0.001 × 1 × 1 mm"),
        (np.full((4, 4), np.nan), "values that are no numbers"),
        (np.array([[1, 1, 0, 0], [0, 0.01, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "axes lie in one plane"),
        (np.diag([0.03, 40, 1, 1]), "at most 20 to 1 can be made square"),
    ],
)
def test_an_affine_of_no_use_is_refused(affine: np.ndarray, said: str):
    with pytest.raises(DataError, match=said):
        cut_volume(Volume(brain(6), affine), Cut())


@pytest.mark.parametrize("slices", ["", "0", "some", "4:2", "1:1", "nan:2", "1e9:2", "-3", "99999"])
def test_a_choice_of_slices_that_does_not_exist_is_refused(slices: str):
    with pytest.raises(DataError, match="expected all, a number such as 32, or a slab in mm such as -12:34"):
        Cut(slices=slices)
    with pytest.raises(DataError, match="there is no plane 'oblique'; choose one of axial, coronal, sagittal"):
        Cut("oblique")
