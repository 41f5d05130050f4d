"""What several runs give together: a cross-validation, a comparison of recipes."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from mriscope.recipe import StudyRow
from mriscope.results.confounds import BaselineScores, Confounding
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


class FoldBaselines(Record):
    """The metrics of baselines, pooled over folds as the model's are; by task and name."""

    slice: dict[str, dict[str, BaselineScores]]
    subject: dict[str, dict[str, BaselineScores]] | None


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
    baselines: FoldBaselines | None = None
    where: str | None = None
    """The condition that chose the slices; None where all were evaluated."""
    confounding: list[Confounding] = Field(default_factory=list)
    """What is left of the model beside covariates, where some are known."""
    training_seconds: Seconds
    by_fold: list[FoldResult]
    made_from: str = ""
    """Digest of all that decides the summary."""

    @model_validator(mode="after")
    def _check_tasks(self) -> Self:
        tasks = list(self.subject or ())
        if not self.slice or (self.subject is not None and tasks != list(self.slice)):
            raise PydanticCustomError("tasks", "slice and subject should hold the same tasks, one at least")
        for one in self.by_fold:
            if list(one.subject) != tasks or list(one.pooling) != tasks:
                raise PydanticCustomError("tasks", "subject and pooling of every fold should hold the tasks of subject")
            if not all("accuracy" in found for found in (one.slice, *one.subject.values())):
                raise PydanticCustomError("accuracy", "every fold should hold accuracy")
        return self


class PairedTest(Record):
    """A test of whether one of two recipes is better.

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
        baselines: metrics by name of what needs no network, on the test part that is counted in `evaluated`.
        class_counts: slices of each class in that part; empty in files of versions that did not count them.
    """

    standings: Annotated[list[Standing], Field(min_length=1)]
    evaluated: str
    unit: Literal["subject", "slice"]
    test: str
    notes: list[str] = Field(default_factory=list)
    failures: dict[str, str] = Field(default_factory=dict)
    baselines: dict[str, dict[str, Estimate]] = Field(default_factory=dict)
    class_counts: dict[str, Count] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        for one in self.standings:
            if "accuracy" not in one.metrics or list(one.recalls) != list(self.standings[0].recalls):
                raise PydanticCustomError("rows", "every standing should hold accuracy and the recall of each class")
        return self

    @property
    def leaky(self) -> bool:
        """Tell whether a row was evaluated on subjects that are also in training."""
        return any(one.leaky for one in self.standings)
