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
from collections.abc import Mapping

import numpy as np
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from mriscope.data.slices import SliceSet
from mriscope.evaluation.intervals import bootstrap_repeats
from mriscope.evaluation.metrics import auroc, macro_f1
from mriscope.evaluation.predictions import Predictions
from mriscope.models.tissue_families import FAMILIES, TAKEN, family_columns, fit_family, sort_families, tissue_families
from mriscope.recipe import make_recipe
from mriscope.workflows._load import load

FOLDS, REPEATS, RESAMPLES = 5, 5, 1000
CHOSEN = "tissue_histograms"
AVERAGED = {"best_five": TAKEN, "nested": 1, "all_families": None}
"""Of how many families, best first, each method averages the logits."""
METHODS = (*AVERAGED, CHOSEN)
WORST = {"non_vs_demented": 2, "three_classes": 3, "four_classes": 4}
"""How many classes each task has; worse ones join the last."""
POWERS = np.arange(0, 1.05, 0.1)


def describe_subjects(slices: SliceSet) -> tuple[np.ndarray, np.ndarray]:
    """The rank by severity of each subject, and its description, float32 (n, D)."""
    _, first = np.unique(slices.subjects, return_index=True)
    return slices.severity[slices.labels[first]], tissue_families().describe_subjects(slices)[1]


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
    severity: np.ndarray,
    described: np.ndarray,
    repeat: int,
    chosen: Counter[str],
    tasks: Mapping[str, int] = WORST,
) -> dict[tuple[str, str], np.ndarray]:
    """Probabilities of every subject by each method, for each task, the first of which tells families apart."""
    found = {(method, task): np.zeros((len(severity), k)) for method in METHODS for task, k in tasks.items()}
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(severity, np.minimum(severity, 2))
    for train, test in folds:
        order: list[str] = []
        for task, classes in tasks.items():
            ranks = np.minimum(severity[train], classes - 1)
            known, asked = fit_families(described[train], described[test], ranks, classes)
            order = order or sort_families(known, ranks > 0)
            for method in METHODS:
                taken = [CHOSEN] if method == CHOSEN else order[: AVERAGED[method]]
                found[method, task][test] = judge(averaged(known, taken), averaged(asked, taken), ranks)
        chosen.update(order[: AVERAGED["best_five"]])
    return found


def fit_families(
    train: np.ndarray, test: np.ndarray, ranks: np.ndarray, classes: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits of each family, for every training subject left out and for every test subject."""
    rules = {family: fit_family(train, family, ranks, classes) for family in FAMILIES}
    known = {family: rule.left_out for family, rule in rules.items()}
    return known, {family: test[:, family_columns(family)] @ rule.weight + rule.bias for family, rule in rules.items()}


def averaged(logits: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    return np.mean([logits[name] for name in names], axis=0)


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
    slices = load(source, recipe=make_recipe({"model": CHOSEN})).slices
    severity, described = describe_subjects(slices)
    print(f"{len(severity)} subjects described after {time.perf_counter() - started:.0f} s", flush=True)
    chosen: Counter[str] = Counter()
    repeats = [cross_validate(severity, described, repeat, chosen) for repeat in range(REPEATS)]
    print("among the best five of the training folds:", dict(chosen.most_common()), flush=True)
    for method, task in repeats[0]:
        names = [str(rank) for rank in range(WORST[task])]
        truth = np.minimum(severity, WORST[task] - 1)
        pooled = [one[method, task] for one in repeats]
        show(method, task, [Predictions.of(truth, p, subjects=np.arange(len(p)), class_names=names) for p in pooled])
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
