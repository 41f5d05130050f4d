"""A linear classifier of whole subjects, from a description of all their slices in order."""

import functools
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.errors import DataError
from mriscope.models.ridge import ClassRule

if TYPE_CHECKING:
    from mriscope.data.slices import SliceSet

Describe = Callable[[np.ndarray], np.ndarray]
"""From uint8 (S, H, W), the slices of a subject in order, to float32 (D,)."""


def memoize_by_content(describe: Describe, most_bytes: int = 2**27) -> Describe:
    """Keep descriptions by the pixels they were made of, as every fold of a cross-validation needs them again.

    Args:
        describe: deterministic.
        most_bytes: of descriptions kept; beyond it the oldest go. The default holds 2,200 subjects of tissue_families
            and 49,000 of tissue_histograms.
    """
    known: dict[bytes, np.ndarray] = {}

    @functools.wraps(describe)
    def describe_once(images: np.ndarray) -> np.ndarray:
        key = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).digest()
        if key not in known:
            description = describe(images)
            if known and len(known) >= most_bytes // description.nbytes:
                known.pop(next(iter(known)))
            known[key] = description
        return known[key]

    return describe_once


class SubjectRule(nn.Module):
    """Describe a subject by D numbers and classify it with one linear layer, fitted in closed form.

    Args:
        classes: number of classes, K.
        width: D.
        describe: deterministic.
        learn: from descriptions (n, D), ranks (n,) by severity and the number of classes to the rule.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        classes: int,
        width: int,
        describe: Describe,
        learn: Callable[[np.ndarray, np.ndarray, int], ClassRule],
    ) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes))
        self._describe, self._learn = describe, learn

    def forward(self, descriptions: Tensor) -> Tensor:
        """Return logits (B, K) of descriptions, float32 (B, D)."""
        return nn.functional.linear(descriptions, self.weight, self.bias)

    def fit(self, slices: "SliceSet", seed: int) -> None:
        """Learn from every subject of a set; nothing is drawn, so the seed changes nothing.

        Args:
            slices: all slices of at least two subjects of two classes, with subjects and positions.
            seed: not used.

        Raises:
            DataError: a subject or position is unknown, a subject's labels differ, or all subjects are of one class.
        """
        numbers, descriptions = self.describe_subjects(slices)
        _, first, subject = np.unique(slices.subjects, return_index=True, return_inverse=True)
        labels = slices.labels[first]
        differing = subject[labels[subject] != slices.labels]
        if len(differing):
            raise DataError(
                f"subject {numbers[differing[0]]} has slices of several classes; give each subject one class"
            )
        if len(np.unique(labels)) < 2:
            raise DataError("all training subjects are of one class; train on subjects of at least two")
        ranks = slices.severity
        rule = self._learn(descriptions, ranks[labels], len(ranks))
        self.weight.copy_(torch.from_numpy(rule.weight.T[ranks]))
        self.bias.copy_(torch.from_numpy(rule.bias[ranks]))

    def predict_probabilities(self, slices: "SliceSet") -> np.ndarray:
        """Return float32 (N, K): every slice has the probabilities of its subject.

        Raises:
            DataError: a subject or position is unknown.
        """
        numbers, descriptions = self.describe_subjects(slices)
        logits = self(torch.from_numpy(descriptions).to(self.weight.device))
        by_subject = logits.cpu().double().softmax(dim=1).float().numpy()
        return by_subject[np.searchsorted(numbers, slices.subjects)]

    def describe_subjects(self, slices: "SliceSet") -> tuple[np.ndarray, np.ndarray]:
        """Describe each subject from its slices in order.

        Returns:
            int64 (n,), the subjects' numbers, rising; float32 (n, D), their descriptions.

        Raises:
            DataError: a subject or position is unknown.
        """
        if not slices.knows_subjects or np.isnan(slices.positions).any():
            raise DataError(
                "this model looks at all slices of a subject in order, and some slices name no subject or position; "
                "name them in the source or in a manifest, or train a model that looks at single slices"
            )
        order = np.lexsort((slices.positions, slices.subjects))
        numbers, starts = np.unique(slices.subjects[order], return_index=True)
        return numbers, np.stack([self._describe(slices.images[rows]) for rows in np.split(order, starts[1:])])
