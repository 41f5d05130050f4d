"""What a run directory holds as JSON: metrics.json, environment.json and split.json."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mriscope.results.confounds import BaselineScores, Confounding, CovariateTable
from mriscope.results.records import Count, Estimate, Number, Record, ResultFile, Seconds, Share

IMPORTED = "imported"
"""The protocol of a run whose weights another program trained: by none that is known."""


class Interval(Record):
    """How the intervals of a result were made."""

    level: Share
    """Share of the resamples within."""
    unit: Literal["subject", "slice"]
    """What is resampled."""
    resamples: Count
    note: str | None = None
    """What a reader should know of them."""
    widened_by: Annotated[float, Field(ge=1)] | None = None
    """By which factor they were stretched about their values; None where they were not."""
    covers: str | None = None
    """What they are meant to hold, where that is more than the metric of one model on new subjects."""


class ClassMetrics(Record):
    """The metrics of one class; `auroc_delong` in older files, where `auroc` had another interval than DeLong's."""

    n_slices: Count
    n_subjects: Count | None
    precision: Estimate
    recall: Estimate
    f1: Estimate
    auroc: Estimate
    auroc_delong: Estimate | None = None

    def estimates(self) -> dict[str, Estimate]:
        """Return the metrics by name, those that were measured."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in found.items() if isinstance(value, Estimate)}


class Pooling(Record):
    """How the slices of a subject were pooled."""

    how: str
    chosen: bool
    """Whether the way was chosen on the validation part; else the user named it."""
    divided_subjects: Count
    """How many subjects have slices of several classes; that of most counts."""


class Consistency(Record):
    """What the calibration error of a calibrated model would be with the same confidences (Bröcker and Smith, 2007)."""

    low: Number
    """Of the range that holds 95 % of such errors."""
    high: Number
    p: Number
    """How often a calibrated model's error is as large as the one that was found."""
    reliable: bool | None = None
    """Whether there are 20 subjects or more, and all are known; None in files of versions that did not say."""


class Calibration(Record):
    """Calibration before and after temperature scaling; metrics by name."""

    bins: Count
    temperature: Annotated[float, Field(gt=0)] | None
    """Fitted on the validation part; None where there is none, and then no `after`."""
    before: dict[str, Estimate]
    after: dict[str, Estimate] | None
    consistency: dict[str, Consistency] = Field(default_factory=dict)
    """Tests of the calibration errors of `before`, by name."""
    consistency_after: dict[str, Consistency] | None = None
    note: str | None = None
    """What a reader should know of the temperature."""


class TrainingSummary(Record):
    """What training cost, and which weights were kept."""

    epochs: Count
    epoch_kept: Count
    seconds: Seconds
    slices_per_second: Seconds
    parameters: Count


class Scores(Record):
    """Every metric of some predictions with its interval."""

    level: Literal["slice", "subject"] = "slice"
    """What was scored: each slice, or each subject once."""
    task: str | None = None
    """None for the run's own classes."""
    pooling: Pooling | None = None
    n_slices: Count
    n_subjects: Count | None
    """None where the subject of a slice is unknown."""
    interval: Interval
    metrics: dict[str, Estimate]
    """By name; without those that do not apply."""
    omitted: str | None = None
    """Which metrics do not apply, and why."""
    classes: dict[str, ClassMetrics]
    """By name, in the order of the labels."""
    confusion_matrix: list[list[Count]] | None = None
    """True class by row, predicted class by column."""
    severity: dict[str, Estimate] | None = None
    """Errors in steps of severity, where they were measured."""
    calibration: Calibration | None = None
    baselines: dict[str, BaselineScores] = Field(default_factory=dict)
    """Of the same rows: scalars of the brain, the majority class, 1-nearest-neighbour."""
    where: str | None = None
    """The condition that chose the slices; None where all were scored."""
    confounding: list[Confounding] = Field(default_factory=list)
    """What is left beside covariates, where some are known."""

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if "accuracy" not in self.metrics:
            raise PydanticCustomError("accuracy", "metrics should hold accuracy")
        rows, count = self.confusion_matrix, len(self.classes)
        if rows is not None and (len(rows) != count or any(len(row) != count for row in rows)):
            text = "confusion_matrix should have a row and a column for each of the {count} classes"
            raise PydanticCustomError("square", text, {"count": count})
        return self


class Metrics(Scores, ResultFile):
    """What metrics.json holds: the scores of a run, and how they were come by.

    Example:
        >>> metrics = Metrics.read("mriscope-demo/run/metrics.json")  # doctest: +SKIP
        >>> metrics.metrics["accuracy"].low  # doctest: +SKIP
    """

    REMEDY: ClassVar[str] = "train the run again with --fresh, or evaluate it anew"

    protocol: str
    """How train and test were split: published, by_slice, by_subject; imported or external where they were not."""
    part: str
    """What was evaluated: test, validation, or whole for another source."""
    leaky: bool | None
    """Whether test subjects also have slices in the training part; None where that is unknown."""
    shared_subjects: Count | None = None
    """How many of them."""
    training: TrainingSummary | None = None
    """Of the run; None for an evaluation of its own."""
    model: str
    data: str | None = None
    """Fingerprint of the slices."""


class DataSummary(ResultFile):
    """What a source holds."""

    n_slices: Count
    n_subjects: Count | None
    """None where no subject is known."""
    n_unnamed: Count | None = None
    """Slices whose subject is unknown."""
    n_sessions: Count | None = None
    """Scanning sessions of subjects; None where none is known."""
    covariates: tuple[str, ...] = ()
    """Further columns of the set, such as age."""
    covariate_table: CovariateTable | None = None
    size: tuple[Count, Count]
    """Height and width in pixels."""
    parts: dict[str, Count]
    """Slices of each published part."""
    classes: dict[str, dict[str, Count]]
    """Of each class: slices, slices of each published part, subjects."""
    fingerprint: str
    subjects_from: str | None = None
    """How subjects are known: manifest, source or pixels."""


class ParameterCount(Record):
    """How many weights a model has."""

    parameters: Count


class ImportedMetrics(ResultFile):
    """What metrics.json holds of a run whose weights were imported, which has not been evaluated."""

    REMEDY: ClassVar[str] = "import the weights again"

    protocol: Literal["imported"] = IMPORTED
    part: None = None
    leaky: None = None
    n_slices: Literal[0] = 0
    n_subjects: None = None
    interval: None = None
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    classes: dict[str, ClassMetrics] = Field(default_factory=dict)
    training: ParameterCount
    model: str
    data: None = None


class ImportedWeights(Record):
    """Which checkpoint a run's weights came from."""

    file: str
    sha256: str
    matched_by: str
    by_order: list[str]


class Environment(ResultFile):
    """What environment.json holds: versions, machine and commit, and the data of the run."""

    REMEDY: ClassVar[str] = "train the run again with --fresh"

    mriscope: str
    commit: str | None
    """Of mriscope's checkout, with a "+" where files differ; None where it came as a package."""
    python: str
    packages: dict[str, str]
    system: str
    processor: str
    cores: Count | None
    device: str
    started: str
    source: str | None
    """The data, as mriscope.read takes it; None where it is not known."""
    data: str | None
    """Fingerprint of the slices."""
    subjects_from: str | None = None
    """How subjects are known: manifest, source, pixels or unknown."""
    covariates: tuple[str, ...] = ()
    """That the source brings."""
    skip_bad: bool = False
    program: str | None = None
    """What trained the run, where it was not `mriscope train`."""
    imported: ImportedWeights | None = None


class Parts(Record):
    """A list for each part of a split."""

    train: list[str]
    validation: list[str]
    test: list[str]

    def named(self) -> list[str]:
        """Return the three lists as one, training first."""
        return [*self.train, *self.validation, *self.test]


def _check_protocol(protocol: str) -> str:
    if protocol not in ("published", "by_slice", "by_subject"):
        raise PydanticCustomError("protocol", "Input should be published, by_slice or by_subject")
    return protocol


class SplitRecord(ResultFile):
    """What split.json of a run, or a file of `mriscope split`, holds: slices by path."""

    REMEDY: ClassVar[str] = "train with --fresh, or make it anew with `mriscope split`"

    validation: Share | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Count | None = None
    repeat: Count | None = None
    test: Share | None = None
    protocol: Annotated[str, AfterValidator(_check_protocol)]
    seed: int | None = None
    data: str
    """Fingerprint of the slices."""
    parts: Parts
    """Paths."""
    seen: list[str] = Field(default_factory=list)
    """Digests of the training and validation slices."""
    size: tuple[Count, Count] | None = None
    """Height and width of the slices whose pixels are named."""
    classes: Parts | None = None
    pixels: Parts | None = None
    """Digests, in the order of the paths; classes likewise."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        for name in ("classes", "pixels"):
            column = getattr(self, name)
            for part in Parts.model_fields if column is not None else ():
                if len(getattr(column, part)) != len(getattr(self.parts, part)):
                    raise PydanticCustomError(
                        "lengths", "{name}.{part} should be as long as parts.{part}", {"name": name, "part": part}
                    )
        return self
