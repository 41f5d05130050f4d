"""Row 7: epochs and memory over more and more slices of a memory map."""

import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from mriscope.data.phantom import make_phantom
from mriscope.data.slices import SliceSet
from mriscope.models.registry import create_model
from mriscope.recipe import TrainingSettings
from mriscope.training.devices import pick_device
from mriscope.training.loop import train
from mriscope.training.progress import Monitor
from timing.report import Measured
from timing.running import Setting, in_process

SIDE = 64
SUBJECTS, SLICES = 96, 16


class PeakMemory(threading.Thread):
    """The most memory that belongs to this process alone, without pages of mapped files, in MiB; looked at often."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.ended = 0.0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.05):
            lines = Path("/proc/self/status").read_text().splitlines()
            self.most = max(self.most, *(int(one.split()[1]) / 1024 for one in lines if one.startswith("RssAnon")))


def make_file(folder: Path, count: int) -> Path:
    """Write a memory map of `count` slices that repeats the slices of a phantom, and return its path."""
    few = np.asarray(make_phantom(SUBJECTS, SLICES, size=SIDE).slices.images)
    path = folder / f"{count}.npy"
    whole = np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIDE, SIDE))
    for start in range(0, count, len(few)):
        whole[start : start + len(few)] = few[: count - start]
    whole.flush()
    return path


def epoch_of(path: Path) -> tuple[float, float, float]:
    """Return seconds of an epoch of compact_cnn over a memory map, MiB before it, and the peak of MiB during it."""
    images = np.load(path, mmap_mode="r")
    slices = SliceSet.of(images, np.arange(len(images)) % 4)
    rows, device = np.arange(len(images)), pick_device("cpu")
    settings = TrainingSettings(epochs=1, batch_size=64, precision="auto")
    before = PeakMemory()
    before.start()
    time.sleep(0.2)
    before.ended.set()
    peak = PeakMemory()
    peak.start()
    with tempfile.TemporaryDirectory() as folder:
        done = train(
            create_model("compact_cnn", size=SIDE, seed=0),
            slices,
            rows,
            rows[:64],
            settings,
            scale="unit",
            seed=0,
            device=device,
            folder=Path(folder),
            monitor=Monitor(silent=True),
        )
    peak.ended.set()
    return done.history[-1]["seconds"], before.most, peak.most


def measure_growth(setting: Setting) -> Measured:
    """Row 7."""
    counts = (640, 1280) if setting.quick else (6_400, 25_600, 102_400, 409_600)
    rows = []
    for count in counts:
        path = make_file(setting.work, count)
        seconds, before, most = in_process(epoch_of, path)
        path.unlink()
        size = count * SIDE**2 / 2**20
        rows.append(
            [
                f"{count:,}",
                f"{size:,.0f}",
                f"{seconds:.1f}",
                f"{1e6 * seconds / count:.0f}",
                f"{before:.0f}",
                f"{most:.0f}",
            ]
        )
    header = ["slices", "MiB on disk", "s per epoch", "µs per slice", "MiB before training", "MiB at most"]
    note = "compact_cnn, batch 64, 64×64 pixels, a phantom's slices repeated. MiB without the pages of the mapped file."
    return Measured("7. Growth", header, rows, [note])
