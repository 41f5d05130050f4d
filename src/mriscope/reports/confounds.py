"""Covariates, baselines and what is left of a model beside them, as texts."""

from collections.abc import Iterator, Mapping, Sequence

from mriscope.reports.text import by_severity, format_estimate, join_estimate, table
from mriscope.results import BaselineScores, Confounding, CovariateAuroc, CovariateCell, CovariateTable

BASELINE_TITLES = {
    "brain_fraction": "brain fraction alone",
    "csf_fraction": "CSF fraction alone",
    "majority_class": "majority class",
    "nearest_neighbour": "1-nearest-neighbour",
}


def covariates_text(covariates: CovariateTable) -> str:
    """Format the table of covariates by class and part, the AUROC of each, and a warning where one separates."""
    return "\n".join([table(*cell_rows(covariates)), "", table(*auroc_rows(covariates.aurocs)), *warn(covariates)])


def cell_rows(covariates: CovariateTable) -> tuple[list[str], list[list[str]]]:
    """Return the heads and rows of covariates by class and part."""
    heads = ["covariate", "class", "part", f"{covariates.unit}s", "known", "mean (SD), or how many of each", "range"]
    classes = by_severity(dict.fromkeys(one.class_name for one in covariates.cells))
    names = list(dict.fromkeys(one.covariate for one in covariates.cells))
    cells = sorted(covariates.cells, key=lambda one: (names.index(one.covariate), classes.index(one.class_name)))
    return heads, [_format_cell(one) for one in cells]


def auroc_rows(aurocs: Sequence[CovariateAuroc]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and rows of the AUROC of each covariate alone."""
    heads = ["covariate alone", "classes", "AUROC", "95 % interval", "direction"]
    return heads, [
        [
            one.covariate,
            one.contrast,
            *format_estimate("auroc", one.auroc),
            f"{'lower' if one.lower else 'higher'} in the first",
        ]
        for one in aurocs
    ]


def warn(covariates: CovariateTable) -> Iterator[str]:
    """Yield a warning for each covariate that separates classes."""
    for one in covariates.aurocs:
        if one.separates:
            yield (
                f"warning: {one.covariate} alone tells {one.contrast} (AUROC {join_estimate('auroc', one.auroc)}); a "
                "model may learn it instead of the disease: evaluate with --covariates, which adjusts for it"
            )


def baselines_text(baselines: Mapping[str, BaselineScores]) -> str:
    """Format the metrics of baselines, and by how much the model is above each."""
    rows = [[BASELINE_TITLES.get(name, name), *format_baseline(one)] for name, one in baselines.items()]
    return table(["baseline", "accuracy", "macro-F1", "AUROC", "the model's AUROC above it"], rows)


def format_baseline(one: BaselineScores) -> list[str]:
    """Return the cells of a baseline: three metrics, then the difference."""
    cells = [join_estimate(name, one.metrics[name]) for name in ("accuracy", "macro_f1", "auroc")]
    return [*cells, "" if one.auroc_over is None else join_estimate("auroc", one.auroc_over)]


def confounding_text(found: Confounding) -> str:
    """Format what is left of a model beside covariates."""
    told = f"{found.contrast}: {found.n_positive:,} and {found.n_negative:,} {found.unit}s"
    left = f", {found.n_unknown:,} left out with a covariate unknown" if found.n_unknown else ""
    heads = ["beside covariates", "AUROC", "95 % interval", ""]
    return "\n".join([f"{told}{left}", table(heads, list(confounding_rows(found)))])


def confounding_rows(found: Confounding) -> Iterator[list[str]]:
    """Yield a row for each statistic: its name, value, interval and a remark."""
    yield ["model", *format_estimate("auroc", found.auroc), ""]
    for one in found.single:
        yield [
            f"{one.covariate} alone",
            *format_estimate("auroc", one.auroc),
            f"{'lower' if one.lower else 'higher'} in the first",
        ]
    if found.over_best is not None:
        best = found.over_best
        yield [f"model less {best.covariate} alone", *format_estimate("auroc", best.difference), "paired"]
    for one in found.adjusted:
        beyond = f"{100 * one.outside:.0f} % beyond the others' range" if one.outside > 0 else ""
        yield [f"adjusted for {', '.join(one.covariates)}", *format_estimate("auroc", one.auroc), beyond]
    for one in found.strata:
        counts = f"{one.n_positive:,} and {one.n_negative:,}"
        yield [f"{one.covariate} {one.values}", *format_estimate("auroc", one.auroc), counts]
    if found.pairs is not None:
        pairs = found.pairs
        name = f"pairs matched by {', '.join(pairs.covariates)}"
        yield [name, *format_estimate("auroc", pairs.share), f"{pairs.n_pairs:,} of {pairs.n_positive:,}"]


def _format_cell(one: CovariateCell) -> list[str]:
    if one.counts:
        told, span = ", ".join(f"{value} {count:,}" for value, count in one.counts.items()), ""
    elif one.n_known:
        told, span = f"{one.mean:.3g} ({one.sd:.2g})", f"{one.least:g} to {one.greatest:g}"
    else:
        told, span = "unknown", ""
    return [one.covariate, one.class_name, one.part, f"{one.n:,}", f"{one.n_known:,}", told, span]
