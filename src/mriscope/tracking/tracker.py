"""Tracker: record one run in MLflow, from its first step to its end.

Everything goes through a client and explicit ids, never through MLflow's "active run", so that several runs in one
process do not mix.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mriscope.data.source import strip_folders
from mriscope.errors import InterruptedTrainingError
from mriscope.files import read_file, write_text
from mriscope.recipe import Recipe
from mriscope.results import Environment, Metrics
from mriscope.tracking.records import (
    EVERY_EPOCH,
    TrackedRun,
    initial_tags,
    record_end,
    record_epochs,
    record_start,
)
from mriscope.tracking.store import (
    EXPERIMENT,
    NONE,
    connect,
    redact,
    root_cause,
    silenced_mlflow,
    store_of,
    translated_errors,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRACKING = "tracking.json"

_logger = logging.getLogger("mriscope")


class Tracker:
    """Record one run in MLflow; do nothing where tracking is off, or once the store has failed.

    As a context manager it ends the run: FINISHED, or FAILED after an error, or KILLED where somebody stopped it.
    Whatever MLflow or its server does, no method raises: the first failure is one warning and the last call.
    """

    def __init__(self, run: TrackedRun | None = None) -> None:
        self._run = run

    @property
    def run_id(self) -> str | None:
        """Return the run's id in MLflow; None where nothing is tracked."""
        return self._run.id if self._run else None

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Record one epoch, in one call.

        Args:
            metrics: "epoch", counted from 1, and the metrics by name.
        """
        self._attempt(lambda run: record_epochs(run, [metrics]))

    def finish(self, folder: Path, metrics: Metrics, history: Sequence[Mapping[str, float]] = ()) -> None:
        """Record what a finished run holds: metrics with intervals, pictures, the confusion matrix and the model.

        Args:
            folder: the run directory, with recipe.yaml, model.safetensors and figures/.
            metrics: of the run.
            history: metrics of each epoch; those that the store does not have are added.
        """
        self._attempt(lambda run: record_epochs(run, history))
        self._attempt(lambda run: record_end(run, folder, metrics))

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        stopped = isinstance(error, InterruptedTrainingError | KeyboardInterrupt | SystemExit)
        status = "FINISHED" if error is None else "KILLED" if stopped else "FAILED"
        self._attempt(lambda run: run.client.set_terminated(run.id, status))

    def _attempt(self, record: Callable[[TrackedRun], object]) -> None:
        if self._run is None:
            return
        try:
            with silenced_mlflow():
                record(self._run)
        except Exception as error:  # whatever goes wrong in MLflow must not cost the run
            _logger.warning("tracking in %s failed (%s); the run goes on untracked", self._run.place, root_cause(error))
            self._run = None


def open_tracker(
    uri: str,
    folder: Path,
    recipe: Recipe,
    environment: Environment,
    history: Sequence[Mapping[str, float]] = (),
    *,
    experiment: str = EXPERIMENT,
) -> Tracker:
    """Begin a run in MLflow, or resume the one that the run directory names.

    Args:
        uri: of a server (http://…) or a database (sqlite:///…, made where there is none), or none.
        folder: the run directory; gets tracking.json. Its name is the run's, behind that of the folder it
            is in for a fold.
        recipe: of the run.
        environment: of the run.
        history: metrics of the epochs that a resumed run has finished; those that the store does not have are added.
        experiment: its name in MLflow.

    Raises:
        MriscopeError: the URI is of no kind that MLflow takes, or nothing answers there.
    """
    if uri == NONE:
        return Tracker()
    store = store_of(uri)
    with translated_errors(store):
        run = _open(store, experiment, folder, recipe, environment)
        record_epochs(run, history)
    return Tracker(run)


def _open(store: str, experiment: str, folder: Path, recipe: Recipe, environment: Environment) -> TrackedRun:
    """Create or find the run in MLflow; a fold bears the name of its cross-validation's folder too."""
    client, home = connect(store, experiment)
    known, recipe, place = _known_id(client, folder), strip_folders(recipe), folder.resolve()
    name = place.name if recipe.split.fold is None else f"{place.parent.name}/{place.name}"
    run_id = known or client.create_run(home, tags=initial_tags(recipe, environment), run_name=name).info.run_id
    run = TrackedRun(client, home, run_id, redact(store), recipe, environment.data or "", set())
    if known:
        client.update_run(run_id, status="RUNNING")
        run.epochs.update(metric.step for metric in client.get_metric_history(run_id, EVERY_EPOCH))
    else:
        record_start(run, environment)
        write_text(folder / TRACKING, json.dumps({"uri": run.place, "run_id": run_id}, indent=2) + "\n")
    return run


def _known_id(client: "MlflowClient", folder: Path) -> str | None:
    """Return the id of the run that the run directory was tracked as, if this store has it."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(json.loads(read_file(folder / TRACKING))["run_id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it was not tracked before
        return None
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # it was tracked elsewhere
            return None
        raise
    return run.info.run_id if run.info.lifecycle_stage == "active" else None
