"""Reports as single HTML files with their pictures inside; this one is of one run."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from PIL import Image

from mriscope.data.source import parse_source
from mriscope.evaluation.metrics import chance
from mriscope.files import visible
from mriscope.reports.text import (
    CHANCE,
    by_severity,
    class_counts,
    format_value,
    metric_title,
    protocol_text,
    show_estimate,
)
from mriscope.results import ClassMetrics, Environment, Estimate, Metrics

GRID_DPI = 100
"""Dots per inch of pictures whose file does not say: grids of maps."""
_LEAST_DOTS = 96  # CSS pixels of an inch, which has 72 points: 8 points are 10.7 pixels


@dataclass(frozen=True)
class Picture:
    """One picture of a report.

    Args:
        title: stands above it.
        caption: says what can be seen.
        png: the file's bytes.
        alt: says what is seen to those who do not see it; the title where it is empty.
    """

    title: str
    caption: str
    png: bytes
    alt: str = ""

    @property
    def address(self) -> str:
        """Return the picture itself as a data address, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def least_width(self) -> int:
        """Return the width in CSS pixels at which texts have the size that they were drawn for: 8 points or more."""
        with Image.open(io.BytesIO(self.png)) as image:
            dots_per_inch = image.info.get("dpi", (GRID_DPI,))[0]
            return math.ceil(image.width / dots_per_inch * _LEAST_DOTS)


def run_page(
    title: str,
    metrics: Metrics,
    recipe: str,
    environment: Environment,
    pictures: Sequence[Picture],
    *,
    story: Sequence[str] = (),
) -> str:
    """Make the report of a run: metrics with intervals and protocol, pictures, recipe and environment, as HTML.

    Args:
        title: of the page.
        metrics: of the run.
        recipe: the recipe as YAML, without the folders of the user; see strip_folders.
        environment: of the run; its source is shown without the folders above it.
        pictures: in the order in which they are shown.
        story: sentences that stand above all.
    """
    return render(
        "run.html.j2",
        title=title,
        story=story,
        leaky=metrics.leaky,
        verdict=split_verdict(metrics.leaky, "these metrics say little about new subjects"),
        headline=_headline(metrics),
        chance=CHANCE,
        classes=_class_rows(metrics.classes),
        metrics=metrics,
        protocol=protocol_text(metrics),
        recipe=recipe,
        made=_made(environment, metrics),
        pictures=pictures,
    )


def split_verdict(leaky: bool | None, so: str) -> str:
    """Say whether training has seen the test subjects, and what follows where it has or may have.

    Example:
        >>> split_verdict(None, "metrics may be too high")
        'Whether training has seen the test subjects is unknown: if so, metrics may be too high.'
    """
    if leaky:
        return f"LEAKY: test subjects also have slices in the training part, so {so}."
    if leaky is None:
        return f"Whether training has seen the test subjects is unknown: if so, {so}."
    return "No test subject has slices in the training part."


def _headline(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Return the heads and rows of the model and of each baseline."""
    from mriscope.reports.confounds import BASELINE_TITLES  # which formats with what stands in text

    by_chance = chance(list(class_counts(metrics).values()))
    rows = [[metrics.model, *_cells(metrics.metrics, metrics.metrics), ""]]
    rows.append(["by chance", *(format_value(name, by_chance.get(name)) for name in metrics.metrics), ""])
    for name, one in metrics.baselines.items():
        over = "" if one.auroc_over is None else show_estimate("auroc", one.auroc_over)
        rows.append([BASELINE_TITLES.get(name, name), *_baseline_cells(one.metrics, metrics.metrics), over])
    heads = ["model or baseline", *map(metric_title, metrics.metrics), "the model's AUROC above it"]
    return (heads, rows) if metrics.baselines else (heads[:-1], [row[:-1] for row in rows])


def _cells(found: Mapping[str, Estimate], names: Iterable[str]) -> list[str]:
    return [show_estimate(name, found[name]) if name in found else "–" for name in names]


def _baseline_cells(found: Mapping[str, Estimate], names: Iterable[str]) -> list[str]:
    return [cell.removesuffix("\nno interval") for cell in _cells(found, names)]


def _class_rows(classes: Mapping[str, ClassMetrics]) -> tuple[list[str], list[list[str]]]:
    """Return a row for each class; by chance, its share of the slices is its precision, recall and F1."""
    rows, total = [], sum(one.n_slices for one in classes.values())
    for name in by_severity(classes):
        one = classes[name]
        shares = [show_estimate(metric, getattr(one, metric)) for metric in ("precision", "recall", "f1", "auroc")]
        chance_of_class = format_value("recall", one.n_slices / total if total else None)
        rows.append([name.replace("_", " "), f"{one.n_slices:,}", *shares[:3], chance_of_class, shares[3]])
    return ["class", "slices", "precision", "recall", "F1", "these by chance", "AUROC (chance 0.500)"], rows


def _made(environment: Environment, metrics: Metrics) -> list[tuple[str, str]]:
    """Return what made a run, and what training took."""
    names = ("mriscope", "commit", "python", "device", "processor", "system", "started")
    made = [
        (name if name == "mriscope" else name.capitalize(), str(getattr(environment, name) or "unknown"))
        for name in names
    ]
    made.append(("Source", label_source(environment.source)))
    if (one := metrics.training) is not None:
        cost = f"{one.epochs} epochs in {one.seconds:.0f} s ({one.slices_per_second:.0f} slices/s)"
        made.append(("Training", f"{cost}, weights of epoch {one.epoch_kept}, {one.parameters:,} parameters"))
    return made


def _show(value: Any) -> Any:
    """Make a text's control characters visible; what is markup already stays."""
    return visible(value) if type(value) is str else value


def label_source(source: str | None) -> str:
    """Return a source without the folders above it, which may name people."""
    return "unknown" if source is None else parse_source(source).label


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder; values are escaped, control characters too, and none may be missing."""
    loader = jinja2.PackageLoader("mriscope.reports")
    pages = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_show
    )
    return pages.get_template(template).render(**values)
