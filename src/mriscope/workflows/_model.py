"""Create the model of a recipe, and load that of a run."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mriscope.models.names import ESTIMATORS
from mriscope.models.registry import create_model
from mriscope.recipe import Recipe
from mriscope.run_directory import WEIGHTS, RunDirectory, open_run
from mriscope.training.checkpoint import put_weights, read_weights
from mriscope.training.optimizers import try_options

STEPS = 100
"""Of an epoch, where the number of slices is not known yet."""


def create_model_for(recipe: Recipe, class_names: Sequence[str], *, pretrained: bool = True) -> nn.Module:
    """Create the model of a recipe; pretrained=False where its weights are put in afterwards anyway."""
    return create_model(
        recipe.model,
        classes=len(class_names),
        size=recipe.input.size,
        options=recipe.model_options,
        seed=recipe.seed,
        pretrained=pretrained,
    )


def try_settings(recipe: Recipe) -> None:
    """Make the model of a recipe where it has options, and take a few steps of its optimizer, before data are read.

    Raises:
        RecipeError: the model, the optimizer or the schedule refuses its options.
    """
    if recipe.model_options:
        create_model_for(recipe, ("one", "other"), pretrained=False)
    if recipe.model not in ESTIMATORS:
        try_options(recipe.training, STEPS)


def load_network(
    run: RunDirectory | str | Path, device: torch.device | str = "cpu"
) -> tuple[nn.Module, tuple[str, ...]]:
    """Load the network of a finished run in evaluation mode, and the names of its classes.

    Raises:
        RunError: no finished run, or its weights are missing, damaged or another network's.
    """
    directory = run if isinstance(run, RunDirectory) else open_run(run)
    saved = read_weights(directory.path / WEIGHTS)
    model = create_model_for(directory.recipe, saved.class_names, pretrained=False)
    put_weights(model, saved.weights, directory.path / WEIGHTS)
    return model.to(device).eval(), saved.class_names
