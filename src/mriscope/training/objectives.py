"""What a training makes small: one loss per slice. All ways combine."""

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from mriscope.recipe import TrainingSettings

Objective = Callable[[Tensor, Tensor], Tensor]


def make_objective(settings: TrainingSettings, class_weights: Tensor | None = None) -> Objective:
    """The loss of each slice as the settings want it.

    Args:
        settings: objective, focus and label_smoothing are read.
        class_weights: float (K,), weight of each class's slices; None weighs all alike.

    Returns:
        a function of logits float (B, K) and labels int64 (B,), giving float (B,) in nats.
    """

    def objective(logits: Tensor, labels: Tensor) -> Tensor:
        losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=settings.label_smoothing)
        if settings.objective == "focal":
            losses = losses * focal_factor(logits, labels, settings.focus)
        return losses if class_weights is None else losses * class_weights.to(losses)[labels]

    return objective


def focal_factor(logits: Tensor, labels: Tensor, focus: float) -> Tensor:
    """How much of each slice's loss the focal loss keeps: (1 - p)^focus (Lin et al., 2017).

    Args:
        logits: float (B, K).
        labels: int64 (B,).
        focus: gamma, 0 keeps all.

    Returns:
        float (B,) in [0, 1].
    """
    right = logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
    # 1 - p as expm1 keeps its digits, and its gradient, where p is close to 1.
    return (-torch.expm1(right)).clamp_min(torch.finfo(right.dtype).tiny) ** focus


def balanced_class_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights in inverse proportion to the classes' shares, 1 on average over the slices; 0 for a class without any.

    Args:
        labels: int64 (N,), of the training part.
        classes: number of classes.

    Returns:
        float32 (K,).
    """
    counts = torch.bincount(labels, minlength=classes)
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(labels) / (present * counts.clamp_min(1)), 0.0)


def hardest(losses: Tensor, share: float) -> Tensor:
    """Which slices of a batch hard example mining steps on (Shrivastava et al., 2016, by slice).

    Args:
        losses: float (B,).
        share: kept, in (0, 1].

    Returns:
        int64 (n_hardest(B, share),), indices of the highest losses.
    """
    return losses.topk(n_hardest(len(losses), share)).indices


def n_hardest(count: int, share: float) -> int:
    """How many slices of a batch are kept: two at least where it has them, as batch norm needs two."""
    return max(ceil(share * count), min(2, count))
