"""What several runs give together: a cross-validation, a comparison of recipes."""

from typing import ClassVar, Literal

from pydantic import Field

from mriscope.recipe import StudyRow
from mriscope.results.records import Count, Estimate, Record, ResultFile, RunsEstimate, Seconds
from mriscope.results.runs import Interval


class FoldResult(Record):
    """The metrics of one fold; `subject` and `pooling` by task."""

    repeat: Count
    fold: Count
    n_slices: Count
    n_subjects: Count | None
    slice: dict[str, Estimate]
    subject: dict[str, dict[str, Estimate]]
    pooling: dict[str, str]


class CrossValidation(ResultFile):
    """What summary.json holds: metrics on the pooled folds of each repeat, averaged over repeats."""

    REMEDY: ClassVar[str] = "give the `mriscope crossval` command again"

    model: str
    protocol: str
    folds: Count
    repeats: Count
    seed: int
    leaky: bool | None
    data: str
    n_slices: Count
    n_subjects: Count | None
    interval: Interval
    omitted: str | None = None
    """Which metrics do not apply, and why."""
    slice: dict[str, dict[str, Estimate]]
    """By task and metric."""
    subject: dict[str, dict[str, Estimate]] | None
    """The same of subjects, where the folds keep them apart."""
    training_seconds: Seconds
    by_fold: list[FoldResult]
    made_from: str = ""
    """Digest of all that decides the summary."""


class PairedTest(Record):
    """How sure it is that one of two recipes is better.

    Attributes:
        p: chance of a difference as large as the one found, were neither better.
        adjusted: p after Holm's correction for the tests of its kind.
    """

    p: float
    adjusted: float


class Standing(Record):
    """One recipe of a comparison.

    Attributes:
        name: what it is called.
        rank: from 1; shared where the paired test finds no significant difference.
        runs: how many, each with another seed; metrics are means over them.
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
    metrics: dict[str, RunsEstimate]
    recalls: dict[str, RunsEstimate]
    parameters: int
    macs: int | None
    seconds: float
    slices_per_second: float
    device: str
    leaky: bool | None
    study: StudyRow | None = None
    above: PairedTest | None = None
    leader: PairedTest | None = None


class Comparison(ResultFile):
    """Recipes by falling accuracy, on one test part.

    Attributes:
        standings: the rows.
        evaluated: protocol and test part, in words.
        unit: what intervals resample: "subject" or "slice".
        test: the paired test, in words.
        notes: what a reader should know besides.
        failures: the reason by name, of recipes that gave no row.
    """

    standings: list[Standing]
    evaluated: str
    unit: Literal["subject", "slice"]
    test: str
    notes: list[str] = Field(default_factory=list)
    failures: dict[str, str] = Field(default_factory=dict)

    @property
    def leaky(self) -> bool:
        """Whether a row was evaluated on subjects that are also in training."""
        return any(one.leaky for one in self.standings)
