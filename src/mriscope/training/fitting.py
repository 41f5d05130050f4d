"""fit(): an estimator learns in one go what a network learns in steps."""

import time
from typing import Any

import numpy as np
import torch

from mriscope.data.slices import SliceSet
from mriscope.training.loop import Trained


def fit(model: Any, slices: SliceSet, training: np.ndarray, *, seed: int, device: torch.device) -> Trained:
    """Fit an estimator. It is fast enough to begin anew where it was broken off, so nothing is kept meanwhile.

    Args:
        model: with fit(slices, seed); its buffers hold what it learns.
        slices: where rows are taken from.
        training: int64, rows it learns from; no epoch is chosen, so none validate.
        seed: of all chance.
        device: where.

    Raises:
        DataError: the slices lack what the estimator needs, such as subjects.
    """
    began = time.monotonic()
    model.to(device).fit(slices[training], seed)
    seconds = time.monotonic() - began
    figures = {"epoch": 1, "seconds": seconds, "slices_per_second": len(training) / max(seconds, 1e-9)}
    return Trained({name: tensor.cpu() for name, tensor in model.state_dict().items()}, 1, [figures])
