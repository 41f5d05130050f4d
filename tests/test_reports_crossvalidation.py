"""A cross-validation's text and Markdown say what its summary holds."""

import math

import pytest

from mriscope.reports.crossvalidation import HEADS, crossvalidation_markdown, crossvalidation_text
from mriscope.results import CrossValidation, Estimate, FoldResult, Interval

ONE = Estimate(0.75, 0.5, 0.875)


def summary(names: tuple[str, ...] = tuple(HEADS), **changes: object) -> CrossValidation:
    found = dict.fromkeys(names, ONE)
    fields: dict = {
        "model": "compact_cnn",
        "protocol": "by_subject",
        "folds": 2,
        "repeats": 3,
        "seed": 0,
        "leaky": False,
        "data": "d" * 64,
        "n_slices": 1200,
        "n_subjects": 24,
        "interval": Interval(level=0.95, unit="subject", resamples=2000),
        "slice": {"four_classes": found, "non_vs_demented": {**found, "auroc": Estimate(0.5, math.nan, math.nan)}},
        "subject": {"four_classes": found, "non_vs_demented": found},
        "training_seconds": 8.0,
        "by_fold": [
            FoldResult(
                repeat=0,
                fold=fold,
                n_slices=600,
                n_subjects=12,
                slice=found,
                subject={"four_classes": found, "non_vs_demented": found},
                pooling={"four_classes": "majority", "non_vs_demented": "mean_logit"},
            )
            for fold in (0, 1)
        ],
    }
    return CrossValidation(**{**fields, **changes})


def test_the_text_has_a_row_for_each_task_and_level_under_how_it_was_come_by() -> None:
    lines = crossvalidation_text(summary()).splitlines()
    assert lines[0] == "split by subject, 3 × 2 folds: 1,200 slices, 24 subjects"
    assert lines[2].split() == ["task", "level", "accuracy", "macro-F1", "AUROC"]
    assert lines[3] == "four classes     slice    " + "  ".join(
        ["75.0 % (50.0 to 87.5)"] * 2 + ["0.750 (0.500 to 0.875)"]
    )
    assert lines[4].strip().startswith("subject  75.0 %")
    assert lines[5].endswith("0.500 (no interval)")
    assert lines[-2:] == [
        "95 % intervals are over subjects; metrics are means over 3 repeats",
        "a subject's slices are pooled in the way that suits each fold's validation part best",
    ]


def test_the_markdown_adds_all_metrics_and_each_fold() -> None:
    text = crossvalidation_markdown(summary())
    assert text.startswith("# Cross-validation of compact_cnn\n\nsplit by subject")
    assert f"| task | level | {' | '.join(HEADS.values())} |" in text
    assert "| 0 | 1 | 600 | 12 | 75.0 % (50.0 to 87.5) | 75.0 % (50.0 to 87.5) | majority |" in text


def test_slices_alone_and_leaks_are_said() -> None:
    folds = [one.model_copy(update={"subject": {}, "pooling": {}, "n_subjects": None}) for one in summary().by_fold]
    found = summary(subject=None, leaky=True, protocol="by_slice", n_subjects=None, repeats=1, by_fold=folds)
    text = crossvalidation_text(found)
    assert text.splitlines()[0] == (
        "split by slice, 2 folds: 1,200 slices, subjects unknown, LEAKY: train and test share subjects"
    )
    assert "pooled" not in text
    assert "| 0 | 0 | 600 | unknown | 75.0 % (50.0 to 87.5) |" in crossvalidation_markdown(found)


@pytest.mark.parametrize("write", [crossvalidation_text, crossvalidation_markdown])
def test_metrics_that_do_not_apply_are_left_out_with_the_reason(write) -> None:
    names = tuple(name for name in HEADS if name not in ("quadratic_kappa", "severity_error"))
    text = write(summary(names, omitted="nothing says how a, b, c rise in severity"))
    assert "othing says how a, b, c rise in severity" in text
    assert "kappa" not in text
    assert "error in steps" not in text
