"""A cross-validation's summary, for the command line and as Markdown."""

from collections.abc import Iterator

from mriscope.reports.confounds import BASELINE_TITLES, confounding_rows, confounding_text, format_baseline
from mriscope.reports.text import format_estimate, format_value, join_estimate, table
from mriscope.results import CrossvalComparison, CrossValidation, Estimate, PermutationResult

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


def crossvalidation_text(summary: CrossValidation) -> str:
    """Format the metrics of slices and of subjects for each task, under how they were come by."""
    heads = list(HEADS)[:_SHORT]
    rows = [[task, level, *_format_row(found, heads)] for task, level, found in _list_tasks(summary)]
    columns = ["task", "level", *(HEADS[one] for one in heads)]
    if baselines := list(_list_baselines(summary)):
        rows, columns = [*rows, *baselines], ["task", "level or baseline", *columns[2:], "model's AUROC above it"]
    beside = ["", *(confounding_text(one) for one in summary.confounding)] if summary.confounding else []
    return "\n".join([_headline(summary), "", table(columns, rows), "", *_describe_method(summary), *beside])


def crossvalidation_markdown(summary: CrossValidation) -> str:
    """Format all metrics, and those of each fold, as Markdown."""
    heads = [name for name in HEADS if any(name in found for _, _, found in _list_tasks(summary))]
    rows = [[task, level, *_format_row(found, heads)] for task, level, found in _list_tasks(summary)]
    lines = [f"# Cross-validation of {summary.model}", "", f"{_headline(summary)}.", ""]
    lines += [*_markdown_table(["task", "level", *(HEADS[one] for one in heads)], rows), ""]
    if beside := list(_list_baselines(summary)):
        columns = ["task", "baseline", "accuracy", "macro-F1", "AUROC", "the model's AUROC above it"]
        lines += ["## Baselines", "", *_markdown_table(columns, beside), ""]
    for one in summary.confounding:
        beside_heads = [f"{one.contrast}, beside covariates", "AUROC", "95 % interval", ""]
        lines += ["## Beside covariates", "", *_markdown_table(beside_heads, list(confounding_rows(one))), ""]
    lines += [f"{text[:1].upper()}{text[1:]}.\n" for text in _describe_method(summary)]
    return "\n".join([*lines, "## By fold", "", *_markdown_table(*_list_folds(summary)), ""])


def permutation_text(result: PermutationResult) -> str:
    """Format each metric beside what it is under permuted labels."""
    rows = [
        [task.replace("_", " "), level, HEADS.get(name, name),
         *(format_value(name, value) for value in (one.observed, one.mean, one.deviation)), f"{one.p:.3f}"]
        for level, tasks in result.metrics.items()
        for task, metrics in tasks.items()
        for name, one in metrics.items()
    ]  # fmt: skip
    head = f"{result.permutations} permutations of the subjects' labels, the whole pipeline refitted; first repeat"
    columns = ["task", "level", "metric", "observed", "permuted, mean", "sd", "p"]
    return "\n".join([head, "", table(columns, rows)])


def crossval_comparison_text(comparison: CrossvalComparison) -> str:
    """Format the tests of the declared family, one a row."""
    rows = []
    for one in comparison.tests:
        difference, interval = format_estimate(one.metric, one.difference)
        p_values = [f"{p:.4f}" if p == p else "–" for p in (one.p_delong, one.p_bootstrap, one.adjusted)]
        metric = f"{one.task.replace('_', ' ')}, {HEADS.get(one.metric, one.metric)}"
        values = [format_value(one.metric, value) for value in one.values]
        # a difference of two per cents is in points, as per cent would be a share of the first
        rows.append([one.second, metric, *values, difference.replace("%", "points"), interval, *p_values])
    columns = [
        "compared",
        "metric",
        "first",
        "this",
        "difference",
        "95 % interval",
        "p DeLong",
        "p bootstrap",
        "p Holm",
    ]
    head = f"{comparison.tests[0].first} (first) less each other, paired by {comparison.tests[0].level}"
    lines = [head, "", table(columns, rows), ""]
    declared = "1 test" if len(rows) == 1 else f"{len(rows)} tests"
    lines += [f"Holm's correction is for the {declared} declared, by DeLong's p where there is one"]
    lines += [f"intervals and p have standard errors widened by {comparison.widened_by:g}, for expected performance"]
    return "\n".join(lines)


def _list_folds(summary: CrossValidation) -> tuple[list[str], list[list[str]]]:
    """Make a row for each fold: accuracy by slice, and by subject in the first task."""
    columns = ["repeat", "fold", "slices", "subjects", "accuracy of slices"]
    tasks = list(summary.subject or ())[:1]
    rows = []
    for one in summary.by_fold:
        subjects = "unknown" if one.n_subjects is None else f"{one.n_subjects:,}"
        row = [
            str(one.repeat),
            str(one.fold),
            f"{one.n_slices:,}",
            subjects,
            join_estimate("accuracy", one.slice["accuracy"]),
        ]
        for task in tasks:
            row += [join_estimate("accuracy", one.subject[task]["accuracy"]), one.pooling[task]]
        rows.append(row)
    return columns + ["accuracy of subjects", "pooled by"] * len(tasks), rows


def _list_baselines(summary: CrossValidation) -> Iterator[list[str]]:
    """Make a row for each baseline of each task, of subjects where they were evaluated."""
    if summary.baselines is None:
        return
    for task, found in (summary.baselines.subject or summary.baselines.slice).items():
        for name, one in found.items():
            yield [task.replace("_", " "), BASELINE_TITLES.get(name, name), *format_baseline(one)]


def _list_tasks(summary: CrossValidation) -> Iterator[tuple[str, str, dict[str, Estimate]]]:
    for task, found in summary.slice.items():
        yield task.replace("_", " "), "slice", found
        if summary.subject is not None:
            yield "", "subject", summary.subject[task]


def _format_row(found: dict[str, Estimate], names: list[str]) -> list[str]:
    return [join_estimate(name, found[name]) if name in found else "–" for name in names]


def _headline(summary: CrossValidation) -> str:
    subjects = "subjects unknown" if summary.n_subjects is None else f"{summary.n_subjects:,} subjects"
    leaky = ", LEAKY: train and test share subjects" if summary.leaky else ""
    times = f"{summary.repeats} × " if summary.repeats > 1 else ""
    protocol = summary.protocol.replace("_", " ")
    where = "" if summary.where is None else f", where {summary.where}"
    return f"split {protocol}, {times}{summary.folds} folds: {summary.n_slices:,} slices, {subjects}{where}{leaky}"


def _describe_method(summary: CrossValidation) -> Iterator[str]:
    interval = summary.interval
    over = f"; metrics are means over {summary.repeats} repeats" if summary.repeats > 1 else ""
    yield f"{100 * interval.level:.0f} % intervals are over {interval.unit}s{over}"
    if interval.widened_by is not None:
        yield f"they are widened by {interval.widened_by:g} to cover the {interval.covers or 'expected performance'}"
    if summary.subject is not None:
        yield "a subject's slices are pooled in the way that suits each fold's validation part best"
    yield from filter(None, (interval.note, summary.omitted))


def _markdown_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows]]
