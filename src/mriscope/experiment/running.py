"""run(recipe): train, judge and record."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mriscope.data.readers import report_bad_rows
from mriscope.data.rows import Reading
from mriscope.data.slices import SliceSet
from mriscope.data.splits import PARTS, Split, read_split, shared_subjects, split_record
from mriscope.environment import describe_environment
from mriscope.errors import RunError
from mriscope.evaluation.inference import predict
from mriscope.evaluation.predictions import write_predictions
from mriscope.evaluation.scoring import score
from mriscope.experiment.figures import draw_run
from mriscope.experiment.parts import model_for, read_for
from mriscope.experiment.splitting import split_for, warn_of_sharing
from mriscope.models.registry import count_parameters
from mriscope.recipe import Recipe
from mriscope.results import Environment, Metrics, SplitRecord, TrainingSummary
from mriscope.run_directory import (
    BAD_ROWS,
    CHECKPOINT,
    FIGURES,
    HISTORY,
    METRICS,
    PREDICTIONS,
    SPLIT,
    WEIGHTS,
    RunDirectory,
    check_place,
    prepared_run,
)
from mriscope.tracking.store import NONE, store_of
from mriscope.tracking.tracker import Tracker, open_tracker
from mriscope.training.checkpoint import put_weights, save_weights
from mriscope.training.devices import barrier, destroy_process_group, init_process_group, pick_device, rank
from mriscope.training.fitting import check_fit, fit
from mriscope.training.loop import Trained
from mriscope.training.progress import Monitor


def run(
    recipe: Recipe,
    folder: str | Path,
    *,
    device: str = "auto",
    fresh: bool = False,
    skip_bad: bool = False,
    silent: bool = False,
    track: str = NONE,
    warn: bool = True,
) -> RunDirectory:
    """Train, judge and record a recipe; a run that was broken off goes on, a finished one is left as it is.

    Args:
        recipe: everything that decides the result.
        folder: the run directory.
        device: auto, cpu or cuda.
        fresh: begin anew, whatever the folder holds of a run.
        skip_bad: leave unusable rows out and list them in bad_rows.csv, where they would be an error.
        silent: show no progress.
        track: where MLflow keeps a record: a server or a database, see open_tracker; none keeps none.
        warn: say how many test subjects the model is trained on.

    Raises:
        MriscopeError: data, recipe or folder do not fit, nothing answers at `track`, or the training cannot go on.
    """
    if track != NONE:
        store_of(track)  # a mistyped address is named before anything is read
    check_place(folder)  # so are files of somebody else's in the way
    place = pick_device(device)
    init_process_group(place)
    reading = read_for(recipe, recipe.data, skip_bad=skip_bad)
    slices, model = (
        reading.slices,
        model_for(recipe, reading.slices.class_names, pretrained=fresh or not _begun(Path(folder))),
    )
    split = _split_for(recipe, slices)
    check_fit(model, recipe.training, len(split.train))
    environment = _environment(recipe, reading, place, skip_bad)
    record = split_record(slices, split, recipe.seed)
    with _at_work_in(Path(folder), recipe, fresh, environment, record) as directory:
        _check_data(directory, slices)
        if recipe.split.file is not None:
            _check_split(directory, recipe.split.file, split, slices)
        if not directory.finished:
            split = read_split(directory.path / SPLIT, slices)  # a run that goes on keeps the split it began with
            if rank() == 0:
                report_bad_rows(recipe.data, reading, directory.path / BAD_ROWS)
                if warn:
                    warn_of_sharing(slices, split)
            with _tracker(directory, track) as tracker:
                monitor = Monitor(silent or rank() != 0, tracker.epoch)
                trained = _train(directory, model, slices, split, place, monitor)
                if rank() == 0:
                    _record(directory, model, trained, slices, split, tracker)
    destroy_process_group()
    return directory


@contextmanager
def _at_work_in(
    folder: Path, recipe: Recipe, fresh: bool, environment: Environment, split: SplitRecord
) -> Iterator[RunDirectory]:
    """The run directory: the first process makes and holds it, the others come when it is ready."""
    if rank() != 0:
        barrier()
        yield RunDirectory(folder)
        return
    with prepared_run(folder, recipe, fresh=fresh, environment=environment, split=split) as directory:
        barrier()
        yield directory


def _begun(folder: Path) -> bool:
    """Whether weights are there already, so that none need to be fetched."""
    return any((folder / name).is_file() for name in (CHECKPOINT, METRICS))


def _split_for(recipe: Recipe, slices: SliceSet) -> Split:
    return split_for(recipe.split, slices, recipe.seed)


def _environment(recipe: Recipe, reading: Reading, device: torch.device, skip_bad: bool) -> Environment:
    """What environment.json holds: on what the run was made, of which slices, and how their subjects are known."""
    named = recipe.data.partition(":")[0] in ("phantom", "hf")
    return describe_environment(
        _device_name(device),
        source=recipe.data if named else str(Path(recipe.data).expanduser().resolve()),
        data=reading.slices.fingerprint,
        subjects_from=reading.subjects_from or "unknown",
        skip_bad=skip_bad,
    )


def _tracker(directory: RunDirectory, track: str) -> Tracker:
    """MLflow's record of the run; the first process alone keeps it."""
    if rank() != 0:
        return Tracker()
    history = directory.history() if (directory.path / HISTORY).is_file() else []
    return open_tracker(track, directory.path, directory.recipe, directory.environment, history)


def _check_data(directory: RunDirectory, slices: SliceSet) -> None:
    made_for = directory.environment.data or "unknown"
    if made_for != slices.fingerprint:
        raise RunError(
            f"{directory.path} holds a run on other data (fingerprint {made_for[:12]}, this source has "
            f"{slices.fingerprint[:12]}); name another folder with --out, or train anew there with --fresh"
        )


def _check_split(directory: RunDirectory, file: str, split: Split, slices: SliceSet) -> None:
    """Refuse to go on, or to be finished already, where the file of a split was changed since the run began."""
    began = read_split(directory.path / SPLIT, slices)
    if not all(np.array_equal(getattr(split, part), getattr(began, part)) for part in PARTS):
        raise RunError(
            f"{directory.path} holds a run on another split than {file} holds now; "
            "name another folder with --out, or train anew there with --fresh"
        )


def _train(
    directory: RunDirectory, model: nn.Module, slices: SliceSet, split: Split, device: torch.device, monitor: Monitor
) -> Trained:
    recipe = directory.recipe
    return fit(
        model,
        slices,
        split.train,
        split.validation,
        recipe.training,
        scale=recipe.input.scale,
        seed=recipe.seed,
        device=device,
        folder=directory.path,
        monitor=monitor,
    )


def _record(
    directory: RunDirectory, model: nn.Module, trained: Trained, slices: SliceSet, split: Split, tracker: Tracker
) -> None:
    """Write everything a finished run holds; metrics.json last, as its presence means finished."""
    recipe = directory.recipe
    save_weights(trained.weights, directory.path / WEIGHTS, recipe.model, slices.class_names)
    put_weights(model, trained.weights, directory.path / WEIGHTS)
    rows = np.concatenate([split.validation, split.test])
    parts = np.repeat(["validation", "test"], [len(split.validation), len(split.test)])
    predictions = predict(model, slices[rows], recipe.input.scale, parts, severity=recipe.severity)
    tested = predictions.of_part("test")
    write_predictions(predictions, directory.path / PREDICTIONS)
    shared = shared_subjects(slices, split)
    metrics = Metrics(
        protocol=split.protocol,
        part="test",
        leaky=None if shared is None else shared > 0,
        shared_subjects=shared,
        **dict(score(tested, seed=recipe.seed)),
        training=_summarize_training(trained, model),
        model=recipe.model,
        data=slices.fingerprint,
    )
    draw_run(directory.path / FIGURES, trained, slices, tested, metrics)
    tracker.finish(directory.path, metrics, trained.history)
    metrics.write(directory.path / METRICS)


def _summarize_training(trained: Trained, model: nn.Module) -> TrainingSummary:
    return TrainingSummary(
        epochs=len(trained.history),
        epoch_kept=trained.epoch,
        seconds=float(sum(row["seconds"] for row in trained.history)),
        slices_per_second=float(np.median([row["slices_per_second"] for row in trained.history])),
        parameters=count_parameters(model),
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)}"
