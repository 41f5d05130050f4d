"""The benchmark of coverage: it calls an interval reliable where the package does."""

import coverage
import numpy as np
import pytest

from mriscope.evaluation.intervals import bootstrap, bootstrap_classes
from mriscope.evaluation.metrics import HEADLINE, brier_score, log_loss, severity_error
from mriscope.evaluation.predictions import Predictions

METRICS = {**HEADLINE, "severity_error": severity_error, "log_loss": log_loss, "brier_score": brier_score}
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "macro_f1": "macro_f1",
    "quadratic_kappa": "quadratic_kappa",
    "severity_error": "severity_error",
    "auroc": "AUROC",
    "log_loss": "log_loss",
    "brier_score": "brier_score",
}
GRADES = ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented")
OF_CLASS = {"recall": "recall", "precision": "precision", "f1": "f1", "auroc": "AUROC"}


@pytest.mark.parametrize(
    ("subjects", "slices", "classes", "separation"),
    [
        (19, 1, "2 of 50 %", "fair"),
        (20, 1, "2 of 50 %", "fair"),
        (100, 1, "3 unequal", "near perfect"),
        (100, 1, "2 of 5 %", "good"),
        (200, 1, "2 of 20 %", "near perfect"),
        (200, 1, "4 of the public set", "good"),
        (50, 4, "2 of 50 %", "good"),
        (200, 2, "2 of 20 %", "good"),
    ],
)
def test_reliable_as_in_the_package(subjects: int, slices: int, classes: str, separation: str) -> None:
    cell = {"subjects": subjects, "slices": slices, "classes": classes, "separation": separation}
    labels, probabilities = coverage.draw_cohorts(np.random.default_rng(subjects), cell, 4)
    for row, (one, each) in enumerate(zip(labels, probabilities, strict=True)):
        some = labels[row : row + 1], probabilities[row : row + 1]
        count = each.shape[-1]
        predictions = Predictions.of(
            one.repeat(slices),
            each.reshape(-1, count),
            subjects=np.arange(subjects).repeat(slices),
            class_names=GRADES[-count:],
        )
        found = bootstrap(predictions, METRICS, resamples=40)
        told = {name: found[ours].reliable for ours, name in NAMES.items() if ours in found}
        last = bootstrap_classes(predictions, resamples=40)[GRADES[-1]]
        told |= {f"{name} of the last class": last[ours].reliable for ours, name in OF_CLASS.items()}
        expected = {name: bool(coverage.reliable(name, *some)[0]) for name in told}
        assert len(told) == len(NAMES) + len(OF_CLASS)
        assert told == expected
