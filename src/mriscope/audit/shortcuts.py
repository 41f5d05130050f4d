"""Shortcuts: facts about the files that tell the class, so that a network need not look at the brain.

Each fact becomes bins, and a naive Bayes classifier with equal priors is cross-validated on them, grouped by subject.
What it reaches by chance is measured with labels shuffled between subjects. Facts and classes are many, so the largest
of all of them counts in each shuffle: the max-T procedure of Westfall and Young (Resampling-Based Multiple Testing,
1993).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mriscope.data.file_facts import FileFact
from mriscope.data.slices import UNKNOWN
from mriscope.results import FactScore, Shortcuts

SHUFFLES = 999
ALPHA = 0.005
"""Among 20 sets without a shortcut, 0.1 are flagged by chance on average."""
LEAST = 0.2
"""Informedness from which a fact about the files counts as a shortcut, however sure it is that it is not chance."""
LEAST_FROM_BRAIN = 0.8
"""... from which one does that the brain has a say in: anatomy may tell a class, but hardly alone."""
LEAST_OF_SLICES = 0.8
"""... from which one does where subjects are unknown: slices of one brain then stand on both sides and are shuffled as
if they were several, so that p says too little."""
FEWEST = 5
"""Subjects (or slices of unknown subject) of a class, below which it is left out."""
FOLDS = 5
BINS = 12
_MOST = 1000  # subjects, or slices of unknown subject, that are drawn at random from more
_BLOCK = 256  # slices at a time
_STEP = 8  # grey levels by which a pixel differs from the background at least


@dataclass(frozen=True, eq=False)
class _Units:
    """Subjects of one class each, or slices of unknown subject.

    Args:
        rows: int64 (M,), the slices.
        unit: int64 (M,), the unit of each.
        labels: int64 (U,), the class of each unit, counted among those that are not left out.
        folds: int64 (U,), where it is tested; units of one subject are tested together.
        shares: float32 (M,), 1 by the number of slices of the unit.
    """

    rows: np.ndarray
    unit: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    shares: np.ndarray


def find_shortcuts(
    facts: Sequence[FileFact],
    labels: np.ndarray,
    groups: np.ndarray,
    class_names: Sequence[str],
    *,
    seed: int = 0,
) -> Shortcuts | None:
    """Find facts about the files that tell the class.

    Args:
        facts: of N slices each.
        labels: int64 (N,), index into class_names.
        groups: int64 (N,), equal for slices that may show one brain; -1 where unknown, and each such slice counts for
            itself.
        class_names: name of each class.
        seed: of the folds and the shuffles.

    Returns:
        the findings; None where fewer than two classes have the five subjects that a finding needs.

    Example:
        >>> size = FileFact("size", np.repeat(["512×512", "256×256"], 20))
        >>> found = find_shortcuts([size], np.repeat([0, 1], 20), np.arange(40), ["glioma", "other"])
        >>> found.flagged, found.facts[0].class_name, found.facts[0].inside
        (True, 'glioma', '512×512')
    """
    rng = np.random.default_rng(seed)
    units, kept = _units(labels, groups, rng)
    if len(kept) < 2:
        return None
    facts = [replace(fact, values=fact.values[units.rows]) for fact in facts]
    facts = [fact for fact in facts if len(np.unique(fact.values)) > 1]
    shuffled = np.stack([units.labels, *(rng.permutation(units.labels) for _ in range(SHUFFLES))])
    reached, balanced = _cross_validate(units, facts, shuffled)
    p = _corrected(reached)
    unit = "slice" if (groups[units.rows] == UNKNOWN).any() else "subject"
    scores = []
    for number, fact in enumerate(facts):
        best = int(np.lexsort((-reached[0, number], p[number]))[0])
        inside = units.labels[units.unit] == best
        informedness = float(reached[0, number, best])
        scores.append(_score(fact, inside, str(class_names[kept[best]]), informedness, float(p[number, best]), unit))
    scores.sort(key=lambda score: (not score.flagged, score.p, -score.informedness))
    return Shortcuts(
        flagged=any(score.flagged for score in scores),
        score=float(balanced[0]),
        chance=float(balanced[1:].mean()),
        p=float((balanced >= balanced[0] - 1e-9).mean()),
        unit=unit,
        units=len(units.labels),
        shuffles=SHUFFLES,
        left_out=tuple(str(class_names[label]) for label in np.setdiff1d(labels, kept)),
        facts=tuple(scores),
        told=tuple(fact_text(score) for score in scores if score.flagged),
    )


def pixel_facts(images: np.ndarray) -> tuple[FileFact, ...]:
    """Measure what surrounds the brain, and how many grey levels a slice uses.

    Args:
        images: uint8 (N, H, W).

    Returns:
        background level (median of four corners, each a sixteenth of the height and width), background noise (their
        standard deviation, the median of the four), border above and below, and border left and right (shares of the
        height and width without a pixel that differs from the background), and grey levels.
    """
    height, width = (max(2, length // 16) for length in images.shape[1:])
    found = np.empty((5, len(images)))
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        ends = [block[:, rows] for rows in (slice(height), slice(-height, None))]
        sides = [end[:, :, columns] for end in ends for columns in (slice(width), slice(-width, None))]
        corners = np.stack(sides, axis=1).reshape(len(block), 4, -1)
        level = np.median(corners, axis=(1, 2))
        noise = np.median(corners.std(axis=2), axis=1)
        step = np.maximum(_STEP, 4 * noise)
        low, high = (level - step)[:, None], (level + step)[:, None]
        empty = [((block.min(axis=axis) >= low) & (block.max(axis=axis) <= high)).mean(axis=1) for axis in (2, 1)]
        used = [np.count_nonzero(np.bincount(one, minlength=256)) for one in block.reshape(len(block), -1)]
        found[:, start : start + len(block)] = level, noise.round(1), *empty, used
    return (
        FileFact("background level", found[0]),
        FileFact("background noise", found[1]),
        FileFact("border above and below", found[2], from_brain=True),
        FileFact("border left and right", found[3], from_brain=True),
        FileFact("grey levels", found[4], from_brain=True),
    )


def fact_text(score: FactScore) -> str:
    """Say in plain words what a fact tells, as in "size: 512×512 in 100 % of Glioma and 2 % of the other classes".

    Example:
        >>> fact_text(found.facts[0])
        'size: 512×512 in 100 % of glioma and 0 % of the other classes, most often 256×256'
    """
    name = score.class_name.replace("_", " ")
    if score.share_inside is None or score.share_outside is None:
        return f"{score.fact}: {score.inside} (median) in {name}, {score.outside} in the other classes"
    shares = f"{100 * score.share_inside:.0f} % of {name} and {100 * score.share_outside:.0f} % of the other classes"
    other = f", most often {score.outside}" if score.outside != score.inside else ""
    return f"{score.fact}: {score.inside} in {shares}{other}"


def _units(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> tuple[_Units, np.ndarray]:
    """Draw the units, at most _MOST and as many of each class; return them and the labels of the classes kept."""
    alone = groups == UNKNOWN
    group = np.where(alone, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
    pairs, unit = np.unique(np.stack([group, labels], axis=1), axis=0, return_inverse=True)
    kept, label = np.unique(pairs[:, 1], return_inverse=True)
    counts = np.bincount(label)
    chosen = np.full(len(pairs), False)
    enough = np.flatnonzero(counts >= FEWEST)
    for one in enough:
        mine = rng.permutation(np.flatnonzero(label == one))
        chosen[mine[: _MOST // len(enough)]] = True
    rows = np.flatnonzero(chosen[unit.ravel()])
    units, unit = np.unique(unit.ravel()[rows], return_inverse=True)
    labels = np.searchsorted(enough, label[units])
    shares = 1 / np.bincount(unit, minlength=1)[unit] if len(unit) else np.empty(0)
    return _Units(rows, unit, labels, _folds(pairs[units, 0], labels, rng), shares.astype(np.float32)), kept[enough]


def _folds(groups: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assign units to folds: groups are dealt out in random order, class by class."""
    found, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((rng.random(len(found)), labels[first]))
    folds = np.empty(len(found), np.int64)
    folds[order] = np.arange(len(found)) % FOLDS
    return folds[group]


def _binned(values: np.ndarray) -> np.ndarray:
    """Label bins from 0: values as they are where they are few, else the frequent categories, or quantiles."""
    found, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(found) <= BINS:
        return place
    if values.dtype.kind == "U":
        rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
        return np.minimum(rank, BINS)[place]
    edges = np.unique(np.nanquantile(values, np.arange(1, BINS) / BINS, method="lower"))
    return np.searchsorted(edges, values)  # nan comes last, in a bin of the greatest


def _cross_validate(units: _Units, facts: Sequence[FileFact], shuffled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score naive Bayes on each fact, and on all in which the brain has no say, for every labelling of the units.

    A unit with several slices counts by the shares of them that lie in each bin.

    Args:
        units: U of them.
        facts: F of them, of the slices of the units.
        shuffled: int64 (S, U), labellings; the first is the true one.

    Returns:
        float64 (S, F, K), informedness of each fact for each class, and float64 (S,), balanced accuracy of those in
        which the brain has no say; chance where there are none.
    """
    classes = int(units.labels.max()) + 1
    reached = np.zeros((len(shuffled), len(facts), classes))
    together = np.zeros((len(shuffled), classes, len(units.labels)), np.float32)
    for number, fact in enumerate(facts):
        bins = _binned(fact.values)
        table = np.zeros((len(units.labels), bins.max() + 1), np.float32)
        np.add.at(table, (units.unit, bins), units.shares)
        likelihood = _log_likelihood(table, shuffled, units.folds, classes)
        sensitivity, specificity = _rates(likelihood.argmax(axis=1), shuffled, classes)
        reached[:, number] = sensitivity + specificity - 1
        together += 0 if fact.from_brain else likelihood
    if all(fact.from_brain for fact in facts):
        return reached, np.full(len(shuffled), 1 / classes)
    return reached, _rates(together.argmax(axis=1), shuffled, classes)[0].mean(axis=1)


def _log_likelihood(table: np.ndarray, shuffled: np.ndarray, folds: np.ndarray, classes: int) -> np.ndarray:
    """Compute how likely each unit is in each class: float32 (S, K, U), logarithms.

    The shares of the bins in a class are those among units of the other folds. One is added to each after the classes
    have been given equal weight. Otherwise a bin that no training unit shows would favour the class with fewer training
    units, which is the one with more test units, and chance would be above one in K.
    """
    found = np.empty((len(shuffled), classes, len(table)), np.float32)
    for fold in range(FOLDS):
        test = folds == fold
        member = shuffled[:, None, ~test] == np.arange(classes)[:, None]
        counts = (member.astype(np.float32) @ table[~test]).round(3)
        alike = (~test).sum() / classes / np.maximum(counts.sum(axis=2, keepdims=True), 1)
        counts = counts * alike + 1
        found[:, :, test] = np.log(counts / counts.sum(axis=2, keepdims=True)) @ table[test].T
    return found.round(4)  # as sums of shares hang on their order, classes that tie would not on every processor


def _rates(predicted: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute sensitivity and specificity of predictions int64 (S, U) for each class: float64 (S, K) both."""
    sensitivity, specificity = np.empty((2, len(labels), classes))
    for one in range(classes):
        said, true = predicted == one, labels == one
        sensitivity[:, one] = (said & true).sum(axis=1) / true.sum(axis=1)
        specificity[:, one] = (~said & ~true).sum(axis=1) / (~true).sum(axis=1)
    return sensitivity, specificity


def _corrected(reached: np.ndarray) -> np.ndarray:
    """Compute p of each fact and class, float64 (F, K), from what labellings reach, (S, F, K).

    It is how often the largest value of a labelling is as large. What is reached for a small class varies more; values
    are therefore divided by the standard deviation of their class, that of the fact which varies most.
    """
    spread = reached.std(axis=0).max(axis=0, initial=1e-9)
    scaled = reached / spread
    largest = scaled.max(axis=(1, 2), initial=-np.inf)
    return (largest[:, None, None] >= scaled[0] - 1e-9).mean(axis=0)


def _score(fact: FileFact, inside: np.ndarray, class_name: str, informedness: float, p: float, unit: str) -> FactScore:
    least = max(LEAST_FROM_BRAIN if fact.from_brain else LEAST, LEAST_OF_SLICES if unit == "slice" else 0)
    usual, share_inside, outside, share_outside = _usual(fact.values, inside)
    return FactScore(
        fact=fact.name,
        from_brain=fact.from_brain,
        class_name=class_name,
        inside=usual,
        share_inside=share_inside,
        outside=outside,
        share_outside=share_outside,
        informedness=informedness,
        p=p,
        flagged=p <= ALPHA and informedness >= least,
    )


def _usual(values: np.ndarray, inside: np.ndarray) -> tuple[str, float | None, str, float | None]:
    """Return the usual values inside and outside a class, each with its share where they are categories."""
    if values.dtype.kind != "U":
        known = [values[chosen & ~np.isnan(values)] for chosen in (inside, ~inside)]
        here, there = (f"{np.median(one):.4g}" if len(one) else "unknown" for one in known)
        return here, None, there, None
    found, place = np.unique(values, return_inverse=True)
    here, there = (np.bincount(place[chosen], minlength=len(found)) / chosen.sum() for chosen in (inside, ~inside))
    most = int((here - there).argmax())
    return str(found[most]), float(here[most]), str(found[there.argmax()]), float(there[most])
