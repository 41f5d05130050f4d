"""A comparison of recipes as a table for spreadsheets, as Markdown, as a page and as what the command prints."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mriscope.evaluation.metrics import chance
from mriscope.evaluation.ranking import ALPHA
from mriscope.files import spreadsheet_safe
from mriscope.reports.confounds import BASELINE_TITLES
from mriscope.reports.page import Picture, render
from mriscope.reports.text import CHANCE, UNRELIABLE, by_severity, metric_title, table
from mriscope.results import Comparison, Estimate, RunsEstimate, Standing
from mriscope.version import __version__

KAPPA = "quadratic_kappa"
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", KAPPA)
STUDY, ABOVE = "Study, %", "p, row above"


def explain_ranking(comparison: Comparison) -> tuple[str, ...]:
    """Say how metrics and ranks are meant, a paragraph each."""
    seeds = any(one.runs > 1 for one in comparison.standings)
    over = "Metrics are means over the seeds of a recipe, and their intervals those of the means. " if seeds else ""
    return (
        f"{over}A metric is followed by its 95 % interval, over {comparison.unit}s.",
        "Rows stand by falling accuracy. A row shares the rank of the row above unless it differs significantly from "
        f"that row, or from the first row of that rank, its leader: p under {ALPHA} by a paired test after Holm's "
        "correction, for all neighbours in the one case and for all pairs in the other. The test: "
        f"{comparison.test}.",
        "To share a rank is not to be equal, as more test slices would show more differences; and the absence of a "
        "significant difference is not transitive, so that the last row of a rank may also tie with the first of the "
        "next.",
        *comparison.notes,
    )


class Cell(NamedTuple):
    """What a table shows: a text, and a detail that stands small with it."""

    text: str
    detail: str = ""


class Table(NamedTuple):
    """Rows of cells under a title; `numbers` is the place of the first column that stands right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: int


def tables(comparison: Comparison) -> list[Table]:
    """Make tables of the ranking, the recall of each class and the cost: a row for each recipe in each."""
    standings = comparison.standings
    classes = by_severity(standings[0].recalls)
    shown = [name for name in SHOWN if any(name in one.metrics for one in standings)]
    titles = {name: metric_title(name)[:1].upper() + metric_title(name)[1:] for name in shown}
    accuracy, *heads = (title if name == KAPPA else f"{title}, %" for name, title in titles.items())
    seeds = ["Least to greatest seed, %"] if any(one.runs > 1 for one in standings) else []
    study = [STUDY] if any(one.study for one in standings) else []
    ranking = ["Rank", "Recipe", accuracy, *seeds, *study, *heads, ABOVE, "p, leader"]
    cost = ["Recipe", "Parameters", "MACs", "Training", "Slices/s", "Device"]
    return [
        Table("Ranking", ranking, [_ranking_row(one, shown, bool(seeds), bool(study)) for one in standings], 2),
        *_baseline_table(comparison, shown, [accuracy, *heads]),
        Table(
            "Recall of each class, %",
            ["Recipe", *(name.replace("_", " ") for name in classes)],
            [
                *([_name_cell(one), *(_share_cell(one.recalls[name]) for name in classes)] for one in standings),
                *_chance_of_classes(comparison, classes),
            ],
            1,
        ),
        Table("Cost", cost, [_cost_row(one) for one in standings], 1),
    ]


def comparison_csv(comparison: Comparison) -> str:
    """Format a row for each recipe; shares in [0, 1], times in seconds, full precision, empty where unknown."""
    records = [_record(one) for one in comparison.standings]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: spreadsheet_safe(cell) for name, cell in record.items()} for record in records)
    return buffer.getvalue()


def comparison_markdown(comparison: Comparison) -> str:
    """Format the tables, and how they are meant, as Markdown."""
    lines = [f"# {_title(comparison)}", "", f"{comparison.evaluated}."]
    if comparison.leaky:
        lines += ["", "**LEAKY** rows were evaluated on subjects that are also in training."]
    for text in explain_ranking(comparison):
        lines += ["", text]
    for one in tables(comparison):
        marks = ["---" if place < one.numbers else "---:" for place in range(len(one.columns))]
        rows = [[_escape(_join(cell)) for cell in row] for row in one.rows]
        lines += ["", f"## {one.title}", "", *(f"| {' | '.join(row)} |" for row in [one.columns, marks, *rows])]
    if comparison.failures:
        lines += ["", "## Failed", "", *(f"* {_escape(f'{name}: {why}')}" for name, why in comparison.failures.items())]
    return "\n".join([*lines, ""])


def comparison_page(comparison: Comparison, png: bytes) -> str:
    """Format the whole comparison as one HTML file.

    Args:
        comparison: what it shows.
        png: the picture of the ranking.
    """
    values = "; ".join(f"{one.name} {100 * one.metrics['accuracy'].value:.1f} %" for one in comparison.standings)
    alt = f"Points with intervals: accuracy of each recipe. {values}."
    picture = Picture("Accuracy of each recipe", "Rank and recipe; a point with its interval, and its value.", png, alt)
    return render(
        "compare.html.j2",
        title=_title(comparison),
        comparison=comparison,
        reading=explain_ranking(comparison),
        tables=tables(comparison),
        picture=picture,
        verdict=verdict_text(comparison),
        doubtful=any(one.leaky is None for one in comparison.standings) or _best_baseline(comparison) is not None,
        made=[("mriscope", __version__), ("Intervals", f"95 %, over {comparison.unit}s")],
        failed=list(comparison.failures.items()),
    )


def verdict_text(comparison: Comparison) -> str:
    """Say which recipe leads, whether a baseline has more, and whether training has seen the test subjects."""
    best = comparison.standings[0]
    ties = sum(one.rank == best.rank for one in comparison.standings) - 1
    others = f"; {ties} more {'does' if ties == 1 else 'do'} not differ significantly from it" if ties else ""
    text = f"Most accurate: {best.name}, {100 * best.metrics['accuracy'].value:.1f} %{others}."
    if name := _best_baseline(comparison):
        value = 100 * comparison.baselines[name]["accuracy"].value
        text += f" It is not above a baseline: {BASELINE_TITLES.get(name, name)}, {value:.1f} %."
    if comparison.leaky:
        text += " Rows marked LEAKY were evaluated on subjects that also have slices in the training part, so their "
        return f"{text}metrics say little about new subjects."
    if any(one.leaky is None for one in comparison.standings):
        return f"{text} Whether training has seen the test subjects is unknown."
    return f"{text} No test subject has slices in the training part."


def _best_baseline(comparison: Comparison) -> str | None:
    """Return the most accurate baseline that the first recipe is not above."""
    scores = {name: one["accuracy"].value for name, one in comparison.baselines.items() if "accuracy" in one}
    name = max(scores, key=lambda one: scores[one], default=None)
    return name if name and scores[name] >= comparison.standings[0].metrics["accuracy"].value else None


def comparison_text(comparison: Comparison) -> str:
    """Format the ranking in short, under how it was evaluated, and what failed."""
    ranking = tables(comparison)[0]
    study = [place for place, name in enumerate(ranking.columns) if name == STUDY]
    shown = [0, 1, 2, *study, *range(ranking.columns.index(ABOVE), len(ranking.columns))]
    rows = [[_join(row[place]) for place in shown] for row in ranking.rows]
    lines = [comparison.evaluated, "", table([ranking.columns[place] for place in shown], rows), ""]
    lines += [f"p: {comparison.test}; Holm's correction", *(f"note: {note}" for note in comparison.notes)]
    return "\n".join([*lines, *(f"failed: {name}: {why}" for name, why in comparison.failures.items())])


def _baseline_table(comparison: Comparison, shown: Sequence[str], heads: Sequence[str]) -> Iterator[Table]:
    """Yield the table of what needs no model, where it is known, with chance as its last row."""
    rows = [
        [Cell(BASELINE_TITLES.get(name, name)), *(_plain_cell(found.get(metric), metric) for metric in shown)]
        for name, found in comparison.baselines.items()
    ]
    if by_chance := chance(list(comparison.class_counts.values())):
        rows.append([Cell(CHANCE), *(_plain_cell(Estimate(by_chance[one], math.nan, math.nan), one) for one in shown)])
    if rows:
        yield Table("Without any network", ["Baseline", *heads], rows, 1)


def _chance_of_classes(comparison: Comparison, classes: Sequence[str]) -> Iterator[list[Cell]]:
    """Yield a row of what chance recalls of each class, its share of the slices, where those are counted."""
    if total := sum(comparison.class_counts.values()):
        shares = (comparison.class_counts.get(name, 0) / total for name in classes)
        yield [Cell("By chance"), *(Cell(f"{100 * share:.2f}") for share in shares)]


def _ranking_row(one: Standing, shown: Sequence[str], seeds: bool, studied: bool) -> list[Cell]:
    accuracy, *others = (_metric_cell(one.metrics.get(name), name) for name in shown)
    cell = Cell(f"{one.study.accuracy:.2f}", f"rank {one.study.rank}") if one.study else Cell("–")
    study = [cell] if studied else []
    spread = [_spread_cell(one)] if seeds else []
    return [Cell(str(one.rank)), _name_cell(one), accuracy, *spread, *study, *others, *_test_cells(one)]


def _cost_row(one: Standing) -> list[Cell]:
    return [
        _name_cell(one),
        Cell(f"{one.parameters:,}"),
        Cell("unknown" if one.macs is None else f"{one.macs / 1e6:,.1f} M"),
        Cell(_format_duration(one.seconds)),
        Cell(f"{one.slices_per_second:,.0f}"),
        Cell(one.device),
    ]


def _record(one: Standing) -> dict[str, object]:
    estimates = {**one.metrics, **{f"recall_{name}": one.recalls[name] for name in by_severity(one.recalls)}}
    return {
        "rank": one.rank,
        "recipe": one.name,
        "leaky": {True: "LEAKY", False: "", None: "subjects unknown"}[one.leaky],
        "runs": one.runs,
        **{
            f"{name}{'' if key == 'value' else f'_{key}'}": number
            for name, estimate in estimates.items()
            for key, number in estimate.numbers().items()
        },
        "study_accuracy": round(one.study.accuracy / 100, 6) if one.study else None,
        "study_rank": one.study.rank if one.study else None,
        "study_run": one.study.run if one.study else None,
        "p_above": one.above.p if one.above else None,
        "p_above_holm": one.above.adjusted if one.above else None,
        "p_leader": one.leader.p if one.leader else None,
        "p_leader_holm": one.leader.adjusted if one.leader else None,
        "parameters": one.parameters,
        "macs": one.macs,
        "training_seconds": one.seconds,
        "slices_per_second": one.slices_per_second,
        "device": one.device,
    }


def _title(comparison: Comparison) -> str:
    return f"Comparison of {len(comparison.standings)} recipes"


def _name_cell(one: Standing) -> Cell:
    details = ["LEAKY"] * bool(one.leaky) + [f"{one.runs} seeds"] * (one.runs > 1)
    return Cell(one.name, ", ".join(details))


def _metric_cell(estimate: Estimate | None, name: str) -> Cell:
    if estimate is None:
        return Cell("–")
    return _estimate_cell(estimate, 1, 3) if name == KAPPA else _share_cell(estimate)


def _plain_cell(estimate: Estimate | None, name: str) -> Cell:
    """Return a metric alone, as baselines have no intervals."""
    return Cell(_metric_cell(estimate, name).text)


def _share_cell(estimate: Estimate) -> Cell:
    return _estimate_cell(estimate, 100, 2)


def _estimate_cell(estimate: Estimate, scale: float, digits: int) -> Cell:
    if not estimate.is_defined:
        return Cell("undefined")
    if estimate.reliable is False:
        return Cell(f"{scale * estimate.value:.{digits}f}", UNRELIABLE)
    value, low, high = (f"{scale * one:.{digits}f}" for one in (estimate.value, estimate.low, estimate.high))
    return Cell(value, f"{low} to {high}" if estimate.has_interval else "no interval")


def _spread_cell(one: Standing) -> Cell:
    accuracy: RunsEstimate = one.metrics["accuracy"]
    if one.runs == 1 or math.isnan(accuracy.least) or math.isnan(accuracy.greatest):
        return Cell("–")
    return Cell(f"{100 * accuracy.least:.2f} to {100 * accuracy.greatest:.2f}")


def _test_cells(one: Standing) -> list[Cell]:
    tests = (one.above, one.leader)
    return [Cell(_format_p(test.adjusted), f"raw {_format_p(test.p)}") if test else Cell("–") for test in tests]


def _format_p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.01 else f"{value:.3f}"


def _format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _join(cell: Cell) -> str:
    return f"{cell.text} ({cell.detail})" if cell.detail else cell.text


def _escape(text: str) -> str:
    """Return text of one line in which Markdown finds no border of a table and no tag."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")
