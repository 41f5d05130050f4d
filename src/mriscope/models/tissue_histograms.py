"""The subject as a whole: histograms of its tissue by region, and a penalised linear rule on them."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.errors import DataError
from mriscope.models.registry import register_estimator
from mriscope.models.ridge import fit_classes
from mriscope.models.tissue import Regions, describe

if TYPE_CHECKING:
    from mriscope.data.slices import SliceSet

_MOST = 20_000  # subjects, of 2.7 KB each
_described: dict[bytes, np.ndarray] = {}

BLOCKS = (Regions(slabs=8, rings=1), Regions(slabs=1, rings=4, sigma=1 / 64))


class TissueHistograms(nn.Module):
    """Ridge regressions on histograms of all slices of a subject, made probabilities by a logistic regression.

    All of it is linear, so one linear layer is what is kept; see fit_classes.

    Args:
        classes: number of classes.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, sum(block.width for block in BLOCKS)))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, descriptions: Tensor) -> Tensor:
        """Logits (B, K) of described subjects, float32 (B, D)."""
        return nn.functional.linear(descriptions, self.weight, self.bias)

    def fit(self, slices: "SliceSet", seed: int) -> None:
        """Learn from every subject of a set; nothing is drawn, so the seed changes nothing.

        Args:
            slices: all slices of at least two subjects of two classes, with subjects and positions.
            seed: of no use here.

        Raises:
            DataError: a subject or position is unknown, a subject's labels differ, or all subjects are of one class.
        """
        _, descriptions = describe_subjects(slices)
        labels = _labels_of(slices)
        if len(np.unique(labels)) < 2:
            raise DataError("all training subjects are of one class; train on subjects of at least two")
        ranks = slices.severity
        rule = fit_classes(descriptions, [block.width for block in BLOCKS], ranks[labels], len(ranks))
        self.weight.copy_(torch.from_numpy(rule.weight.T[ranks]))
        self.bias.copy_(torch.from_numpy(rule.bias[ranks]))

    def probabilities(self, slices: "SliceSet") -> np.ndarray:
        """float32 (N, K): every slice has the probabilities of its subject.

        Raises:
            DataError: a subject or position is unknown.
        """
        numbers, descriptions = describe_subjects(slices)
        logits = self(torch.from_numpy(descriptions).to(self.weight.device))
        by_subject = logits.cpu().double().softmax(dim=1).float().numpy()
        return by_subject[np.searchsorted(numbers, slices.subjects)]


@register_estimator
def tissue_histograms(*, classes: int = 4, size: int = 128) -> nn.Module:
    """Ridge regression on tissue histograms by region of a whole subject."""
    return TissueHistograms(classes)


def describe_subjects(slices: "SliceSet") -> tuple[np.ndarray, np.ndarray]:
    """Histograms of each subject's slices in order.

    Returns:
        int64 (n,), the subjects' numbers, rising; float32 (n, D), what is known of each.

    Raises:
        DataError: a subject or position is unknown.
    """
    if not slices.knows_subjects or (slices.positions < 0).any():
        raise DataError(
            "tissue_histograms looks at all slices of a subject in order, and some slices name no subject or position; "
            "name them in the source or in a manifest, or train a model that looks at single slices"
        )
    order = np.lexsort((slices.positions, slices.subjects))
    numbers, starts = np.unique(slices.subjects[order], return_index=True)
    return numbers, np.stack([_description(slices.images[rows]) for rows in np.split(order, starts[1:])])


def _description(images: np.ndarray) -> np.ndarray:
    """float32 (D,), what is known of a subject; looked up where it was described before, as every fold asks again."""
    key = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).digest()
    if key not in _described:
        if len(_described) >= _MOST:
            _described.pop(next(iter(_described)))
        _described[key] = describe(images, BLOCKS)
    return _described[key]


def _labels_of(slices: "SliceSet") -> np.ndarray:
    """int64 (n,), the class of each subject."""
    _, first, subject = np.unique(slices.subjects, return_index=True, return_inverse=True)
    labels = slices.labels[first]
    differing = np.flatnonzero(labels[subject] != slices.labels)
    if len(differing):
        number = slices.subjects[differing[0]]
        raise DataError(f"subject {number} has slices of several classes; give each subject one class")
    return labels
