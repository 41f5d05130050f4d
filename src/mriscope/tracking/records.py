"""Record a run in MLflow: parameters, metrics, files and the model. No slice and no folder of the user is among it."""

import json
import math
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mriscope.recipe import Recipe, flatten_settings, write_recipe
from mriscope.results import Environment, Estimate, Metrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# Pictures that hold no slice. The others stay in the run directory, as a server may belong to anybody.
PICTURES = ("training", "confusion", "roc", "calibration", "reliability")
MODEL_CODE = Path(__file__).with_name("model_code.py")
EVERY_EPOCH = "train_loss"  # a metric that each epoch has

# MLflow's limits: characters of a parameter, a data set's name and its digest; parameters and metrics in one call.
_LONGEST_VALUE, _LONGEST_SOURCE, _LONGEST_DIGEST = 6000, 500, 36
_MOST_PARAMS, _MOST_METRICS = 100, 1000


@dataclass(frozen=True)
class TrackedRun:
    """One run in a store.

    Attributes:
        experiment: its id.
        place: the store, without passwords.
        recipe: without folders of the user; see strip_folders.
        data: fingerprint of the slices.
        epochs: those whose metrics the store has.
    """

    client: "MlflowClient"
    experiment: str
    id: str
    place: str
    recipe: Recipe
    data: str
    epochs: set[int]

    @property
    def source(self) -> str:
        """Return the data's name in MLflow."""
        return self.recipe.data[:_LONGEST_SOURCE]

    @property
    def digest(self) -> str:
        """Return the data's digest in MLflow."""
        return self.data[:_LONGEST_DIGEST]


def initial_tags(recipe: Recipe, environment: Environment) -> dict[str, str]:
    """Return the tags that a run is found by in MLflow: its model, protocol, data, commit and machine."""
    commit = environment.commit or ""
    machine = flatten_settings(_strip_source(environment))
    tags = {
        "mlflow.source.name": f"mriscope {version('mriscope')}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit.removesuffix("+"),
        "mlflow.source.git.dirty": str(commit.endswith("+")).lower() if commit else "",
        "model": recipe.model,
        "protocol": "" if recipe.split.file else recipe.split.protocol,  # a file names its own
        "data": str(environment.data),
        **{f"environment.{_fit_name(key)}": str(value) for key, value in machine.items()},
    }
    return {name: value for name, value in tags.items() if value}


def record_start(run: TrackedRun, environment: Environment) -> None:
    """Record what is known before the first step: settings, data and machine."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    params = [Param(name, value) for name, value in _recipe_params(run.recipe).items()]
    for start in range(0, len(params), _MOST_PARAMS):
        run.client.log_batch(run.id, params=params[start : start + _MOST_PARAMS])
    slices = Dataset(run.source, run.digest, source_type="local", source=json.dumps({"uri": run.recipe.data}))
    run.client.log_inputs(run.id, [DatasetInput(slices, [InputTag("mlflow.data.context", "training")])])
    run.client.log_text(run.id, write_recipe(run.recipe), "recipe.yaml")
    run.client.log_dict(run.id, _strip_source(environment), "environment.json")


def record_epochs(run: TrackedRun, history: Sequence[Mapping[str, float]]) -> None:
    """Record the metrics of epochs that the store does not have, in as few calls as MLflow's limits allow."""
    new = [row for row in history if int(row["epoch"]) not in run.epochs]
    metrics = [
        _make_metric(name, value, int(row["epoch"])) for row in new for name, value in row.items() if name != "epoch"
    ]
    for start in range(0, len(metrics), _MOST_METRICS):
        run.client.log_batch(run.id, metrics=metrics[start : start + _MOST_METRICS])
    run.epochs.update(int(row["epoch"]) for row in new)


def record_end(run: TrackedRun, folder: Path, metrics: Metrics) -> None:
    """Record what a finished run holds; the large model comes last, so that a store that fails there has the rest."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    step = 0 if metrics.training is None else metrics.training.epoch_kept
    params = _recipe_params(run.recipe)
    # The calls that mlflow.pyfunc.log_model is made of: it would begin a run of its own, or take whichever is active.
    model = run.client.create_logged_model(run.experiment, run.recipe.model, run.id, params=params)
    run.client.log_outputs(run.id, [LoggedModelOutput(model.model_id, step)])
    _record_metrics(run, metrics, model.model_id, step)
    _record_files(run, folder, metrics)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "model")
        _save_model(path, run, folder, model.model_id, len(metrics.classes))
        run.client.log_model_artifacts(model.model_id, str(path))
    run.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _record_metrics(run: TrackedRun, metrics: Metrics, model_id: str, step: int) -> None:
    """Record the metrics with their intervals, and the tags that say how to read them."""
    from mlflow.entities import RunTag

    leaky = "unknown" if metrics.leaky is None else str(metrics.leaky).lower()
    tags = {"leaky": leaky, "protocol": metrics.protocol, "part": metrics.part}
    tags["mlflow.note.content"] = _describe_result(metrics)
    about = {"model_id": model_id, "dataset_name": run.source, "dataset_digest": run.digest, "run_id": run.id}
    run.client.log_batch(
        run.id,
        metrics=[_make_metric(name, value, step, **about) for name, value in final_metrics(metrics).items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )


def _record_files(run: TrackedRun, folder: Path, metrics: Metrics) -> None:
    """Record the pictures that hold no slice, the confusion matrix and metrics.json."""
    for name in PICTURES:
        picture = folder / "figures" / f"{name}.png"
        if picture.is_file():
            run.client.log_artifact(run.id, str(picture), "figures")
    table = {"classes": list(metrics.classes), "rows": "true class", "slices": metrics.confusion_matrix}
    run.client.log_dict(run.id, table, "confusion_matrix.json")
    run.client.log_text(run.id, metrics.to_json() + "\n", "metrics.json")


def _save_model(path: Path, run: TrackedRun, folder: Path, model_id: str, classes: int) -> None:
    """Write the model in MLflow's format: code, safetensors, a signature, and no example of an input."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    size = run.recipe.input.size
    slices = TensorSpec(np.dtype(np.uint8), (-1, size, size))
    probabilities = TensorSpec(np.dtype(np.float32), (-1, classes))
    record = Model(run_id=run.id, model_uuid=model_id, model_id=model_id)
    recipe = path.with_name("recipe.yaml")
    recipe.write_text(write_recipe(run.recipe), encoding="utf-8")
    pyfunc.save_model(
        str(path),
        python_model=str(MODEL_CODE),
        artifacts={"weights": str(folder / "model.safetensors"), "recipe": str(recipe)},
        signature=ModelSignature(Schema([slices]), Schema([probabilities])),
        pip_requirements=[f"mriscope=={version('mriscope')}"],
        mlflow_model=record,
    )
    flavor = record.flavors["python_function"]
    flavor["model_code_path"] = MODEL_CODE.name  # paths of this machine mean nothing elsewhere
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    record.save(str(path / "MLmodel"))


def final_metrics(metrics: Metrics) -> dict[str, float]:
    """Return the numbers of metrics.json by their names in MLflow; one that does not exist is left out.

    Returns:
        accuracy, accuracy_low, accuracy_high and so on; per_class/recall_<class> and so on; training_<name>; counts.
    """
    found: dict[str, float | None] = {}
    for name, estimate in metrics.metrics.items():
        found |= _with_bounds(name, estimate)
    for class_name, values in metrics.classes.items():
        for name, estimate in values.estimates().items():
            found |= _with_bounds(f"per_class/{name}_{_fit_name(class_name)}", estimate)
    if metrics.training is not None:
        found |= {f"training_{name}": value for name, value in metrics.training}
    found |= {name: getattr(metrics, name) for name in ("n_slices", "n_subjects", "shared_subjects")}
    return {name: float(value) for name, value in found.items() if value is not None}


def _with_bounds(name: str, estimate: Estimate) -> dict[str, float | None]:
    ends = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    return {ends[end]: number for end, number in estimate.numbers().items()}


def _describe_result(metrics: Metrics) -> str:
    """Return the sentence that MLflow shows for a run: the accuracy with its interval and its protocol."""
    estimate, interval = metrics.metrics["accuracy"], metrics.interval
    numbers = (estimate.value, estimate.low, estimate.high)
    value, low, high = ("unknown" if math.isnan(one) else f"{100 * one:.1f} %" for one in numbers)
    bounds = f"{100 * interval.level:.0f} % interval by {interval.unit}: {low} to {high}"
    bounds = "interval not reliable here" if estimate.reliable is False else bounds
    shared = metrics.shared_subjects
    subjects = "test subjects" if shared is None else f"{shared} of {metrics.n_subjects} test subjects"
    leaky = f" **LEAKY: {subjects} also have slices in the training part.**" if metrics.leaky else ""
    return f"Accuracy {value} ({bounds}) on the {metrics.part} part, split {metrics.protocol}.{leaky}"


def _strip_source(environment: Environment) -> dict[str, Any]:
    """Return the environment without the place of the slices, as its path may name people."""
    return environment.model_dump(mode="json", exclude={"source", "data", "schema_version"}, exclude_none=True)


def _recipe_params(recipe: Recipe) -> dict[str, str]:
    settings = flatten_settings(recipe.model_dump())
    return {_fit_name(key): str(value)[:_LONGEST_VALUE] for key, value in settings.items()}


def _fit_name(text: str) -> str:
    """Make a name for MLflow, which takes at most 200 letters, digits, spaces and -._, and not dots alone."""
    return re.sub(r"[^\w\-. ]", "_", text)[:200].strip(". ") or "_"


def _make_metric(name: str, value: float, step: int, **about: str) -> "Metric":
    from mlflow.entities import Metric

    return Metric(name, float(value), int(time.time() * 1000), step, **about)
