"""Rows 4, 8, 9 and 10: whole commands by the clock."""

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mriscope.data.readers import read
from timing.report import Measured
from timing.running import Setting, Timed, median_command, run_command
from timing.training import train_command

SIX = "gradcam,gradcam++,xgradcam,hirescam,layercam,elementwise"


def measure_honest(setting: Setting) -> Measured:
    """Row 4: the audit, and cross-validations with the slices and the subjects that it left in the cache."""
    short = ["--set", "training.epochs=1"] if setting.quick else []
    shared = ["--track", "none", "--data", setting.data, "--device", "cpu"]
    faster = ["--set", "training.precision=auto", *short]
    commands = {
        "`audit` of 6,400 slices": (["audit", setting.data], 7, 5),
        "`crossval tissue_families`, 5 folds": (["crossval", "tissue_families", *shared], 25, 3),
        "`crossval compact_cnn`, 5 folds, `precision: auto`": (["crossval", "compact_cnn", *shared, *faster], 180, 1),
    }
    if setting.quick:
        commands.pop("`crossval tissue_families`, 5 folds")
    rows = []
    with tempfile.TemporaryDirectory(dir=setting.work) as folder:
        for name, (words, goal, repeats) in commands.items():
            taken = run_anew(words, Path(folder), setting, 1 if setting.quick else repeats)
            seconds, processor = zip(*((one.seconds, one.processor) for one in taken), strict=True)
            spread = f" ({min(seconds):.1f} to {max(seconds):.1f})" if len(taken) > 1 else ""
            clock = f"{statistics.median(seconds):.1f}{spread}"
            rows.append([name, str(len(taken)), clock, f"{statistics.median(processor):.1f}", f"≤ {goal}"])
    note = "Medians. An audit finds nothing in the cache; a cross-validation finds the slices and their subjects alone."
    header = ["command", "runs", "clock, s", "processor, s", "goal"]
    return Measured("4. The subject-disjoint path", header, rows, [note])


def run_anew(words: Sequence[object], folder: Path, setting: Setting, repeats: int) -> list[Timed]:
    """Run a command several times, without what one before left: for an audit the cache, for others descriptions."""
    taken = []
    for _ in range(repeats):
        shutil.rmtree(folder / ("cache" if words[0] == "audit" else "cache/descriptions"), ignore_errors=True)
        command = [*words, "--out", tempfile.mkdtemp(dir=folder)]
        taken.append(
            run_command(command, setting, codes=(0, 3, 4), cache=f"{folder.name}/cache")
        )  # 3, 4: a leak, doubt
    return taken


def measure_starts(setting: Setting) -> Measured:
    """Row 8: starts of the command line."""
    repeats = 1 if setting.quick else 5
    run, image = setting.work / "fast-0-cache", setting.work / "slice.png"
    train_command("fast", run, setting, ("training.epochs=1",) if setting.quick else ())
    Image.fromarray(read(str(setting.data)).images[0]).save(image)
    commands = {
        "`mriscope --help`": (["--help"], 0.3, (0,)),
        "`mriscope models`": (["models"], 0.8, (0,)),
        "`mriscope predict` of a slice": (["predict", run, image, "--device", "cpu"], 2.5, (0,)),
        "a mistyped path": (["predict", setting.work / "runn", image], 0.5, (2,)),
    }
    rows = [
        [name, f"{median_command(words, setting, repeats, codes):.2f}", f"≤ {goal}"]
        for name, (words, goal, codes) in commands.items()
    ]
    taken = []
    for _ in range(1 + repeats):
        bare, whole = (time_python(text) for text in ("pass", "import mriscope"))
        taken.append(whole - bare)
    rows.append(["`import mriscope`, beyond Python's start", f"{statistics.median(taken[1:]):.3f}", "≤ 0.05"])
    return Measured("8. Starts", ["command", "s", "goal"], rows, [f"Medians of {repeats}, bytecode cached."])


def time_python(text: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", text], check=True)
    return time.perf_counter() - started


def measure_crowded(setting: Setting) -> Measured:
    """Row 9: the demo alone, then with two busy processes for each core beside it."""
    if setting.quick:
        run_command(["demo", "--help"], setting)
    rows = []
    for name, busy in (("alone", 0), ("two busy processes per core", 2 * (os.cpu_count() or 1))):
        context = multiprocessing.get_context("spawn")
        others = [context.Process(target=keep_busy, daemon=True) for _ in range(busy)]
        for other in others:
            other.start()
        try:
            words = ["demo", "--help"] if setting.quick else ["demo", "--out", setting.work / f"demo-{busy}"]
            done = run_command(words, setting)
        finally:
            for other in others:
                other.kill()
                other.join()
        rows.append([name, f"{done.seconds:.0f}", f"{done.processor:.0f}", f"{done.seconds / done.processor:.2f} ×"])
    header = ["`mriscope demo`", "clock, s", "processor, s", "clock over processor (goal ≤ 3)"]
    return Measured("9. A crowded machine", header, rows)


def keep_busy() -> None:
    while True:
        pass


def measure_grid(setting: Setting) -> Measured:
    """Row 10: a grid of 16 slices by six methods, in a new process."""
    run = setting.work / "grid-run"
    changes = ("training.epochs=1", "training.hard_share=0.1")  # weights that are trained at all, soon
    train_command("baseline_cnn", run, setting, changes)
    words = ["explain", run, "--methods", SIX, "--n", 16, "--device", "cpu", "--out", setting.work / "grid"]
    repeats = 1 if setting.quick else 5
    seconds = median_command(words, setting, repeats)
    own = time_python("import torch")
    rows = [["`mriscope explain RUN --n 16`, six methods, BaselineCNN", f"{seconds:.2f}", "≤ 3"]]
    return Measured(
        "10. Grid of 16 slices by 6 methods",
        ["command", "s", "goal"],
        rows,
        [f"`import torch` alone takes {own:.2f} s."],
    )
