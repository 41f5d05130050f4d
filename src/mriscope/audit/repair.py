"""A split in the place of a leaky one: no subject on both sides, parts and classes as before where that can be."""

import numpy as np

from mriscope.audit.leakage import AuditedSplit
from mriscope.data.slices import UNKNOWN, SliceSet
from mriscope.data.splits import Split, by_subject
from mriscope.errors import DataError

_DRAWS = 50


def repair_split(slices: SliceSet, split: AuditedSplit | None, *, seed: int = 0) -> Split:
    """Draw a split by subject of the slices whose subjects are sure; the others are left out.

    Of 50 draws the one is taken whose classes have the most even shares in training and test part. No label or score of
    a model has a say in it.

    Args:
        slices: with subjects, -1 for a slice in doubt.
        split: the one to replace, whose test and validation shares are kept; None for 20 % and 10 %.
        seed: of the draws.

    Raises:
        DataError: too few slices have a sure subject.
    """
    sure = np.flatnonzero(slices.subjects != UNKNOWN)
    if len(np.unique(slices.subjects[sure])) < 3:
        raise DataError(
            f"{len(np.unique(slices.subjects[sure]))} subjects are beyond doubt among {len(slices):,} slices, too few "
            "to split; name the subjects with --manifest"
        )
    test, validation = 0.2, 0.1
    if split is not None:
        test = len(split.test) / (len(split.test) + len(split.learned))
        validation = len(split.validation) / len(split.learned) if len(split.validation) else validation
    kept = slices[sure]
    draws = [by_subject(kept, test=test, validation=validation, seed=seed + draw) for draw in range(_DRAWS)]
    best = min(draws, key=lambda one: uneven(kept, one))
    return Split(best.protocol, sure[best.train], sure[best.validation], sure[best.test])


def uneven(slices: SliceSet, split: Split) -> float:
    """Return the largest difference between a class's share of the test part and its share of the rest, in [0, 1]."""
    classes = len(slices.class_names)
    rest = np.concatenate([split.train, split.validation])
    shares = [np.bincount(slices.labels[rows], minlength=classes) / len(rows) for rows in (rest, split.test)]
    return float(np.abs(shares[0] - shares[1]).max())
