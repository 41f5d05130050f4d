"""What tests on cross-validations give: labels permuted, and two cross-validations compared."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mriscope.results.records import Count, Estimate, Number, Record, ResultFile

P = Annotated[float, Field(ge=0, le=1)]


class PermutedMetric(Record):
    """A metric beside what it is under permuted labels."""

    observed: Number
    mean: Number
    """Of the permutations."""
    deviation: Number
    """Standard deviation of the same."""
    p: P
    """(k + 1) / (n + 1), where k of n permutations are as good or better (Phipson and Smyth, 2010)."""


class PermutationResult(ResultFile):
    """What permutation.json holds: a cross-validation repeated with the labels of the subjects permuted."""

    REMEDY: ClassVar[str] = "give the `mriscope crossval --permute` command again"

    model: str
    protocol: str
    folds: Count
    seed: int
    permutations: Count
    metrics: dict[str, dict[str, dict[str, PermutedMetric]]]
    """By level (slice, subject), task and metric."""


class DeclaredTest(Record):
    """A test of whether two cross-validations differ in one metric."""

    first: str
    second: str
    level: Literal["slice", "subject"]
    task: str
    metric: str
    values: tuple[Number, Number]
    difference: Estimate
    """The first's value less the second's."""
    p_bootstrap: Number
    p_delong: Number
    """Of an AUROC of two classes; else nan."""
    adjusted: Number
    """DeLong's p where there is one, else that of the bootstrap, after Holm's correction for the declared family."""


class CrossvalComparison(ResultFile):
    """What comparison.json holds: cross-validations compared on the same subjects."""

    REMEDY: ClassVar[str] = "give the `mriscope compare-crossval` command again"

    tests: Annotated[list[DeclaredTest], Field(min_length=1)]
    """The declared family, all of it."""
    widened_by: Number
    """By which factor standard errors are multiplied, so that p and intervals are of expected performance."""
