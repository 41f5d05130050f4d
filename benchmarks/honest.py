"""Dementia per subject from all slices of the public subjects, by cross-validation over subjects.

    python3 run.py bench honest

Reads the source that MRISCOPE_DATA names. Four methods: `best_five`, where each training fold takes the five families
of features whose fits tell best of its own left-out subjects and averages their logits; `nested`, where it takes the
one best; `all_families`, the average of all, without choice; and `tissue_histograms`, one family, without choice. Test
folds decide nothing in any of them.
"""

import os
import time
from collections import Counter

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from mriscope.data.slices import SliceSet
from mriscope.evaluation.intervals import bootstrap_repeats
from mriscope.evaluation.metrics import auroc, macro_f1
from mriscope.evaluation.predictions import Predictions
from mriscope.experiment.parts import read_for
from mriscope.models.ridge import ClassRule, fit_classes
from mriscope.models.tissue import Regions, flat_volume, region_histograms
from mriscope.models.tissue_histograms import BLOCKS
from mriscope.recipe import make_recipe

FOLDS, REPEATS, RESAMPLES = 5, 5, 1000
CHOSEN = "tissue_histograms"
AVERAGED = {"best_five": 5, "nested": 1, "all_families": None}
"""Of how many families, best first, each method averages the logits."""
METHODS = (*AVERAGED, CHOSEN)
WORST = {"non_vs_demented": 2, "three_classes": 3, "four_classes": 4}
"""How many classes each task has; worse ones join the last."""
POWERS = np.arange(0, 1.05, 0.1)
PLACES, SIGMAS = ((8, 1), (8, 4), (1, 4)), (None, 1 / 32, 1 / 64)
HISTOGRAMS = {f"{s} slabs × {r} rings, sigma {g}": Regions(s, r, g) for s, r in PLACES for g in SIGMAS}
VOXELS = "voxels"


def describe_all(slices: SliceSet) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The rank by severity of each subject, and every block of features, float32 (n, D)."""
    ranks, blocks = [], {name: [] for name in (*HISTOGRAMS, VOXELS)}
    for subject in np.unique(slices.subjects):
        rows = np.flatnonzero(slices.subjects == subject)
        rows = rows[np.argsort(slices.positions[rows])]
        volume = flat_volume(slices.images[rows])
        ranks.append(slices.severity[slices.labels[rows[0]]])
        for name, regions in HISTOGRAMS.items():
            blocks[name].append(region_histograms(volume, regions))
        blocks[VOXELS].append(tissue_map(volume))
    return np.array(ranks), {name: np.stack(rows) for name, rows in blocks.items()}


def tissue_map(volume: np.ndarray) -> np.ndarray:
    """What is not fluid, blurred and coarse, as voxel-based morphometry has it."""
    tissue = np.clip((volume - 0.3) / 0.3, 0, 1)
    return gaussian_filter(tissue, (4, 8, 8))[::4, ::8, ::8].ravel()


def families() -> dict[str, list[str]]:
    """Which blocks each family joins."""
    own = [name for name, regions in HISTOGRAMS.items() if regions in BLOCKS]
    single = {name: [name] for name in (*HISTOGRAMS, VOXELS)}
    return {**single, CHOSEN: own, "all histograms": list(HISTOGRAMS), "with voxels": [*own, VOXELS]}


def best_first(known: dict[str, np.ndarray], ill: np.ndarray) -> list[str]:
    """Families by how well their fits tell ill from well among the training subjects they leave out."""
    return sorted(known, key=lambda name: -roc_auc_score(ill, known[name] @ [-1, 1]))


def fit(blocks: dict[str, np.ndarray], members: list[str], ranks: np.ndarray, classes: int) -> ClassRule:
    parts = [blocks[name] for name in members]
    return fit_classes(np.concatenate(parts, axis=1), [part.shape[1] for part in parts], ranks, classes)


def judge(known: np.ndarray, asked: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Probabilities, each class's divided by a power of its share of training: what serves macro-F1 there best.

    Args:
        known: float (N, K), logits of left-out training subjects.
        asked: float (M, K), logits of those who are judged.
        ranks: int64 (N,), the classes of the training subjects.
    """
    shares = np.bincount(ranks, minlength=known.shape[1]) / len(ranks)

    def weighed(logits: np.ndarray, power: float) -> np.ndarray:
        return softmax(logits - power * np.log(np.maximum(shares, 1e-9)))

    def gain(power: float) -> float:
        return f1_score(ranks, weighed(known, power).argmax(axis=1), average="macro")

    return weighed(asked, max(POWERS, key=gain))


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def cross_validate(
    severity: np.ndarray, blocks: dict[str, np.ndarray], repeat: int, chosen: Counter[str]
) -> dict[tuple[str, str], np.ndarray]:
    """Probabilities of every subject by each method, for each task."""
    found = {(method, task): np.zeros((len(severity), k)) for method in METHODS for task, k in WORST.items()}
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(severity, np.minimum(severity, 2))
    for train, test in folds:
        order: list[str] = []
        for task, classes in WORST.items():
            ranks = np.minimum(severity[train], classes - 1)
            known, asked = fit_families(blocks, train, test, ranks, classes)
            order = order or best_first(known, ranks > 0)
            for method in METHODS:
                taken = [CHOSEN] if method == CHOSEN else order[: AVERAGED[method]]
                found[method, task][test] = judge(averaged(known, taken), averaged(asked, taken), ranks)
        chosen.update(order[: AVERAGED["best_five"]])
    return found


def fit_families(
    blocks: dict[str, np.ndarray], train: np.ndarray, test: np.ndarray, ranks: np.ndarray, classes: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits of each family, for every training subject left out and for every test subject."""
    known, asked = {}, {}
    for name, members in families().items():
        rule = fit({block: blocks[block][train] for block in members}, members, ranks, classes)
        known[name] = rule.left_out
        asked[name] = np.concatenate([blocks[block][test] for block in members], axis=1) @ rule.weight + rule.bias
    return known, asked


def averaged(logits: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """The families' mean logits; each family's are centred, as a constant added to all classes says nothing."""
    return np.mean([logits[name] - logits[name].mean(axis=1, keepdims=True) for name in names], axis=0)


def show(method: str, task: str, repeats: list[Predictions]) -> None:
    metrics = {"AUROC": auroc, "macro-F1": macro_f1}
    found = bootstrap_repeats(repeats, metrics, resamples=RESAMPLES)
    words = [
        f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}] "
        f"({', '.join(f'{metrics[name](repeat):.3f}' for repeat in repeats)})"
        for name, one in found.items()
    ]
    print(f"{method:<18} {task:<16} {'  '.join(words)}", flush=True)


def main() -> None:
    started = time.perf_counter()
    source = os.environ.get("MRISCOPE_DATA", "../shared/data/alzheimer_mri")
    slices = read_for(make_recipe({"model": CHOSEN}), source, skip_bad=False).slices
    severity, blocks = describe_all(slices)
    print(f"{len(severity)} subjects described after {time.perf_counter() - started:.0f} s", flush=True)
    chosen: Counter[str] = Counter()
    repeats = [cross_validate(severity, blocks, repeat, chosen) for repeat in range(REPEATS)]
    print("among the best five of the training folds:", dict(chosen.most_common()), flush=True)
    for method, task in repeats[0]:
        names = [str(rank) for rank in range(WORST[task])]
        truth = np.minimum(severity, WORST[task] - 1)
        pooled = [one[method, task] for one in repeats]
        show(method, task, [Predictions.of(truth, p, subjects=np.arange(len(p)), class_names=names) for p in pooled])
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
