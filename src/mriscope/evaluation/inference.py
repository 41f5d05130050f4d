"""A model's probabilities for slices; the model comes back as it was found."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
from torch import nn

from mriscope.choices import Scale
from mriscope.data.batches import scaled
from mriscope.data.slices import SliceSet
from mriscope.errors import DataError
from mriscope.evaluation.predictions import Predictions
from mriscope.models.registry import Estimator


def predict(
    model: nn.Module,
    slices: SliceSet,
    scale: Scale,
    part: str | np.ndarray,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    severity: tuple[str, ...] | None = None,
) -> Predictions:
    """Predict each slice of a set.

    Args:
        model: float32 (B, 1, H, W) to logits (B, K), or an estimator.
        slices: at least one.
        scale: "raw", "unit" or "imagenet", as the model was trained.
        part: the part these slices belong to: "train", "validation" or "test"; one for all, or one for each.
        batch_size: slices at once; bounds memory and changes no probability beyond rounding.
        device: where to compute; none: where the model is. The model is back in its place afterwards.
        severity: the classes from the least to the most severe; None: as their names tell.

    Raises:
        DataError: there are no slices, or the model's outputs are not finite or not one per class.
    """
    home = _device(model)
    try:
        model.to(home if device is None else device)
        probabilities = _predict_set(model, slices, scale, batch_size)
    finally:
        model.to(home)
    return Predictions(
        paths=slices.paths,
        labels=slices.labels,
        subjects=slices.subjects,
        parts=np.broadcast_to(np.asarray(part), len(slices)),
        probabilities=probabilities,
        class_names=slices.class_names,
        severity=severity,
        subject_ids=slices.subject_ids,
    )


def predict_probabilities(model: nn.Module, images: np.ndarray, scale: Scale, batch_size: int = 256) -> np.ndarray:
    """Compute the softmax of a model's logits, in evaluation mode and without gradients, on the model's device.

    Args:
        model: float32 (B, 1, H, W) to logits (B, K), or an estimator that needs no subjects; each of its modules is
            left in the mode it was in.
        images: uint8 (N, H, W), N at least 1; may be memory-mapped.
        scale: "raw", "unit" or "imagenet", as the model was trained.
        batch_size: slices at once.

    Returns:
        float32 (N, K); each row sums to 1.

    Raises:
        DataError: there are no images, the model's outputs are not finite, or the estimator needs to know whose the
            images are.
    """
    if not len(images):
        raise DataError("there is no slice to predict; name at least one")
    if isinstance(model, Estimator):
        return _predict_set(model, SliceSet.of(images, np.zeros(len(images), np.int64)), scale, batch_size)
    device, batches = _device(model), []
    with eval_mode(model), torch.inference_mode():
        for start in range(0, len(images), batch_size):
            pixels = np.array(images[start : start + batch_size])  # a copy: torch wants memory it may write to
            logits = model(scaled(torch.from_numpy(pixels).to(device), scale))
            batches.append(logits.cpu().double().softmax(dim=1).float().numpy())
    probabilities = np.concatenate(batches)
    if not np.isfinite(probabilities).all():
        raise DataError("the model's outputs are not finite (did the training diverge?); use other weights")
    return probabilities


def _predict_set(model: nn.Module, slices: SliceSet, scale: Scale, batch_size: int) -> np.ndarray:
    """Return float32 (N, K): an estimator takes the whole set, a network its images."""
    if isinstance(model, Estimator) and len(slices):
        return model.predict_probabilities(slices)
    return predict_probabilities(model, slices.images, scale, batch_size)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set a model and all its parts to evaluation mode within a block, and each back to its own mode after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:  # one by one: a frozen part may rest in evaluation mode within a training model
            module.training = training


def _device(model: nn.Module) -> torch.device:
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device
