"""Reports as single HTML files with their pictures inside; this one is of one run."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from mriscope.data.source import parse_source
from mriscope.files import visible
from mriscope.reports.text import join_estimate, metric_title, protocol_text
from mriscope.results import Environment, Metrics


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
    from mriscope.reports.confounds import BASELINE_TITLES, format_baseline  # which formats with what stands here

    return render(
        "run.html.j2",
        title=title,
        story=story,
        baselines=[[BASELINE_TITLES.get(name, name), *format_baseline(one)] for name, one in metrics.baselines.items()],
        metrics=metrics,
        protocol=protocol_text(metrics),
        recipe=recipe,
        environment=environment,
        pictures=pictures,
    )


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
    pages.filters |= {"estimate": join_estimate, "metric_title": metric_title, "source_label": label_source}
    return pages.get_template(template).render(**values)
