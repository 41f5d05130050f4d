"""A split in the place of a leaky one: no subject on both sides, parts and classes as before where that can be."""

import numpy as np

from mriscope.audit.leakage import AuditedSplit
from mriscope.audit.linking import connected
from mriscope.data.slices import UNKNOWN, SliceSet
from mriscope.data.splits import Split, by_subject, units_of
from mriscope.errors import DataError

UNEVEN = 0.02
"""By so much, at most, a class's shares of the test part and of the rest should differ."""
_DRAWS = 200
_CLOSE = 0.01  # share of all slices by which parts may be larger or smaller than before without further draws


def repair_split(
    slices: SliceSet, split: AuditedSplit | None, *, same_brain: np.ndarray | None = None, seed: int = 0
) -> Split:
    """Draw a split by subject of the slices whose subjects are sure; the others are left out.

    Of up to 200 draws the one is taken whose classes have the most even shares in training and test part; of those
    where they differ by 2 points at most, the one whose parts are nearest to their sizes before. No prediction or score
    of a model has a say in it.

    Args:
        slices: with subjects, -1 for a slice in doubt.
        split: the one to replace, whose test and validation shares are kept; None for 20 % and 10 %.
        same_brain: int64 (P, 2), pairs of slices, such as copies, that go to one part though their subjects differ.
        seed: of the draws.

    Raises:
        DataError: too few slices have a sure subject.
    """
    sure = np.flatnonzero(slices.subjects != UNKNOWN)
    kept = slices[sure].with_subjects(_whole_brains(slices.subjects, same_brain)[sure], slices.positions[sure])
    _check_enough(slices, kept)
    test, validation = 0.2, 0.1
    if split is not None:
        test = len(split.test) / (len(split.test) + len(split.learned))
        validation = len(split.validation) / len(split.learned) if len(split.validation) else validation
    wanted = np.array([(1 - test) * (1 - validation), (1 - test) * validation, test]) * len(kept)
    draws: list[tuple[float, float, Split]] = []
    for draw in range(_DRAWS):
        drawn = by_subject(kept, test=test, validation=validation, seed=seed + draw)
        moved = float(np.abs(np.array([len(drawn.train), len(drawn.validation), len(drawn.test)]) - wanted).max())
        draws.append((max(uneven(kept, drawn), UNEVEN), moved, drawn))
        if draws[-1][0] <= UNEVEN and moved <= _CLOSE * len(kept):
            break
    best = min(draws, key=lambda one: one[:2])[2]
    return Split(best.protocol, sure[best.train], sure[best.validation], sure[best.test])


def uneven(slices: SliceSet, split: Split) -> float:
    """Return the largest difference between a class's share of the test part and its share of the rest, in [0, 1]."""
    classes = len(slices.class_names)
    rest = np.concatenate([split.train, split.validation])
    shares = [np.bincount(slices.labels[rows], minlength=classes) / len(rows) for rows in (rest, split.test)]
    return float(np.abs(shares[0] - shares[1]).max())


def _whole_brains(subjects: np.ndarray, same_brain: np.ndarray | None) -> np.ndarray:
    """Return int64 (N,), one number for the slices of a subject and of all that pairs connect it with."""
    order = np.argsort(subjects, kind="stable")
    chain = np.stack([order[:-1], order[1:]], axis=1)
    one, other = subjects[chain].T
    named = chain[(one == other) & (one != UNKNOWN)]
    return connected(named if same_brain is None else np.concatenate([named, same_brain]), len(subjects))


def _check_enough(slices: SliceSet, kept: SliceSet) -> None:
    """Refuse where no class has a subject for each of the three parts, so that one of them would be empty."""
    classes = units_of(kept, np.arange(len(kept)), whole_subjects=True)[0]
    counts = np.bincount(classes, minlength=len(slices.class_names))
    if counts.max(initial=0) < 3:
        each = ", ".join(f"{name} {count}" for name, count in zip(slices.class_names, counts, strict=True))
        raise DataError(
            f"{len(classes)} subjects are beyond doubt among {len(slices):,} slices ({each}), too few to split: some "
            "class needs three, one for each of the training, validation and test part; name the subjects with "
            "--manifest"
        )
