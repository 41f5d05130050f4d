"""A linear classifier of whole subjects, from a description of all their slices in order."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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
Keep = Callable[[str, Callable[[], np.ndarray]], np.ndarray]
"""From a key to the array that is kept under it, or else the one that the function makes, and kept from now on."""

_keep: ContextVar[Keep | None] = ContextVar("_keep", default=None)


@contextmanager
def keeping_descriptions(keep: Keep) -> Iterator[None]:
    """Keep descriptions outside this process too within the block, so that processes which need the same share them.

    Without it they stay in memory, as nothing of a slice that a model is merely asked about is to be written down.

    Args:
        keep: called with a key of letters, digits and hyphens.
    """
    before = _keep.set(keep)
    try:
        yield
    finally:
        _keep.reset(before)


def memoize_by_content(describe: Describe, *, kept_as: str | None = None, most_bytes: int = 2**27) -> Describe:
    """Keep descriptions by the pixels they were made of, as every fold of a cross-validation needs them again.

    Args:
        describe: deterministic.
        kept_as: name and version of the description, under which it is kept within `keeping_descriptions`; None keeps
            it in memory alone.
        most_bytes: of descriptions in memory; beyond it the oldest go. The default holds 2,200 subjects of
            tissue_families and 49,000 of tissue_histograms.
    """
    known: dict[str, np.ndarray] = {}

    @functools.wraps(describe)
    def describe_once(images: np.ndarray) -> np.ndarray:
        key = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()
        if key not in known:
            keep = _keep.get()
            if keep is None or kept_as is None:
                description = describe(images)
            else:
                description = keep(f"{kept_as}-{key}", lambda: describe(images))
            if known and len(known) >= most_bytes // description.nbytes:
                known.pop(next(iter(known)))
            known[key] = description
        return known[key]

    return describe_once


def describe_each(describe: Describe, images: np.ndarray, subjects: Sequence[np.ndarray]) -> np.ndarray:
    """Describe several subjects, in an order drawn anew: processes that share descriptions rarely make the same one.

    Args:
        describe: as memoize_by_content gives it.
        images: uint8 (N, H, W).
        subjects: n of them, one at least: int64, the rows of each in order.

    Returns:
        (n, D).
    """
    order = np.random.default_rng().permutation(len(subjects))
    found = {one: describe(images[subjects[one]]) for one in order.tolist()}
    return np.stack([found[one] for one in range(len(subjects))])


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
        return numbers, describe_each(self._describe, slices.images, np.split(order, starts[1:]))
