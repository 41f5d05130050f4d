import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from mriscope.audit.subjects import RecoveredSubjects, recover_subjects
from mriscope.data.phantom import make_phantom
from mriscope.data.readers import read


def chains(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brains whose texture turns by 0.2 rad from slice to slice, and which shrink: images, subjects, positions."""
    random = np.random.default_rng(seed)
    images, y = [], np.arange(32)[:, None] - 15.5
    for count in counts:
        one, other = random.normal(0, 30, (2, 32, 32))
        for place in range(count):
            texture = np.cos(0.2 * place) * one + np.sin(0.2 * place) * other
            brain = np.clip(14 - place / 16 - np.hypot(y, y.T), 0, 1)  # a soft edge moves evenly
            images.append(brain * np.clip(128 + texture, 1, 255))
    subjects = np.repeat(np.arange(len(counts)), counts)
    return np.array(images, np.uint8), subjects, np.concatenate([np.arange(count) for count in counts])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(4, 20), min_size=5, max_size=12), st.integers(0, 2**31))
def test_chains_of_any_lengths_in_any_order(counts: list[int], seed: int) -> None:
    counts.append(max(counts))  # no subject has half of all slices
    images, subjects, positions = chains(counts, seed)
    order = np.random.default_rng(seed).permutation(len(images))
    found = recover_subjects(images[order])
    assert found.clear
    assert adjusted_rand_score(subjects[order], found.subjects) == 1
    assert found.subjects[0] == 0
    assert (np.diff(np.unique(found.subjects, return_index=True)[1]) > 0).all()
    assert found.positions.tolist() == positions[order].tolist()
    assert found.between < found.threshold < found.within


def test_copies_of_slices_join_their_subject():
    images, subjects, _ = chains([10] * 8)
    found = recover_subjects(np.concatenate([images, images, images[:5]]))
    assert found.clear
    assert adjusted_rand_score(np.concatenate([subjects, subjects, subjects[:5]]), found.subjects) == 1


def test_without_a_clear_gap_only_copies_are_grouped():
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32), np.uint8)
    found = recover_subjects(np.concatenate([images, images[:3]]))
    assert not found.clear
    assert found.subjects.tolist() == [*range(200), 0, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 15])
def test_few_slices_tell_nothing(count: int) -> None:
    found = recover_subjects(chains([8, 8])[0][:count])
    assert not found.clear
    assert found.subjects.tolist() == list(range(count))


def test_one_slice_of_each_phantom_subject_is_not_clear():
    found = recover_subjects(make_phantom(60, 1, size=64).slices.images)
    assert not found.clear
    assert found.subjects.tolist() == list(range(60))


@pytest.fixture(scope="session")
def real(real_slices_folder: Path) -> tuple[np.ndarray, RecoveredSubjects]:
    images = read(real_slices_folder).images
    return images, recover_subjects(images)


def test_the_real_slices_are_200_subjects_of_32(real: tuple[np.ndarray, RecoveredSubjects]) -> None:
    _, found = real
    assert found.clear
    assert found.measure == "pixels"
    assert np.bincount(found.subjects).tolist() == [32] * 200
    assert np.bincount(found.positions).tolist() == [200] * 32


def encoded_again(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))


def resized(image: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def brightened(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    shift, factor = 255 * random.uniform(-0.2, 0.2), random.uniform(0.8, 1.2)
    return np.clip((image - 127.0) * factor + 127 + shift, 0, 255).astype(np.uint8)


def noisy(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(image + random.normal(0, 5, image.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [encoded_again, brightened, noisy, lambda image, _: resized(image, 96), lambda image, _: resized(image, 208)],
    ids=["JPEG", "brightness", "noise", "96", "208"],
)
def test_changed_real_slices_are_the_same_subjects(real, change) -> None:
    images, truth = real
    random = np.random.default_rng(0)
    found = recover_subjects(np.stack([change(image, random) for image in images]))
    assert found.clear
    assert adjusted_rand_score(truth.subjects, found.subjects) >= 0.99


def test_real_subjects_with_other_numbers_of_slices(real: tuple[np.ndarray, RecoveredSubjects]) -> None:
    images, truth = real
    most = np.random.default_rng(0).integers(8, 33, 200)  # of each subject, from the first
    rows = np.flatnonzero(truth.positions < most[truth.subjects])
    found = recover_subjects(images[rows])
    assert found.clear
    assert adjusted_rand_score(truth.subjects[rows], found.subjects) == 1


@pytest.mark.parametrize("of_each", [0.8, 1 / 32])
def test_real_subjects_with_holes_or_single_slices_are_not_clear(real, of_each) -> None:
    images, truth = real
    random = np.random.default_rng(0)
    rows = np.flatnonzero(truth.positions == 9 if of_each < 0.1 else random.random(len(images)) < of_each)
    found = recover_subjects(images[rows])
    assert not found.clear
    assert found.subjects.tolist() == list(range(len(rows)))
