"""Published predictions in words: the verdict, then slices beside subjects."""

from collections.abc import Iterator, Mapping

from mriscope.evaluation.metrics import chance
from mriscope.reports.confounds import baselines_text
from mriscope.reports.text import (
    CALIBRATION_TITLES,
    CHANCE,
    ORIGINS,
    by_severity,
    class_counts,
    format_estimate,
    format_value,
    metric_title,
    table,
)
from mriscope.results import Estimate, PublishedEvaluation, Scores

_ORIGINS = {**ORIGINS, "column": " named by the table", "paths": " named by the paths"}


def published_text(found: PublishedEvaluation) -> str:
    """Format the verdict, every metric of slices and of subjects with its interval, and the baselines of either."""
    levels = {"slices": found.slices, "subjects": found.subjects}
    scored = {name: one for name, one in levels.items() if one is not None}
    lines = [
        found.verdict,
        "",
        _counts_text(found, next(iter(scored.values()))),
        "",
        _metrics_table(scored),
        "",
        CHANCE,
    ]
    for name, one in scored.items():
        if one.baselines:
            lines += ["", f"baselines by {name[:-1]}, fitted to the {found.baselines_from}:"]
            lines += [baselines_text(one.baselines)]
    return "\n".join([*lines, *(f"\nnote: {note}" for note in _notes(found, scored))])


def _counts_text(found: PublishedEvaluation, scores: Scores) -> str:
    part = "all rows" if found.part == "whole" else f"{found.part} part"
    subjects = "subjects unknown"
    if scores.n_subjects is not None:
        subjects = f"{scores.n_subjects:,} subjects{_ORIGINS.get(found.subjects_from or '', '')}"
    task = "" if scores.task is None else f", task {scores.task}"
    return f"{found.file}, {part}: {found.n_slices:,} slices, {subjects}{task}"


def _metrics_table(scored: Mapping[str, Scores]) -> str:
    level = next(iter(scored.values())).interval.level
    columns = ["metric", *(text for name in scored for text in (name, "by chance", f"{100 * level:.0f} % interval"))]
    estimates = {name: _estimates(one) for name, one in scored.items()}
    rows = []
    for title, metric in dict.fromkeys(key for one in estimates.values() for key in one):
        row = [title]
        for one in estimates.values():
            if (title, metric) not in one:  # a class of no subject, where its slices are a minority of theirs
                row += ["", "", ""]
                continue
            estimate, by_chance = one[title, metric]
            value, interval = format_estimate(metric, estimate)
            row += [value, format_value(metric, by_chance), interval]
        rows.append(row)
    return table(columns, rows)


def _estimates(scores: Scores) -> dict[tuple[str, str], tuple[Estimate, float | None]]:
    """Return each metric with what chance has, by its title and name."""
    counts = class_counts(scores)
    by_chance = chance(list(counts.values()))
    found = {(metric_title(name), name): (one, by_chance.get(name)) for name, one in scores.metrics.items()}
    for name in by_severity(scores.classes):
        if counts[name]:
            share = counts[name] / sum(counts.values())
            found[f"recall {name}", "recall"] = scores.classes[name].recall, share
    for name, one in (scores.severity or {}).items():
        found["mean error in steps of severity", name] = one, None
    for name, one in (scores.calibration.before if scores.calibration else {}).items():
        found[CALIBRATION_TITLES.get(name, name), name] = one, None
    return found


def _notes(found: PublishedEvaluation, scored: Mapping[str, Scores]) -> Iterator[str]:
    yield from found.notes
    if found.n_unnamed:
        yield (
            f"the subject of {found.n_unnamed:,} of the {found.n_slices:,} slices is unknown, so subjects are not "
            "scored; name them in a column subject, with --manifest, or with --subject-pattern where paths tell them"
        )
    for one in scored.values():
        if one.pooling is not None:
            how = one.pooling.how.replace("_", " ")
            yield f"each subject is scored once, by the {how} of its slices"
            if one.pooling.divided_subjects:
                yield f"{one.pooling.divided_subjects:,} subjects have slices of several classes; that of most counts"
    yield from dict.fromkeys(
        filter(None, (text for one in scored.values() for text in (one.interval.note, one.omitted)))
    )
