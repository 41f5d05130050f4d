"""Count what a source holds."""

from mriscope.data.covariates import with_covariates
from mriscope.evaluation.confounding import describe_covariates
from mriscope.reports.text import describe_slices
from mriscope.results import DataSummary
from mriscope.workflows._load import load


def describe_source(
    source: str,
    *,
    size: int | None = None,
    manifest: str | None = None,
    skip_bad: bool = False,
    covariates: str | None = None,
) -> DataSummary:
    """Count what a source holds; `subjects_from` says how its subjects are known.

    Args:
        source: as mriscope.data.read takes it.
        size: height and width to bring slices to.
        manifest: a CSV file that gives its slices their subjects.
        skip_bad: leave unusable rows out and list them in bad_rows.csv.
        covariates: a CSV file of what is known of slices or subjects, such as age, beside what the source brings.
    """
    loaded = load(source, size=size, manifest=manifest, skip_bad=skip_bad)
    loaded.report_bad_rows()
    slices = loaded.slices
    if covariates is not None:
        slices = with_covariates(slices, covariates, [row.path for row in loaded.reading.bad])
    update = {"subjects_from": loaded.subjects_from, "covariate_table": describe_covariates(slices)}
    return describe_slices(slices).model_copy(update=update)
