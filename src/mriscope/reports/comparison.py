"""A comparison of recipes as a table for spreadsheets, as Markdown, as a page and as what the command prints."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mriscope.evaluation.ranking import PairedTest
from mriscope.files import spreadsheet_safe
from mriscope.recipe import StudyRow
from mriscope.reports.page import Picture, render
from mriscope.reports.text import TITLES, table

Figure = Mapping[str, float | None]
"""value, low, high and, over the runs of a recipe, least and greatest; None where a number does not exist."""

SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "quadratic_kappa")
STUDY, ABOVE = "Study, %", "p, row above"
_BOUNDS = {"": "value", "_low": "low", "_high": "high", "_least": "least", "_greatest": "greatest"}


@dataclass(frozen=True)
class Standing:
    """One recipe of a comparison.

    Args:
        name: what it is called.
        rank: from 1; shared where the paired test does not tell neighbours apart.
        runs: how many, each with another seed; figures are means over them.
        metrics: by name; shares in [0, 1].
        recalls: by class.
        parameters: count of all weights.
        macs: multiply-accumulate operations for one slice; None where unknown.
        seconds: of training, a run.
        slices_per_second: of training.
        device: what trained it, in words.
        leaky: whether test subjects were trained on; None where subjects are unknown.
        study: what the reference study reports of it.
        above: test against the row above.
        leader: test against the first row of the rank above it.
    """

    name: str
    rank: int
    runs: int
    metrics: Mapping[str, Figure]
    recalls: Mapping[str, Figure]
    parameters: int
    macs: int | None
    seconds: float
    slices_per_second: float
    device: str
    leaky: bool | None
    study: StudyRow | None = None
    above: PairedTest | None = None
    leader: PairedTest | None = None


@dataclass(frozen=True)
class Comparison:
    """Recipes by falling accuracy, on one test part.

    Args:
        standings: the rows.
        judged: protocol and test part, in words.
        unit: what intervals resample: "subject" or "slice".
        test: the paired test, in words.
        notes: what a reader should know besides.
        failures: the reason by name, of recipes that gave no row.
    """

    standings: Sequence[Standing]
    judged: str
    unit: str
    test: str
    notes: Sequence[str] = ()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"Comparison of {len(self.standings)} recipes"

    @property
    def leaky(self) -> bool:
        return any(one.leaky for one in self.standings)

    @property
    def reading(self) -> tuple[str, ...]:
        """How figures and ranks are meant, a paragraph each."""
        seeds = any(one.runs > 1 for one in self.standings)
        over = "Figures are means over the seeds of a recipe, and their intervals those of the means. " if seeds else ""
        return (
            f"{over}A figure is followed by its 95 % bootstrap interval, which resamples {self.unit}s.",
            "Rows stand by falling accuracy. A row shares the rank of the row above unless a paired test tells it "
            "apart from that row, or from the first row of that rank, its leader: p under 0.05 after Holm's "
            f"correction, for all neighbours in the one case and for all pairs in the other. The test: {self.test}.",
            "To share a rank is not to be equal, as more test slices would tell more rows apart; and 'not told apart' "
            "does not pass on, so that the last row of a rank may also tie with the first of the next.",
            *self.notes,
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
    """The ranking, the recall of each class and the cost: a row for each recipe in each."""
    standings = comparison.standings
    classes = list(standings[0].recalls)
    titles = [TITLES[name][:1].upper() + TITLES[name][1:] for name in SHOWN]
    heads = [f"{title}, %" for title in titles[:-1]] + titles[-1:]
    seeds = ["Least to greatest seed, %"] if any(one.runs > 1 for one in standings) else []
    ranking = ["Rank", "Recipe", heads[0], *seeds, STUDY, *heads[1:], ABOVE, "p, leader"]
    cost = ["Recipe", "Parameters", "MACs", "Training", "Slices/s", "Device"]
    return [
        Table("Ranking", ranking, [_ranking_row(one, bool(seeds)) for one in standings], 2),
        Table(
            "Recall of each class, %",
            ["Recipe", *(name.replace("_", " ") for name in classes)],
            [[_name(one), *(_share(one.recalls[name]) for name in classes)] for one in standings],
            1,
        ),
        Table("Cost", cost, [_cost_row(one) for one in standings], 1),
    ]


def comparison_csv(comparison: Comparison) -> str:
    """A row for each recipe; shares in [0, 1], times in seconds, full precision, empty where nothing is known."""
    records = [_record(one) for one in comparison.standings]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: spreadsheet_safe(cell) for name, cell in record.items()} for record in records)
    return buffer.getvalue()


def comparison_markdown(comparison: Comparison) -> str:
    """The tables, and how they are meant, as Markdown."""
    lines = [f"# {comparison.title}", "", f"{comparison.judged}."]
    if comparison.leaky:
        lines += ["", "**LEAKY** rows were judged on subjects that are also in training."]
    for text in comparison.reading:
        lines += ["", text]
    for one in tables(comparison):
        marks = ["---" if place < one.numbers else "---:" for place in range(len(one.columns))]
        rows = [[_literal(_joined(cell)) for cell in row] for row in one.rows]
        lines += ["", f"## {one.title}", "", *(f"| {' | '.join(row)} |" for row in [one.columns, marks, *rows])]
    if comparison.failures:
        lines += ["", "## Failed", "", *(f"* {_literal(f'{name}: {why}')}" for name, why in _failed(comparison))]
    return "\n".join([*lines, ""])


def comparison_page(comparison: Comparison, png: bytes) -> str:
    """The whole comparison as one HTML file.

    Args:
        comparison: what it shows.
        png: the picture of the ranking.
    """
    picture = Picture("Accuracy of each recipe", "Rank and recipe; a point with its interval, and its figure.", png)
    return render(
        "compare.html.j2",
        title=comparison.title,
        comparison=comparison,
        tables=tables(comparison),
        picture=picture,
        failed=_failed(comparison),
    )


def comparison_text(comparison: Comparison) -> str:
    """The ranking in short, under how it was judged, and what failed."""
    ranking = tables(comparison)[0]
    shown = [0, 1, 2, ranking.columns.index(STUDY), *range(ranking.columns.index(ABOVE), len(ranking.columns))]
    rows = [[_joined(row[place]) for place in shown] for row in ranking.rows]
    lines = [comparison.judged, "", table([ranking.columns[place] for place in shown], rows), ""]
    lines += [f"p: {comparison.test}; Holm's correction", *(f"note: {note}" for note in comparison.notes)]
    return "\n".join([*lines, *(f"failed: {name}: {why}" for name, why in _failed(comparison))])


def _ranking_row(one: Standing, seeds: bool) -> list[Cell]:
    accuracy, *others = (one.metrics[name] for name in SHOWN)
    study = Cell(f"{one.study.accuracy:.2f}", f"rank {one.study.rank}") if one.study else Cell("–")
    spread = [_spread(one)] if seeds else []
    shares = [_share(figure) for figure in others[:-1]]
    kappa = _figure(others[-1], 1, 3)
    return [Cell(str(one.rank)), _name(one), _share(accuracy), *spread, study, *shares, kappa, *_tests(one)]


def _cost_row(one: Standing) -> list[Cell]:
    return [
        _name(one),
        Cell(f"{one.parameters:,}"),
        Cell("unknown" if one.macs is None else f"{one.macs / 1e6:,.1f} M"),
        Cell(_duration(one.seconds)),
        Cell(f"{one.slices_per_second:,.0f}"),
        Cell(one.device),
    ]


def _record(one: Standing) -> dict[str, object]:
    figures = {**one.metrics, **{f"recall_{name}": figure for name, figure in one.recalls.items()}}
    return {
        "rank": one.rank,
        "recipe": one.name,
        "leaky": {True: "LEAKY", False: "", None: "subjects unknown"}[one.leaky],
        "runs": one.runs,
        **{f"{name}{end}": figure.get(key) for name, figure in figures.items() for end, key in _BOUNDS.items()},
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


def _name(one: Standing) -> Cell:
    details = ["LEAKY"] * bool(one.leaky) + [f"{one.runs} seeds"] * (one.runs > 1)
    return Cell(one.name, ", ".join(details))


def _share(figure: Figure) -> Cell:
    return _figure(figure, 100, 2)


def _figure(figure: Figure, scale: float, digits: int) -> Cell:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None:
        return Cell("undefined")
    if low is None or high is None:
        return Cell(f"{scale * value:.{digits}f}", "no interval")
    return Cell(f"{scale * value:.{digits}f}", f"{scale * low:.{digits}f} to {scale * high:.{digits}f}")


def _spread(one: Standing) -> Cell:
    least, greatest = (one.metrics["accuracy"][name] for name in ("least", "greatest"))
    if one.runs == 1 or least is None or greatest is None:
        return Cell("–")
    return Cell(f"{100 * least:.2f} to {100 * greatest:.2f}")


def _tests(one: Standing) -> list[Cell]:
    return [Cell(_p(test.adjusted), f"raw {_p(test.p)}") if test else Cell("–") for test in (one.above, one.leader)]


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.01 else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _failed(comparison: Comparison) -> list[tuple[str, str]]:
    return list(comparison.failures.items())


def _joined(cell: Cell) -> str:
    return f"{cell.text} ({cell.detail})" if cell.detail else cell.text


def _literal(text: str) -> str:
    """Text of one line in which Markdown finds no border of a table and no tag."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")
