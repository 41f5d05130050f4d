"""What every command needs of a run: its slices, its network, its figures."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mriscope.data.readers import read
from mriscope.data.slices import SIZE, SliceSet
from mriscope.errors import RunError
from mriscope.models.registry import create_model
from mriscope.recipe import Recipe
from mriscope.run_directory import WEIGHTS, RunDirectory
from mriscope.training.checkpoint import put_weights, read_weights


def read_for(recipe: Recipe, source: str, *, skip_bad: bool, bad_rows_to: Path | None = None) -> SliceSet:
    size = None if recipe.input.size == SIZE else recipe.input.size
    return read(source, skip_bad=skip_bad, size=size, bad_rows_to=bad_rows_to)


def model_for(recipe: Recipe, class_names: Sequence[str]) -> nn.Module:
    return create_model(
        recipe.model,
        classes=len(class_names),
        size=recipe.input.size,
        options=recipe.model_options,
        seed=recipe.seed,
    )


def load_model(directory: RunDirectory, device: torch.device) -> tuple[nn.Module, tuple[str, ...]]:
    """The network of a finished run in evaluation mode, and the names of its classes.

    Raises:
        RunError: the weights are missing, damaged or another network's.
    """
    weights, facts = read_weights(directory.path / WEIGHTS)
    try:
        class_names = tuple(map(str, facts["class_names"]))
    except (KeyError, TypeError) as error:
        raise RunError(f"{directory.path / WEIGHTS} names no classes; train the run again with --fresh") from error
    model = model_for(directory.recipe, class_names)
    put_weights(model, weights, directory.path / WEIGHTS)
    return model.to(device).eval(), class_names
