"""Covariates beside metrics: what they are, how they alone tell classes, and what a model adds to them."""

from typing import Literal

from pydantic import Field

from mriscope.results.records import Count, Estimate, Number, Record


class CovariateCell(Record):
    """A covariate in one class of one part; a row for each subject, or each slice where subjects are unknown."""

    covariate: str
    class_name: str
    part: str
    """train, validation or test; all for every slice."""
    n: Count
    """Subjects, or slices where subjects are unknown."""
    n_known: Count
    mean: Number
    """Of numbers; nan for texts, as the three that follow."""
    sd: Number
    least: Number
    greatest: Number
    counts: dict[str, Count] = Field(default_factory=dict)
    """Of texts: how many have each."""


class CovariateAuroc(Record):
    """How well one covariate tells a class from others, without any model."""

    covariate: str
    """Its name; of a text also the value, as in sex=F."""
    contrast: str
    """Which classes are told apart, in words."""
    lower: bool
    """Whether low values speak for the second class of the contrast; the AUROC is taken so that it is 0.5 or more."""
    auroc: Estimate
    n_positive: Count
    n_negative: Count
    separates: bool
    """Whether 0.5 lies outside the interval at a level that allows for all covariates and contrasts (Bonferroni)."""


class CovariateTable(Record):
    """The covariates of a set of slices by class and part, and the AUROC of each alone."""

    unit: Literal["subject", "slice"]
    cells: list[CovariateCell]
    aurocs: list[CovariateAuroc]
    resamples: Count


class AdjustedAuroc(Record):
    """A model's AUROC adjusted for covariates (Janes and Pepe, 2009)."""

    covariates: list[str]
    auroc: Estimate
    outside: Number
    """Share of the positives whose covariate lies beyond those of the negatives, where the adjustment extrapolates."""


class Stratum(Record):
    """A model's AUROC among those with similar values of a covariate."""

    covariate: str
    values: str
    n_positive: Count
    n_negative: Count
    auroc: Estimate


class MatchedPairs(Record):
    """The share of pairs, matched by all covariates, in which the positive has the higher score; ties count half."""

    covariates: list[str]
    n_pairs: Count
    n_positive: Count
    share: Estimate


class CovariateDifference(Record):
    """A model's AUROC less that of the best single covariate, on the same subjects."""

    covariate: str
    difference: Estimate


class Confounding(Record):
    """What is left of a model's AUROC beside covariates, for one contrast of classes."""

    contrast: str
    unit: Literal["subject", "slice"]
    n_positive: Count
    n_negative: Count
    n_unknown: Count
    """Left out, as a covariate of theirs is unknown."""
    auroc: Estimate
    single: list[CovariateAuroc]
    adjusted: list[AdjustedAuroc]
    """For each covariate, then for all."""
    strata: list[Stratum]
    pairs: MatchedPairs | None
    over_best: CovariateDifference | None
    resamples: Count


class BaselineScores(Record):
    """The metrics of a baseline on the rows that a model was evaluated on."""

    metrics: dict[str, Estimate]
    """Of these the AUROC has an interval."""
    auroc_over: Estimate | None = None
    """The model's AUROC less the baseline's, by paired bootstrap."""
