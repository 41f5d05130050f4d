"""Maps of every method on the networks, kept as they are made; and what is measured of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from localising.networks import NETWORKS, name_of, trained
from localising.tasks import TASKS, Cohort
from mriscope.data.batches import scaled
from mriscope.explain import explain
from mriscope.explain.methods import METHODS
from mriscope.explain.metrics.baseline_maps import centre_maps, random_maps
from mriscope.explain.metrics.comparison import COSTLY
from mriscope.explain.metrics.faithfulness import deletion, insertion
from mriscope.explain.metrics.localisation import pixel_auroc, pointing_game, region_ratio
from mriscope.explain.postprocess import stretch

SUBJECTS, PER_SUBJECT = 32, 2
STEPS = 8
REFERENCES = ("blur", "mean", "local")
CURVES_ON = ("ventricles", "cortex")  # insertion and deletion take most of the time
LAYERS = {"timm:resnet18": "features.layer3"}  # 4 × 4 places, as the others' last maps; its own last has 2 × 2
BASELINES = {"random": "Random map", "centre": "Centre map", "edges": "Edges of the slice"}
TITLES = {**METHODS, **BASELINES}


@dataclass(frozen=True)
class Examples:
    """The slices that every method explains.

    Args:
        rows: int64 (N,), of the cohort.
        images: float32 (N, 1, H, W) in [0, 1].
        units: int64 (N,), subjects.
        brains: bool (N, H, W).
    """

    rows: np.ndarray
    images: Tensor
    units: np.ndarray
    brains: Tensor

    def first_of_each(self) -> np.ndarray:
        """Return the places of one slice of each subject."""
        return np.unique(self.units, return_index=True)[1]


def choose_examples(cohort: Cohort) -> Examples:
    """Choose slices of held-out subjects, the same for all networks, drawn once."""
    test = cohort.rows["test"]
    random = np.random.default_rng(1)
    subjects = random.permutation(np.unique(cohort.slices.subjects[test]))[:SUBJECTS]
    of_each = [test[cohort.slices.subjects[test] == subject] for subject in subjects]
    rows = np.sort(np.concatenate([random.permutation(some)[:PER_SUBJECT] for some in of_each]))
    images = scaled(torch.from_numpy(np.array(cohort.slices.images[rows])), "unit")
    return Examples(rows, images, cohort.slices.subjects[rows], torch.from_numpy(cohort.regions["brain"][rows]))


QUICK, SMALL = ("compact_cnn", "baseline_cnn"), ("compact_cnn", "baseline_cnn", "keras_like")
STAGES = (
    ("cheap", 0, SMALL),
    ("costly", 0, QUICK),
    ("curves", 0, QUICK),
    ("cheap", 1, SMALL),
    ("costly", 0, SMALL),
    ("cheap", 2, SMALL),
    ("curves", 0, SMALL),
    ("curves", 1, QUICK),
    *((stage, seed, NETWORKS) for seed in (0, 1, 2) for stage in ("cheap", "costly", "curves")),
)
"""What is done, with the seed and networks: the cheap and telling first, so that tables exist before all is done."""


def jobs() -> Iterator[tuple[str, str, int, str]]:
    """Yield task, network, seed and stage; what was done before is asked for again, and found."""
    for stage, seed, networks in STAGES:
        for network in networks:
            for task in CURVES_ON if stage == "curves" else TASKS:
                yield task, network, seed, stage


def run(cohort: Cohort, examples: Examples, folder: Path, job: tuple[str, str, int, str]) -> None:
    """Do what is missing of a job, on a network that has learned its task; what one seed did not learn, none tries."""
    task, network, seed, stage = job
    if seed and not trained(cohort, task, network, 0, folder)[1].counts:
        return
    model, reached = trained(cohort, task, network, seed, folder)
    if not reached.counts:
        return
    name = name_of(task, network, seed)
    classes = torch.from_numpy(cohort.labels(task)[examples.rows])
    if stage == "curves":
        measure_curves(model, examples, classes, folder / f"{name}-curves.npz", folder, name)
        return
    for method in METHODS:
        if (method in COSTLY) == (stage == "costly"):
            kept_maps(model, examples, classes, method, LAYERS.get(network), folder / f"{name}-{method}.npz")


def kept_maps(
    model: nn.Module, examples: Examples, classes: Tensor, method: str, layer: str | None, file: Path
) -> None:
    """Explain the right class of every slice by one method, and keep the maps."""
    if not file.is_file():
        found = explain(model, examples.images, (method,), classes, layer=layer)[method]
        np.savez_compressed(file, maps=found.maps.numpy().astype(np.float16))


def measure_curves(model: nn.Module, examples: Examples, classes: Tensor, file: Path, folder: Path, name: str) -> None:
    """Compute insertion less deletion by every reference, of the methods that have maps; one slice of each subject."""
    if file.is_file():
        return
    few = torch.from_numpy(examples.first_of_each())
    found = {}
    for method in TITLES:
        maps = read_maps(folder, name, method, examples)
        if maps is None:
            continue
        arguments = (model, examples.images[few], maps[few], classes[few])
        for reference in REFERENCES:
            into = insertion(*arguments, steps=STEPS, baseline=reference).auc
            out = deletion(*arguments, steps=STEPS, baseline=reference).auc
            found[f"{method} {reference}"] = torch.stack([into, out]).numpy()
    np.savez_compressed(file, **found)


def read_maps(folder: Path, name: str, method: str, examples: Examples) -> Tensor | None:
    """Return the maps of a method or a baseline, float32 (N, H, W); None where they have not been made."""
    if method == "random":
        return random_maps(examples.images)
    if method == "centre":
        return centre_maps(examples.images)
    if method == "edges":
        down, across = torch.gradient(examples.images[:, 0], dim=(1, 2))
        return stretch(down.abs() + across.abs())
    file = folder / f"{name}-{method}.npz"
    return torch.from_numpy(np.load(file)["maps"]).float() if file.is_file() else None


def measure_place(maps: Tensor, region: Tensor, brains: Tensor) -> dict[str, np.ndarray]:
    """Measure how maps lie to a region, slice by slice: float64 (N,)."""
    found = {
        "pointing": pointing_game(maps, region),
        "ratio": region_ratio(maps, region, brains),
        "auroc": pixel_auroc(maps, region, brains),
    }
    return {name: values.double().numpy() for name, values in found.items()}
