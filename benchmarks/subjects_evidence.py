"""What speaks for 200 subjects of 32 slices in the real slices, besides the gap that recovers them.

    MRISCOPE_DATA=folder python3 run.py bench subjects_evidence

File numbers and labels are looked at here alone; the recovery sees neither.
"""

import os
import re

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from mriscope.audit.similarity import neighbours, standardised
from mriscope.audit.subjects import _components, _tree, recover_subjects
from mriscope.data.readers import read


def main() -> None:
    slices = read(os.environ["MRISCOPE_DATA"])
    found = recover_subjects(slices.images)
    counts = np.bincount(found.subjects)
    print(f"subjects {len(counts)}, slices of each {np.unique(counts).tolist()}, clear {found.clear} ({found.measure})")
    print(f"weakest link within {found.within:.4f}, strongest between {found.between:.4f}")
    print(
        f"labels of one subject differ: {sum(len(set(slices.labels[found.subjects == s])) > 1 for s in range(len(counts)))}"
    )
    thresholds(slices.images)
    assignment(slices.images, found.subjects, found.positions)
    numbering(slices.paths, found.subjects, found.positions)


def thresholds(images: np.ndarray) -> None:
    """Between which fixed thresholds the groups stay the same, and the gaps between links."""
    rows = standardised(images)
    tree = _tree(*neighbours(rows, 64), np.arange(len(rows)))
    jumps = np.diff(np.log(tree.lengths))
    rank = np.argsort(-jumps[len(rows) // 2 :])[:2] + len(rows) // 2
    for place, at in zip(("widest", "second"), rank, strict=True):
        low, high = 1 - tree.lengths[at + 1], 1 - tree.lengths[at]
        groups = _components(tree.ends[: at + 1], tree.count).max() + 1
        print(f"{place} gap: correlation {low:.4f} to {high:.4f}, ratio {np.exp(jumps[at]):.2f}, {groups} groups")


def assignment(images: np.ndarray, subjects: np.ndarray, positions: np.ndarray) -> None:
    """Whether the best one-to-one match of all slices at a position with those at the next stays within subjects."""
    rows = standardised(images)
    right = total = 0
    for position in range(positions.max()):
        here, there = (np.flatnonzero(positions == place) for place in (position, position + 1))
        a, b = linear_sum_assignment((rows[here] @ rows[there].T).numpy(), maximize=True)
        right, total = right + int((subjects[here[a]] == subjects[there[b]]).sum()), total + len(a)
    print(f"optimal assignment between neighbouring positions: {right} of {total} within a subject")


def numbering(paths: np.ndarray, subjects: np.ndarray, positions: np.ndarray) -> None:
    """Whether files are numbered position by position: then the slices of a subject share their remainder."""
    names = [re.fullmatch(r"(\D+?)_?(\d+)?\.\w+", str(path).rsplit("/", 1)[-1]) for path in paths]
    classes = np.array([name[1] if name else "" for name in names])
    numbers = np.array([int(name[2]) if name and name[2] else -1 for name in names])
    for word in np.unique(classes):
        rows = np.flatnonzero((classes == word) & (numbers >= 0))
        count = len(np.unique(subjects[classes == word]))
        remainder, block = numbers[rows] % count, numbers[rows] // count
        print(
            f"{word}: {len(rows)} of {(classes == word).sum()} files numbered {numbers[rows].min()} to "
            f"{numbers[rows].max()}, {count} subjects; number mod {count} against subject: adjusted Rand index "
            f"{adjusted_rand_score(remainder, subjects[rows]):.4f}; number // {count} is the position from the top or "
            f"bottom for {max(np.mean(block == positions[rows]), np.mean(block == positions.max() - positions[rows])):.2%}"
        )


if __name__ == "__main__":
    main()
