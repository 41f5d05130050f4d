"""Methods of explanation compared on one run: in words, as CSV and as a page."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mriscope.files import spreadsheet_safe
from mriscope.reports.page import Picture, render, split_verdict
from mriscope.reports.regions import ABOUT, region_rows
from mriscope.reports.text import table
from mriscope.results import Estimate, ExplainComparison, MethodResult


class Metric(NamedTuple):
    """A column of the comparison.

    Args:
        title: its head.
        better: "less", "more", or nothing where neither is.
        about: what it is, a sentence.
    """

    title: str
    better: str
    about: str


METRICS = {
    "deletion": Metric(
        "Deletion AUC",
        "less",
        "Mean probability of the explained class while pixels are blurred away, those that the map ranks first first "
        "(Petsiuk et al., 2018).",
    ),
    "insertion": Metric("Insertion AUC", "more", "The same while they come into the blurred slice."),
    "average_drop": Metric(
        "Average drop",
        "less",
        "Share of the probability that is lost where the slice is shown through its map (Chattopadhay et al., 2018).",
    ),
    "increase": Metric("Increase", "more", "Share of slices whose probability rises instead."),
    "road": Metric(
        "ROAD",
        "more",
        "Probability left where the least relevant pixels are replaced by what their neighbours suggest, less that "
        "where the most relevant ones are, halved; over 20, 50 and 80 % of pixels; 0 is chance (Rong et al., 2022).",
    ),
    "sensitivity": Metric(
        "Sensitivity",
        "more",
        "Correlation over random draws of 16 of 64 places between the map's sum there and the logit that blurring them "
        "costs (sensitivity-n; Ancona et al., 2018).",
    ),
    "sparsity": Metric(
        "Sparsity",
        "",
        "Gini index of the map: 0 where it is constant, near 1 where it is a point (Hurley & Rickard, 2009).",
    ),
    "outside": Metric("Outside the brain", "less", "Share of the map that lies where the slice shows no brain."),
    "pointing": Metric("Pointing game", "more", "Share of slices whose highest place of the map lies in the truth."),
    "energy": Metric("Energy inside", "more", "Share of the map that lies in the truth."),
    "iou": Metric("IoU", "more", "Intersection over union of the truth and the map cut at its best threshold."),
}
"""The metrics of a map, in the order in which they are shown."""

_TABLES = {
    "Faithful to the model": ("deletion", "insertion", "average_drop", "increase", "road", "sensitivity"),
    "Where the map lies": ("sparsity", "outside", "pointing", "energy", "iou"),
}


class Rows(NamedTuple):
    """A table: title, heads, and rows of cells, each a text with a detail that stands small with it."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[tuple[str, str]]]


def tables(comparison: ExplainComparison) -> list[Rows]:
    """Return the verdicts, then the metrics by what they measure."""
    verdicts = Rows(
        "Which maps mean something",
        [
            "Method",
            "Randomisation",
            "SSIM",
            "Rank correlation",
            "By chance",
            "Insertion less deletion",
            "Seconds a slice",
        ],
        [_verdict_row(one) for one in comparison.methods],
    )
    measured = [name for name in METRICS if name in comparison.methods[0].metrics]
    found = [verdicts]
    for title, names in _TABLES.items():
        shown = [name for name in names if name in measured]
        if shown:
            heads = ["Method", *(_head(METRICS[name]) for name in shown)]
            rows = [
                [_name(one), *(_format_estimate(one.metrics[name]) for name in shown)] for one in comparison.methods
            ]
            found.append(Rows(title, heads, rows))
    return found


def comparison_text(comparison: ExplainComparison) -> str:
    """Return the tables and the recommendation, as the command prints them."""
    lines = [comparison.evaluated, comparison.unit_note]
    for one in tables(comparison):
        rows = [[f"{text} ({detail})" if detail else text for text, detail in row] for row in one.rows]
        heads = [head.replace(", less is better", " ↓").replace(", more is better", " ↑") for head in one.heads]
        lines += ["", table(heads, rows)]
    if comparison.truth:
        lines += ["", comparison.truth]
    if comparison.regions is not None:
        heads, rows = region_rows(comparison.regions)
        lines += ["", "Where the maps lie, by region", comparison.regions.note]
        if comparison.regions.methods:
            lines += ["", table(heads, [[cell.replace("\n", ", ") for cell in row] for row in rows])]
    return "\n".join([*lines, "", comparison.recommendation.sentence])


def comparison_csv(comparison: ExplainComparison) -> str:
    """Return a row for each method; full precision, empty where nothing is known."""
    records = [_row(one) for one in comparison.methods]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: spreadsheet_safe(cell) for name, cell in record.items()} for record in records)
    return buffer.getvalue()


def comparison_page(title: str, comparison: ExplainComparison, cohort: Picture | None = None) -> str:
    """Return the comparison as one HTML file, with the picture of mean maps where there is one."""
    abouts = [(_head(one), one.about) for name, one in METRICS.items() if name in comparison.methods[0].metrics]
    return render(
        "explain_compare.html.j2",
        title=title,
        facts=comparison,
        verdict=split_verdict(comparison.leaky, "these maps may show by what the model recognises a brain"),
        tables=tables(comparison),
        abouts=abouts,
        region_rows=None if comparison.regions is None else region_rows(comparison.regions),
        about_regions=ABOUT,
        cohort=cohort,
    )


def _head(metric: Metric) -> str:
    return metric.title + (f", {metric.better} is better" if metric.better else "")


def _name(one: MethodResult) -> tuple[str, str]:
    return one.title, f"{one.empty} empty maps" if one.empty else ""


def _verdict_row(one: MethodResult) -> list[tuple[str, str]]:
    random, scores, verdict = one.randomisation, [("–", "")] * 3, "–"
    if random is not None:
        verdict = "passes" if random.passes else "FAILS"
        scores = [_format_estimate(found) for found in (random.ssim, random.rank_correlation, random.chance)]
    seconds = "–" if one.seconds is None else f"{one.seconds:.4f}"
    return [_name(one), (verdict, ""), *scores, _format_estimate(one.metrics["gain"]), (seconds, "")]


def _format_estimate(found: Estimate) -> tuple[str, str]:
    if not found.is_defined:
        return "undefined", ""
    interval = f"{_format_number(found.low)} to {_format_number(found.high)}" if found.has_interval else "no interval"
    return _format_number(found.value), interval


def _format_number(value: float) -> str:
    return f"{value:.3f}".replace("-0.000", "0.000") if abs(value) < 100 else f"{value:.3g}"


def _row(one: MethodResult) -> dict[str, Any]:
    random = one.randomisation
    return {
        "method": one.name,
        "kind": one.kind,
        "recommended": one.recommended,
        "seconds_per_slice": one.seconds,
        "silent_maps": one.empty,
        "randomisation": None if random is None else "passes" if random.passes else "fails",
        **dict(_bounds("randomisation_ssim", None if random is None else random.ssim)),
        **dict(_bounds("randomisation_rank_correlation", None if random is None else random.rank_correlation)),
        **dict(_bounds("randomisation_chance", None if random is None else random.chance)),
        **{key: value for name, found in one.metrics.items() for key, value in _bounds(name, found)},
        **{
            key: value
            for name, found in one.against_random.items()
            for key, value in _bounds(f"{name}_less_random", found)
        },
    }


def _bounds(name: str, found: Estimate | None) -> Iterator[tuple[str, float | None]]:
    numbers = dict.fromkeys(("value", "low", "high")) if found is None else found.numbers()
    for end, number in numbers.items():
        yield name + ("" if end == "value" else f"_{end}"), number
