"""Rows of the study's table that are too long for a CPU, and the best network on the published split."""

import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

from mriscope.data.readers import read
from mriscope.data.splits import published
from mriscope.files import write_text
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
from mriscope.workflows import train
from on_gpu import resident
from on_gpu.resident import ResidentTrainer
from on_gpu.setting import Setting

PROGRAM = "benchmarks/gpu.py"
SHORT_ROWS = ("resnet50_10epochs", "resnet50_20epochs", "study_model")
LONG_ROW = "efficientnet_b3_50epochs"
RECORDING_S = 12.0  # seconds kept for judging a run and packing it
PACKED = (RECIPE, ENVIRONMENT, SPLIT, HISTORY, PREDICTIONS, METRICS)

BEST = "residual_cnn"
CANDIDATES: dict[str, Sequence[str]] = {
    "as the recipe": (),
    "mirrored": ("training.augmentation.flip=0.5", "model_options.mirror=true"),
    "8×8 places": ("model_options.places=8",),
    "bolder": ("training.augmentation.affine.rotation=8", "training.augmentation.affine.shift=0.04"),
    "BaselineCNN of three stages, 80 epochs": ("model=baseline_cnn_ce_conv_add", "training.epochs=80"),
}
SEEDS, CANDIDATE_SHARE = 5, 0.1


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
    """Settings on trial, and what the validation part, a tenth of the training part, says of them."""

    name: str
    accuracy: float
    loss: float
    seconds: float


@dataclass(frozen=True)
class BestResult:
    """The candidates, the one that the validation part chose, and its runs on several seeds, each tested once."""

    candidates: list[Candidate]
    chosen: str
    runs: RowsResult

    def table(self) -> str:
        lines = ["| settings | validation accuracy | validation loss | s |", "|---|---|---|---|"]
        lines += [
            f"| {one.name} | {one.accuracy:.4f} | {one.loss:.4f} | {one.seconds:.1f} |" for one in self.candidates
        ]
        whole = sum(row.right == row.tested for row in self.runs.rows)
        return "\n".join(
            [*lines, f"\nChosen: {self.chosen}. All right on {whole} of {SEEDS} seeds.\n", self.runs.table()]
        )


def run_short_rows(setting: Setting) -> RowsResult:
    """Run rows 1, 14 and 17 of the study's table, with random weights."""
    return _run_all({name: partial(_study_row, name) for name in SHORT_ROWS}, setting)


def run_long_row(setting: Setting) -> RowsResult:
    """Run row 12, EfficientNet-B3 with random weights, for as many of its 50 epochs as the time allows."""
    return _run_all({LONG_ROW: partial(_study_row, LONG_ROW)}, setting)


def run_best(setting: Setting) -> BestResult:
    """Choose among CANDIDATES by validation, then train and test the chosen one once on each of SEEDS seeds."""
    tried: list[Candidate] = []
    for name, changes in CANDIDATES.items():
        if tried and setting.left() < (SEEDS + 1) * 1.5 * tried[-1].seconds:
            break
        tried.append(_try_candidate(name, changes, setting))
        print(tried[-1], flush=True)
    chosen = max(tried, key=lambda one: (one.accuracy, -one.loss)).name
    seeds = 1 if setting.quick else SEEDS
    runs = {f"best-seed{seed}": partial(_best_seed, seed, CANDIDATES[chosen]) for seed in range(seeds)}
    return BestResult(tried, chosen, _run_all(runs, setting))


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
    fit = partial(resident.train, search=search, deadline=deadline)
    device = setting.device.type
    with mock.patch.multiple(train, fit=fit, draw_run=lambda *_: None):
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


def _try_candidate(name: str, changes: Sequence[str], setting: Setting) -> Candidate:
    """Train one candidate with a tenth of the training part held out, and judge it on that."""
    recipe = read_recipe(BEST, [*changes, f"split.validation={CANDIDATE_SHARE}", *_places(setting)])
    slices = read(setting.data)
    split = published(slices, validation=recipe.split.validation, seed=recipe.seed)
    started = time.perf_counter()
    model = create_model(recipe.model, options=recipe.model_options, seed=recipe.seed)
    trainer = ResidentTrainer(
        model,
        slices,
        split.train,
        recipe.training,
        scale=recipe.input.scale,
        seed=recipe.seed,
        device=setting.device,
    )
    for epoch in range(recipe.training.epochs):
        trainer.train_epoch(epoch)
    loss, accuracy = trainer.validate(split.validation)
    return Candidate(name, accuracy, loss, time.perf_counter() - started)
