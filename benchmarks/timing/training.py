"""Rows 1 to 3 and 6: training beside the notebook."""

import itertools
import json
import math
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mriscope.data.readers import read
from mriscope.data.splits import published
from mriscope.models.registry import create_model
from mriscope.recipe import Recipe, read_recipe
from mriscope.recipes import match_recipes
from mriscope.run_directory import METRICS, WEIGHTS, RunDirectory
from mriscope.training.devices import pick_device
from mriscope.training.loop import train
from mriscope.training.progress import Monitor
from timing.notebook import BATCH, Notebook
from timing.report import Measured
from timing.running import Setting, in_process, run_command

EPOCHS = 10  # of the notebook
NOT_CNN = ("resnet50", "efficientnet")  # timm's, which need weights from ImageNet


def notebook_rate(folder: Path, steps: int, model: str = "") -> float:
    """Return slices per second of the notebook's steps after the first two; a model's name puts it in its place."""
    network = create_model(model, seed=0).to(memory_format=torch.contiguous_format) if model else None
    notebook = Notebook(folder, network=network)
    times = [time.perf_counter()]
    for _ in itertools.islice(notebook.steps(), steps + 2):
        times.append(time.perf_counter())
    return BATCH / statistics.median(np.diff(times)[2:])


def notebook_epochs(folder: Path, seed: int, epochs: int, batches: int | None = None) -> tuple[float, float, float]:
    """Return seconds to read, the median seconds of an epoch with its test, and the accuracy after the last."""
    notebook, seconds, accuracy = Notebook(folder, seed), [], 0.0
    for _ in range(epochs):
        started = time.perf_counter()
        for _ in itertools.islice(notebook.steps(), batches):
            pass
        accuracy = notebook.accuracy()
        seconds.append(time.perf_counter() - started)
    return notebook.seconds_to_read, statistics.median(seconds), accuracy


def our_rate(folder: Path, recipe: Recipe, steps: int, threads: int | None = None) -> float:
    """Return slices per second of the package's own loop, in the second of two epochs of so many steps."""
    if threads is not None:
        torch.set_num_threads(threads)
    slices, device = read(str(folder)), pick_device("cpu")
    split = published(slices, validation=0.1, seed=0)
    rows = split.train[: steps * recipe.training.batch_size]
    settings = recipe.training.model_copy(update={"epochs": 2, "patience": None})
    model = create_model(recipe.model, options=recipe.model_options, seed=0)
    with tempfile.TemporaryDirectory() as place:
        done = train(
            model,
            slices,
            rows,
            split.validation[:64],
            settings,
            scale=recipe.input.scale,
            seed=0,
            device=device,
            folder=Path(place),
            monitor=Monitor(silent=True),
        )
    return done.history[-1]["slices_per_second"]


def measure_epoch(setting: Setting) -> Measured:
    """Row 1: BaselineCNN by the notebook and by the package, in turns."""
    steps, rounds = (2, 1) if setting.quick else (24, 3)
    ways = {"notebook, float32": None, **{f"mriscope, {name}": name for name in ("float32", "bfloat16", "auto")}}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, precision in ways.items():
            if precision is None:
                rates[name].append(in_process(notebook_rate, setting.data, steps))
            else:
                recipe = read_recipe("baseline_cnn", [f"training.precision={precision}"])
                rates[name].append(in_process(our_rate, setting.data, recipe, steps))
    found = {name: statistics.median(taken) for name, taken in rates.items()}
    theirs = found["notebook, float32"]
    rows = [[name, f"{rate:.0f}", f"{rate / theirs:.2f} ×"] for name, rate in found.items()]
    note = f"Medians of {rounds} rounds in turn, {steps} steps each, with reading the batch and everything of a step."
    return Measured("1. BaselineCNN, batch 32, AdamW 1e-3", ["way", "slices/s", "ratio"], rows, [note])


def measure_accuracy(setting: Setting) -> Measured:
    """Row 1: the accuracy of both on the test part over three seeds, trained in full."""
    epochs, seeds, batches = (1, 1, 2) if setting.quick else (EPOCHS, 3, None)
    rows = []
    for seed in range(seeds):
        kept = setting.work / f"notebook-{seed}.json"  # an hour for all seeds, so that each is kept
        if not kept.is_file():
            kept.write_text(json.dumps(in_process(notebook_epochs, setting.data, seed, epochs, batches)))
        theirs = float(json.loads(kept.read_text())[2])
        out = setting.work / f"same-{seed}"
        changes = ("training.keep=last", "training.precision=auto", "split.validation=0.002")
        train_command("baseline_cnn", out, setting, (f"seed={seed}", f"training.epochs={epochs}", *changes))
        ours = RunDirectory(out).metrics().metrics["accuracy"].value
        rows.append([str(seed), f"{100 * theirs:.2f}", f"{100 * ours:.2f}"])
    means = [statistics.fmean(float(row[place]) for row in rows) for place in (1, 2)]
    rows.append(["mean", *(f"{one:.2f}" for one in means)])
    note = f"{epochs} epochs, the last weights. The notebook trains on 5,120 slices, mriscope on 5,110. LEAKY."
    header = ["seed", "notebook, accuracy in %", "mriscope, `precision: auto`, accuracy in %"]
    return Measured("1. The same accuracy", header, rows, [note])


def train_command(
    recipe: str, out: Path, setting: Setting, changes: tuple[str, ...] = (), cache: str = "cache"
) -> float:
    """Train by the command line, and return the seconds from its start until the weights that are kept are written."""
    words = [word for change in changes for word in ("--set", change)]
    fixed = ["--data", setting.data, "--out", out, "--track", "none", "--device", "cpu"]
    if not (out / METRICS).is_file():
        done = run_command(["train", recipe, *fixed, *words], setting, cache=cache)
        took = {"chosen": (out / WEIGHTS).stat().st_mtime - done.began, "all": done.seconds}
        (out / "took.json").write_text(json.dumps(took))
    took = out / "took.json"  # missing where the benchmark was broken off
    return float(json.loads(took.read_text())["chosen"]) if took.is_file() else float("nan")


def measure_fast(setting: Setting) -> Measured:
    """Row 2: seconds until a model is chosen, with and without what is kept of reading."""
    epochs, batches = (1, 2) if setting.quick else (2, None)
    reading, epoch, _ = in_process(notebook_epochs, setting.data, 0, epochs, batches)
    theirs = reading + EPOCHS * epoch
    changes = ("training.epochs=1",) if setting.quick else ()
    rows = [["the notebook's ten epochs", f"{theirs:.0f}", "1 ×", "–", "–"]]
    for seed in range(1 if setting.quick else 3):
        first = [("nothing kept of reading", "cold")] if seed == 0 else []
        for name, cache in [*first, ("slices and subjects kept by an earlier command", "cache")]:
            if cache == "cache":
                run_command(["data", "info", setting.data], setting)
            out = setting.work / f"fast-{seed}-{cache}"
            seconds = train_command("fast", out, setting, (f"seed={seed}", *changes), cache)
            run = RunDirectory(out)
            kept = run.metrics().training
            assert kept is not None
            assert kept.epoch_kept is not None
            chosen = run.history()[kept.epoch_kept - 1]["validation_accuracy"]
            test = run.metrics().metrics["accuracy"].value
            cells = [f"{seconds:.1f}", f"{theirs / seconds:.1f} ×", f"{100 * chosen:.2f}", f"{100 * test:.2f}"]
            rows.append([f"`mriscope train fast`, seed {seed}, {name}", *cells])
    notes = [
        f"From the start of the process until model.safetensors is written. The notebook: {reading:.1f} s to read and "
        f"ten times the median of {epochs} epochs of {epoch:.1f} s, each with its test. LEAKY, as all figures there.",
    ]
    header = ["way", "s", "ratio", "validation accuracy, %", "test accuracy, %"]
    return Measured("2. Time to the study's accuracy (97.19 %)", header, rows, notes)


def measure_best(setting: Setting) -> Measured:
    """Row 3: how many of the test slices are right, for five seeds."""
    changes = ("training.epochs=1",) if setting.quick else ()
    rows = []
    for seed in range(1 if setting.quick else 5):
        out = setting.work / f"best-{seed}"
        seconds = train_command("best_published", out, setting, (f"seed={seed}", *changes))
        tested = RunDirectory(out).predictions().of_part("test")
        wrong = np.flatnonzero(tested.probabilities.argmax(axis=1) != tested.labels)
        missed = [f"{tested.paths[at]} ({', '.join(f'{p:.2f}' for p in tested.probabilities[at])})" for at in wrong]
        right, took = len(tested) - len(wrong), "–" if math.isnan(seconds) else f"{seconds:.0f}"
        rows.append([str(seed), f"{right:,} of {len(tested):,}", took, "; ".join(missed) or "–"])
    header = ["seed", "right", "s until the weights are kept", "missed, with the probability of each class"]
    note = "Chosen on validation, tested once a seed. LEAKY: slices of every test subject are in training."
    return Measured("3. Best on the published split", header, rows, [note])


def measure_compare(setting: Setting) -> Measured:
    """Row 6: the sixteen CNN rows of the study, from measured steps; then workers against threads."""
    steps, rows, theirs_s, ours_s = (1 if setting.quick else 3), [], 0.0, 0.0
    recipes = {file.stem: read_recipe(file) for file in match_recipes("study/*")}
    recipes = {name: one for name, one in recipes.items() if not one.model.startswith(NOT_CNN)}
    if setting.quick:
        recipes = dict(list(recipes.items())[:2])
    theirs: dict[str, float] = {}
    for name, recipe in recipes.items():
        few = 1 if recipe.model == "study_model" else steps
        if recipe.model not in theirs:
            theirs[recipe.model] = in_process(notebook_rate, setting.data, few, recipe.model)
        settings = recipe.training.model_copy(update={"precision": "auto"})
        ours = in_process(our_rate, setting.data, recipe.model_copy(update={"training": settings}), few)
        slices = 4608 * recipe.training.epochs
        theirs_s += slices / theirs[recipe.model]
        ours_s += slices / ours
        cells = [str(recipe.training.epochs), f"{theirs[recipe.model]:.1f}", f"{ours:.1f}"]
        rows.append([f"`{name}`", *cells, f"{ours / theirs[recipe.model]:.1f} ×"])
    total = [f"{theirs_s / 3600:.1f} h", f"{ours_s / 3600:.1f} h", f"{theirs_s / ours_s:.1f} ×"]
    rows.append(["all epochs", "", *total])
    header = ["recipe", "epochs", "notebook, slices/s", "mriscope, slices/s", "ratio"]
    return Measured("6. The sixteen CNN rows", header, rows, ["Epochs of 4,608 slices.", beside_one_another(setting)])


def beside_one_another(setting: Setting) -> str:
    """Say what two processes of one thread train beside one process of two."""
    recipe = read_recipe("baseline_cnn", ["training.precision=auto"])
    steps = 2 if setting.quick else 24
    together = in_process(our_rate, setting.data, recipe, steps)
    apart = in_process(two_at_once, setting.data, recipe, steps)
    return (
        f"BaselineCNN in one process of two threads: {together:.0f} slices/s; in two of one thread each, as "
        f"`compare --executor auto` runs them on {os.cpu_count()} cores: {apart:.0f} slices/s together."
    )


def two_at_once(folder: Path, recipe: Recipe, steps: int) -> float:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return sum(one.result() for one in [pool.submit(our_rate, folder, recipe, steps, 1) for _ in range(2)])
