"""Dementia per subject from all slices of the public subjects, by cross-validation over subjects.

    python3 run.py bench honest

Reads the source that MRISCOPE_DATA names. Two methods: `nested`, where each training fold chooses among families of
features by what a fit says of its own left-out subjects, and `tissue_histograms`, which chooses nothing. Test folds
decide nothing in either.
"""

import os
import time
from collections import Counter

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from mriscope.data.slices import SliceSet, severity_ranks
from mriscope.evaluation.intervals import bootstrap_repeats
from mriscope.evaluation.metrics import auroc, macro_f1
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.tasks import TASKS, to_task
from mriscope.experiment.parts import read_for
from mriscope.models.ridge import fit_classes
from mriscope.models.tissue import Regions, flat_volume, region_histograms
from mriscope.models.tissue_histograms import BLOCKS
from mriscope.recipe import make_recipe

FOLDS, REPEATS, RESAMPLES = 5, 5, 1000
CHOSEN = "tissue_histograms"
PLACES, SIGMAS = ((8, 1), (8, 4), (1, 4)), (None, 1 / 32, 1 / 64)
HISTOGRAMS = {f"{s} slabs × {r} rings, sigma {g}": Regions(s, r, g) for s, r in PLACES for g in SIGMAS}
VOXELS = "voxels"


def describe_all(slices: SliceSet) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The class of each subject, and every block of features, float32 (n, D)."""
    labels, blocks = [], {name: [] for name in (*HISTOGRAMS, VOXELS)}
    for subject in np.unique(slices.subjects):
        rows = np.flatnonzero(slices.subjects == subject)
        rows = rows[np.argsort(slices.positions[rows])]
        volume = flat_volume(slices.images[rows])
        labels.append(slices.labels[rows[0]])
        for name, regions in HISTOGRAMS.items():
            blocks[name].append(region_histograms(volume, regions))
        blocks[VOXELS].append(tissue_map(volume))
    return np.array(labels), {name: np.stack(rows) for name, rows in blocks.items()}


def tissue_map(volume: np.ndarray) -> np.ndarray:
    """What is not fluid, blurred and coarse, as voxel-based morphometry has it."""
    tissue = np.clip((volume - 0.3) / 0.3, 0, 1)
    return gaussian_filter(tissue, (4, 8, 8))[::4, ::8, ::8].ravel()


def families() -> dict[str, list[str]]:
    """Which blocks each family joins."""
    own = [name for name, regions in HISTOGRAMS.items() if regions in BLOCKS]
    single = {name: [name] for name in (*HISTOGRAMS, VOXELS)}
    return {**single, CHOSEN: own, "all histograms": list(HISTOGRAMS), "with voxels": [*own, VOXELS]}


def predict_fold(blocks: list[np.ndarray], labels: np.ndarray, train: np.ndarray, test: np.ndarray, well: int):
    """AUROC of Non vs demented over left-out training subjects, and the probabilities of the test subjects."""
    features = np.concatenate(blocks, axis=1)
    rule = fit_classes(features[train], [block.shape[1] for block in blocks], labels[train], 4)
    return roc_auc_score(labels[train] == well, softmax(rule.left_out)[:, well]), softmax(
        features[test] @ rule.weight + rule.bias
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def cross_validate(labels: np.ndarray, blocks: dict[str, np.ndarray], class_names: tuple[str, ...], repeat: int):
    """Probabilities of every subject by each method, and which families the training folds chose."""
    well, strata = class_names.index("Non_Demented"), np.minimum(severity_ranks(class_names)[labels], 2)
    probabilities = {name: np.zeros((len(labels), 4)) for name in ("nested", CHOSEN)}
    choices = []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(labels, strata)
    for train, test in folds:
        found = {
            name: predict_fold([blocks[one] for one in members], labels, train, test, well)
            for name, members in families().items()
        }
        choices.append(max(found, key=lambda name: found[name][0]))
        probabilities["nested"][test] = found[choices[-1]][1]
        probabilities[CHOSEN][test] = found[CHOSEN][1]
    return probabilities, choices


def show(repeats: list[Predictions], method: str) -> None:
    for task in TASKS:
        judged = [to_task(one, task) for one in repeats]
        found = bootstrap_repeats(judged, {"AUROC": auroc, "macro-F1": macro_f1}, resamples=RESAMPLES)
        spread = {"AUROC": np.std([auroc(one) for one in judged]), "macro-F1": np.std([macro_f1(o) for o in judged])}
        words = [
            f"{name} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}] (repeats ± {spread[name]:.3f})"
            for name, e in found.items()
        ]
        print(f"{method:<18} {task:<16} {'  '.join(words)}", flush=True)


def main() -> None:
    started = time.perf_counter()
    source = os.environ.get("MRISCOPE_DATA", "../shared/data/alzheimer_mri")
    slices = read_for(make_recipe({"model": CHOSEN}), source, skip_bad=False).slices
    labels, blocks = describe_all(slices)
    print(f"{len(labels)} subjects described after {time.perf_counter() - started:.0f} s", flush=True)
    methods: dict[str, list[Predictions]] = {"nested": [], CHOSEN: []}
    chosen: Counter[str] = Counter()
    for repeat in range(REPEATS):
        probabilities, choices = cross_validate(labels, blocks, slices.class_names, repeat)
        chosen.update(choices)
        for method, found in probabilities.items():
            subjects = np.arange(len(labels))
            methods[method].append(Predictions.of(labels, found, subjects=subjects, class_names=slices.class_names))
    print("chosen by the training folds:", dict(chosen.most_common()))
    for method, repeats in methods.items():
        show(repeats, method)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
