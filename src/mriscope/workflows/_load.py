"""What every command needs of a run: its slices and its network."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from mriscope.data.readers import read_rows
from mriscope.data.rows import Reading
from mriscope.data.slices import SIZE, known_severity
from mriscope.errors import DataError
from mriscope.models.registry import create_model
from mriscope.recipe import Recipe
from mriscope.run_directory import WEIGHTS, RunDirectory
from mriscope.training.checkpoint import put_weights, read_weights
from mriscope.workflows._subjects import origin_of_subjects, with_known_subjects


def read_for(recipe: Recipe, source: str, *, skip_bad: bool) -> Reading:
    """The slices of a source, at the size that a recipe's network takes, with what its user should be told.

    Their subjects are those of the recipe's manifest, else of the source, else those that pixels tell beyond doubt.

    Raises:
        DataError: the source or the manifest cannot be read or do not fit, or make slices of another size; or the
            recipe's severity names other classes.
    """
    size = recipe.input.size
    wanted = None if size == SIZE else size
    reading = read_rows(source, skip_bad=skip_bad, size=wanted, manifest=recipe.manifest)
    if reading.slices.images.shape[1:] != (size, size):
        height, width = reading.slices.images.shape[1:]
        raise DataError(f"{source} has slices of {height}×{width} and input.size is {size}; set input.size={height}")
    known_severity(reading.slices.class_names, recipe.severity)
    slices = reading.slices  # what a person wrote down is not guessed at, also where it leaves subjects unknown
    known = slices if recipe.manifest is not None else with_known_subjects(slices, source)
    return replace(reading, slices=known, subjects_from=origin_of_subjects(slices, known, recipe.manifest))


def model_for(recipe: Recipe, class_names: Sequence[str], *, pretrained: bool = True) -> nn.Module:
    """The network of a recipe; pretrained=False leaves its weights random, where they are put in afterwards anyway."""
    return create_model(
        recipe.model,
        classes=len(class_names),
        size=recipe.input.size,
        options=recipe.model_options,
        seed=recipe.seed,
        pretrained=pretrained,
    )


def load_model(directory: RunDirectory, device: torch.device) -> tuple[nn.Module, tuple[str, ...]]:
    """The network of a finished run in evaluation mode, and the names of its classes.

    Raises:
        RunError: the weights are missing, damaged or another network's.
    """
    saved = read_weights(directory.path / WEIGHTS)
    model = model_for(directory.recipe, saved.class_names, pretrained=False)
    put_weights(model, saved.weights, directory.path / WEIGHTS)
    return model.to(device).eval(), saved.class_names
