"""What the names of classes say of their severity."""

import re
from collections.abc import Sequence

import numpy as np

from mriscope.errors import DataError

_HEALTHY = (
    "non",
    "no",
    "cn",
    "nc",
    "hc",
    "normal",
    "cognitivelynormal",
    "control",
    "healthy",
    "healthycontrol",
    "controls",
)
_ALZHEIMER = ("ad", "alzheimer", "alzheimers", "alzheimersdisease")
_STAGES = (_HEALTHY, ("smc", "scd"), ("emci",), ("mci",), ("lmci",), _ALZHEIMER)
_GRADES = (_HEALTHY, ("verymild",), ("mild", "mildormoderate"), ("moderate",), ("severe",))
"""What classes of rising severity are called, reduced to letters; those of a set are all stages or all grades."""


def severity_ranks(class_names: Sequence[str]) -> np.ndarray:
    """Return the rank of each class by severity, or its place where the names say nothing of severity.

    For display, and for models that need some order; a metric of steps asks `known_severity`.

    Args:
        class_names: the classes of a set.

    Returns:
        int64 (K,), each rank from 0, the least severe, to K - 1 once.
    """
    known = known_severity(class_names)
    return np.arange(len(class_names)) if known is None else np.argsort(np.argsort(known))


def known_severity(class_names: Sequence[str], order: Sequence[str] | None = None) -> np.ndarray | None:
    """Return the step of severity of each class, where it is known.

    Known are the names of the field in their usual spellings: CN, NC or Normal < SMC < EMCI < MCI < LMCI < AD or
    Dementia; Non < Very mild < Mild < Moderate < Severe, with or without "demented" or "impairment". Of these, a
    class that the set lacks keeps its step: mild is two steps from non. Two classes are one step apart either way
    round, so that their order is always known.

    Args:
        class_names: the classes of a set.
        order: the same names from the least to the most severe; None takes the order that the names tell.

    Returns:
        int64 (K,), 0 for the least severe; None where the order is not known.

    Raises:
        DataError: `order` does not name every class once.

    Example:
        >>> known_severity(("AD", "CN", "MCI")).tolist()
        [2, 0, 1]
    """
    if order is not None:
        if sorted(order) != sorted(class_names):
            raise DataError(
                f"severity names {', '.join(order)}, and the classes are {', '.join(class_names)}; name each of them "
                "once, from the least to the most severe"
            )
        return np.array([list(order).index(name) for name in class_names], np.int64)
    words = [_severity_word(name) for name in class_names]
    for scale in (_STAGES, _GRADES):
        level_of = {word: level for level, same in enumerate(scale) for word in same}
        levels = np.array([level_of.get(word, -1) for word in words], np.int64)
        if (levels >= 0).all() and len(set(levels.tolist())) == len(levels):
            return levels - min(levels.tolist(), default=0) if scale is _GRADES else np.argsort(np.argsort(levels))
    return np.arange(len(class_names)) if len(class_names) <= 2 else None


def order_by_severity(class_names: Sequence[str], order: Sequence[str] | None = None) -> list[str] | None:
    """Return the classes from the least to the most severe, see known_severity; None where that is not known.

    Example:
        >>> order_by_severity(("Mild_Demented", "Non_Demented", "Very_Mild_Demented"))
        ['Non_Demented', 'Very_Mild_Demented', 'Mild_Demented']
    """
    ranks = known_severity(class_names, order)
    return None if ranks is None else [class_names[int(at)] for at in np.argsort(ranks)]


def _severity_word(class_name: str) -> str:
    """Reduce a class name to the letters that tell its severity."""
    word = re.sub("final|jpe?g|png", "", re.sub("[^a-z]", "", class_name.lower()))
    word = re.sub("mildcognitive(impairment)?", "mci", word).replace("early", "e").replace("late", "l")
    return re.sub("demented|dementia|impairment|impaired", "", word) or ("ad" if "dement" in word else word)
