"""K-fold cross-validation: every slice is in a test part exactly once per repeat."""

import numpy as np

from mriscope.data.slices import SliceSet
from mriscope.data.splits import Split, check_subjects, divide, stream, units_of
from mriscope.errors import DataError


def fold_split(
    slices: SliceSet,
    protocol: str,
    *,
    folds: int,
    fold: int,
    repeat: int = 0,
    validation: float = 0.1,
    seed: int = 0,
) -> Split:
    """Draw one fold of a (repeated) K-fold cross-validation, and a validation part from its training part.

    The test part is the fold; validation is a share of the rest, drawn by the same unit, so that nothing is chosen on a
    test part (nested validation). A class of fewer units than folds is missing from some test parts; it is in every
    training part where it has two units or more.

    Args:
        slices: the set to split.
        protocol: by_slice or by_subject.
        folds: how many, 2 or more.
        fold: which is the test part, from 0.
        repeat: which of several divisions of the same slices, from 0; each is drawn anew.
        validation: share of what the test part leaves, in (0, 1).
        seed: of all draws.

    Raises:
        DataError: there are fewer units than folds, a subject is unknown, or a part would be empty.
    """
    whole = protocol == "by_subject"
    number = fold_numbers(slices, protocol, folds=folds, repeat=repeat, seed=seed)
    rest, tested = np.flatnonzero(number != fold), np.flatnonzero(number == fold)
    kept, held = divide(slices, rest, validation, whole, stream(seed, f"validation of fold {fold}, repeat {repeat}"))
    return Split(protocol, kept, held, tested)


def fold_numbers(slices: SliceSet, protocol: str, *, folds: int, repeat: int = 0, seed: int = 0) -> np.ndarray:
    """Draw the fold of every slice.

    The units (subjects or slices) of each class are dealt out one by one, a class going on where the one before it
    stopped: the folds' numbers of units, of all and of each class, differ by one at most.

    Returns:
        int64 (N,), from 0 to folds - 1.

    Raises:
        DataError: there are fewer units than folds, or a subject is unknown.
    """
    whole = protocol == "by_subject"
    if whole:
        check_subjects(slices)
    classes, unit_of_row = units_of(slices, np.arange(len(slices)), whole)
    if len(classes) < folds:
        unit = "subjects" if whole else "slices"
        raise DataError(
            f"{folds} folds need {folds} {unit} at least, and there are {len(classes)}; ask for fewer folds"
        )
    random = stream(seed, f"folds of repeat {repeat}")
    shuffled = random.permutation(len(classes))
    dealt = shuffled[np.argsort(classes[shuffled], kind="stable")]
    # Shuffled names, else a class of two units would be in the same folds of every repeat.
    names = random.permutation(folds)
    fold_of_unit = np.empty(len(classes), np.int64)
    fold_of_unit[dealt] = names[np.arange(len(classes)) % folds]
    return fold_of_unit[unit_of_row]
