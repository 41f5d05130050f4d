"""What is fitted after training, on the validation part, and kept in the run for whoever asks its model."""

import numpy as np
import torch
from torch import nn

from mriscope.data.slices import SliceSet
from mriscope.data.splits import Split
from mriscope.errors import DataError
from mriscope.evaluation.calibration import fit_temperature, with_temperature
from mriscope.evaluation.conformal import fit_conformal
from mriscope.evaluation.out_of_distribution import (
    FeatureReference,
    choose_slices,
    compute_features,
    distances,
    fit_reference,
    fit_threshold,
)
from mriscope.evaluation.pooling import choose_pooling, pool_by_subject
from mriscope.evaluation.predictions import Predictions
from mriscope.models.registry import Estimator
from mriscope.results import DistanceThreshold, InferenceSettings
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
    fitted = None if isinstance(model, Estimator) else _fit_reference(directory, model, slices, split)
    if fitted is None:
        settings = settings.model_copy(update={"notes": [*settings.notes, NO_FEATURES]})
    else:
        reference, threshold = fitted
        reference.write(directory.path / REFERENCE)
        settings = settings.model_copy(update={"distance": threshold})
    settings.write(directory.path / INFERENCE)


def _fit_reference(
    directory: RunDirectory, model: nn.Module, slices: SliceSet, split: Split
) -> tuple[FeatureReference, DistanceThreshold] | None:
    """Return the reference and the threshold; None where the network has no part `features` that gives maps."""
    if not any(name == "features" for name, _ in model.named_children()):
        return None
    scale, rows = directory.recipe.input.scale, choose_slices(split.train, directory.recipe.seed)
    try:
        reference = fit_reference(compute_features(model, slices.images[rows], scale))
    except DataError:  # it has such a part, of another kind
        return None
    features = compute_features(model, slices.images[split.validation], scale)
    found = distances(torch.from_numpy(features), reference).numpy()
    return reference, fit_threshold(found, slices.subjects[split.validation])


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
    settings = InferenceSettings(temperature=temperature, conformal=conformal, notes=notes)
    return _with_subjects(settings, with_temperature(validation, temperature), unseen)


def _with_subjects(settings: InferenceSettings, calibrated: Predictions, unseen: bool | None) -> InferenceSettings:
    """Choose the way of pooling, and calibrate prediction sets of whole subjects, where subjects are known."""
    if not calibrated.knows_subjects:
        return settings
    pooling = choose_pooling(calibrated)
    of_subjects = fit_conformal(pool_by_subject(calibrated, pooling), unseen=unseen)
    return settings.model_copy(update={"pooling": pooling, "conformal_subjects": of_subjects})


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
