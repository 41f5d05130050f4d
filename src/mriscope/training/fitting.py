"""fit(): one entry point for networks and estimators, so that workflows need not distinguish them."""

import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mriscope.data.batches import Scale
from mriscope.data.slices import SliceSet
from mriscope.models.compact import SubjectCNN
from mriscope.models.registry import Estimator
from mriscope.recipe import TrainingSettings
from mriscope.training.loop import Trained, check_settings, train
from mriscope.training.progress import Monitor


def fit(
    model: nn.Module,
    slices: SliceSet,
    training: np.ndarray,
    validation: np.ndarray,
    settings: TrainingSettings,
    *,
    scale: Scale,
    seed: int,
    device: torch.device,
    folder: Path,
    monitor: Monitor,
) -> Trained:
    """Fit a model: a network by gradient steps, as `train` does with the same arguments; an Estimator in closed form.

    A SubjectCNN is trained to name subjects, so that losses and accuracies of its history are those of subjects. An
    Estimator is fitted on the training rows alone, is fast enough to begin anew where it was interrupted, and leaves
    nothing in the folder.

    Raises:
        DataError: the estimator cannot learn from these slices.
        TrainingError, RunError, InterruptedTrainingError: as `train`.
    """
    if not isinstance(model, Estimator):
        learning = isinstance(model, SubjectCNN)
        with model.learning_subjects(slices, training, validation) if learning else nullcontext(slices) as labelled:
            return train(
                model,
                labelled,
                training,
                validation,
                settings,
                scale=scale,
                seed=seed,
                device=device,
                folder=folder,
                monitor=monitor,
            )
    model.to(device)
    began = time.monotonic()
    model.fit(slices[training], seed)
    seconds = time.monotonic() - began
    metrics = {"epoch": 1, "seconds": seconds, "slices_per_second": len(training) / max(seconds, 1e-9)}
    return Trained({name: tensor.cpu() for name, tensor in model.state_dict().items()}, 1, [metrics])


def check_fit(model: nn.Module, settings: TrainingSettings, n_training: int) -> None:
    """Check that settings fit a model and the size of its training part, before anything is written.

    Raises:
        UnknownNameError: there is no such optimizer.
        RecipeError: the optimizer or the schedule refuses its options.
    """
    if not isinstance(model, Estimator):
        check_settings(model, settings, n_training)
