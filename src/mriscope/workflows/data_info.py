"""Count what a source holds."""

from mriscope.reports.text import describe_slices
from mriscope.results import DataSummary
from mriscope.workflows._load import load


def describe_source(
    source: str, *, size: int | None = None, manifest: str | None = None, skip_bad: bool = False
) -> DataSummary:
    """Count what a source holds; `subjects_from` says how its subjects are known.

    Args:
        source: as mriscope.data.read takes it.
        size: height and width to bring slices to.
        manifest: a CSV file that gives its slices their subjects.
        skip_bad: leave unusable rows out and list them in bad_rows.csv.
    """
    loaded = load(source, size=size, manifest=manifest, skip_bad=skip_bad)
    loaded.report_bad_rows()
    return describe_slices(loaded.slices).model_copy(update={"subjects_from": loaded.subjects_from})
