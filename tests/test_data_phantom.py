import hashlib
from pathlib import Path

import numpy as np
import pytest

from mriscope.data import anatomy, phantom
from mriscope.data.phantom import (
    FLUID,
    Phantom,
    add_rician_noise,
    draw_severity,
    make_brain,
    make_phantom,
)
from mriscope.data.phantom_options import phantom_options
from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import DataError

NON, MODERATE = CLASS_NAMES.index("Non_Demented"), CLASS_NAMES.index("Moderate_Demented")


TEMPLATE = Path(str(anatomy.__file__)).with_name(anatomy.TEMPLATE).read_bytes()


@pytest.fixture(scope="module")
def made() -> Phantom:
    return make_phantom(subjects=48, slices=20, seed=1, size=64)


def dark_pixels(image: np.ndarray) -> int:
    """Fluid about the middle of a slice, where the lateral ventricles lie."""
    middle = image[40:90, 45:83]
    return int((middle < 0.35 * np.percentile(image[image > 0], 95)).sum())


def nearest_neighbour_accuracy(made: Phantom, test: np.ndarray) -> float:
    pixels = made.slices.images.reshape(len(made.slices), -1).astype(np.float32)
    train_pixels, train_labels = pixels[~test], made.slices.labels[~test]
    squares = (train_pixels**2).sum(1) - 2 * pixels[test] @ train_pixels.T
    return float((train_labels[squares.argmin(1)] == made.slices.labels[test]).mean())


def test_rows_run_through_subjects_and_positions(made: Phantom) -> None:
    found = made.slices
    assert found.images.shape == made.masks.shape == (960, 64, 64)
    assert found.images.dtype == np.uint8
    assert made.masks.dtype == np.bool_
    np.testing.assert_array_equal(found.subjects, np.arange(48).repeat(20))
    np.testing.assert_array_equal(found.positions, np.tile(np.arange(20), 48))
    assert found.class_names == CLASS_NAMES
    assert found.paths[17 * 20 + 5] == "phantom/s017_p05.png"
    for column in (found.labels, made.severity):
        by_subject = column.reshape(48, 20)
        assert (by_subject == by_subject[:, :1]).all()


@pytest.mark.parametrize(
    ("subjects", "expected"),
    [  # Non, Very mild, Mild, Moderate
        (1, [1, 0, 0, 0]),
        (3, [1, 1, 1, 0]),
        (4, [1, 1, 1, 1]),
        (24, [10, 8, 3, 3]),
        (48, [21, 17, 7, 3]),
        (200, [99, 70, 28, 3]),
        (1000, [495, 350, 140, 15]),
    ],
)
def test_classes_are_mixed_as_in_the_public_slices(subjects: int, expected: list[int]) -> None:
    ranks = phantom._draw_ranks(subjects, 0)
    np.testing.assert_array_equal(np.bincount(ranks, minlength=4), expected)


def test_equal_seeds_make_equal_bytes_and_other_seeds_others() -> None:
    first, again, other = (make_phantom(subjects=4, slices=3, seed=seed, size=64) for seed in (5, 5, 6))
    assert first.slices.fingerprint == again.slices.fingerprint
    np.testing.assert_array_equal(first.masks, again.masks)
    assert first.slices.fingerprint != other.slices.fingerprint


def test_a_brain_does_not_depend_on_how_many_there_are(made: Phantom) -> None:
    fewer = make_phantom(subjects=4, slices=20, seed=1, size=64)
    for subject in range(2):
        for several in (fewer, made):  # its class may differ, and only what comes of that
            rows = slice(subject * 20, subject * 20 + 20)
            image, mask = make_brain(subject, float(several.severity[rows][0]), 20, 1, 64)
            np.testing.assert_array_equal(several.slices.images[rows], image)
            np.testing.assert_array_equal(several.masks[rows], mask)


def test_classes_overlap_in_severity() -> None:
    non, very_mild = (np.array([draw_severity(rank, subject) for subject in range(400)]) for rank in (0, 1))
    assert non.min() == 0
    assert 0.15 < non.mean() < 0.19  # 0.15, and a little more as nothing is below 0
    assert (non[:200, None] > very_mild[None, 200:]).mean() == pytest.approx(0.15, abs=0.04)  # P(Z > 0.25 / 0.24)


def test_a_signal_moves_the_classes_apart_and_leaves_the_healthiest_where_it_is() -> None:
    non, moderate = ([draw_severity(rank, subject, signal=300) for subject in range(400)] for rank in (0, 3))
    assert non == [draw_severity(0, subject) for subject in range(400)]
    assert np.mean(moderate) == pytest.approx(2.3, abs=0.05)  # 0.15 + 3 · 0.75, and nothing is above 2.4
    assert max(moderate) == 2.4
    same = make_phantom(8, 2, seed=3, size=32, signal=0)
    assert np.unique(same.severity).max() < 0.15 + 4 * 0.17


def test_masks_of_fluid_lie_within_those_of_any_change() -> None:
    images, changed = make_brain(1, 1.2, 8, size=64)
    again, fluid = make_brain(1, 1.2, 8, size=64, least=FLUID)
    assert np.array_equal(images, again)
    assert fluid.any()
    assert not (fluid & ~changed).any()
    darker = make_brain(1, 0.0, 8, size=64)[0].astype(int) - images
    assert darker[fluid].mean() > 2 * np.abs(darker[changed & ~fluid]).mean()


def test_background_is_black_and_brain_is_not(made: Phantom) -> None:
    images = made.slices.images
    border = np.ones((64, 64), bool)
    border[2:-2, 2:-2] = False
    assert (images[:, border] == 0).all()
    assert 0.35 < (images > 0).mean() < 0.55  # 0.5 in the public slices
    assert (images.reshape(48, 20, 64, 64)[:, 10:, 28:36, 28:36] > 0).all()
    assert not (made.masks & (images == 0)).any()


def test_anterior_is_up_and_inferior_is_first() -> None:
    images, _ = make_brain(0, 0.0)
    rows, columns = np.nonzero(images[15, 40:90, 34:94] < 60)  # z = 10 mm
    aside = np.abs(columns - 29.5)
    assert np.median(aside[rows < 20]) + 5 < np.median(aside[rows > 30])  # frontal horns meet, the hind ones part
    assert dark_pixels(images[-1]) < dark_pixels(images[18]) / 4  # the last lies above the ventricles


@pytest.mark.parametrize("subject", [0, 1])
def test_without_disease_nothing_is_marked(subject: int) -> None:
    assert not make_brain(subject, 0.0, 8, size=64)[1].any()


@pytest.mark.parametrize("subject", [0, 7])
def test_severity_enlarges_ventricles_step_by_step(subject: int) -> None:
    levels = (0.0, 0.3, 0.6, 0.9, 1.2)
    brains = [make_brain(subject, level, 6) for level in levels]
    areas = [sum(map(dark_pixels, images)) for images, _ in brains]
    marked = [int(masks.sum()) for _, masks in brains]
    assert (np.diff(areas) > 30).all(), areas
    assert (np.diff(marked) > 100).all(), marked


def test_masks_hold_all_that_disease_changed() -> None:
    (ill, mask), (well, _) = make_brain(2, 0.9, 8), make_brain(2, 0.0, 8)
    change = np.abs(ill.astype(float) - well)
    assert ((ill > 0) == (well > 0)).all()  # the outline of the brain is not disease
    assert change[mask].mean() > 40
    assert np.percentile(change[~mask], 99) < 35  # of 255: under a tenth, shaded, and the same noise
    assert 0.02 < mask.mean() < 0.3


def test_enlargement_is_rising_and_ends_far_away() -> None:
    distance = np.linspace(-10, 60, 1401)
    origin = phantom._undeformed_distance(distance, np.full(1401, 8.0))
    assert (np.diff(origin) > 0).all()  # nothing folds
    np.testing.assert_allclose(origin[distance < -4], distance[distance < -4])
    np.testing.assert_allclose(origin[distance > 32], distance[distance > 32])
    assert np.interp(8.0, distance, origin) == pytest.approx(0, abs=0.05)  # their wall now lies 8 mm further out


def test_splitting_slices_leaks_and_splitting_subjects_does_not(made: Phantom) -> None:
    rng = np.random.default_rng(0)
    by_slice = rng.permutation(960) < 192
    by_subject = np.isin(made.slices.subjects, rng.permutation(48)[:10])
    assert nearest_neighbour_accuracy(made, by_slice) >= 0.95
    assert nearest_neighbour_accuracy(made, by_subject) <= 0.75


def test_neighbouring_slices_of_a_brain_are_more_alike_than_two_brains(made: Phantom) -> None:
    flat = made.slices.images.reshape(48, 20, -1).astype(np.float64)
    flat -= flat.mean(2, keepdims=True)
    flat /= np.linalg.norm(flat, axis=2, keepdims=True)
    neighbours, strangers = (flat[:, :-1] * flat[:, 1:]).sum(2), (flat[:-1] * flat[1:]).sum(2)
    assert neighbours.mean() > strangers.mean() + 0.08
    assert np.percentile(neighbours, 10) > np.percentile(strangers, 90)


def test_disease_can_be_told_from_ventricles_by_subject(made: Phantom) -> None:
    images = made.slices.images.reshape(48, 20, 64, 64)
    white = np.percentile(images.reshape(48, -1), 95, axis=1)[:, None, None, None]
    area = (images[:, :, 20:45, 22:42] < 0.35 * white).sum((1, 2, 3))
    demented = made.slices.labels[::20] != NON
    auroc = (area[demented][:, None] > area[~demented][None]).mean()
    assert 0.7 < auroc < 0.97  # far from chance, far from certain


def test_noise_is_rician() -> None:
    rng = np.random.default_rng(0)
    silent, loud = add_rician_noise(np.zeros(200_000), 5.0, rng), add_rician_noise(np.full(200_000, 100.0), 5.0, rng)
    assert silent.mean() == pytest.approx(5 * np.sqrt(np.pi / 2), rel=0.01)
    assert silent.std() == pytest.approx(5 * np.sqrt(2 - np.pi / 2), rel=0.01)
    assert (loud**2).mean() == pytest.approx(100**2 + 2 * 5**2, rel=0.002)  # E[M^2] = A^2 + 2 sigma^2
    assert loud.std() == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": 0}, r"subjects of the phantom is 0; give a whole number from 1 to 10000"),
        ({"slices": 2.5}, r"slices of the phantom is 2\.5; give a whole number"),
        ({"seed": -1}, r"seed of the phantom is -1; give a whole number from 0"),
        ({"size": 16}, r"size of the phantom is 16; .* from 32 to 256"),
        ({"subjects": True}, r"subjects of the phantom is True"),
        ({"subjects": 10_000, "size": 256}, r"over 2,147,483,648 pixels; ask for fewer"),
    ],
)
def test_unfit_arguments_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_phantom(**options)


@pytest.mark.parametrize("severity", [-0.1, 2.5, float("nan")])
def test_unfit_severity_is_refused(severity: float) -> None:
    with pytest.raises(DataError, match=r"give 0 \(no disease\) to 2\.4"):
        make_brain(0, severity, 2, size=32)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("phantom", {}),
        ("phantom:subjects=40,slices=16,seed=3", {"subjects": 40, "slices": 16, "seed": 3}),
        ("phantom: size = 64 ", {"size": 64}),
    ],
)
def test_spec_becomes_arguments(spec: str, expected: dict[str, int]) -> None:
    assert phantom_options(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("phantom:subject=40", r"no option 'subject'; did you mean subjects\?"),
        ("phantom:colour=3", r"no option 'colour'; choose one of seed, signal, size, slices, subjects"),
        ("phantom:slices", r"slices is ''; give a whole number, such as slices=16"),
        ("phantom:slices=many", r"slices is 'many'"),
        ("phantom:slices=-2", r"slices is '-2'"),
        ("phantom:slices=0", r"slices of the phantom is 0"),
        ("phantom:seed=1,seed=2", r"seed is given twice"),
        ("phantom:", r"is no phantom; write phantom"),
        ("fantom", r"is no phantom; write phantom"),
    ],
)
def test_unfit_spec_is_refused(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        phantom_options(spec)


@pytest.mark.parametrize(
    "content", [None, b"", b"no archive", TEMPLATE[:1000], TEMPLATE[:5000] + bytes(9000) + TEMPLATE[14000:]]
)
def test_missing_or_damaged_template_is_named(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / anatomy.TEMPLATE).write_bytes(content)
    monkeypatch.setattr(anatomy, "files", lambda _: tmp_path)
    with pytest.raises(DataError, match=r"icbm152_2009a_t1\.npz is missing or damaged .* install mriscope afresh"):
        anatomy._read_template()


def test_template_is_the_published_one_and_carries_its_notice() -> None:
    voxels = np.rint(anatomy._read_template() * 255).astype(np.uint8)
    assert voxels.shape == (165, 197, 89)
    digest = "c0b22714cb53718cb932101c37ee97d5280c7e798fb09c216f896e21ef672ca5"  # of nilearn 0.14.1's file, cropped
    assert hashlib.sha256(voxels.tobytes()).hexdigest() == digest
    notice = Path(str(anatomy.__file__)).with_name(anatomy.TEMPLATE.replace(".npz", ".LICENSE.txt")).read_text()
    assert "Copyright (C) 1993-2004 Louis Collins" in notice
    assert "provided that the" in notice
    assert "above copyright notice appear in all copies" in notice


def test_template_lies_as_the_atlas_expects() -> None:
    atlas = anatomy.load_atlas()

    def at(volume: np.ndarray, *point: float, step: int = 2) -> float:
        return float(anatomy.sample(volume, np.array(point, np.float32)[:, None], step)[0])

    for side in (-1, 1):
        assert at(atlas.distance, 15 * side, -25, 22) < 0  # body of the lateral ventricle
        assert at(atlas.distance, 60 * side, -20, 10) > 20
        assert at(atlas.normals[0], 25 * side, -20, 22) * side > 0.5  # away from the ventricle
        assert at(atlas.tissue, 28 * side, -30, 30, step=1) > 0.8  # white matter
        assert at(atlas.tissue, 15 * side, -25, 22, step=1) < 0.3  # its fluid
    assert at(atlas.depth, 0, 0, 20) > 30
    assert at(atlas.depth, 80, 80, 20) < -10
