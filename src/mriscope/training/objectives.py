"""What a training makes small: one loss per slice, by name."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from mriscope.errors import UnknownName

Objective = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each slice.

    Args:
        logits: float (B, K).
        labels: int64 (B,).

    Returns:
        float (B,), in nats.
    """
    return functional.cross_entropy(logits, labels, reduction="none")


OBJECTIVES: dict[str, Objective] = {"cross_entropy": cross_entropy}


def make_objective(name: str) -> Objective:
    """The objective of a name.

    Raises:
        UnknownName: there is none; the message names the near ones.
    """
    if name not in OBJECTIVES:
        raise UnknownName("objective", name, OBJECTIVES)
    return OBJECTIVES[name]
