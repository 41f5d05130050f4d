"""What a cross-validation says, for the command line and as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from mriscope.reports.text import figures, table

Facts = Mapping[str, Any]

HEADS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "quadratic_kappa": "kappa",
    "severity_error": "error in steps",
}
_SHORT = 3
"""How many of them the command prints."""


def crossvalidation_text(facts: Facts) -> str:
    """The figures of slices and of subjects for each task, under how they were come by."""
    heads = list(HEADS)[:_SHORT]
    rows = [[task, level, *(_cell(found[name]) for name in heads)] for task, level, found in _found(facts)]
    return "\n".join(
        [_headline(facts), "", table(["task", "level", *(HEADS[one] for one in heads)], rows), "", *_how(facts)]
    )


def crossvalidation_markdown(facts: Facts) -> str:
    """All figures, and those of each fold, as Markdown."""
    rows = [[task, level, *(_cell(found[name]) for name in HEADS)] for task, level, found in _found(facts)]
    lines = [f"# Cross-validation of {facts['model']}", "", f"{_headline(facts)}.", ""]
    lines += [*_table(["task", "level", *HEADS.values()], rows), ""]
    lines += [f"{text[:1].upper()}{text[1:]}.\n" for text in _how(facts)]
    return "\n".join([*lines, "## By fold", "", *_table(*_by_fold(facts)), ""])


def _by_fold(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """A row for each fold: accuracy by slice, and by subject in the first task."""
    columns = ["repeat", "fold", "slices", "subjects", "accuracy of slices"]
    tasks = list(facts["subject"] or ())[:1]
    rows = []
    for one in facts["by_fold"]:
        subjects = "unknown" if one["n_subjects"] is None else f"{one['n_subjects']:,}"
        row = [str(one["repeat"]), str(one["fold"]), f"{one['n_slices']:,}", subjects]
        row.append(_cell(one["slice"]["accuracy"]))
        rows.append(
            [
                *row,
                *(part for task in tasks for part in (_cell(one["subject"][task]["accuracy"]), one["pooling"][task])),
            ]
        )
    return columns + ["accuracy of subjects", "pooled by"] * len(tasks), rows


def _found(facts: Facts) -> Iterator[tuple[str, str, Facts]]:
    for task, found in facts["slice"].items():
        yield task.replace("_", " "), "slice", found
        if facts["subject"] is not None:
            yield "", "subject", facts["subject"][task]


def _headline(facts: Facts) -> str:
    subjects = "subjects unknown" if facts["n_subjects"] is None else f"{facts['n_subjects']:,} subjects"
    leaky = ", LEAKY: train and test share subjects" if facts["leaky"] else ""
    times = f"{facts['repeats']} × " if facts["repeats"] > 1 else ""
    protocol = facts["protocol"].replace("_", " ")
    return f"split {protocol}, {times}{facts['folds']} folds: {facts['n_slices']:,} slices, {subjects}{leaky}"


def _how(facts: Facts) -> Iterator[str]:
    interval = facts["interval"]
    over = f"; figures are means over {facts['repeats']} repeats" if facts["repeats"] > 1 else ""
    yield f"{100 * interval['level']:.0f} % intervals resample {interval['unit']}s{over}"
    if facts["subject"] is not None:
        yield "a subject's slices are pooled in the way that suits each fold's validation part best"
    if interval["note"]:
        yield interval["note"]


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows]]


def _cell(estimate: Facts) -> str:
    value, interval = figures(estimate)
    return f"{value} ({interval})" if interval else value
