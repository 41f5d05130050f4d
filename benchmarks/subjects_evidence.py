"""What speaks for 200 subjects of 32 slices in the real slices, besides the links that recover them.

    MRISCOPE_DATA=folder python3 run.py bench subjects_evidence

File numbers and labels are looked at here alone; the recovery sees neither.
"""

import os
import re

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from mriscope.audit.similarity import standardised
from mriscope.audit.subjects import recover_subjects
from mriscope.data.readers import read


def main() -> None:
    slices = read(os.environ["MRISCOPE_DATA"])
    found = recover_subjects(slices.images)
    if not found.clear:
        raise SystemExit("some slices are in doubt in this folder; the evidence is of a set in which none is")
    counts = np.bincount(found.subjects)
    print(f"subjects {len(counts)}, slices of each {np.unique(counts).tolist()}")
    print(f"level {found.level:.3f}, weakest link {found.weakest:.3f}, strongest between groups {found.strongest:.3f}")
    mixed = sum(len(set(slices.labels[found.subjects == one])) > 1 for one in range(len(counts)))
    print(f"subjects whose slices have several labels: {mixed}")
    single_linkage(slices.images, found.subjects)
    assignment(slices.images, found.subjects, found.positions)
    numbering(slices.paths, found.subjects, found.positions)


def single_linkage(images: np.ndarray, subjects: np.ndarray) -> None:
    """Whether a method that knows no heights and no decoys, the gaps of single linkage of pixels, agrees."""
    rows = standardised(images)
    apart = squareform((1 - rows @ rows.T).clamp_min(1e-6).numpy(), checks=False)
    tree = linkage(apart, "single")
    lengths = tree[:, 2]
    jumps = np.diff(np.log(lengths))
    rank = np.argsort(-jumps[len(rows) // 2 :])[:2] + len(rows) // 2
    for place, at in zip(("widest", "second"), rank, strict=True):
        groups = fcluster(tree, lengths[at], "distance")
        agreement = adjusted_rand_score(subjects, groups)
        print(
            f"single linkage of pixels, {place} gap: correlation {1 - lengths[at + 1]:.4f} to {1 - lengths[at]:.4f}, "
            f"ratio {np.exp(jumps[at]):.2f}, {groups.max()} groups, adjusted Rand index {agreement:.4f}"
        )


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
