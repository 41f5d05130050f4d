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
    from mriscope.evaluation.plots import sample_slices
    from mriscope.explain.cam import GradCAM
    from mriscope.explain.overlays import grid, overlay
    from mriscope.models.registry import create_model, list_models
    from mriscope.recipe import make_recipe, read_recipe
    from mriscope.reports.comparison import comparison_text
    from mriscope.reports.text import describe_slices, metrics_text, slices_text
    from mriscope.workflows._model import load_model
    from mriscope.workflows.compare import compare_recipes, compare_runs
    from mriscope.workflows.evaluate import evaluate_run
    from mriscope.workflows.explain import explain_run
    from mriscope.workflows.predict import predict_images
    from mriscope.workflows.train import run

__version__ = "0.1.0"
__all__ = [
    "GradCAM",
    "SliceSet",
    "compare_recipes",
    "compare_runs",
    "comparison_text",
    "create_model",
    "describe_slices",
    "evaluate_run",
    "explain_run",
    "grid",
    "list_models",
    "load_model",
    "make_phantom",
    "make_recipe",
    "metrics_text",
    "overlay",
    "predict_images",
    "read",
    "read_recipe",
    "run",
    "sample_slices",
    "scaled",
    "slices_text",
]

_HOMES = {
    "data.batches": ("scaled",),
    "data.phantom": ("make_phantom",),
    "data.readers": ("read",),
    "data.slices": ("SliceSet",),
    "evaluation.plots": ("sample_slices",),
    "workflows.compare": ("compare_recipes", "compare_runs"),
    "workflows.explain": ("explain_run",),
    "workflows._model": ("load_model",),
    "workflows.evaluate": ("evaluate_run",),
    "workflows.predict": ("predict_images",),
    "workflows.train": ("run",),
    "explain.cam": ("GradCAM",),
    "explain.overlays": ("grid", "overlay"),
    "models.registry": ("create_model", "list_models"),
    "recipe": ("make_recipe", "read_recipe"),
    "reports.comparison": ("comparison_text",),
    "reports.text": ("describe_slices", "metrics_text", "slices_text"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"mriscope.{home}"), name)
    raise AttributeError(f"module 'mriscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
