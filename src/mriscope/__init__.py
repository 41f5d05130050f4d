"""mriscope: train, rank, explain and honestly evaluate dementia classifiers on brain-MRI slices.

The names below are imported when first used, so that importing mriscope costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriscope.data.batches import scaled
    from mriscope.data.phantom import make_phantom
    from mriscope.data.readers import read
    from mriscope.data.slices import SliceSet
    from mriscope.experiment.explaining import explain_run
    from mriscope.experiment.judging import evaluate_run, predict_images
    from mriscope.experiment.running import run
    from mriscope.explain.cams import GradCAM
    from mriscope.models.registry import create_model, list_models
    from mriscope.recipe import make_recipe, read_recipe

__version__ = "0.1.0"
__all__ = [
    "GradCAM",
    "SliceSet",
    "create_model",
    "evaluate_run",
    "explain_run",
    "list_models",
    "make_phantom",
    "make_recipe",
    "predict_images",
    "read",
    "read_recipe",
    "run",
    "scaled",
]

_HOMES = {
    "data.batches": ("scaled",),
    "data.phantom": ("make_phantom",),
    "data.readers": ("read",),
    "data.slices": ("SliceSet",),
    "experiment.explaining": ("explain_run",),
    "experiment.judging": ("evaluate_run", "predict_images"),
    "experiment.running": ("run",),
    "explain.cams": ("GradCAM",),
    "models.registry": ("create_model", "list_models"),
    "recipe": ("make_recipe", "read_recipe"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"mriscope.{home}"), name)
    raise AttributeError(f"module 'mriscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
