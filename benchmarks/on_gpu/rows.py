"""Rows of the study's table that are too long for a CPU, and the best network on the published split."""

import json
import multiprocessing
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from mriscope.data.batches import scaled
from mriscope.data.splits import published
from mriscope.files import write_text
from mriscope.models.compact import SubjectCNN
from mriscope.models.registry import create_model
from mriscope.recipe import Recipe, read_recipe, write_recipe
from mriscope.run_directory import (
    ENVIRONMENT,
    HISTORY,
    METRICS,
    PREDICTIONS,
    RECIPE,
    SPLIT,
    RunDirectory,
)
from mriscope.training import fitting
from mriscope.workflows import train
from mriscope.workflows._load import load
from on_gpu import resident
from on_gpu.resident import ResidentTrainer
from on_gpu.setting import Setting

PROGRAM = "benchmarks/gpu.py"
SHORT_ROWS = ("resnet50_10epochs", "resnet50_20epochs", "study_model")
LONG_ROW = "efficientnet_b3_50epochs"
RECORDING_S = 12.0  # seconds kept for judging a run and packing it
PACKED = (RECIPE, ENVIRONMENT, SPLIT, HISTORY, PREDICTIONS, METRICS)

BEST = "best_published"
CANDIDATES: dict[str, Sequence[str]] = {
    "as the recipe": (),
    "80 epochs": ("training.epochs=80",),
    "width 48": ("model_options.width=48",),
    "width 64": ("model_options.width=64",),
    "dropout 0.5": ("model_options.dropout=0.5",),
    "label smoothing 0.1": ("training.label_smoothing=0.1",),
    "bolder": (
        "training.augmentation.affine.rotation=6",
        "training.augmentation.affine.shift=0.03",
        "training.augmentation.affine.scale=0.05",
    ),
    "width 48, dropout 0.5, 80 epochs": (
        "model_options.width=48",
        "model_options.dropout=0.5",
        "training.epochs=80",
    ),
}
SEEDS, CANDIDATE_SHARE, DRAWS, WORKERS = 5, 0.1, 6, 4
CHOICE = "chosen.json"


@dataclass(frozen=True)
class RowResult:
    """A recipe run in full or for as many epochs as there was time for.

    Args:
        name: of the run directory.
        epochs: trained, and `wanted` by the recipe.
        right: test slices called right, of `tested`.
        training_s: seconds of the epochs' steps.
        whole_s: seconds of the whole run: reading, training, validation, judging.
    """

    name: str
    epochs: int
    wanted: int
    right: int
    tested: int
    training_s: float
    whole_s: float

    def line(self) -> str:
        share = self.right / self.tested
        return (
            f"| {self.name} | {self.epochs} of {self.wanted} | {self.right} of {self.tested} ({share:.2%}) "
            f"| {self.training_s:.1f} | {self.whole_s:.1f} |"
        )


@dataclass(frozen=True)
class RowsResult:
    """Several runs; `failed` names those that ended in an error."""

    rows: list[RowResult]
    failed: list[str]

    def table(self) -> str:
        head = "| run | epochs | test slices right | training, s | whole run, s |\n|---|---|---|---|---|"
        missing = [f"\nFailed: {', '.join(self.failed)}."] * bool(self.failed)
        return "\n".join([head, *(row.line() for row in self.rows), *missing])


@dataclass(frozen=True)
class Candidate:
    """Settings on trial, and what DRAWS draws of a validation part, a tenth of the training part, say of them.

    Args:
        name: of the settings.
        changes: to the recipe.
        wrong: validation slices called wrongly, of `validated`, over all draws.
        loss: mean cross entropy of the classes.
        seconds: of all draws, WORKERS side by side.
    """

    name: str
    changes: Sequence[str]
    wrong: int
    validated: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class ChoiceResult:
    """The candidates, and the one that is least often wrong on validation, then of least loss."""

    candidates: list[Candidate]
    chosen: str

    def table(self) -> str:
        lines = ["| settings | wrong on validation | validation loss | s |", "|---|---|---|---|"]
        lines += [
            f"| {one.name} | {one.wrong} of {one.validated:,} | {one.loss:.5f} | {one.seconds:.1f} |"
            for one in self.candidates
        ]
        return "\n".join([*lines, f"\nChosen: {self.chosen}."])


def run_short_rows(setting: Setting) -> RowsResult:
    """Run rows 1, 14 and 17 of the study's table, with random weights."""
    return _run_all({name: partial(_study_row, name) for name in SHORT_ROWS}, setting)


def run_long_row(setting: Setting) -> RowsResult:
    """Run row 12, EfficientNet-B3 with random weights, for as many of its 50 epochs as the time allows."""
    return _run_all({LONG_ROW: partial(_study_row, LONG_ROW)}, setting)


def run_choice(setting: Setting) -> ChoiceResult:
    """Try CANDIDATES on draws of a validation part, and leave the changes of the best for `run_best`."""
    setting = replace(setting, data=setting.carried / "slices")  # in a quick try too: few slices tell no subjects
    load(str(setting.data))  # slices and subjects are in the cache before workers want them
    tried: list[Candidate] = []
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        for name, changes in list(CANDIDATES.items())[: 2 if setting.quick else None]:
            if tried and setting.left() < 2 * tried[-1].seconds:
                break
            started = time.perf_counter()
            draws = list(pool.map(partial(_try_draw, changes, setting), range(2 if setting.quick else DRAWS)))
            wrong, validated, loss = np.sum(draws, axis=0)
            seconds = time.perf_counter() - started
            tried.append(Candidate(name, changes, int(wrong), int(validated), float(loss / validated), seconds))
            print(tried[-1], flush=True)
    chosen = min(tried, key=lambda one: (one.wrong, one.loss))
    write_text(setting.work / CHOICE, json.dumps(chosen.changes))
    return ChoiceResult(tried, chosen.name)


def run_best(setting: Setting) -> RowsResult:
    """Train the recipe, with the changes that `run_choice` left, and test it once on each of SEEDS seeds."""
    setting = replace(setting, data=setting.carried / "slices")
    file = setting.work / CHOICE
    changes = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    seeds = 1 if setting.quick else SEEDS
    return _run_all({f"best-seed{seed}": partial(_best_seed, seed, changes) for seed in range(seeds)}, setting)


def pack_runs(folder: Path, target: Path) -> None:
    """Put the finished runs below a folder into a zip file, without weights, checkpoints and pictures."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for metrics in sorted(folder.glob(f"*/{METRICS}")):
            for name in PACKED:
                if (metrics.parent / name).is_file():
                    archive.write(metrics.parent / name, f"{metrics.parent.name}/{name}")


def _run_all(rows: dict[str, Callable[[Setting], RowResult]], setting: Setting) -> RowsResult:
    """Run each; one that fails prints its traceback and stops no other."""
    done, failed = [], []
    for name, row in rows.items():
        if setting.left() < RECORDING_S:
            failed.append(f"{name} (no time was left)")
            continue
        try:
            done.append(row(setting))
            print(done[-1].line(), flush=True)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    return RowsResult(done, failed)


def _study_row(name: str, setting: Setting) -> RowResult:
    changes = ["training.precision=bfloat16", *["model_options.weights=none"] * (name != "study_model")]
    return _run(name, read_recipe(f"study/{name}", [*changes, *_places(setting)]), setting, search=False)


def _best_seed(seed: int, changes: Sequence[str], setting: Setting) -> RowResult:
    recipe = read_recipe(BEST, [*changes, f"seed={seed}", *_places(setting)])
    return _run(f"best-seed{seed}", recipe, setting, search=True)


def _places(setting: Setting) -> list[str]:
    """Return the settings that follow from where this runs: the slices' folder, and one epoch in a quick try."""
    return [f"data={setting.data}", *["training.epochs=1"] * setting.quick]


def _run(name: str, recipe: Recipe, setting: Setting, *, search: bool) -> RowResult:
    """Run a recipe as `mriscope train` does, but with the resident loop and without pictures; note what trained it.

    A run ends early where time runs out, unless its schedule depends on how many epochs are to come.
    """
    started = time.monotonic()
    whole = recipe.training.schedule == "one_cycle"
    deadline = float("inf") if whole else setting.deadline - RECORDING_S
    steps = partial(resident.train, search=search, deadline=deadline)
    device = setting.device.type
    with mock.patch.object(fitting, "train", steps), mock.patch.object(train, "draw_run"):
        directory = train.run(recipe, setting.work / name, device=device, fresh=True, silent=True, warn=False)
    training = directory.metrics().training
    assert training is not None  # a run that this has just trained
    epochs = training.epochs
    if epochs < recipe.training.epochs:
        shorter = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": epochs})})
        write_text(directory.path / RECIPE, write_recipe(shorter))
    _note_origin(directory, setting)
    tested = directory.predictions().of_part("test")
    right = int((tested.probabilities.argmax(1) == tested.labels).sum())
    return RowResult(
        name,
        epochs,
        recipe.training.epochs,
        right,
        len(tested.labels),
        training.seconds,
        time.monotonic() - started,
    )


def _note_origin(directory: RunDirectory, setting: Setting) -> None:
    """Say in environment.json that this program trained the run, and of which commit it is."""
    found = directory.environment
    changes = {"program": PROGRAM, "commit": carried_commit(setting.carried) or found.commit}
    found.model_copy(update=changes).write(directory.path / ENVIRONMENT)


def carried_commit(folder: Path) -> str | None:
    """Return the commit that `--prepare` noted; git on the device machine, where it is there, may know another."""
    file = folder / "commit"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _try_draw(changes: Sequence[str], setting: Setting, draw: int) -> tuple[int, int, float]:
    """Train a candidate without a tenth of the training part.

    Returns:
        How many slices of that tenth are called wrongly, how many there are, and the sum of their cross entropies.
    """
    changes = [*changes, f"split.validation={CANDIDATE_SHARE}", f"seed={draw}", *_places(setting)]
    recipe = read_recipe(BEST, changes)
    slices = load(recipe.data).slices
    split = published(slices, validation=recipe.split.validation, seed=draw)
    model = create_model(recipe.model, options=recipe.model_options, seed=draw)
    assert isinstance(model, SubjectCNN)
    settings, scale = recipe.training, recipe.input.scale
    with model.learning_subjects(slices, split.train, split.validation) as labelled:
        trainer = ResidentTrainer(
            model, labelled, split.train, settings, scale=scale, seed=draw, device=setting.device, search=False
        )
        for epoch in range(settings.epochs):
            trainer.train_epoch(epoch)
    model.load_state_dict(trainer.kept().state_dict())
    rows = torch.from_numpy(split.validation).to(setting.device)
    labels = torch.from_numpy(slices.labels[split.validation]).to(setting.device)
    with torch.inference_mode():
        logits = model.eval()(scaled(trainer.images[rows], scale)).float()
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        return int((logits.argmax(1) != labels).sum()), len(rows), float(loss)
