"""Histograms of a subject's tissue by region, and a ridge regression on them."""

from functools import partial

import numpy as np

from mriscope.models.registration import register_estimator
from mriscope.models.ridge import ClassRule, fit_classes
from mriscope.models.subject_rule import SubjectRule, memoize_by_content
from mriscope.models.tissue import VERSION, Regions, describe

BLOCKS = (Regions(slabs=8, rings=1), Regions(slabs=1, rings=4, sigma=1 / 64))
_WIDTHS = [block.width for block in BLOCKS]


@register_estimator
def tissue_histograms(*, classes: int = 4, size: int = 128) -> SubjectRule:
    """Ridge regression on tissue histograms by region of a whole subject."""
    return SubjectRule(classes, sum(_WIDTHS), _describe_subject, _fit_rule)


@partial(memoize_by_content, kept_as=f"tissue-histograms-{VERSION}")
def _describe_subject(images: np.ndarray) -> np.ndarray:
    return describe(images, BLOCKS)


def _fit_rule(descriptions: np.ndarray, ranks: np.ndarray, classes: int) -> ClassRule:
    return fit_classes(descriptions, _WIDTHS, ranks, classes)
