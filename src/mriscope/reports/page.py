"""Reports as single HTML files with their pictures inside; this one is of one run."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mriscope.reports.text import TITLES, figures, protocol_text


@dataclass(frozen=True)
class Picture:
    """One picture of a report.

    Args:
        title: stands above it.
        caption: says what can be seen.
        png: the file's bytes.
    """

    title: str
    caption: str
    png: bytes

    @property
    def address(self) -> str:
        """The picture itself as a data address, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def run_page(
    title: str,
    metrics: Mapping[str, Any],
    recipe: str,
    environment: Mapping[str, Any],
    pictures: Sequence[Picture],
) -> str:
    """A run's figures with their intervals and protocol, its pictures, its recipe and where it was made, as HTML.

    Args:
        title: of the page.
        metrics: what metrics.json of the run holds.
        recipe: the recipe as YAML.
        environment: what environment.json of the run holds.
        pictures: in the order in which they are shown.
    """
    return render(
        "run.html.j2",
        title=title,
        metrics=metrics,
        protocol=protocol_text(metrics),
        titles=TITLES,
        recipe=recipe,
        environment=environment,
        pictures=pictures,
    )


def render(template: str, **values: Any) -> str:
    """A template of this folder, filled; what values hold is escaped, and none may be missing."""
    pages = Environment(
        loader=PackageLoader("mriscope.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.filters["figure"] = _figure
    return pages.get_template(template).render(**values)


def _figure(estimate: Mapping[str, float | None]) -> str:
    value, interval = figures(estimate)
    return f"{value} ({interval})" if interval else value
