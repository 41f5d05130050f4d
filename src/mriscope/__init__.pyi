"""The public names of mriscope: what the type checker reads, and the table of mriscope.lazy."""

from .audit.subjects import RecoveredSubjects, recover_subjects
from .data.batches import scaled
from .data.phantom import make_phantom
from .data.readers import read
from .data.slices import SliceSet
from .errors import (
    ArgumentError,
    ArgumentTypeError,
    BadRowsError,
    DataError,
    InterruptedTrainingError,
    MissingExtraError,
    MriscopeError,
    RecipeError,
    RunError,
    TrainingError,
    UnknownNameError,
    WriteError,
)
from .evaluation.intervals import bootstrap
from .evaluation.plots import sample_slices
from .evaluation.predictions import Predictions
from .explain.cam import GradCAM
from .explain.maps import explain
from .explain.overlays import grid, overlay
from .models.registry import create_model, list_models
from .recipe import Recipe, make_recipe, read_recipe
from .version import __version__
from .workflows.audit import audit_source as audit
from .workflows.compare import compare_recipes, compare_runs
from .workflows.crossval import crossvalidate
from .workflows.evaluate import evaluate_run as evaluate
from .workflows.explain import explain_run
from .workflows.predict import TrainedModel, load_model
from .workflows.predict import predict_images as predict
from .workflows.train import run, train

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "BadRowsError",
    "DataError",
    "GradCAM",
    "InterruptedTrainingError",
    "MissingExtraError",
    "MriscopeError",
    "Predictions",
    "Recipe",
    "RecipeError",
    "RecoveredSubjects",
    "RunError",
    "SliceSet",
    "TrainedModel",
    "TrainingError",
    "UnknownNameError",
    "WriteError",
    "__version__",
    "audit",
    "bootstrap",
    "compare_recipes",
    "compare_runs",
    "create_model",
    "crossvalidate",
    "evaluate",
    "explain",
    "explain_run",
    "grid",
    "list_models",
    "load_model",
    "make_phantom",
    "make_recipe",
    "overlay",
    "predict",
    "read",
    "read_recipe",
    "recover_subjects",
    "run",
    "sample_slices",
    "scaled",
    "train",
]
