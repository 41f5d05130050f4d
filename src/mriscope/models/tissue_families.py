"""Many ways to describe a subject's tissue, of which training picks the five that serve best, and averages them."""

import numpy as np

from mriscope.models.registry import register_estimator
from mriscope.models.ridge import ClassRule, fit_classes
from mriscope.models.subject_rule import SubjectRule
from mriscope.models.tissue import MAP_WIDTH, Regions, flat_volume, region_histograms, tissue_map
from mriscope.models.tissue_histograms import BLOCKS

TAKEN = 5
"""How many families are averaged."""
_PLACES, _SIGMAS = ((8, 1), (8, 4), (1, 4)), (None, 1 / 32, 1 / 64)
_HISTOGRAMS = {f"{s} slabs × {r} rings, sigma {g}": Regions(s, r, g) for s, r in _PLACES for g in _SIGMAS}
_OWN = tuple(name for name, regions in _HISTOGRAMS.items() if regions in BLOCKS)
_WIDTHS = {**{name: regions.width for name, regions in _HISTOGRAMS.items()}, "voxels": MAP_WIDTH}
_COLUMNS = dict(
    zip(_WIDTHS, np.split(np.arange(sum(_WIDTHS.values())), np.cumsum([*_WIDTHS.values()])[:-1]), strict=True)
)

FAMILIES = {
    **{name: (name,) for name in _WIDTHS},
    "tissue_histograms": _OWN,
    "all histograms": tuple(_HISTOGRAMS),
    "with voxels": (*_OWN, "voxels"),
}
"""Which blocks of numbers each family joins."""


@register_estimator
def tissue_families(*, classes: int = 4, size: int = 128) -> SubjectRule:
    """The five best of thirteen ridge regressions on histograms and a map of a whole subject's tissue, averaged."""
    return SubjectRule(classes, sum(_WIDTHS.values()), describe_all, learn_best)


def describe_all(images: np.ndarray) -> np.ndarray:
    """All blocks of a subject in a row: float32 (D,) of uint8 (S, H, W) slices in order."""
    volume = flat_volume(images)
    histograms = [region_histograms(volume, regions) for regions in _HISTOGRAMS.values()]
    return np.concatenate([*histograms, tissue_map(volume)])


def learn_best(descriptions: np.ndarray, ranks: np.ndarray, classes: int) -> ClassRule:
    """The average of the rules of the best families, each linear, so that it is linear too.

    Args:
        descriptions: float (n, D).
        ranks: int64 (n,), the class of each subject by severity, from 0; at least two differ.
        classes: K.
    """
    worse = (ranks > ranks.min()).astype(int)
    known = {family: fit_family(descriptions, family, worse, 2).left_out for family in FAMILIES}
    taken = best_first(known, worse)[:TAKEN]
    rules = [fit_family(descriptions, family, ranks, classes) for family in taken]
    weight = np.zeros((descriptions.shape[1], classes))
    for family, rule in zip(taken, rules, strict=True):
        weight[columns(family)] += rule.weight / TAKEN
    return ClassRule(
        weight, np.mean([rule.bias for rule in rules], axis=0), np.mean([rule.left_out for rule in rules], axis=0)
    )


def fit_family(descriptions: np.ndarray, family: str, ranks: np.ndarray, classes: int) -> ClassRule:
    """The rule of one family on its own columns of the descriptions; see fit_classes."""
    widths = [_WIDTHS[block] for block in FAMILIES[family]]
    return fit_classes(descriptions[:, columns(family)], widths, ranks, classes)


def columns(family: str) -> np.ndarray:
    """int64, where a family's numbers lie in the description of a subject."""
    return np.concatenate([_COLUMNS[block] for block in FAMILIES[family]])


def best_first(known: dict[str, np.ndarray], worse: np.ndarray) -> list[str]:
    """Families by the area under the ROC curve over subjects that each fit left out.

    Args:
        known: by family, logits (n, 2) of the left-out subjects.
        worse: (n,), 1 where a subject is of the second class.
    """
    from sklearn.metrics import roc_auc_score  # here, as it takes seconds and creating any model imports this module

    return sorted(known, key=lambda family: -roc_auc_score(worse, known[family] @ [-1, 1]))
