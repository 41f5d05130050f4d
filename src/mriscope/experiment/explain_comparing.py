"""Compare methods of explanation on one run: which maps mean something, and which of them serve best."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from mriscope.data.batches import scaled
from mriscope.data.phantom import draw_severity, make_brain, phantom_options
from mriscope.data.slices import SEVERITY, SliceSet
from mriscope.environment import describe_environment
from mriscope.errors import RunError
from mriscope.experiment.cohorts import COHORT, describe_cohort
from mriscope.experiment.explaining import judged_by, known_methods, open_network, some_of_test
from mriscope.experiment.recommending import CENTRE, RANDOM, Measured, mean_interval, recommend
from mriscope.explain import faithfulness, localisation
from mriscope.explain.engine import predicted_classes
from mriscope.explain.maps import explain
from mriscope.explain.methods import METHODS
from mriscope.explain.randomisation import RULE as VERDICT
from mriscope.explain.randomisation import randomise
from mriscope.files import write_bytes, write_text
from mriscope.reports.explanation_comparison import RULE, comparison_csv, comparison_page
from mriscope.reports.page import Picture
from mriscope.run_directory import PREDICTIONS, RunDirectory, open_run

COSTLY = frozenset({"scorecam", "ablationcam", "integrated_gradients", "smoothgrad", "occlusion"})
"""Methods that take many passes for each slice; compared where they are asked for."""
RANDOMISED = 16
"""Slices on which the randomisation check is made, as it makes every map anew for each layer."""
STEPS, DRAWS, PERCENTILES = 16, 32, (20, 50, 80)
"""Shares of pixels along a curve, draws of places for sensitivity-n, percentiles of ROAD: half of their defaults."""
RANDOMISATION_RULE = (
    "The weights become random layer by layer, from the last one to the first, and maps of the first {count} slices "
    "are made anew (Adebayo et al., 2018). Shown is what is left when all are random, within the brain. A method "
    "{verdict}."
)
PHANTOM = "phantom"
BASELINES = {RANDOM: "Random map", CENTRE: "Centre map"}


def cheap_methods() -> tuple[str, ...]:
    """Those that are compared unless others are named."""
    return tuple(name for name in METHODS if name not in COSTLY)


@dataclass(frozen=True)
class Case:
    """What all methods are compared on.

    Args:
        model: the network.
        images: float32 (N, 1, H, W), as it is fed.
        slices: the same, as they were read.
        classes: int64 (N,), the predicted class, which is explained.
        layer: dotted name; None takes the last convolution.
        masks: bool (N, H, W), the truth; None where there is none.
        seed: of all chance.
        class_names: of the model's classes.
    """

    model: nn.Module
    images: Tensor
    slices: SliceSet
    classes: Tensor
    layer: str | None
    masks: Tensor | None
    seed: int
    class_names: tuple[str, ...]

    @property
    def unit(self) -> str:
        return "subject" if self.slices.knows_subjects else "slice"

    @property
    def units(self) -> np.ndarray:
        """int64 (N,), what each slice is resampled with."""
        return self.slices.subjects if self.slices.knows_subjects else np.arange(len(self.slices))


def compare_methods(
    folder: str | Path,
    out: str | Path,
    methods: Sequence[str] | None = None,
    *,
    count: int = 64,
    seed: int = 0,
    source: str | None = None,
    layer: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Measure methods on slices of a run's test part; writes explain_compare.csv, .html and .json, and cohort.png.

    The predicted class is explained. A method can be recommended if its maps pass the randomisation check and beat
    random maps in deletion and in insertion, each by a paired difference whose 95 % interval leaves out 0. Among these
    the greatest insertion less deletion wins, unless a method that its interval does not tell from it is at least twice
    as fast. Mean maps are shown of the recommended method, else of Grad-CAM, else of the first one compared; where no
    group of slices has two subjects, there is no picture of them.

    Args:
        folder: the run.
        out: folder for the files.
        methods: names among METHODS; None those that cost few passes.
        count: how many slices, as evenly over the classes as the test part allows.
        seed: of their choice, of random maps and of resampling.
        source: where the run's data is now, if it was moved.
        layer: dotted name; None takes the last convolution.
        device: auto, cpu or cuda.

    Returns:
        what explain_compare.json holds.

    Raises:
        MriscopeError: no finished run of a network, no data, or an unknown method or layer.
        WriteError: a file cannot be written.
    """
    directory, names = open_run(folder), known_methods(methods or cheap_methods())
    case = _case(directory, count, seed, source, layer, device)
    with _progress(len(names) + len(BASELINES)) as tell:
        measured = [*_measured(case, names, tell), *_baselines(case, tell)]
    facts = _facts(directory, case, measured)
    facts["cohort"], picture = describe_cohort(
        measured,
        facts["recommendation"]["method"],
        case.slices,
        case.classes.cpu().numpy(),
        case.class_names,
        seed=seed,
        judged=f"{directory.recipe.model}, {judged_by(directory)}",
    )
    _write(Path(out), facts, picture)
    return facts


def _case(directory: RunDirectory, count: int, seed: int, source: str | None, layer: str | None, device: str) -> Case:
    model, class_names = open_network(directory, device)
    slices = some_of_test(directory, source, count, seed)
    images = scaled(torch.from_numpy(np.array(slices.images)), directory.recipe.input.scale)
    images = images.to(next(model.parameters()).device)
    masks = phantom_masks(slices, str(source or directory.environment["source"]))
    with torch.no_grad():
        classes = torch.cat([predicted_classes(model(part)) for part in images.split(64)])
    truth = None if masks is None else torch.from_numpy(masks).to(images.device)
    return Case(model, images, _with_subjects(slices, directory), classes, layer, truth, seed, class_names)


def _with_subjects(slices: SliceSet, directory: RunDirectory) -> SliceSet:
    """The slices with the subjects that the run was judged by, which a manifest may have named."""
    if not (directory.path / PREDICTIONS).is_file():
        return slices
    kept = directory.predictions()
    subject_of = dict(zip(kept.paths.tolist(), kept.subjects.tolist(), strict=True))
    if not all(path in subject_of for path in slices.paths.tolist()):
        return slices
    return slices.with_subjects(np.array([subject_of[path] for path in slices.paths.tolist()]), slices.positions)


def phantom_masks(slices: SliceSet, source: str) -> np.ndarray | None:
    """Where disease changed each slice of a phantom: bool (N, H, W); None where the source is no phantom.

    Args:
        slices: of the source.
        source: as mriscope.data.read takes it.

    Raises:
        RunError: the phantom that is made now is not the one the slices are of.
    """
    if source.partition(":")[0] != PHANTOM:
        return None
    options = {**phantom_options(source), "size": slices.images.shape[1]}
    per_subject, seed, size = options.get("slices", 32), options.get("seed", 0), options["size"]
    masks = np.zeros(slices.images.shape, np.bool_)
    for subject in np.unique(slices.subjects):
        rows = np.flatnonzero(slices.subjects == subject)
        rank = SEVERITY.index(slices.class_names[slices.labels[rows[0]]])
        brain = make_brain(int(subject), draw_severity(rank, int(subject), seed), per_subject, seed, size)
        images, changed = (one[slices.positions[rows]] for one in brain)
        if not np.array_equal(images, slices.images[rows]):
            raise RunError(f"{source} makes other brains than these slices show; name the phantom they are of")
        masks[rows] = changed
    return masks


def _measured(case: Case, names: Sequence[str], tell: Callable[[str], None]) -> Iterator[Measured]:
    for name in names:
        explain(case.model, case.images[:1], (name,), layer=case.layer)  # what only the first call costs is not counted
        began = time.perf_counter()
        found = explain(case.model, case.images, (name,), case.classes, layer=case.layer)[name]
        seconds = (time.perf_counter() - began) / len(case.images)
        values = map_values(case, found.maps)
        silent = sum(reason is not None for reason in found.reasons)
        yield Measured(name, METHODS[name], False, values, found.maps, seconds, silent, _randomised(case, name))
        tell(METHODS[name])


def _baselines(case: Case, tell: Callable[[str], None]) -> Iterator[Measured]:
    """Maps that know nothing of the model."""
    made = {RANDOM: faithfulness.random_maps(case.images, case.seed), CENTRE: faithfulness.centre_maps(case.images)}
    for name, title in BASELINES.items():
        yield Measured(name, title, True, map_values(case, made[name]), made[name])
        tell(title)


def map_values(case: Case, maps: Tensor) -> dict[str, np.ndarray]:
    """Every metric there is for a case, slice by slice: float64 (N,), nan where one does not exist.

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
        "outside": localisation.outside_share(maps, case.slices.images),
    }
    found["average_drop"], found["increase"] = faithfulness.average_drop(*arguments)
    if case.masks is not None:
        found["pointing"] = localisation.pointing_game(maps, case.masks)
        found["energy"] = localisation.energy_inside(maps, case.masks)
        found["iou"] = localisation.best_iou(maps, case.masks)
    return {name: values.double().cpu().numpy() for name, values in found.items()}


def _randomised(case: Case, name: str) -> dict[str, Any]:
    """The check and its verdict, on the first slices of the case."""
    few = slice(RANDOMISED)

    def make(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        return explain(model, images, (name,), classes, layer=case.layer)[name].maps

    brains = torch.from_numpy(localisation.brain_mask(case.slices.images[few]))
    found = randomise(case.model, case.images[few], case.classes[few], make, seed=case.seed, within=brains)

    def mean(values: Tensor) -> dict[str, float | None]:
        return _plain(mean_interval(values.double().cpu().numpy(), case.units[few], case.seed))

    return {
        "passes": found.passes,
        "ssim": mean(found.ssim[-1]),
        "rank_correlation": mean(found.rank_correlation[-1]),
        "chance": mean(found.chance),
        "stages": {layer: mean(values) for layer, values in zip(found.stages, found.rank_correlation, strict=True)},
    }


def _agreement(measured: Sequence[Measured]) -> dict[str, Any]:
    """Mean rank correlation of the maps of each two methods; None where it does not exist."""
    titles, matrix = localisation.agreement({one.title: one.maps for one in measured})
    rows = [[None if math.isnan(value) else value for value in row] for row in matrix.tolist()]
    return {"titles": titles, "matrix": rows}


def _facts(directory: RunDirectory, case: Case, measured: Sequence[Measured]) -> dict[str, Any]:
    name, sentence = recommend(measured, case.units, case.seed)
    random = next(one for one in measured if one.name == RANDOM)
    n_units = len(np.unique(case.units))
    of = "" if directory.imported else " of the test part"
    metrics, machine = directory.metrics(), describe_environment(str(case.images.device))
    return {
        "run": str(directory.path),
        "model": directory.recipe.model,
        "protocol": metrics["protocol"],
        "leaky": metrics["leaky"],
        "judged": f"{directory.recipe.model}, {judged_by(directory)}: {len(case.slices)} slices{of}, classes in turn.",
        "n_slices": len(case.slices),
        "n_subjects": n_units if case.unit == "subject" else None,
        "unit": case.unit,
        "unit_note": _unit_note(case.unit, n_units),
        "recommendation": {"method": name, "sentence": sentence, "rule": RULE},
        "randomisation_rule": RANDOMISATION_RULE.format(count=min(RANDOMISED, len(case.slices)), verdict=VERDICT),
        "truth": _truth_text(case),
        "methods": [_record(one, random, case, recommended=one.name == name) for one in measured],
        "agreement": _agreement(measured),
        "made": {
            "Run": str(directory.path),
            "Data": str(directory.environment["source"] or "unknown"),
            "Layer": case.layer
            or "found by itself: the last convolution, or in a transformer the norm before the last attention",
            "Seed": case.seed,
            "Machine": f"{machine['processor']}, {machine['device']}",
            "mriscope": f"{machine['mriscope']}, commit {machine['commit'] or 'unknown'}",
        },
    }


def _unit_note(unit: str, count: int) -> str:
    if unit == "subject":
        return f"Intervals are 95 % and resample the {count} subjects."
    return "Subjects are unknown, so intervals resample slices and are too narrow where slices of one brain agree."


def _truth_text(case: Case) -> str | None:
    if case.masks is None:
        return None
    some = int(case.masks.flatten(1).any(1).sum())
    return (
        "The truth is the region where disease changed a slice of the phantom visibly, against the same brain without "
        f"disease; {some} of the {len(case.masks)} slices have one and count for pointing game, energy and IoU."
    )


def _record(one: Measured, random: Measured, case: Case, *, recommended: bool) -> dict[str, Any]:
    against = {name: one.values[name] - random.values[name] for name in ("deletion", "insertion")}
    figures = {**one.values, "gain": one.gain}
    return {
        "name": one.name,
        "title": one.title,
        "kind": "baseline" if one.baseline else "method",
        "recommended": recommended,
        "seconds": one.seconds,
        "silent": one.silent,
        "randomisation": one.randomisation,
        "figures": {name: _estimate(values, case) for name, values in figures.items()},
        "against_random": {name: _estimate(values, case) for name, values in against.items()},
    }


def _estimate(values: np.ndarray, case: Case) -> dict[str, float | None]:
    return _plain(mean_interval(values, case.units, case.seed))


def _plain(numbers: tuple[float, float, float]) -> dict[str, float | None]:
    return {
        name: None if math.isnan(number) else number
        for name, number in zip(("value", "low", "high"), numbers, strict=True)
    }


def _write(out: Path, facts: Mapping[str, Any], cohort: Picture | None) -> None:
    write_text(out / "explain_compare.csv", comparison_csv(facts))
    write_text(
        out / "explain_compare.html", comparison_page(f"Explanations of {facts['model']} compared", facts, cohort)
    )
    write_text(out / "explain_compare.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")
    if cohort is None:
        (out / COHORT).unlink(missing_ok=True)  # an earlier comparison's, which the page does not speak of
    else:
        write_bytes(out / COHORT, cohort.png)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Tells of each method that is done: a bar on a terminal, a line elsewhere."""
    console = Console(file=sys.stderr, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, began, done = bar.add_task("methods", total=total), time.perf_counter(), 0

        def tell(title: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1)
            console.out(f"{done}/{total}  {title}  {time.perf_counter() - began:.0f} s")

        yield tell
