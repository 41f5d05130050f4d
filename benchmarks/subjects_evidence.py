"""What speaks for 200 subjects of 32 slices in the real slices, besides the gap that recovers them.

    MRISCOPE_DATA=folder python3 run.py bench subjects_evidence

File numbers and labels are looked at here alone; the recovery sees neither.
"""

import os
import re

import numpy as np
from scipy.optimize import linear_sum_assignment

from mriscope.audit.similarity import neighbours, standardised
from mriscope.audit.subjects import _components, _tree, recover_subjects
from mriscope.data.readers import read


def main() -> None:
    slices = read(os.environ["MRISCOPE_DATA"])
    found = recover_subjects(slices.images)
    counts = np.bincount(found.subjects)
    print(f"subjects {len(counts)}, slices of each {np.unique(counts).tolist()}, clear {found.clear} ({found.measure})")
    print(f"weakest link within {found.within:.4f}, strongest between {found.between:.4f}")
    mixed = sum(len(set(slices.labels[found.subjects == one])) > 1 for one in range(len(counts)))
    print(f"subjects whose slices have several labels: {mixed}")
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
    """Whether files are numbered position by position, so that a subject's files, by number, go along its brain.

    A class without a number is its first file. The numbering may begin anywhere in the brain and go round.
    """
    names = [re.fullmatch(r"([a-z]+)_?(\d+)?\.jpg", str(path)) for path in paths]
    number = np.array([int(name[2] or 1) if name else 0 for name in names])
    classes = np.array([name[1] if name else "" for name in names])
    most = positions.max() + 1
    steps = []
    for subject in range(subjects.max() + 1):
        rows = np.flatnonzero(subjects == subject)
        steps.append(np.diff(positions[rows[np.argsort(number[rows])]]) % most == 1)
    whole = sum(bool(one.all()) for one in steps)
    print(
        f"by file number, {sum(one.sum() for one in steps)} of {sum(map(len, steps))} steps within a subject go to the"
    )
    print(f"  next position (or round from the last to the first); in {whole} of {len(steps)} subjects all do")
    for word in np.unique(classes):
        rows = np.flatnonzero(classes == word)
        count = len(np.unique(subjects[rows]))
        block = (number[rows] - 1) // count
        once = sum(len(np.unique(subjects[rows[block == one]])) == count for one in range(most))
        print(f"  {word}: in {once} of {most} runs of {count} numbers, each of its {count} subjects comes once")


if __name__ == "__main__":
    main()
