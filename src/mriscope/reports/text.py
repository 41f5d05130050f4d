"""What the commands print."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mriscope.data.severity import severity_ranks
from mriscope.data.slices import UNKNOWN, SliceSet
from mriscope.evaluation.metrics import chance, print_format
from mriscope.results import Consistency, DataSummary, Estimate, Metrics, Scores

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC, one class against the rest",
    "quadratic_kappa": "quadratic-weighted kappa",
}
UNRELIABLE = "interval not reliable here"
"""What stands instead of an interval that does not cover; docs/method.md says when."""
UNTESTED = "test not reliable here"
"""What stands instead of a consistency test of fewer than 20 subjects, or where they are unknown."""
ORIGINS = {
    "pixels": " recovered from pixels",
    "pixels, partly": " recovered from pixels, other slices in doubt",
    "manifest": " named by the manifest",
    "source": " named by the source",
    "manifest, partly": " named by the manifest, other slices unnamed",
    "source, partly": " named by the source, other slices unnamed",
}
"""How subjects came to be known."""
CHANCE = "By chance: a guess drawn in the proportions of the classes that were tested"
"""Which chance is meant, where it stands beside metrics."""
CALIBRATION_TITLES = {
    "calibration_error": "expected calibration error",
    "calibration_error_by_mass": "the same, bins of equal mass",
    "brier_score": "Brier score",
    "log_loss": "log loss",
}


def describe_slices(slices: SliceSet) -> DataSummary:
    """Count what a set of slices holds.

    Example:
        >>> from mriscope import make_phantom
        >>> describe_slices(make_phantom(4, slices=2).slices).n_slices
        8
    """
    parts = [name for name in np.unique(slices.parts).tolist() if name]
    classes = {}
    for label, name in enumerate(slices.class_names):
        chosen = slices.labels == label
        by_part = {part: int((chosen & (slices.parts == part)).sum()) for part in parts}
        subjects = np.unique(slices.subjects[chosen])
        classes[name] = {"slices": int(chosen.sum()), **by_part, "subjects": int((subjects >= 0).sum())}
    height, width = slices.images.shape[1:]
    timed = bool((slices.sessions != "").any())
    return DataSummary(
        n_slices=len(slices),
        n_subjects=slices.n_subjects or None,
        n_unnamed=int((slices.subjects == UNKNOWN).sum()),
        n_sessions=len({*zip(slices.subjects.tolist(), slices.sessions.tolist(), strict=True)}) if timed else None,
        covariates=tuple(sorted(slices.covariates)),
        size=(height, width),
        parts={part: int((slices.parts == part).sum()) for part in parts},
        classes=classes,
        fingerprint=slices.fingerprint,
    )


def slices_text(source: str, summary: DataSummary) -> str:
    """Format what a source holds: a table of the classes under a line of totals."""
    subjects = "subjects unknown" if summary.n_subjects is None else f"{summary.n_subjects:,} subjects"
    if summary.n_subjects is not None and summary.n_unnamed:
        known = summary.n_slices - summary.n_unnamed
        subjects += f" of {known:,} of {summary.n_slices:,} slices"
    if summary.n_sessions is not None:
        subjects += f" in {summary.n_sessions:,} sessions"
    subjects += ORIGINS.get(summary.subjects_from or "", "")
    height, width = summary.size
    columns = ["slices", *summary.parts, *(["subjects"] if summary.n_subjects is not None else [])]
    classes = [(name, summary.classes[name]) for name in by_severity(summary.classes)]
    rows = [[name, *(f"{one[column]:,}" for column in columns)] for name, one in classes]
    head = f"{source}: {summary.n_slices:,} slices of {height}×{width}, {subjects}"
    told = [f"covariates: {', '.join(summary.covariates)}", ""] if summary.covariates else []
    return "\n".join([head, "", table(["class", *columns], rows), "", *told, f"fingerprint {summary.fingerprint[:16]}"])


def metrics_text(metrics: Metrics) -> str:
    """Format every headline metric with its interval, under the protocol it was measured by."""
    interval = metrics.interval
    counts = class_counts(metrics)
    by_chance = chance(list(counts.values()))
    rows = [_metric_row(metric_title(name), name, one, by_chance.get(name)) for name, one in metrics.metrics.items()]
    for name in by_severity(metrics.classes):
        one = metrics.classes[name]
        if one.n_slices:
            share = counts[name] / sum(counts.values())
            rows.append(_metric_row(f"recall {name}, of {counts[name]:,}", "recall", one.recall, share))
    for name, estimate in (metrics.severity or {}).items():
        rows.append(_metric_row("mean error in steps of severity", name, estimate))
    rows += [*_area_rows(metrics), *_calibration_rows(metrics)]
    level = f"{100 * interval.level:.0f} % interval"
    columns = ["metric", "value", "by chance", level, "method"]
    lines = [protocol_text(metrics), *_describe_aggregation(metrics), "", table(columns, rows), "", CHANCE]
    from mriscope.reports.confounds import baselines_text, confounding_text  # which formats with what stands here

    if metrics.baselines:
        lines += ["", baselines_text(metrics.baselines)]
    for found in metrics.confounding:
        lines += ["", confounding_text(found)]
    calibration = metrics.calibration.note if metrics.calibration is not None else None
    for note in filter(None, (interval.note, metrics.omitted, calibration)):
        lines += ["", f"note: {note}"]
    return "\n".join(lines)


def _describe_aggregation(metrics: Metrics) -> Iterator[str]:
    """Say what was evaluated, where it was not each slice in the run's own classes."""
    if metrics.where:
        yield f"where {metrics.where}"
    if metrics.task:
        yield f"task {metrics.task}: {', '.join(by_severity(metrics.classes))}"
    if pooling := metrics.pooling:
        chosen = "chosen on the validation part" if pooling.chosen else "as named"
        yield f"each subject is evaluated once, by the {pooling.how.replace('_', ' ')} of its slices ({chosen})"
        if pooling.divided_subjects:
            yield f"{pooling.divided_subjects:,} subjects have slices of several classes; that of most counts"


def by_severity(class_names: Iterable[str]) -> list[str]:
    """Return the classes from the least to the most severe, or as they are where names say nothing of it."""
    names = list(class_names)
    return [names[place] for place in severity_ranks(names).argsort().tolist()]


def class_counts(metrics: Scores) -> dict[str, int]:
    """Return how many rows of each class were scored: subjects, where those were, else slices."""
    by_subject = metrics.level == "subject"
    return {name: (one.n_subjects or 0) if by_subject else one.n_slices for name, one in metrics.classes.items()}


def _metric_row(title: str, metric: str, estimate: Estimate, by_chance: float | None = None) -> list[str]:
    """Format a metric, what chance has, its interval, and how that was made."""
    value, interval = format_estimate(metric, estimate)
    shown = estimate.reliable is not False and estimate.has_interval
    return [title, value, format_value(metric, by_chance), interval, (estimate.method or "") if shown else ""]


def _area_rows(metrics: Metrics) -> list[list[str]]:
    """Format the AUROC of each class, where subjects were evaluated; of two classes either has the same."""
    classes = {name: metrics.classes[name] for name in by_severity(metrics.classes)}
    found = {name: one.auroc_delong or one.auroc for name, one in classes.items()}
    if metrics.level != "subject" or len(found) == 2:
        return []
    return [_metric_row(f"AUROC {name}", "auroc", one, 0.5) for name, one in found.items()]


def _calibration_rows(metrics: Metrics) -> Iterator[list[str]]:
    calibration = metrics.calibration
    if calibration is None:
        return
    after = calibration.after is not None and calibration.temperature is not None
    words = "" if after else ", no validation part for a temperature"
    yield from _calibration_part(calibration.before, calibration.consistency, words)
    if calibration.after is not None and calibration.temperature is not None:
        words = f" at temperature {calibration.temperature:.2f}, fitted on validation"
        yield from _calibration_part(calibration.after, calibration.consistency_after or {}, words)


def _calibration_part(
    estimates: Mapping[str, Estimate], tests: Mapping[str, Consistency], words: str
) -> Iterator[list[str]]:
    for name, estimate in estimates.items():
        title = f"{CALIBRATION_TITLES.get(name, name)}{words}"
        if name in tests:
            one = tests[name]
            text = f"if calibrated {one.low:.3f} to {one.high:.3f}, p = {one.p:.3f}"
            told = [UNTESTED, ""] if one.reliable is False else [text, "consistency test"]
            yield [title, format_value(name, estimate.value), "", *told]
        else:
            yield _metric_row(title, name, estimate)


def protocol_text(metrics: Metrics) -> str:
    """Say in one line how metrics were come by."""
    subjects = "subjects unknown" if metrics.n_subjects is None else f"{metrics.n_subjects:,} subjects"
    shared = metrics.shared_subjects
    told = "test subjects" if shared is None else f"{shared:,} of {metrics.n_subjects or 0:,} test subjects"
    leaky = f", LEAKY: {told} also have slices in the training part" if metrics.leaky else ""
    protocol = metrics.protocol.replace("_", " ")
    return f"{protocol} split, {metrics.part} part: {metrics.n_slices:,} slices, {subjects}{leaky}"


def models_text(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Format a line for each model."""
    rows = [[one["name"], f"{one['parameters']:,}", f"{one['macs'] / 1e6:,.1f} M", one["about"]] for one in summaries]
    return table(["name", "parameters", "MACs", "about"], rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align texts in columns; those of digits stand right."""
    filled = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *filled, strict=True)]
    right = [
        all(row[place][:1].isdigit() for row in filled if row[place]) and bool(filled) for place in range(len(columns))
    ]
    lines = [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in [list(columns), *filled]
    ]
    return "\n".join(line.rstrip() for line in lines)


def metric_title(name: str) -> str:
    """Return what a metric is called in print."""
    return TITLES.get(name, name.replace("_", " "))


def format_value(metric: str, value: float | None) -> str:
    """Format one value: shares of slices or subjects in per cent, AUROC, kappa and the like as they are.

    Example:
        >>> format_value("accuracy", 0.75), format_value("auroc", 0.75), format_value("auroc", None)
        ('75.0 %', '0.750', '')
    """
    if value is None:
        return ""
    unit, scale, digits = print_format(metric)
    return "undefined" if math.isnan(value) else f"{scale * value:.{digits}f}{unit}"


def format_estimate(metric: str, estimate: Estimate) -> list[str]:
    """Format a value and its interval as two texts; either may not exist, and an interval may not cover.

    Example:
        >>> format_estimate("accuracy", Estimate(0.75, 0.5, 0.875))
        ['75.0 %', '50.0 to 87.5']
    """
    value = format_value(metric, estimate.value)
    if not estimate.is_defined:
        return [value, ""]
    if estimate.reliable is False:
        return [value, UNRELIABLE]
    unit, _, _ = print_format(metric)
    low, high = (format_value(metric, end).removesuffix(unit) for end in (estimate.low, estimate.high))
    return [value, f"{low} to {high}" if estimate.has_interval else "no interval"]


def show_estimate(metric: str, estimate: Estimate) -> str:
    """Format a value and below it its interval, for the cell of a page."""
    return "\n".join(filter(None, format_estimate(metric, estimate)))


def join_estimate(metric: str, estimate: Estimate) -> str:
    """Format a value and its interval as one text."""
    value, interval = format_estimate(metric, estimate)
    return f"{value} ({interval})" if interval else value
