"""A linear rule on what is known of a subject from all its slices in order."""

import hashlib
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.errors import DataError
from mriscope.models.ridge import ClassRule

if TYPE_CHECKING:
    from mriscope.data.slices import SliceSet

_MOST = 2**27  # bytes of descriptions kept: those of 2,200 subjects by tissue_families, of 49,000 by tissue_histograms
_described: dict[Callable[[np.ndarray], np.ndarray], dict[bytes, np.ndarray]] = defaultdict(dict)


class SubjectRule(nn.Module):
    """Describes a subject by numbers, and judges them by one linear layer that is learned at once.

    Args:
        classes: number of classes.
        width: how many numbers describe a subject.
        describe: from uint8 (S, H, W), the slices of a subject in order, to float32 (width,), and from the same always
            to the same.
        learn: from descriptions (n, width), ranks (n,) by severity and the number of classes to the rule.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        classes: int,
        width: int,
        describe: Callable[[np.ndarray], np.ndarray],
        learn: Callable[[np.ndarray, np.ndarray, int], ClassRule],
    ) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes))
        self._describe, self._learn = describe, learn

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
        _, descriptions = self.describe_subjects(slices)
        labels = _labels_of(slices)
        if len(np.unique(labels)) < 2:
            raise DataError("all training subjects are of one class; train on subjects of at least two")
        ranks = slices.severity
        rule = self._learn(descriptions, ranks[labels], len(ranks))
        self.weight.copy_(torch.from_numpy(rule.weight.T[ranks]))
        self.bias.copy_(torch.from_numpy(rule.bias[ranks]))

    def probabilities(self, slices: "SliceSet") -> np.ndarray:
        """float32 (N, K): every slice has the probabilities of its subject.

        Raises:
            DataError: a subject or position is unknown.
        """
        numbers, descriptions = self.describe_subjects(slices)
        logits = self(torch.from_numpy(descriptions).to(self.weight.device))
        by_subject = logits.cpu().double().softmax(dim=1).float().numpy()
        return by_subject[np.searchsorted(numbers, slices.subjects)]

    def describe_subjects(self, slices: "SliceSet") -> tuple[np.ndarray, np.ndarray]:
        """What is known of each subject from its slices in order.

        Returns:
            int64 (n,), the subjects' numbers, rising; float32 (n, D), what is known of each.

        Raises:
            DataError: a subject or position is unknown.
        """
        if not slices.knows_subjects or (slices.positions < 0).any():
            raise DataError(
                "this model looks at all slices of a subject in order, and some slices name no subject or position; "
                "name them in the source or in a manifest, or train a model that looks at single slices"
            )
        order = np.lexsort((slices.positions, slices.subjects))
        numbers, starts = np.unique(slices.subjects[order], return_index=True)
        return numbers, np.stack([self._description(slices.images[rows]) for rows in np.split(order, starts[1:])])

    def _description(self, images: np.ndarray) -> np.ndarray:
        """float32 (D,) of a subject; looked up where it was described before, as every fold asks again."""
        key, known = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).digest(), _described[self._describe]
        if key not in known:
            if len(known) >= _MOST // self.weight[0].nbytes:
                known.pop(next(iter(known)))
            known[key] = self._describe(images)
        return known[key]


def _labels_of(slices: "SliceSet") -> np.ndarray:
    """int64 (n,), the class of each subject."""
    _, first, subject = np.unique(slices.subjects, return_index=True, return_inverse=True)
    labels = slices.labels[first]
    differing = np.flatnonzero(labels[subject] != slices.labels)
    if len(differing):
        number = slices.subjects[differing[0]]
        raise DataError(f"subject {number} has slices of several classes; give each subject one class")
    return labels
