"""How well subjects are recovered, and what the audit says, on thinned, cut, altered and augmented sets.

    MRISCOPE_DATA=folder python3 run.py bench audit_cases

All sets are made of the public slices, whose subjects the whole set gives exactly, and, in the third part, of warped
brains of the phantom. The program is given pixels and labels alone. Seconds are the processor's, truth is that of the
test slices, and "of these wrong" counts slices that are taken for shared, and for settled, and are not.

Parts: `recovery`, `holes`, `verdicts`, `splits`; to run one, `.venv/bin/python benchmarks/audit_cases.py verdicts`.
`splits 20` takes 20 splits of each truth instead of 50.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from copies import alter, everything
from numpy.random import Generator, default_rng
from PIL import Image
from sklearn.metrics import adjusted_rand_score
from subjects import SLICES, many

from mriscope.audit.controls import find_neighbours
from mriscope.audit.leakage import AuditedSplit, audit_slices, search_of
from mriscope.audit.subjects import recover_subjects
from mriscope.audit.verdict import weigh
from mriscope.data.readers import read
from mriscope.data.slices import UNKNOWN, SliceSet
from mriscope.workflows._leakage import EXIT_CODES, with_own_copies
from mriscope.workflows._subjects import PARTLY

HOLES = [(1, 10), (2, 13), (3, 8), (4, 18), (6, 13), (8, 20), (8, 10)]  # width, and position of the first slice
SPLITS, WARPED = 50, 160  # splits of each truth, and phantom brains to draw from
HEADER = (
    "| split | slices train, test | truth | verdict | shared | settled | open | of these wrong | processor s |\n"
    "|--|--|--|--|--|--|--|--|--|"
)
Parts = tuple[SliceSet, SliceSet]
"""Training and test slices, with their true subjects."""
Alteration = Callable[[np.ndarray, Generator], np.ndarray]


@dataclass(frozen=True)
class Verdict:
    """What the audit says of a split, and in how many test slices it is wrong."""

    code: int
    shared: int
    settled: int
    open: int
    false_shared: int
    false_settled: int
    seconds: float


def public() -> SliceSet:
    slices = read(os.environ["MRISCOPE_DATA"])
    found = recover_subjects(slices.images)
    if not found.clear:
        raise SystemExit("the truth is what the whole public set gives, and in this folder some slices are in doubt")
    return slices.with_subjects(found.subjects, found.positions)


def warped() -> SliceSet:
    """Phantom brains, each of its own shape; labels are drawn by brain."""
    count = WARPED * SLICES
    shuffled, subjects = many(count)
    order = default_rng(0).permutation(count)
    back = np.argsort(order)  # `many` shuffles so
    labels = default_rng(1).integers(0, 4, WARPED)
    return SliceSet.of(
        shuffled[back],
        labels[subjects[back]],
        subjects=subjects[back],
        positions=np.tile(np.arange(SLICES), WARPED),
    )


def altered(slices: SliceSet, change: Alteration, rng: Generator) -> SliceSet:
    return replace(slices, images=alter(slices.images, change, rng))


def some_brains(slices: SliceSet, count: int, rng: Generator) -> SliceSet:
    return slices[np.isin(slices.subjects, rng.choice(np.unique(slices.subjects), count, replace=False))]


def drawn_of_each(slices: SliceSet, fewest: int, most: int, rng: Generator) -> np.ndarray:
    """So many slices of each subject, at random; bool (N,)."""
    chosen = np.zeros(len(slices), bool)
    for subject in np.unique(slices.subjects):
        rows = np.flatnonzero(slices.subjects == subject)
        chosen[rng.choice(rows, rng.integers(fewest, most + 1), replace=False)] = True
    return chosen


def five_neighbours(slices: SliceSet, rng: Generator) -> np.ndarray:
    """Five contiguous slices of each subject, at a random height; bool (N,)."""
    first = rng.integers(0, SLICES - 5, slices.subjects.max() + 1)[slices.subjects]
    return (slices.positions >= first) & (slices.positions < first + 5)


def own_pose(slices: SliceSet, rng: Generator) -> SliceSet:
    """Every brain turned by up to 10°, enlarged by up to 8 % and moved by up to a sixteenth of the picture."""
    images = slices.images.copy()
    height, width = images.shape[1:]
    for subject in np.unique(slices.subjects):
        angle, zoom = np.deg2rad(rng.uniform(-10, 10)), rng.uniform(0.92, 1.08)
        down, right = rng.uniform(-1, 1, 2) * (height, width) / 16
        c, s = np.cos(angle) / zoom, np.sin(angle) / zoom
        x, y = width / 2, height / 2
        matrix = (c, s, x - c * x - s * y + right, -s, c, y + s * x - c * y + down)
        for row in np.flatnonzero(slices.subjects == subject):
            image = Image.fromarray(slices.images[row])
            images[row] = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return replace(slices, images=images)


def resized(slices: SliceSet, side: int) -> SliceSet:
    size = (side, side)
    images = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)) for one in slices.images]
    return replace(slices, images=np.stack(images))


def jpeg(image: np.ndarray, rng: Generator) -> np.ndarray:
    """JPEG of quality 60."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))


def noise(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Normal noise of standard deviation 5."""
    return np.clip(np.rint(image + rng.normal(0, 5, image.shape)), 0, 255).astype(np.uint8)


def brightness(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Brightness changed by up to 20 %."""
    return np.clip(image * rng.uniform(0.8, 1.2), 0, 255).astype(np.uint8)


def recovery(truth: SliceSet) -> None:
    print("| set | slices | with a subject % | wrong % | in a wrong group % | adjusted Rand index | processor s |")
    print("|--|--|--|--|--|--|--|", flush=True)
    for name, slices in _sets(truth):
        began = time.process_time()
        found = recover_subjects(slices.images)
        seconds = time.process_time() - began
        known = found.known
        index = adjusted_rand_score(slices.subjects[known], found.subjects[known]) if known.any() else np.nan
        wrong = _strangers(slices.subjects, found.subjects), _strangers(slices.subjects, found.groups)
        shares = " | ".join(f"{100 * one:.2f}" for one in (known.mean(), *wrong))
        print(f"| {name} | {len(slices):,} | {shares} | {index:.4f} | {seconds:.1f} |", flush=True)


def _strangers(truth: np.ndarray, groups: np.ndarray) -> float:
    """Share of slices in a group with another subject than most of it; those in no group are right."""
    count = 0
    for group in np.unique(groups[groups != UNKNOWN]):
        members = truth[groups == group]
        count += len(members) - np.unique(members, return_counts=True)[1].max()
    return count / len(truth)


def _sets(truth: SliceSet) -> Iterator[tuple[str, SliceSet]]:
    yield "whole public set", truth
    yield "each brain in its own pose (±10°, ±8 px, ±8 %)", own_pose(truth, default_rng(0))
    yield "JPEG of quality 60", altered(truth, jpeg, default_rng(0))
    yield "96×96 pixels", resized(truth, 96)
    yield "208×208 pixels", resized(truth, 208)
    yield "noise of σ 5", altered(truth, noise, default_rng(0))
    yield "every second slice", truth[truth.positions % 2 == 0]
    yield "one slice missing per brain", truth[~drawn_of_each(truth, 1, 1, default_rng(0))]
    for share in (10, 30):
        for seed in range(3):
            kept = default_rng(seed).random(len(truth)) >= share / 100
            yield f"{share} % missing at random, seed {seed}", truth[kept]
    yield "published training part", truth[truth.parts == "train"]
    yield "published test part", truth[truth.parts == "test"]
    for seed in range(2):
        yield f"half at random, seed {seed}", truth[default_rng(seed).random(len(truth)) < 0.5]
    yield "2 to 5 slices of each, at random", truth[drawn_of_each(truth, 2, 5, default_rng(0))]
    yield "five contiguous slices, at random places", truth[five_neighbours(truth, default_rng(0))]


def holes(truth: SliceSet) -> None:
    """Print how often pieces of one brain pass for two, where most brains, or all, lack the same slices."""
    phantom = warped()
    print("| brains | of these whole | sets | pieces proven apart | cut subjects | wrong % | with a subject % |")
    print("|--|--|--|--|--|--|--|", flush=True)
    for source, slices, counts in (("public", truth, (24, 40, 60, 100)), ("phantom", phantom, (24, 40, 60))):
        for count in counts:
            for whole in (0.0, 0.1, 0.2):
                found = [_pieces(slices, count, whole, width, first) for width, first in HOLES]
                apart, cut, wrong, known = (sum(one) for one in zip(*found, strict=True))
                shares = f"{100 * wrong / len(HOLES):.2f} | {100 * known / len(HOLES):.0f}"
                name = f"{count} {source} | {100 * whole:.0f} %"
                print(f"| {name} | {len(HOLES)} | {apart} | {cut} | {shares} |", flush=True)


def _pieces(slices: SliceSet, count: int, whole: float, width: int, first: int) -> tuple[int, int, float, float]:
    """Pairs of groups falsely apart, subjects that are cut, and the shares of wrong slices and of those with one."""
    brains = some_brains(slices, count, default_rng([count, width, first]))
    numbers = np.unique(brains.subjects)
    kept = brains[np.isin(brains.subjects, numbers[: int(whole * count)]) | ~_within(brains, first, first + width)]
    found = recover_subjects(kept.images)
    separation, apart, cut = found.separation(found.groups), 0, 0
    for number in numbers:
        own = kept.subjects == number
        groups = np.unique(found.groups[own])
        apart += int((separation.proven(groups, groups) & ~np.eye(len(groups), dtype=bool)).sum()) // 2
        cut += len(np.unique(found.subjects[own & found.known])) > 1
    return apart, cut, _strangers(kept.subjects, found.subjects), float(found.known.mean())


def verdict_of(train: SliceSet, test: SliceSet) -> Verdict:
    """Audit a split of which no subject is known, as the command does after it has read the files."""
    began = time.process_time()
    slices = SliceSet.of(
        np.concatenate([train.images, test.images]),
        np.concatenate([train.labels, test.labels]),
        parts=np.repeat(["train", "test"], [len(train), len(test)]),
        class_names=train.class_names,
    )
    rows = np.arange(len(slices))
    split = AuditedSplit("published", rows[: len(train)], rows[:0], rows[len(train) :])
    found = recover_subjects(slices.images)
    if not found.clear:
        found = with_own_copies(slices, found, "cpu")
    known_from = "pixels" if found.clear else PARTLY if found.known.any() else None
    if known_from:
        slices = slices.with_subjects(found.subjects, found.positions)
    search = search_of(slices, found, split)
    neighbours = find_neighbours(slices.images)
    report = audit_slices(slices, neighbours, found, known_from=known_from, split=split, search=search)
    seconds = time.process_time() - began
    if report.split is None:
        raise RuntimeError("a split was given, and the report has none")
    truly = np.isin(test.subjects, train.subjects)
    evidence = weigh(None, found, search, split.test, split.learned, np.zeros(len(test), bool))
    false = int((evidence.shared & ~truly).sum()), int((evidence.settled & truly).sum())
    power = report.split.power
    return Verdict(EXIT_CODES[report.leaky], power.shared, power.settled, power.open, *false, seconds)


def verdicts(truth: SliceSet) -> None:
    print(HEADER, flush=True)
    for name, train, test in _splits(truth):
        _print_row(name, train, test)


def _print_row(name: str, train: SliceSet, test: SliceSet) -> Verdict:
    found = verdict_of(train, test)
    truly = "leaky" if np.isin(test.subjects, train.subjects).any() else "disjoint"
    mark = " **false**" if found.code == (0 if truly == "leaky" else 3) else ""
    print(
        f"| {name} | {len(train):,}, {len(test):,} | {truly} | {found.code}{mark} | {found.shared:,} "
        f"| {found.settled:,} | {found.open:,} | {found.false_shared}, {found.false_settled} | {found.seconds:.1f} |",
        flush=True,
    )
    return found


def _splits(truth: SliceSet) -> Iterator[tuple[str, SliceSet, SliceSet]]:
    rng = default_rng(0)
    brains = some_brains(truth, 60, rng)
    for width in range(1, 9):
        for first in rng.choice(np.arange(5, 27 - width), 2, replace=False):
            yield f"hole of {width} from {first}", *cut_at_hole(brains, width, int(first))
    for step in range(3, 9):
        yield f"one slice in {step}, random split", *at_random(brains[brains.positions % step == 0], rng)
        yield f"two neighbours in {step}, random split", *at_random(brains[brains.positions % step < 2], rng)
    yield "slices 10–19 in train, 25–31 in test", brains[_within(brains, 10, 20)], brains[_within(brains, 25, 32)]
    yield "half-copied folders, all 200 brains, random split", *at_random(_half_copied(truth), rng)
    base = truth[rng.choice(len(truth), 200, replace=False)]
    yield "200 slices, in test brightened", base, altered(base, brightness, rng)
    yield "200 slices, in test altered in every way", base, altered(base, everything, rng)
    yield "originals in test, three altered copies of each in train", *copied(some_brains(truth, 30, rng), rng)
    yield "training augmented, other subjects in test", *augmented(some_brains(truth, 30, rng), rng)
    yield "whole brains, by subject", *by_subject(brains, rng)
    few = some_brains(truth, 24, rng)
    yield "24 brains, every 5th slice in train, its neighbour in test", *neighbours_apart(few, 5)


def _within(slices: SliceSet, first: int, end: int) -> np.ndarray:
    return (slices.positions >= first) & (slices.positions < end)


def _half_copied(slices: SliceSet) -> SliceSet:
    """Without the slices that the circulating copies lack of one class."""
    one_class = slices.labels == slices.class_names.index("Non_Demented")
    return slices[~(one_class & (_within(slices, 2, 10) | _within(slices, 20, 25)))]


def cut_at_hole(slices: SliceSet, width: int, first: int) -> Parts:
    return slices[slices.positions < first], slices[slices.positions >= first + width]


def at_random(slices: SliceSet, rng: Generator) -> Parts:
    test = rng.random(len(slices)) < 0.2
    return slices[~test], slices[test]


def by_subject(slices: SliceSet, rng: Generator) -> Parts:
    numbers = np.unique(slices.subjects)
    test = np.isin(slices.subjects, rng.choice(numbers, max(2, len(numbers) // 4), replace=False))
    return slices[~test], slices[test]


def copied(slices: SliceSet, rng: Generator) -> Parts:
    base = slices[rng.permutation(len(slices))[: len(slices) // 2]]
    return altered(base[np.repeat(np.arange(len(base)), 3)], everything, rng), base


def augmented(slices: SliceSet, rng: Generator) -> Parts:
    train, test = by_subject(slices, rng)
    times = np.repeat(np.arange(len(train)), 4)
    images = np.concatenate([train.images, altered(train[times[len(train) :]], everything, rng).images])
    order = np.concatenate([np.arange(len(train)), times[len(train) :]])
    return replace(train[order], images=images), test


def neighbours_apart(slices: SliceSet, step: int) -> Parts:
    return slices[slices.positions % step == 0], slices[slices.positions % step == 1]


def random_leaky(slices: SliceSet, rng: Generator) -> tuple[str, Parts]:
    """A split of a random kind that shares brains."""
    width, step = int(rng.integers(1, 9)), int(rng.integers(3, 9))
    base = slices[rng.choice(len(slices), 200, replace=False)]
    kinds: dict[str, Callable[[], Parts]] = {
        f"hole of {width}": lambda: cut_at_hole(slices, width, int(rng.integers(5, 27 - width))),
        f"one slice in {step}": lambda: at_random(slices[slices.positions % step == 0], rng),
        f"two neighbours in {step}": lambda: at_random(slices[slices.positions % step < 2], rng),
        f"two neighbours in {step}, apart": lambda: neighbours_apart(slices, step),
        "slabs": lambda: (slices[_within(slices, 10, 20)], slices[_within(slices, 25, 32)]),
        "half-copied": lambda: at_random(_half_copied(slices), rng),
        "whole, by slice": lambda: at_random(slices, rng),
        "half at random, by slice": lambda: at_random(slices[rng.random(len(slices)) < 0.5], rng),
        "2 to 5 of each, by slice": lambda: at_random(slices[drawn_of_each(slices, 2, 5, rng)], rng),
        "altered copies": lambda: (base, altered(base, everything, rng)),
        "brightened copies": lambda: (base, altered(base, brightness, rng)),
        "originals in test": lambda: copied(some_brains(slices, 30, rng), rng),
        "one brain of all cut in two": lambda: _one_shared(slices, rng),
    }
    name = str(rng.choice(list(kinds)))
    return name, kinds[name]()


def _one_shared(slices: SliceSet, rng: Generator) -> Parts:
    train, test = by_subject(slices, rng)
    upper = (test.subjects == rng.choice(test.subjects)) & (test.positions >= rng.integers(8, 24))
    joined = SliceSet.of(
        np.concatenate([train.images, test.images[upper]]),
        np.concatenate([train.labels, test.labels[upper]]),
        subjects=np.concatenate([train.subjects, test.subjects[upper]]),
        positions=np.concatenate([train.positions, test.positions[upper]]),
    )
    return joined, test[~upper]


def random_honest(slices: SliceSet, rng: Generator) -> tuple[str, Parts]:
    """A split of a random kind by subject."""
    width, step, share = int(rng.integers(1, 9)), int(rng.integers(2, 9)), float(rng.uniform(0.1, 0.5))
    first = int(rng.integers(5, 27 - width))

    def slabs() -> Parts:
        train, test = by_subject(slices, rng)
        return train[train.positions < first], test[test.positions >= first + width]

    kinds: dict[str, Callable[[], Parts]] = {
        "whole": lambda: by_subject(slices, rng),
        "each in its own pose": lambda: by_subject(own_pose(slices, rng), rng),
        "JPEG 60": lambda: by_subject(altered(slices, jpeg, rng), rng),
        f"hole of {width} in all": lambda: by_subject(slices[~_within(slices, first, first + width)], rng),
        f"one slice in {step}": lambda: by_subject(slices[slices.positions % step == 0], rng),
        f"two neighbours in {step}": lambda: by_subject(slices[slices.positions % step < 2], rng),
        f"{100 * share:.0f} % missing": lambda: by_subject(slices[rng.random(len(slices)) >= share], rng),
        "slabs": slabs,
        "half-copied": lambda: by_subject(_half_copied(slices), rng),
        "five contiguous": lambda: by_subject(slices[five_neighbours(slices, rng)], rng),
        "2 to 5 of each": lambda: by_subject(slices[drawn_of_each(slices, 2, 5, rng)], rng),
        "augmented training": lambda: augmented(some_brains(slices, 30, rng), rng),
    }
    name = str(rng.choice(list(kinds)))
    return name, kinds[name]()


def splits(truth: SliceSet, count: int) -> None:
    phantom = warped()
    print(HEADER, flush=True)
    codes: dict[str, list[int]] = {"leaky": [], "disjoint": []}
    for number in range(count):
        for truly, make in (("leaky", random_leaky), ("disjoint", random_honest)):
            rng = default_rng([number, truly == "leaky"])
            source, slices = (("public", truth), ("phantom", phantom))[number % 2]
            brains = int(rng.integers(30, 121))
            name, parts = make(some_brains(slices, brains, rng), rng)
            codes[truly].append(_print_row(f"{number} {source}, {brains} brains: {name}", *parts).code)
    print("\n| truth | splits | verdict 0 | verdict 3 | verdict 4 |\n|--|--|--|--|--|")
    for truly, found in codes.items():
        print(f"| {truly} | {count} | {found.count(0)} | {found.count(3)} | {found.count(4)} |", flush=True)


def main() -> None:
    words = sys.argv[1:]
    began, truth = time.process_time(), public()
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; truth in {time.process_time() - began:.1f} s\n"
    )
    if not words or words[0] == "recovery":
        recovery(truth)
    if not words or words[0] == "holes":
        print()
        holes(truth)
    if not words or words[0] == "verdicts":
        print()
        verdicts(truth)
    if not words or words[0] == "splits":
        print()
        splits(truth, int(words[1]) if len(words) > 1 else SPLITS)


if __name__ == "__main__":
    main()
