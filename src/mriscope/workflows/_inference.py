"""What is fitted after training, on the validation part, and kept in the run for whoever asks its model."""

import numpy as np
import torch
from torch import nn

from mriscope.data.slices import SliceSet
from mriscope.data.splits import Split
from mriscope.evaluation.calibration import fit_temperature, with_temperature
from mriscope.evaluation.conformal import fit_conformal
from mriscope.evaluation.out_of_distribution import (
    choose_slices,
    compute_features,
    distances,
    fit_reference,
    fit_threshold,
)
from mriscope.evaluation.predictions import Predictions
from mriscope.models.registry import Estimator
from mriscope.results import InferenceSettings
from mriscope.run_directory import INFERENCE, REFERENCE, RunDirectory

NO_VALIDATION = "probabilities are not calibrated and there are no prediction sets, as the run has no validation part"
NO_FEATURES = "slices out of distribution are not flagged, as the model has no part `features`"
NO_REFERENCE = "slices out of distribution are not flagged, as the run was trained before references were kept"
SUBJECTS_SEEN = "the coverage of prediction sets is not that of new subjects, as training has seen them"
SUBJECTS_UNKNOWN = "the coverage of prediction sets may not be that of new subjects, as subjects are unknown"


def write_inference(
    directory: RunDirectory, model: nn.Module, slices: SliceSet, split: Split, validation: Predictions
) -> None:
    """Fit temperature, prediction sets and the reference of distances, and write them into the run.

    Args:
        directory: of the run.
        model: with the weights that are kept.
        slices: of the run.
        split: of the run; the reference is of its training part, the threshold of its validation part.
        validation: predictions of the validation part.
    """
    unseen = None
    if slices.knows_subjects:
        unseen = not len(np.intersect1d(slices.subjects[split.train], slices.subjects[split.validation]))
    settings = fit_inference(validation, unseen)
    if isinstance(model, Estimator) or not any(name == "features" for name, _ in model.named_children()):
        settings = settings.model_copy(update={"notes": [*settings.notes, NO_FEATURES]})
    else:
        recipe = directory.recipe
        rows = choose_slices(split.train, recipe.seed)
        reference = fit_reference(compute_features(model, slices.images[rows], recipe.input.scale))
        reference.write(directory.path / REFERENCE)
        features = compute_features(model, slices.images[split.validation], recipe.input.scale)
        found = distances(torch.from_numpy(features), reference).numpy()
        threshold = fit_threshold(found, slices.subjects[split.validation])
        settings = settings.model_copy(update={"distance": threshold})
    settings.write(directory.path / INFERENCE)


def fit_inference(validation: Predictions, unseen: bool | None) -> InferenceSettings:
    """Fit temperature and prediction sets.

    Args:
        validation: predictions of the validation part, as the model gave them.
        unseen: whether its subjects are unseen in training; None where that is unknown.
    """
    if not len(validation):
        return InferenceSettings(notes=[NO_VALIDATION])
    temperature = fit_temperature(validation)
    conformal = fit_conformal(with_temperature(validation, temperature), unseen=unseen)
    notes = [] if conformal.unseen else [SUBJECTS_UNKNOWN if conformal.unseen is None else SUBJECTS_SEEN]
    return InferenceSettings(temperature=temperature, conformal=conformal, notes=notes)


def read_inference(directory: RunDirectory) -> InferenceSettings:
    """Read inference.json of a run; of one that was trained before it was written, fit what its predictions allow.

    Raises:
        RunError: a file of the run is damaged.
    """
    if (directory.path / INFERENCE).is_file():
        return InferenceSettings.read(directory.path / INFERENCE)
    if directory.imported:
        return InferenceSettings(notes=[NO_VALIDATION, NO_FEATURES])
    unseen = True if directory.protocol == "by_subject" else None
    settings = fit_inference(directory.predictions().of_part("validation"), unseen)
    return settings.model_copy(update={"notes": [*settings.notes, NO_REFERENCE]})
