"""The scores of methods of explanation on one model: faithful to it, dependent on its weights, where, how fast."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.evaluation.resampling import mean_interval
from mriscope.explain.maps import explain
from mriscope.explain.methods import METHODS
from mriscope.explain.metrics import faithfulness, localisation
from mriscope.explain.metrics.baseline_maps import centre_maps, random_maps
from mriscope.explain.metrics.randomisation import RULE as VERDICT
from mriscope.explain.metrics.randomisation import randomise
from mriscope.explain.metrics.recommendation import CENTRE, RANDOM, MethodScores
from mriscope.results import Agreement, Estimate, MethodResult, Randomisation

COSTLY = frozenset({"scorecam", "ablationcam", "integrated_gradients", "smoothgrad", "occlusion"})
"""Methods that take many passes for each slice; compared where they are named."""
RANDOMISED = 16
"""Slices on which the randomisation check is made, as it computes every map anew for each layer."""
STEPS, DRAWS, PERCENTILES = 16, 32, (20, 50, 80)
"""Shares of pixels along a curve, draws of places for sensitivity-n, percentiles of ROAD: half of their defaults."""
RANDOMISATION_RULE = (
    "The weights become random layer by layer, from the last one to the first, and maps of the first {count} slices "
    "are made anew (Adebayo et al., 2018). Shown is what is left when all are random, within the brain. A method "
    "{verdict}."
)
BASELINES = {RANDOM: "Random map", CENTRE: "Centre map"}


@dataclass(frozen=True)
class Case:
    """What all methods are compared on.

    Args:
        model: the network.
        images: float32 (N, C, H, W), as it is fed, on its device.
        pixels: uint8 (N, H, W), the same slices before scaling.
        classes: int64 (N,), the class to explain.
        units: int64 (N,), what each slice is resampled with: its subject, or itself where subjects are unknown.
        layer: dotted name; None takes the last convolution.
        masks: bool (N, H, W), the truth; None where there is none.
        seed: of random maps, noise, draws and resampling.
    """

    model: nn.Module
    images: Tensor
    pixels: np.ndarray
    classes: Tensor
    units: np.ndarray
    layer: str | None = None
    masks: Tensor | None = None
    seed: int = 0


def cheap_methods() -> tuple[str, ...]:
    """Return the methods that are compared unless others are named."""
    return tuple(name for name in METHODS if name not in COSTLY)


def score_methods(case: Case, names: Sequence[str]) -> Iterator[MethodScores]:
    """Yield the scores of each method.

    Raises:
        MriscopeError: a method cannot explain the model, or the layer is unknown.
    """
    for name in names:
        explain(case.model, case.images[:1], (name,), layer=case.layer)  # what only the first call costs is not counted
        began = time.perf_counter()
        found = explain(case.model, case.images, (name,), case.classes, layer=case.layer)[name]
        seconds = (time.perf_counter() - began) / len(case.images)
        n_empty = sum(reason is not None for reason in found.reasons)
        values, check = score_maps(case, found.maps), check_randomisation(case, name)
        yield MethodScores(name, METHODS[name], False, values, found.maps, seconds, n_empty, check)


def score_baselines(case: Case) -> Iterator[MethodScores]:
    """Yield the scores of maps that know nothing of the model: random ones, and one bump in the centre."""
    maps = {RANDOM: random_maps(case.images, case.seed), CENTRE: centre_maps(case.images)}
    for name, title in BASELINES.items():
        yield MethodScores(name, title, True, score_maps(case, maps[name]), maps[name])


def score_maps(case: Case, maps: Tensor) -> dict[str, np.ndarray]:
    """Compute every metric that exists for a case, slice by slice: float64 (N,), nan where one does not exist.

    Args:
        case: what the maps are of.
        maps: float32 (N, H, W) in [0, 1].
    """
    arguments = (case.model, case.images, maps, case.classes)
    found: dict[str, Tensor] = {
        "deletion": faithfulness.deletion(*arguments, steps=STEPS).auc,
        "insertion": faithfulness.insertion(*arguments, steps=STEPS).auc,
        "road": faithfulness.road(*arguments, percentiles=PERCENTILES, seed=case.seed),
        "sensitivity": faithfulness.sensitivity_n(*arguments, samples=DRAWS, seed=case.seed),
        "sparsity": faithfulness.sparsity(maps),
        "outside": localisation.outside_share(maps, case.pixels),
    }
    found["average_drop"], found["increase"] = faithfulness.average_drop(*arguments)
    if case.masks is not None:
        found["pointing"] = localisation.pointing_game(maps, case.masks)
        found["energy"] = localisation.energy_inside(maps, case.masks)
        found["iou"] = localisation.best_iou(maps, case.masks)
    return {name: values.double().cpu().numpy() for name, values in found.items()}


def check_randomisation(case: Case, name: str) -> Randomisation:
    """Run the randomisation check of a method on the first slices of a case."""
    few = slice(RANDOMISED)

    def maps_of(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        return explain(model, images, (name,), classes, layer=case.layer)[name].maps

    brains = torch.from_numpy(localisation.brain_mask(case.pixels[few]))
    found = randomise(case.model, case.images[few], case.classes[few], maps_of, seed=case.seed, within=brains)

    def mean(values: Tensor) -> Estimate:
        return mean_interval(values.double().cpu().numpy(), case.units[few], seed=case.seed)

    return Randomisation(
        passes=found.passes,
        ssim=mean(found.ssim[-1]),
        rank_correlation=mean(found.rank_correlation[-1]),
        chance=mean(found.chance),
        stages={layer: mean(values) for layer, values in zip(found.stages, found.rank_correlation, strict=True)},
    )


def randomisation_rule(count: int) -> str:
    """Return the rule of the randomisation check for so many slices, in words."""
    return RANDOMISATION_RULE.format(count=min(RANDOMISED, count), verdict=VERDICT)


def rank_agreement(scores: Sequence[MethodScores]) -> Agreement:
    """Return the titles of methods, and the mean rank correlation of the maps of each pair; nan where none exists."""
    titles, correlations = localisation.agreement({one.title: one.maps for one in scores})
    return Agreement(titles=list(titles), matrix=correlations.tolist())


def summarize_scores(scores: Sequence[MethodScores], case: Case, recommended: str | None) -> list[MethodResult]:
    """Summarize the scores of methods and baselines: means over slices with intervals, and paired with random maps.

    Args:
        scores: of methods and baselines, the random one among them.
        case: what they were measured on.
        recommended: the name of the method that is recommended.
    """

    def mean(values: np.ndarray) -> Estimate:
        return mean_interval(values, case.units, seed=case.seed)

    random = next(one for one in scores if one.name == RANDOM)
    return [
        MethodResult(
            name=one.name,
            title=one.title,
            kind="baseline" if one.baseline else "method",
            recommended=one.name == recommended,
            seconds=one.seconds,
            empty=one.n_empty,
            randomisation=one.randomisation,
            metrics={name: mean(values) for name, values in {**one.values, "gain": one.gain}.items()},
            against_random={name: mean(one.values[name] - random.values[name]) for name in ("deletion", "insertion")},
        )
        for one in scores
    ]


def describe_truth(case: Case) -> str | None:
    """Return what the truth of a case is, in words; None where there is none."""
    if case.masks is None:
        return None
    some = int(case.masks.flatten(1).any(1).sum())
    return (
        "The truth is the region where disease changed a slice of the phantom visibly, against the same brain without "
        f"disease; {some} of the {len(case.masks)} slices have one and count for pointing game, energy and IoU."
    )
