"""An epoch of BaselineCNN on the device, from the package's own loop to a captured and compiled step."""

import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mriscope.data.readers import read
from mriscope.data.slices import SliceSet
from mriscope.data.splits import Split, published
from mriscope.models.registry import create_model
from mriscope.recipe import Recipe, read_recipe
from mriscope.training.loop import train
from mriscope.training.progress import Monitor
from on_gpu.measuring import Ceilings, measure_ceilings, step_cost
from on_gpu.resident import ResidentTrainer
from on_gpu.setting import Setting

EPOCHS = 7  # timed, after one that captures


@dataclass(frozen=True)
class EpochTime:
    """The median seconds of an epoch, and what part of the ceilings it reaches.

    Args:
        way: how it was trained.
        seconds: median over the epochs after the first.
        first: seconds of the first epoch, with compilation and capture.
        slices_per_second: trained.
        share_of_floor: the least seconds by the device's ceilings, over those measured.
        accuracy: on the validation part after the last epoch.
    """

    way: str
    seconds: float
    first: float
    slices_per_second: float
    share_of_floor: float
    accuracy: float


@dataclass(frozen=True)
class BaselineResult:
    """Epochs of BaselineCNN by several ways, beside the device's ceilings.

    Args:
        ceilings: what the device reached in plain operations.
        floor_seconds: the least seconds of an epoch by them.
        slices: of an epoch.
        epochs: one for each way.
    """

    ceilings: Ceilings
    floor_seconds: float
    slices: int
    epochs: list[EpochTime]

    def table(self) -> str:
        c = self.ceilings
        lines = [
            f"Ceilings: matrix product {c.matmul / 1e12:.0f} TFLOP/s, convolution {c.convolution / 1e12:.0f} TFLOP/s, "
            f"copy {c.bandwidth / 1e12:.2f} TB/s. Floor of an epoch of {self.slices:,} slices, layer by layer: "
            f"{self.floor_seconds:.4f} s.",
            "",
            "| way | s per epoch | first epoch, s | slices/s | share of the floor | validation accuracy |",
            "|---|---|---|---|---|---|",
        ]
        for one in self.epochs:
            lines.append(
                f"| {one.way} | {one.seconds:.4f} | {one.first:.1f} | {one.slices_per_second:,.0f} "
                f"| {one.share_of_floor:.1%} | {one.accuracy:.4f} |"
            )
        return "\n".join(lines)


def measure_baseline(setting: Setting) -> BaselineResult:
    """Measure an epoch of BaselineCNN by each way; one that fails is left out, and says why on the terminal."""
    recipe = read_recipe("baseline_cnn", ["training.precision=bfloat16"])
    augmented = _augmented(recipe)
    slices = read(setting.data)
    split = published(slices, seed=recipe.seed)
    ceilings = measure_ceilings(setting.device, small=setting.quick)
    size, steps = recipe.training.batch_size, len(split.train) / recipe.training.batch_size
    images = torch.rand(size, 1, 128, 128, device=setting.device)
    floor = steps * step_cost(create_model("baseline_cnn").to(setting.device), images).floor_seconds(ceilings)
    ways = {
        "mriscope's own loop": (_by_package, recipe, {}),
        "resident": (_by_graph, recipe, {}),
        "resident, augmented": (_by_graph, augmented, {}),
        "resident, compiled": (_by_graph, recipe, {"compiled": True}),
        "resident, augmented, compiled": (_by_graph, augmented, {"compiled": True}),
    }
    found = []
    for name, (way, settings, options) in ways.items():
        if setting.quick and "compiled" in name:
            continue
        try:
            seconds, accuracy = way(settings, slices, split, setting, **options)
        except Exception:
            traceback.print_exc()
            continue
        median = float(np.median(seconds[1:]))
        found.append(EpochTime(name, median, seconds[0], len(split.train) / median, floor / median, accuracy))
        print(f"{name}: {median:.4f} s per epoch, first {seconds[0]:.1f} s", flush=True)
    return BaselineResult(ceilings, floor, len(split.train), found)


def _augmented(recipe: Recipe) -> Recipe:
    """Return the recipe with the augmentation of the honest table's network."""
    other = read_recipe("compact_cnn").training.augmentation
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"augmentation": other})})


def _by_package(recipe: Recipe, slices: SliceSet, split: Split, setting: Setting) -> tuple[list[float], float]:
    model = create_model(recipe.model, seed=recipe.seed)
    settings = recipe.training.model_copy(update={"epochs": 2 if setting.quick else 4})
    with tempfile.TemporaryDirectory() as folder:
        trained = train(
            model,
            slices,
            split.train,
            split.validation,
            settings,
            scale=recipe.input.scale,
            seed=recipe.seed,
            device=setting.device,
            folder=Path(folder),
            monitor=Monitor(silent=True),
        )
    return [row["seconds"] for row in trained.history], trained.history[-1]["validation_accuracy"]


def _by_graph(
    recipe: Recipe, slices: SliceSet, split: Split, setting: Setting, **options: Any
) -> tuple[list[float], float]:
    trainer = ResidentTrainer(
        create_model(recipe.model, seed=recipe.seed),
        slices,
        split.train,
        recipe.training,
        scale=recipe.input.scale,
        seed=recipe.seed,
        device=setting.device,
        **options,
    )
    seconds = []
    for epoch in range(2 if setting.quick else 1 + EPOCHS):
        started = time.perf_counter()
        trainer.train_epoch(epoch)
        seconds.append(time.perf_counter() - started)
    return seconds, trainer.validate(split.validation)[1]
