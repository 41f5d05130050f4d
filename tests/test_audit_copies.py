import io

import numpy as np
import pytest
import torch
from numpy.random import Generator, default_rng
from PIL import Image

from mriscope.audit.copies import FLOOR, Copies, Pose, find_copies, undo
from mriscope.audit.registration import Similarity, local_contrast, partial_correlation, register, sample, shrink
from mriscope.data.phantom import make_phantom
from mriscope.data.slices import SliceSet
from mriscope.errors import DataError


@pytest.fixture(scope="module")
def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Slices of 24 subjects, and the subject of each."""
    slices = make_phantom(24, 8).slices
    assert slices.subjects is not None
    return slices.images, slices.subjects


def posed(image: np.ndarray, pose: Pose) -> np.ndarray:
    """An altered copy, made by Pillow and not by what is tested."""
    changed = Image.fromarray(image).rotate(pose.angle, Image.Resampling.BICUBIC)
    height, width = image.shape
    (down, right), zoom = pose.shift, pose.zoom
    across = (1 / zoom, 0, width / 2 - (width / 2 + right) / zoom)
    along = (0, 1 / zoom, height / 2 - (height / 2 + down) / zoom)
    changed = changed.transform((width, height), Image.Transform.AFFINE, across + along, Image.Resampling.BICUBIC)
    return np.asarray(changed)[:, :: -1 if pose.mirrored else 1]


def drawn(rng: Generator) -> Pose:
    shift = (float(rng.uniform(-8, 8)), float(rng.uniform(-8, 8)))
    return Pose(bool(rng.random() < 0.5), float(rng.uniform(-15, 15)), float(rng.uniform(0.85, 1.15)), shift)


def dulled(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Another gamma, brightness, noise and the marks of JPEG."""
    pixels = 255 * (image / 255) ** rng.uniform(0.7, 1.4) * rng.uniform(0.75, 1.25)
    noisy = np.clip(pixels + rng.normal(0, rng.uniform(0, 8), image.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file).convert("L"))


def altered(images: np.ndarray, seed: int) -> np.ndarray:
    rng = default_rng(seed)
    return np.stack([dulled(posed(one, drawn(rng)), rng) for one in images])


def test_the_pose_of_a_copy_is_found_and_undone(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    images, _ = phantom
    rng = default_rng(0)
    poses = [drawn(rng) for _ in range(16)]
    rows = rng.choice(len(images), 16, replace=False)
    queries = np.stack([posed(images[row], pose) for row, pose in zip(rows, poses, strict=True)])
    found = find_copies(queries, images)
    assert found.origin.tolist() == rows.tolist()
    assert found.certain.all()
    for query, row, pose, truth in zip(queries, rows, found.poses, poses, strict=True):
        assert pose.mirrored == truth.mirrored
        assert pose.angle == pytest.approx(truth.angle, abs=0.3)
        assert pose.zoom == pytest.approx(truth.zoom, abs=0.01)
        assert pose.shift == pytest.approx(truth.shift, abs=0.5)
        middle = np.s_[32:96, 32:96]
        assert np.corrcoef(undo(query, pose)[middle].ravel(), images[row][middle].ravel())[0, 1] > 0.9


def test_copies_are_put_on_their_origin_and_other_subjects_on_none(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    images, subjects = phantom
    known = np.flatnonzero(subjects % 3 > 0)
    found = find_copies(altered(images, seed=1), images[known])
    own = np.isin(np.arange(len(images)), known)
    assert (found.origin[~own] == -1).all()
    assert not found.copy[~own].any()
    assert (known[found.origin[own]] == np.flatnonzero(own)).mean() >= 0.99
    assert found.level >= FLOOR
    assert 0 < found.false_rate <= 0.001 * 1.001


def test_blank_slices_and_slices_that_are_all_the_same(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    blank = np.full((12, 32, 32), 7, np.uint8)
    assert (find_copies(blank).origin == -1).all()
    assert (find_copies(blank[:2], phantom[0][:12, ::4, ::4]).origin == -1).all()
    same = np.repeat(phantom[0][:1, ::2, ::2], 20, axis=0)
    found = find_copies(same)
    assert (found.nearest != np.arange(20)).all()
    np.testing.assert_allclose(found.correlation, 1, atol=1e-3)


def test_few_slices(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    images, subjects = phantom
    one = images[:1]
    assert find_copies(one[:, :, ::-1], one).origin.tolist() == [0]
    strangers = find_copies(images[subjects == 5], one)
    assert strangers.origin.tolist() == [-1] * 8
    assert np.isnan(strangers.false_rate)
    alone: Copies = find_copies(one)
    assert (alone.origin.tolist(), alone.nearest.tolist(), len(alone.poses)) == ([-1], [-1], 1)
    assert len(find_copies(one[:0], one).origin) == 0
    assert find_copies(one, one[:0]).origin.tolist() == [-1]


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (124, 248)])
def test_any_size(phantom: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> None:
    resized = [
        np.asarray(Image.fromarray(one).resize((size[1], size[0]), Image.Resampling.BOX)) for one in phantom[0][:48]
    ]
    images = np.stack(resized)
    queries = np.stack([posed(one, Pose(True, 8.0, 1.05, (1.0, -1.0))) for one in images[::6]])
    assert find_copies(queries, images).nearest.tolist() == list(range(0, 48, 6))


def test_copies_within_one_set(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    images, subjects = phantom
    rows = np.arange(0, len(images), 16)
    seen: list[tuple[int, int]] = []
    found = find_copies(np.concatenate([images, altered(images[rows], 2)]), progress=lambda *step: seen.append(step))
    assert (found.origin[len(images) :] == rows).all()
    assert (found.nearest != np.arange(len(found.nearest))).all()
    of = np.concatenate([subjects, subjects[rows]])
    certain = np.flatnonzero(found.certain)
    assert (of[certain] == of[found.origin[certain]]).all()
    assert seen[-1] == (len(of), len(of))


def test_what_cannot_be_compared(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    images = phantom[0][:2]
    with pytest.raises(DataError, match="uint8"):
        find_copies(images.astype(np.float32), images)
    with pytest.raises(DataError, match="resize one"):
        find_copies(images, images[:, ::2, ::2])


def test_a_chain_of_poses_is_the_pose_of_the_chain() -> None:
    a = Similarity(torch.tensor([1 + 0.2j]), torch.tensor([3 - 1j]))
    b = Similarity(torch.tensor([0.8 - 0.1j]), torch.tensor([-2 + 5j]))
    x = 4 - 7j
    both = a.then(b)
    expected = (0.8 - 0.1j) * ((1 + 0.2j) * x + 3 - 1j) - 2 + 5j
    assert (both.turn * x + both.move).item() == pytest.approx(expected, rel=1e-5)
    back = both.then(both.inverse())
    assert (back.turn * x + back.move).item() == pytest.approx(x, rel=1e-5)


def test_a_moved_image_is_sampled_at_whole_pixels_exactly() -> None:
    images = torch.arange(30.0).view(1, 5, 6)
    seen, inside = sample(images, Similarity(torch.ones(1, dtype=torch.complex64), torch.tensor([2 + 1j])))
    torch.testing.assert_close(seen[0, :4, :4], images[0, 1:, 2:], atol=1e-4, rtol=0)
    assert inside[0, :4, :4].all()
    assert not inside[0, 4:].any()
    assert not inside[0, :, 4:].any()


def test_registration_finds_a_planted_pose(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    moving = shrink(phantom[0][::24], 64, "cpu")
    count = len(moving)
    truth = Similarity(torch.full((count,), 1.03 + 0.04j), torch.full((count,), 1.5 - 1.0j))
    fixed = 0.7 * sample(moving, truth)[0] + 0.1
    start = Similarity(torch.ones(count, dtype=torch.complex64), torch.zeros(count, dtype=torch.complex64))
    found = register(fixed, moving, register(fixed, moving, start))
    torch.testing.assert_close(found.turn, truth.turn, atol=5e-3, rtol=0)
    torch.testing.assert_close(found.move, truth.move, atol=0.1, rtol=0)


def test_local_contrast_is_that_of_the_pixels_around() -> None:
    image = torch.rand(1, 9, 7, generator=torch.Generator().manual_seed(1))
    pixels = image[0].double().numpy()
    mean = np.array([[pixels[max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3].mean() for j in range(7)] for i in range(9)])
    square = (pixels - mean) ** 2
    spread = [[square[max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3].mean() for j in range(7)] for i in range(9)]
    expected = (pixels - mean) / np.sqrt(np.array(spread) + 0.1**2)
    np.testing.assert_allclose(local_contrast(image)[0].numpy(), expected, atol=1e-5)


def test_brightness_and_contrast_leave_local_contrast_as_it_is() -> None:
    images = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(local_contrast(images + 5), local_contrast(images), atol=1e-4, rtol=1e-4)


def test_partial_correlation_is_that_of_residuals() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.rand(1, 24, 24, generator=generator) for _ in range(3))
    mixed, other = a + 0.5 * b, a + 0.5 * b + 0.3 * c
    same = Similarity(torch.ones(1, dtype=torch.complex64), torch.zeros(1, dtype=torch.complex64))
    added, alike = partial_correlation(mixed, a, other, (same, same))
    x, y, z = (local_contrast(one).double().flatten().numpy() for one in (mixed, a, other))
    x, y, z = x - x.mean(), y - y.mean(), z - z.mean()
    residuals = [one - y * (one @ y) / (y @ y) for one in (x, z)]
    assert added.item() == pytest.approx(np.corrcoef(*residuals)[0, 1], abs=1e-4)
    assert alike.item() == pytest.approx(np.corrcoef(y, z)[0, 1], abs=1e-4)


def test_copies_of_real_slices(real_slices: SliceSet) -> None:
    images, of, position = real_slices.images, real_slices.subjects, real_slices.positions
    known = np.flatnonzero(of < 60)
    queries = np.concatenate(
        [default_rng(3).choice(known, 150, replace=False), np.flatnonzero(of == 100), np.flatnonzero(of == 150)]
    )
    found = find_copies(altered(images[queries], 4), images[known])
    assert (known[found.origin[:150]] == queries[:150]).mean() >= 0.99
    assert (found.origin[150:] == -1).all()
    thinned = np.flatnonzero((of < 60) & (position != 15))  # neighbours on both sides, and not the origin itself
    found = find_copies(altered(images[(of < 60) & (position == 15)], 5), images[thinned])
    assert (of[thinned[found.origin]] == of[(of < 60) & (position == 15)]).mean() >= 0.99
    assert found.copy.mean() <= 0.02
