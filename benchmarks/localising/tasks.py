"""Tasks on real slices, unaltered, whose answer lies in a known place."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mriscope.data.cache import cached_arrays, content_key
from mriscope.data.readers import read_silently
from mriscope.data.slices import SliceSet
from mriscope.environment import describe_environment
from mriscope.explain.regions import BrainRegions, find_regions
from mriscope.workflows._load import load

QUICK = bool(os.environ.get("MRISCOPE_BENCH_QUICK"))  # a try: few slices, one epoch
SIDE = 64
HEIGHTS = (16, 20, 24, 28)  # of the 32 slices of a subject; all of these show the bodies of the ventricles
TRAINING, VALIDATION = 120, 20  # subjects; all others are held out
TASKS = {
    "ventricles": "ventricles large or small",
    "cortex": "much or little fluid in the rim of the brain",
    "side": "left or right half of the picture brighter",
    "brightness": "whole brain bright or dark (control)",
}
VERSION = 5  # of the values and regions that are kept in the cache


COLUMNS = ("images", "subjects", "positions", "paths")


@dataclass(frozen=True)
class Cohort:
    """Slices with the value and the region of every task.

    Args:
        slices: of SIDE pixels, with subjects.
        values: by task, float64 (N,); above its median over training slices the label is 1.
        regions: by name, bool (N, SIDE, SIDE).
        rows: by part ("training", "validation", "test"), int64.
        commit: of the code that made it.
    """

    slices: SliceSet
    values: dict[str, np.ndarray]
    regions: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    commit: str = "unknown"

    def labels(self, task: str) -> np.ndarray:
        """Return int64 (N,), 1 where the value is above the median over training slices."""
        values = self.values[task]
        return (values > np.median(values[self.rows["training"]])).astype(np.int64)

    def task(self, task: str) -> SliceSet:
        """Return the slices with a task's labels in the place of diagnoses."""
        kept = self.slices
        return SliceSet.of(
            kept.images,
            self.labels(task),
            subjects=kept.subjects,
            positions=kept.positions,
            paths=kept.paths,
            class_names=("less", "more"),
        )

    def place(self, task: str) -> np.ndarray:
        """Return the pixels of a task's region in a twentieth of the training slices or more, bool (SIDE, SIDE)."""
        return self.regions[task][self.rows["training"]].mean(0) >= 0.05

    def truth(self, task: str, rows: np.ndarray) -> np.ndarray:
        """Return where the answer of a task lies, bool (n, SIDE, SIDE); of "side" in the brighter half."""
        if task != "side":
            return self.regions[{"brightness": "brain"}.get(task, task)][rows]
        left = self.labels(task)[rows, None, None] == 1
        return np.where(left, self.regions["left"][rows], self.regions["right"][rows])

    def save(self, file: Path) -> None:
        """Write all of it to one .npz file."""
        columns = {name: getattr(self.slices, name) for name in COLUMNS}
        parts = (("values", self.values), ("regions", self.regions), ("slices", columns))
        arrays = {f"{part} {name}": np.asarray(array) for part, those in parts for name, array in those.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, commit=np.array(self.commit), **arrays)

    @classmethod
    def load(cls, file: Path) -> "Cohort":
        """Read what `save` wrote."""
        found: dict[str, dict[str, np.ndarray]] = {"values": {}, "regions": {}, "slices": {}}
        with np.load(file) as kept:
            for key in kept.files:
                part, _, name = key.partition(" ")
                if name:
                    found[part][name] = kept[key]
            commit = str(kept["commit"])
        images, subjects, positions, paths = (found["slices"][name] for name in COLUMNS)
        labels = np.zeros(len(subjects), np.int64)
        slices = SliceSet.of(images, labels, subjects=subjects, positions=positions, paths=paths)
        return cls(slices, found["values"], found["regions"], split_rows(slices.subjects), commit)


def make_cohort(source: str | Path) -> Cohort:
    """Read the slices of a source, recover subjects, and measure every value at the slices' own size."""
    full = load(str(source)).slices
    full = full[np.flatnonzero(np.isin(full.positions, HEIGHTS))]
    full = full[np.lexsort((full.positions, full.subjects))]
    small = read_silently(source, SIDE).slices
    row_of = {path: row for row, path in enumerate(small.paths.tolist())}
    small = small[np.array([row_of[path] for path in full.paths.tolist()])]
    slices = small.with_subjects(full.subjects, full.positions)
    key = content_key({}, method=f"localisation-{VERSION}", data=full.fingerprint)
    kept = cached_arrays("localisation", key, lambda: measure(full))
    values = {name: kept[name] for name in TASKS}
    regions = {name[7:]: array for name, array in kept.items() if name.startswith("region_")}
    commit = describe_environment("").commit or "unknown"
    return Cohort(slices, values, regions, split_rows(slices.subjects), commit)


def split_rows(subjects: np.ndarray) -> dict[str, np.ndarray]:
    """Split slices by subject, drawn once."""
    order = np.random.default_rng(0).permutation(np.unique(subjects))
    parts = np.split(order, [TRAINING, TRAINING + VALIDATION])
    rows = [np.flatnonzero(np.isin(subjects, part)) for part in parts]
    few = [one[:32] for one in rows] if QUICK else rows
    return dict(zip(("training", "validation", "test"), few, strict=True))


def measure(slices: SliceSet) -> dict[str, np.ndarray]:
    """Measure the value of each task and each region, subject by subject; rows are sorted by subject and height."""
    parts = []
    for subject in np.unique(slices.subjects):
        images = np.asarray(slices.images[slices.subjects == subject])
        parts.append(measure_subject(images, find_regions(images)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure_subject(images: np.ndarray, found: BrainRegions) -> dict[str, np.ndarray]:
    """Measure the tasks' values and regions of one subject.

    Args:
        images: uint8 (S, H, W), unaltered.
        found: regions of these slices.
    """
    middle = np.arange(images.shape[2]) < images.shape[2] / 2
    left, right = found.brain & middle, found.brain & ~middle
    area, grey = found.brain.sum((1, 2)), images.astype(np.float64)
    brightness = {name: mean_within(grey, region) for name, region in (("left", left), ("right", right))}
    whole = mean_within(grey, found.brain)
    surface = found.cortex & found.fluid
    regions = {
        "brain": found.brain,
        "ventricles": widen(found.ventricles),
        "cortex": found.cortex,
        "white_matter": found.white_matter & ~widen(found.ventricles),
        "rest": found.rest & ~widen(found.ventricles),
        "left": left,
        "right": right,
    }
    return {
        "ventricles": found.ventricles.sum((1, 2)) / area,
        "cortex": surface.sum((1, 2)) / np.maximum(found.cortex.sum((1, 2)), 1),
        "side": (brightness["left"] - brightness["right"]) / whole,
        "brightness": whole / 255,
        **{f"region_{name}": shrink(region) for name, region in regions.items()},
    }


def mean_within(grey: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return the mean grey value of each slice within its region."""
    return (grey * region).sum((1, 2)) / np.maximum(region.sum((1, 2)), 1)


def widen(region: np.ndarray) -> np.ndarray:
    """Widen a region by 3 pixels at 128: that a ventricle is small shows at its walls, outside of it."""
    return torch.nn.functional.max_pool2d(as_maps(region), 7, 1, 3)[:, 0].numpy() > 0


def shrink(region: np.ndarray) -> np.ndarray:
    """Bring masks to SIDE pixels: where half or more of the area lies within."""
    return torch.nn.functional.interpolate(as_maps(region), (SIDE, SIDE), mode="area")[:, 0].numpy() >= 0.5


def as_maps(region: np.ndarray) -> Tensor:
    """Return masks as float32 (N, 1, H, W)."""
    return torch.from_numpy(region).float()[:, None]
