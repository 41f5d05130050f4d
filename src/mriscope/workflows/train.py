"""Train a recipe, evaluate it and record what came of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import nn

from mriscope.data.cache import cached_arrays
from mriscope.data.slices import SliceSet
from mriscope.data.source import parse_source
from mriscope.data.split_files import split_for, warn_of_sharing
from mriscope.data.splits import PARTS, Split, read_split, shared_subjects, split_record
from mriscope.environment import describe_environment
from mriscope.errors import RunError, check_type
from mriscope.evaluation.baselines import score_baselines
from mriscope.evaluation.inference import predict
from mriscope.evaluation.predictions import write_predictions
from mriscope.evaluation.scoring import score
from mriscope.models.registry import check_model, count_parameters
from mriscope.models.subject_rule import keeping_descriptions
from mriscope.recipe import Recipe
from mriscope.reports.figures import draw_run
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
from mriscope.training.devices import (
    barrier,
    describe_device,
    destroy_process_group,
    init_process_group,
    pick_device,
    rank,
)
from mriscope.training.fitting import check_fit, fit
from mriscope.training.loop import Trained
from mriscope.training.progress import Monitor
from mriscope.workflows._baselines import write_baselines
from mriscope.workflows._inference import write_inference
from mriscope.workflows._load import load
from mriscope.workflows._model import create_model_for, try_settings


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
    """Train, evaluate and record a recipe; a run that was broken off goes on, a finished one is left as it is.

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
    check_type("recipe", recipe, Recipe, "what read_recipe or make_recipe gives")
    if track != NONE:
        store_of(track)  # a mistyped address is named before anything is read
    check_place(folder)  # so are files of somebody else's in the way
    check_model(recipe.model)
    try_settings(recipe)  # and settings that are wrong whatever the data are
    path, place = Path(folder), pick_device(device)
    init_process_group(place)
    loaded = load(recipe.data, recipe=recipe, skip_bad=skip_bad)
    slices, begun = loaded.slices, any((path / name).is_file() for name in (CHECKPOINT, METRICS))
    model = create_model_for(recipe, slices.class_names, pretrained=fresh or not begun)
    split = split_for(recipe.split, slices, recipe.seed)
    record = split_record(slices, split, recipe.seed)
    check_fit(model, recipe.training, len(split.train))
    environment = describe_environment(
        describe_device(place),
        source=parse_source(recipe.data).address,
        data=slices.fingerprint,
        subjects_from=loaded.subjects_from or "unknown",
        skip_bad=skip_bad,
        covariates=tuple(sorted(slices.covariates)),
    )
    with _prepare(path, recipe, fresh, environment, record) as directory:
        split = _find_split(directory, recipe, slices, split)
        if not directory.finished:
            first = rank() == 0
            if first:
                loaded.report_bad_rows(path / BAD_ROWS)
                if warn:
                    warn_of_sharing(slices, split)
            history = directory.history() if first and (path / HISTORY).is_file() else []
            with (
                keeping_descriptions(_keep_description),
                open_tracker(track if first else NONE, path, recipe, directory.environment, history) as tracker,
            ):
                trained = fit(
                    model,
                    slices,
                    split.train,
                    split.validation,
                    recipe.training,
                    scale=recipe.input.scale,
                    seed=recipe.seed,
                    device=place,
                    folder=path,
                    monitor=Monitor(silent or not first, tracker.epoch),
                )
                if first:
                    _record(directory, model, trained, slices, split, tracker)
    destroy_process_group()
    return directory


train = run


def _keep_description(key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Keep what describes a training subject beside its slices in the cache, so that one fold or run makes it."""
    return cached_arrays("descriptions", key, lambda: {"description": make()})["description"]


@contextmanager
def _prepare(
    path: Path, recipe: Recipe, fresh: bool, environment: Environment, split: SplitRecord
) -> Iterator[RunDirectory]:
    """Prepare the run directory in the first process, which holds its lock; the others come when it is ready."""
    if rank() != 0:
        barrier()
        yield RunDirectory(path)
        return
    with prepared_run(path, recipe, fresh=fresh, environment=environment, split=split) as directory:
        barrier()
        yield directory


def _find_split(directory: RunDirectory, recipe: Recipe, slices: SliceSet, split: Split) -> Split:
    """Return the split that the run began with; refuse other data, and a file of a split that was changed since."""
    made_for = directory.environment.data or "unknown"
    if made_for != slices.fingerprint:
        raise RunError(
            f"{directory.path} holds a run on other data (fingerprint {made_for[:12]}, this source has "
            f"{slices.fingerprint[:12]}); name another folder with --out, or train anew there with --fresh"
        )
    if directory.finished and recipe.split.file is None:
        return split
    began = read_split(directory.path / SPLIT, slices)
    same = all(np.array_equal(getattr(split, part), getattr(began, part)) for part in PARTS)
    if recipe.split.file is not None and not same:
        raise RunError(
            f"{directory.path} holds a run on another split than {recipe.split.file} holds now; "
            "name another folder with --out, or train anew there with --fresh"
        )
    return began


def _record(
    directory: RunDirectory, model: nn.Module, trained: Trained, slices: SliceSet, split: Split, tracker: Tracker
) -> None:
    """Write everything a finished run holds; metrics.json last, as its presence means finished."""
    path, recipe, history = directory.path, directory.recipe, trained.history
    save_weights(trained.weights, path / WEIGHTS, recipe.model, slices.class_names)
    put_weights(model, trained.weights, path / WEIGHTS)
    rows = np.concatenate([split.validation, split.test])
    parts = np.repeat(["validation", "test"], [len(split.validation), len(split.test)])
    predictions = predict(model, slices[rows], recipe.input.scale, parts, severity=recipe.severity)
    tested = predictions.of_part("test")
    write_predictions(predictions, path / PREDICTIONS)
    write_inference(directory, model, slices, split, predictions.of_part("validation"))
    beside = {name: [one.of_part("test")] for name, one in write_baselines(directory, slices, split).items()}
    shared = shared_subjects(slices, split)
    scores = score(tested, seed=recipe.seed)
    metrics = Metrics(
        protocol=split.protocol,
        part="test",
        leaky=None if shared is None else shared > 0,
        shared_subjects=shared,
        **{**dict(scores), "baselines": score_baselines([tested], beside, seed=recipe.seed)},
        training=TrainingSummary(
            epochs=len(history),
            epoch_kept=trained.epoch,
            seconds=float(sum(row["seconds"] for row in history)),
            slices_per_second=float(np.median([row["slices_per_second"] for row in history])),
            parameters=count_parameters(model),
        ),
        model=recipe.model,
        data=slices.fingerprint,
    )
    draw_run(path / FIGURES, history, slices, tested, metrics, epoch_kept=trained.epoch)
    tracker.finish(path, metrics, history)
    metrics.write(path / METRICS)
