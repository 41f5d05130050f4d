"""Tables of the localisation benchmark, in Markdown; pooled over the networks that have learned their task."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from localising.measures import ANATOMY, BASELINES, PLACED, REFERENCES, TITLES, Setting, jobs, read_cohort
from localising.networks import BAR, NETWORKS, SEEDS, Network, Reached, name_of
from localising.tasks import TASKS
from mriscope.evaluation.resampling import mean_interval
from mriscope.explain.methods import METHODS
from mriscope.results import Estimate

PLACES = ("ventricles", "cortex", "side")
OTHERS = [("ventricles", "cortex"), ("ventricles", "brightness"), ("cortex", "ventricles")]
"""A region, and the task of other networks whose maps of the same slices are compared."""


@dataclass(frozen=True)
class Measured:
    """All that was measured.

    Args:
        reached: of each network that was trained.
        places: by network, method and region ("truth" or a name of ANATOMY), the measures of each slice.
        curves: by network, and method and reference: float32 (2, n), insertion and deletion of one slice of a subject.
        units: int64 (N,), the subject of each slice.
        few: int64 (n,), which slices have curves.
        without_and_alone: of networks of the ventricles and the cortex, the AUROC without the place and of it alone.
    """

    reached: dict[Network, Reached]
    places: dict[tuple[Network, str, str], dict[str, np.ndarray]]
    curves: dict[Network, Mapping[str, np.ndarray]]
    units: np.ndarray
    few: np.ndarray
    without_and_alone: dict[Network, tuple[float, float]]

    def networks(self, tasks: Sequence[str], name: str | None = None, seed: int | None = None) -> list[Network]:
        """Return the networks that have learned one of some tasks."""
        fit = [one for one, reached in self.reached.items() if reached.counts and one[0] in tasks]
        return [one for one in fit if name in (None, one[1]) and seed in (None, one[2])]

    def complete(self, tasks: Sequence[str]) -> list[Network]:
        """Return the networks that every method was run on, so that methods are compared on the same ones."""
        region = "ventricles"
        fit = self.networks(tasks)
        return [one for one in fit if all((one, method, region) in self.places for method in METHODS)]

    def pooled(self, networks: Iterable[Network], method: str, what: str, region: str = "truth") -> np.ndarray | None:
        """Return each slice's mean over the networks that a method was run on, float64 (N,); None without any."""
        found = [self.places[one, method, region][what] for one in networks if (one, method, region) in self.places]
        if not found:
            return None
        there = ~np.isnan(found)
        sums = np.where(there, found, 0).sum(0)
        return np.where(there.any(0), sums / np.maximum(there.sum(0), 1), np.nan)

    def gain(self, networks: Iterable[Network], method: str, reference: str) -> np.ndarray | None:
        """Return insertion less deletion of each slice, as pooled does."""
        key = f"{method} {reference}"
        found = [self.curves[one][key] for one in networks if key in self.curves.get(one, {})]
        return np.mean([into - out for into, out in found], axis=0) if found else None

    def estimate(self, values: np.ndarray | None) -> Estimate | None:
        """Return the mean with its interval over subjects; None without values."""
        if values is None or np.isnan(values).all():
            return None
        units = self.units if len(values) == len(self.units) else self.units[self.few]
        return mean_interval(values, units)

    def interval(self, values: np.ndarray | None) -> str:
        """Return the same, in print."""
        found = self.estimate(values)
        return "–" if found is None else in_print(found)


def in_print(estimate: Estimate) -> str:
    """Return a value with its interval."""
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def read_measured(setting: Setting) -> Measured:
    """Read what is in the folder."""
    reached, places, curves, dependence = {}, {}, {}, {}
    for one in jobs():
        name = name_of(one)
        facts, place, lie, changes = (
            setting.folder / f"{name}{end}" for end in (".json", "-place.json", "-places.npz", "-curves.npz")
        )
        if not facts.is_file():
            continue
        reached[one] = Reached(**json.loads(facts.read_text()))
        if not reached[one].counts:
            continue
        if place.is_file():
            dependence[one] = tuple(json.loads(place.read_text()))
        for key, values in (dict(np.load(lie)) if lie.is_file() else {}).items():
            method, region, what = key.split(" ")
            for known in {region, "truth"} if region in (one[0], "truth") else {region}:
                places.setdefault((one, method, known), {})[what] = values.astype(np.float64)
        if changes.is_file():
            curves[one] = dict(np.load(changes))
    examples = read_cohort(setting.source)[1]
    return Measured(reached, places, curves, examples.units, examples.first_of_each(), dependence)


def print_tables(setting: Setting) -> None:
    """Print all tables of what is in the folder."""
    found = read_measured(setting)
    commits = ", ".join(sorted({one.commit for one in found.reached.values()}))
    print(f"\n{len(found.units)} slices of {len(np.unique(found.units))} subjects; code of {commits}\n")
    for title, table in (
        ("Networks", network_table),
        ("Does the answer come from its place?", dependence_table),
        ("Where the maps lie", place_table),
        ("Better than a bump in the centre", bump_table),
        ("Share of the map in the ventricles over their share of the area, by network", architecture_table),
        ("Does a map move with the answer?", control_table),
        ("Share of the map over share of the area, networks of the ventricles", region_table),
        ("Insertion less deletion", curve_table),
        ("Kendall's tau of rankings", tau_table),
    ):
        print(f"## {title}\n")
        print("\n".join(table(found)), end="\n\n", flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def network_table(found: Measured) -> list[str]:
    """Return the AUROC of subjects by task and network, of each seed."""

    def cell(task: str, network: str) -> str:
        of_seeds = [found.reached.get((task, network, seed)) for seed in SEEDS]
        return ", ".join(
            "–" if one is None else f"{one.auroc_subjects:.2f}" + ("" if one.counts else " (does not count)")
            for one in of_seeds
        )

    rows = ([TASKS[task], *(cell(task, network) for network in NETWORKS)] for task in TASKS)
    return [*table(["task", *NETWORKS.values()], rows), "", f"A network counts from {BAR:.2f}."]


def dependence_table(found: Measured) -> list[str]:
    """Return the AUROC of slices without the place of the answer, and of the place alone, mean over seeds."""

    def cell(task: str, network: str) -> str:
        both = [pair for one, pair in found.without_and_alone.items() if one[:2] == (task, network)]
        return " / ".join(f"{value:.2f}" for value in np.mean(both, axis=0)) if both else "–"

    rows = ([TASKS[task], *(cell(task, network) for network in NETWORKS)] for task in PLACED)
    return table(["task: without / alone", *NETWORKS.values()], rows)


def place_table(found: Measured) -> list[str]:
    """Return pointing, ratio and AUROC by task, pooled over networks; sorted by the ratio in ventricles."""
    tasks = [task for task in PLACES if found.complete([task])]
    columns = [(task, measure) for task in tasks for measure in ("pointing", "ratio", "auroc")]

    def row(method: str) -> list[str]:
        pooled = (found.pooled(found.complete([task]), method, measure) for task, measure in columns)
        return [TITLES[method], *map(found.interval, pooled)]

    head = ["method", *(f"{task}: {measure}" for task, measure in columns)]
    return [*table(head, map(row, by_ratio(found))), "", describe_complete(found)]


def describe_complete(found: Measured) -> str:
    """Return which networks the methods are compared on, in words."""
    counts = (f"{len(found.complete([task]))} of {task}" for task in TASKS)
    return f"On the networks that have learned their task: {', '.join(counts)}."


def bump_table(found: Measured) -> list[str]:
    """Return on how many networks a method is better than the bump, by the paired interval; and how many maps it lacks.

    The ratio is that of the ventricles; an empty map has none, and is left out of it.
    """
    placed, curved = found.complete(["ventricles"]), found.networks(list(TASKS))

    def count(differences: Iterable[np.ndarray | None]) -> str:
        estimates = [found.estimate(one) for one in differences]
        return str(sum(one is not None and one.low > 0 for one in estimates))

    def row(method: str) -> list[str]:
        ratios = [found.places[one, method, "truth"]["ratio"] for one in placed]
        beyond = [
            ratio - found.places[one, "centre", "truth"]["ratio"] for one, ratio in zip(placed, ratios, strict=True)
        ]
        gains = (
            [minus(found.gain([one], method, reference), found.gain([one], "centre", reference)) for one in curved]
            for reference in REFERENCES
        )
        empty = f"{100 * np.mean(np.isnan(ratios)):.0f} %"
        return [TITLES[method], empty, count(beyond), found.interval(np.nanmean(beyond, 0)), *map(count, gains)]

    head = ["method", "empty maps", f"ratio, of {len(placed)} networks", "difference in ratio"]
    head += [f"curves, {reference}, of {len(curved)}" for reference in REFERENCES]
    return table(head, map(row, (one for one in by_ratio(found) if one != "centre")))


def minus(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """Return a difference; None where one of both is missing."""
    return None if one is None or other is None else one - other


def by_ratio(found: Measured) -> list[str]:
    """Return methods from the highest ratio in the ventricles on down; baselines last."""
    networks = found.complete(["ventricles"])
    return [*sorted(METHODS, key=lambda one: -np.nan_to_num(place_score(found, networks, one))), *BASELINES]


def place_score(found: Measured, networks: Iterable[Network], method: str) -> float:
    """Return the mean ratio of a method over networks and slices; nan where it was run on none."""
    values = found.pooled(networks, method, "ratio")
    return float("nan") if values is None else float(np.nanmean(values))


def architecture_table(found: Measured) -> list[str]:
    """Return the ratio in the ventricles by network, mean over its seeds."""

    def row(method: str) -> list[str]:
        pooled = (found.pooled(found.networks(["ventricles"], name), method, "ratio") for name in NETWORKS)
        return [TITLES[method], *map(found.interval, pooled)]

    return table(["method", *NETWORKS.values()], map(row, by_ratio(found)))


def control_table(found: Measured) -> list[str]:
    """Return by how much a region's AUROC and ratio are greater for networks of its task than for those of others."""
    columns = [(region, other, what) for what in ("auroc", "ratio") for region, other in OTHERS]

    def gap(method: str, region: str, other: str, what: str) -> np.ndarray | None:
        return minus(*(found.pooled(found.complete([task]), method, what, region) for task in (region, other)))

    head = [f"{what} of {region}, less networks of {other}" for region, other, what in columns]
    methods = [one for one in by_ratio(found) if one not in BASELINES]
    rows = ([TITLES[one], *(found.interval(gap(one, *which)) for which in columns)] for one in methods)
    return table(["method", *head], rows)


def region_table(found: Measured) -> list[str]:
    """Return the share of the map over the share of the area for each region of anatomy, and the areas."""

    def row(method: str) -> list[str]:
        pooled = (found.pooled(found.complete(["ventricles"]), method, "ratio", region) for region in ANATOMY)
        return [TITLES[method], *map(found.interval, pooled)]

    return table(["method", *ANATOMY.values()], map(row, by_ratio(found)))


def curve_table(found: Measured) -> list[str]:
    """Return insertion less deletion by reference, pooled over the networks of all tasks."""
    networks = [one for one in found.networks(list(TASKS)) if one in found.curves]

    def row(method: str) -> list[str]:
        used = sum(f"{method} blur" in found.curves[one] for one in networks)
        return [TITLES[method], str(used), *(found.interval(found.gain(networks, method, one)) for one in REFERENCES)]

    return table(["method", "networks", *REFERENCES], map(row, by_ratio(found)))


def tau_table(found: Measured) -> list[str]:
    """Return the mean tau between pairs of seeds, of references, and between place and faithfulness, by task."""
    rows = [[f"{task}, {NETWORKS[name]}", *taus(found, task, name)] for task in TASKS for name in NETWORKS]
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    across = [[place_score(found, found.networks(["ventricles"], name), one) for one in METHODS] for name in NETWORKS]
    head = ["networks", "place, over seeds", "curves, over seeds", "curves, over references", "place against curves"]
    return [*table(head, rows), "", f"Ventricles, place, over the four networks: {mean_tau(across)}."]


def taus(found: Measured, task: str, name: str) -> list[str]:
    """Return the mean tau of one network's rankings on a task, as the table's head says; curves are of blur."""
    seeds = [[place_score(found, found.networks([task], name, seed), method) for method in METHODS] for seed in SEEDS]
    curves = [one for one in found.networks([task], name) if one in found.curves]
    gains = [[mean_of(found.gain([one], method, "blur")) for method in METHODS] for one in curves]
    references = [[mean_of(found.gain(curves, method, one)) for method in METHODS] for one in REFERENCES]
    place = [place_score(found, curves, method) for method in METHODS]
    return [mean_tau(some) for some in (seeds, gains, references, [place, references[0]])]


def mean_of(values: np.ndarray | None) -> float:
    """Return the mean; nan without values."""
    return float("nan") if values is None else float(values.mean())


def mean_tau(scores: Sequence[Sequence[float]]) -> str:
    """Return the mean of Kendall's tau-b over pairs of rankings with its range, over the methods that both rank."""
    pairs = [np.array(pair)[:, ~np.isnan(pair).any(0)] for pair in combinations(scores, 2)]
    found = [float(np.array(kendalltau(*pair))[0]) for pair in pairs if pair.shape[1] > 2]
    if not found:
        return "–"
    return f"{np.mean(found):.2f}" + (f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else "")
