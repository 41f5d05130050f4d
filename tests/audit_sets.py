"""Sets of slices for the tests of the audit, and what it would find in them, written down by hand."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import map_coordinates, zoom

from mriscope.audit.subjects import RecoveredSubjects
from mriscope.data.phantom import make_phantom
from mriscope.data.slices import UNKNOWN, SliceSet


def nothing_found(count: int) -> RecoveredSubjects:
    """What recover_subjects says of slices that pixels cannot tell apart."""
    rows = np.arange(count)
    unknown, heights = np.full(count, UNKNOWN), np.full(count, np.nan)
    pairs = np.empty((0, 2), np.int64)
    return RecoveredSubjects(unknown, unknown, rows, rows, heights, np.inf, unknown, pairs, np.inf, np.nan, np.nan)


def strangers(truth: np.ndarray, groups: np.ndarray) -> int:
    """Slices in a group with another subject than most of it; those in no group are right."""
    members = (truth[groups == group] for group in np.unique(groups[groups != UNKNOWN]))
    return sum(len(one) - int(np.unique(one, return_counts=True)[1].max()) for one in members)


def falsely_apart(found: RecoveredSubjects, truth: np.ndarray) -> int:
    """Pairs of groups that are said to be of different brains, and hold slices of one."""
    separation, numbers = found.separation(found.groups), np.unique(found.groups)
    apart = separation.proven(numbers, numbers)
    held = np.zeros((len(numbers), int(truth.max()) + 1), np.float32)
    held[found.groups, truth] = 1
    return int((apart & (held @ held.T > 0) & ~np.eye(len(numbers), dtype=bool)).sum())


def some_brains(slices: SliceSet, count: int, seed: int = 0) -> SliceSet:
    """All slices of so many subjects, drawn at random and numbered anew."""
    chosen = np.random.default_rng(seed).choice(np.unique(slices.subjects), count, replace=False)
    few = slices[np.isin(slices.subjects, chosen)]
    return few.with_subjects(np.unique(few.subjects, return_inverse=True)[1], few.positions)


def warped_brains(count: int) -> SliceSet:
    """Brains of the phantom, each bent by a smooth random field, so that they differ more by shape than by height."""
    brains, rng = make_phantom(count, 32, size=64).slices, np.random.default_rng(0)
    images, plain = brains.images.copy(), np.mgrid[:64, :64].astype(float)
    for subject in range(count):
        field = np.array([zoom(rng.normal(0, 3, (7, 7)), 64 / 7, order=3) for _ in plain], float)
        field -= field[:, 16:48, 16:48].mean(axis=(1, 2), keepdims=True)  # no brain is moved as a whole
        for row in np.flatnonzero(brains.subjects == subject):
            images[row] = map_coordinates(brains.images[row], plain + field, order=1, mode="nearest")
    return replace(brains, images=images)


def nameless(train: SliceSet, test: SliceSet) -> SliceSet:
    """A set that publishes two parts and no subject."""
    return SliceSet.of(
        np.concatenate([train.images, test.images]),
        np.concatenate([train.labels, test.labels]),
        parts=np.repeat(["train", "test"], [len(train), len(test)]),
        class_names=train.class_names,
    )
