"""Families of descriptions of a subject's tissue; the five that classify left-out subjects best are averaged."""

from functools import partial

import numpy as np

from mriscope.models.registration import register_estimator
from mriscope.models.ridge import ClassRule, fit_classes
from mriscope.models.subject_rule import SubjectRule, memoize_by_content
from mriscope.models.tissue import MAP_WIDTH, VERSION, Regions, normalize_volume, several_histograms, tissue_map
from mriscope.models.tissue_histograms import BLOCKS

TAKEN = 5
"""Number of families that are averaged."""
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
"""Blocks of the description that each family joins."""


@register_estimator
def tissue_families(*, classes: int = 4, size: int = 128) -> SubjectRule:
    """The five best of thirteen ridge regressions on histograms and a map of a whole subject's tissue, averaged."""
    return SubjectRule(classes, sum(_WIDTHS.values()), describe_subject, fit_best_families)


@partial(memoize_by_content, kept_as=f"tissue-families-{VERSION}")
def describe_subject(images: np.ndarray) -> np.ndarray:
    """Concatenate all blocks of a subject: float32 (D,) of uint8 (S, H, W) slices in order."""
    volume = normalize_volume(images)
    return np.concatenate([*several_histograms(volume, list(_HISTOGRAMS.values())), tissue_map(volume)])


def fit_best_families(descriptions: np.ndarray, ranks: np.ndarray, classes: int) -> ClassRule:
    """Average the linear rules of the best families, which gives a linear rule.

    Args:
        descriptions: float (n, D).
        ranks: int64 (n,), the class of each subject by severity, from 0; at least two differ.
        classes: K.
    """
    worse = (ranks > ranks.min()).astype(int)
    left_out = {family: fit_family(descriptions, family, worse, 2).left_out for family in FAMILIES}
    taken = sort_families(left_out, worse)[:TAKEN]
    rules = [fit_family(descriptions, family, ranks, classes) for family in taken]
    weight = np.zeros((descriptions.shape[1], classes))
    for family, rule in zip(taken, rules, strict=True):
        weight[family_columns(family)] += rule.weight / TAKEN
    return ClassRule(
        weight, np.mean([rule.bias for rule in rules], axis=0), np.mean([rule.left_out for rule in rules], axis=0)
    )


def fit_family(descriptions: np.ndarray, family: str, ranks: np.ndarray, classes: int) -> ClassRule:
    """Fit the rule of one family on its own columns of the descriptions; see fit_classes."""
    widths = [_WIDTHS[block] for block in FAMILIES[family]]
    return fit_classes(descriptions[:, family_columns(family)], widths, ranks, classes)


def family_columns(family: str) -> np.ndarray:
    """Return the columns of a family within the description of a subject, int64."""
    return np.concatenate([_COLUMNS[block] for block in FAMILIES[family]])


def sort_families(left_out: dict[str, np.ndarray], worse: np.ndarray) -> list[str]:
    """Sort families by the area under the ROC curve over left-out subjects, the largest first.

    Args:
        left_out: by family, logits (n, 2) of each subject by the fit without it.
        worse: (n,), 1 where a subject is of the second class.
    """
    from sklearn.metrics import roc_auc_score  # here, as it takes seconds and creating any model imports this module

    return sorted(left_out, key=lambda family: -roc_auc_score(worse, left_out[family] @ [-1, 1]))
