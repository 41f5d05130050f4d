"""Maps of every method on the networks, kept as they are made; and what is measured of them."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from localising.networks import NETWORKS, SEEDS, Network, measure_dependence, name_of, trained
from localising.tasks import QUICK, Cohort, make_cohort
from mriscope.data.batches import scaled
from mriscope.explain import explain
from mriscope.explain.methods import METHODS
from mriscope.explain.metrics.baseline_maps import centre_maps, random_maps
from mriscope.explain.metrics.comparison import COSTLY
from mriscope.explain.metrics.faithfulness import deletion, insertion
from mriscope.explain.metrics.localisation import pixel_auroc, pointing_game, region_ratio
from mriscope.explain.postprocess import stretch

SUBJECTS, PER_SUBJECT = (2 if QUICK else 32), 2
STEPS = 8
REFERENCES = ("blur", "mean", "local")
PLACED = ("ventricles", "cortex")  # tasks whose answer should come from one place, the same in all slices
ANATOMY = {"ventricles": "ventricles", "cortex": "cortex", "white_matter": "white matter", "rest": "the rest"}
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


WORTH = ("ventricles", "cortex", "brightness", "side")
"""Tasks in the order in which they are wanted."""


def jobs() -> Iterator[Network]:
    """Yield the networks, those of the task that is wanted most first."""
    for task in WORTH:
        for seed in (0,) if QUICK else SEEDS:
            for network in NETWORKS:
                yield task, network, seed


@dataclass(frozen=True)
class Setting:
    """Where a network is measured, and until when.

    Args:
        source: the file of a cohort, or the source of its slices.
        folder: of all that is kept.
        device: "cpu" or "cuda".
        ends: time.time() from which nothing new begins.
    """

    source: Path | str
    folder: Path
    device: str
    ends: float

    @property
    def over(self) -> bool:
        """Return whether the time is up."""
        return time.time() > self.ends

    @property
    def at_once(self) -> int | None:
        """Return how many images run at once: a GPU is waited for less often where that is many."""
        return None if self.device == "cpu" else 512


@cache
def read_cohort(source: Path | str) -> tuple[Cohort, Examples]:
    """Return the cohort and the slices to explain, once for each process."""
    cohort = Cohort.load(source) if isinstance(source, Path) else make_cohort(source)
    return cohort, choose_examples(cohort)


def measure_network(setting: Setting, one: Network) -> str:
    """Do what is missing of a network that learns its task: maps of all methods, where they lie, and their curves.

    Returns:
        What was done in how many seconds.
    """
    if setting.over:
        return "not begun"
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # maps in full float32; products of matrices are so by default
    (cohort, examples), began = read_cohort(setting.source), time.time()
    model, reached = trained(cohort, one, setting.folder, setting.device)
    task, network, _ = one
    seconds, start = [time.time() - began], setting.folder / name_of(one)
    if task in PLACED:
        measure_dependence(model, cohort, task, start.with_name(f"{start.name}-place.json"))
    if reached.counts:
        classes = torch.from_numpy(cohort.labels(task)[examples.rows])
        keep_maps(setting, model, examples, classes, LAYERS.get(network), start)
        seconds.append(time.time() - began)
        regions = {region: cohort.regions[region][examples.rows] for region in ANATOMY}
        if task == "side":
            regions["truth"] = cohort.truth(task, examples.rows)
        keep_by_method(setting, examples, start, "places", partial(measure_places, regions, examples.brains))
        seconds.append(time.time() - began)
        keep_by_method(setting, examples, start, "curves", partial(measure_curves, setting, model, examples, classes))
        seconds.append(time.time() - began)
    return f"{reached.auroc_subjects:.2f}; " + ", ".join(f"{some:.0f} s" for some in seconds)


def keep_maps(
    setting: Setting, model: nn.Module, examples: Examples, classes: Tensor, layer: str | None, start: Path
) -> None:
    """Explain the right class of every slice, and keep the maps; the cheap methods share their gradients."""
    cheap = [method for method in METHODS if method not in COSTLY]
    for methods in [cheap, *([method] for method in METHODS if method in COSTLY)]:
        missing = [method for method in methods if not map_file(start, method).is_file()]
        if not missing or setting.over:
            continue
        found = explain(model, examples.images, missing, classes, layer=layer, chunk=setting.at_once)
        for method in missing:
            np.savez_compressed(map_file(start, method), maps=found[method].maps.cpu().numpy().astype(np.float16))


def map_file(start: Path, method: str) -> Path:
    """Return the file of a method's maps."""
    return start.with_name(f"{start.name}-{method}.npz")


def keep_by_method(
    setting: Setting, examples: Examples, start: Path, what: str, measure: Callable[[Tensor], dict[str, np.ndarray]]
) -> None:
    """Measure what is missing of the methods that have maps, and keep it under "method measure" in one file."""
    file = start.with_name(f"{start.name}-{what}.npz")
    found = dict(np.load(file)) if file.is_file() else {}
    done = {key.split(" ")[0] for key in found}
    for method in TITLES:
        maps = None if method in done or setting.over else read_maps(start, method, examples)
        if maps is not None:
            found.update({f"{method} {name}": values for name, values in measure(maps).items()})
    np.savez_compressed(file, **found)


def measure_curves(
    setting: Setting, model: nn.Module, examples: Examples, classes: Tensor, maps: Tensor
) -> dict[str, np.ndarray]:
    """Compute insertion and deletion by every reference, float32 (2, n); of one slice of each subject."""
    few = torch.from_numpy(examples.first_of_each())
    arguments, found = (model, examples.images[few], maps[few], classes[few]), {}
    for reference in REFERENCES:
        curves = (
            curve(*arguments, steps=STEPS, baseline=reference, chunk=setting.at_once or 64).auc
            for curve in (insertion, deletion)
        )
        found[reference] = torch.stack(list(curves)).cpu().numpy()
    return found


def read_maps(start: Path, method: str, examples: Examples) -> Tensor | None:
    """Return the maps of a method or a baseline, float32 (N, H, W); None where they have not been made."""
    if method == "random":
        return random_maps(examples.images)
    if method == "centre":
        return centre_maps(examples.images)
    if method == "edges":
        down, across = torch.gradient(examples.images[:, 0], dim=(1, 2))
        return stretch(down.abs() + across.abs())
    file = map_file(start, method)
    return torch.from_numpy(np.load(file)["maps"]).float() if file.is_file() else None


def measure_places(regions: Mapping[str, np.ndarray], brains: Tensor, maps: Tensor) -> dict[str, np.ndarray]:
    """Measure how maps lie to each region, float32 (N,) by "region measure"."""
    return {
        f"{region} {what}": values.astype(np.float32)
        for region, masks in regions.items()
        for what, values in measure_place(maps, torch.from_numpy(masks), brains).items()
    }


def measure_place(maps: Tensor, region: Tensor, brains: Tensor) -> dict[str, np.ndarray]:
    """Measure how maps lie to a region, slice by slice: float64 (N,)."""
    found = {
        "pointing": pointing_game(maps, region),
        "ratio": region_ratio(maps, region, brains),
        "auroc": pixel_auroc(maps, region, brains),
    }
    return {name: values.double().numpy() for name, values in found.items()}
