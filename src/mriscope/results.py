"""Typed results: what the commands write as JSON and read again, checked field by field.

Every file begins with `schema_version`; a file without one was written before versions were counted and has the form of
version 1. A number that does not exist is nan in Python and null in JSON, and the change between the two is made here
alone. Nothing that is not finite leaves as JSON.
"""

import json
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from mriscope.errors import MriscopeError, RunError
from mriscope.files import write_text
from mriscope.recipe import StudyRow

IMPORTED = "imported"
"""The protocol of a run whose weights another program trained: by none that is known."""

_LISTED = 5  # problems of a file that its message names


def _null_to_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        raise PydanticCustomError("finite", "Input should be a finite number, or null where there is none")
    return math.nan if value is None else value


def _one_nan(value: float) -> float:
    return math.nan if math.isnan(value) else value  # always the same object, so that equal results compare equal


def _nan_to_null(value: float) -> float | None:
    return None if math.isnan(value) else value


Number = Annotated[
    float,
    Field(strict=True, allow_inf_nan=True),
    BeforeValidator(_null_to_nan),
    AfterValidator(_one_nan),
    PlainSerializer(_nan_to_null, return_type=float | None, when_used="json"),
]
"""A finite number, or nan where there is none; null in JSON."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(gt=0, lt=1)]
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; nan where a number does not exist.

    >>> Estimate(0.75, 0.5, 0.9).to_json()
    {'value': 0.75, 'low': 0.5, 'high': 0.9}
    """

    value: Number
    low: Number
    high: Number

    @property
    def is_defined(self) -> bool:
        """Whether the value exists."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether the bounds exist too."""
        return not (math.isnan(self.value) or math.isnan(self.low) or math.isnan(self.high))

    def to_json(self) -> dict[str, float | None]:
        """Return the numbers by name as JSON holds them: None where one does not exist."""
        return {name: _nan_to_null(getattr(self, name)) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class RunsEstimate(Estimate):
    """The mean of a value over the runs of a recipe, its interval, and the least and greatest of the runs."""

    least: Number
    greatest: Number


class Record(BaseModel):
    """A part of a result: typed, checked and frozen. Unknown keys, as of a later version, are passed over."""

    model_config = ConfigDict(
        strict=True, frozen=True, allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )


class ResultFile(Record):
    """A result that is a JSON file of its own; derive from it, and set `REMEDY` to what mends a damaged file."""

    SCHEMA: ClassVar[int] = 1
    """The version that is written; raise it where a field changes its name or its meaning."""
    REMEDY: ClassVar[str] = "write it anew with the command that made it"

    schema_version: int = Field(default=0, validate_default=True)

    @classmethod
    def read(cls, path: str | Path, *, error: type[MriscopeError] = RunError, remedy: str | None = None) -> Self:
        """Read and check the file.

        Args:
            path: the file.
            error: what to raise.
            remedy: what the message says to do; none: the class's own.

        Raises:
            MriscopeError: of the type `error`; the file is missing, no JSON, or of another form. The message names the
                file, the first fields that do not fit, and what was expected of each.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as reason:
            found = f"cannot be read ({reason.strerror or reason})"
            raise error(f"{path} {found}; {remedy or cls.REMEDY}") from reason
        try:
            return cls.from_json(content)
        except ValidationError as reason:
            raise error(f"{path} is damaged: {describe_problems(reason)}; {remedy or cls.REMEDY}") from reason

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Return the result that some JSON holds.

        Raises:
            ValidationError: of pydantic; it is no JSON, or of another form.
        """
        return cls.model_validate_json(content)

    @field_validator("schema_version")
    @classmethod
    def _check_version(cls, version: int) -> int:
        if not 0 <= version <= cls.SCHEMA:
            raise PydanticCustomError(
                "version", "Input should be a version from 0 to {last}; is mriscope too old?", {"last": cls.SCHEMA}
            )
        return cls.SCHEMA

    def to_json(self, indent: int = 2) -> str:
        """Return the file's text without its last newline; null stands for what does not exist."""
        content = self.model_dump(mode="json", by_alias=True)
        return json.dumps(content, indent=indent, allow_nan=False)

    def write(self, path: str | Path) -> None:
        """Write the file, which appears whole or not at all.

        Raises:
            WriteError: the system refuses to write there.
        """
        write_text(path, self.to_json() + "\n")


def describe_problems(error: ValidationError) -> str:
    """Say in one line which fields do not fit, what they hold and what was expected; the first few by name."""
    found = error.errors(include_url=False)
    found = [item for item in found if item["type"] == "version"] or found  # another version explains all the rest
    told = [_describe_problem(item) for item in found[:_LISTED]]
    return ", ".join([*told, *([f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else [])])


def _describe_problem(item: Mapping[str, Any]) -> str:
    field = reprlib.repr(".".join(str(part) for part in item["loc"]))[1:-1]
    if item["type"] == "missing":
        return f"{field} is missing"
    if item["type"] == "json_invalid":
        return f"it is no valid JSON ({item['ctx']['error']})"
    expected = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
    place = f"{field} holds {reprlib.repr(item['input'])} and" if field else "it"
    return f"{place} {expected[:1].lower()}{expected[1:]}"


# What a run writes: metrics.json, environment.json, split.json


class Interval(Record):
    """How the intervals of a result were made."""

    level: Share
    """Share of the resamples within."""
    unit: Literal["subject", "slice"]
    """What is resampled."""
    resamples: Count
    note: str | None = None
    """What a reader should know of them."""


class ClassMetrics(Record):
    """The metrics of one class; `auroc_delong` (DeLong's interval) where subjects were evaluated."""

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


class Calibration(Record):
    """Calibration before and after temperature scaling; metrics by name."""

    bins: Count
    temperature: Annotated[float, Field(gt=0)] | None
    """Fitted on the validation part; None where there is none, and then no `after`."""
    before: dict[str, Estimate]
    after: dict[str, Estimate] | None


class TrainingSummary(Record):
    """What training cost, and which weights were kept."""

    epochs: Count
    epoch_kept: Count
    seconds: Seconds
    slices_per_second: Seconds
    parameters: Count


class Metrics(ResultFile):
    """What metrics.json holds: every metric with its interval, and how it was come by.

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
    level: Literal["slice", "subject"] = "slice"
    task: str | None = None
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
    training: TrainingSummary | None = None
    model: str
    data: str | None = None
    """Fingerprint of the slices."""

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if "accuracy" not in self.metrics:
            raise PydanticCustomError("accuracy", "metrics should hold accuracy")
        rows, count = self.confusion_matrix, len(self.classes)
        if rows is not None and (len(rows) != count or any(len(row) != count for row in rows)):
            raise PydanticCustomError(
                "square",
                "confusion_matrix should have a row and a column for each of the {count} classes",
                {"count": count},
            )
        return self


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
    metrics: dict[str, Estimate] = {}
    classes: dict[str, ClassMetrics] = {}
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
    skip_bad: bool = False
    imported: ImportedWeights | None = None


class Parts(Record):
    """A list for each part of a split."""

    train: list[str]
    validation: list[str]
    test: list[str]

    def named(self) -> list[str]:
        """Return the three lists as one, training first."""
        return [*self.train, *self.validation, *self.test]


class SplitRecord(ResultFile):
    """What split.json of a run, or a file of `mriscope split`, holds: slices by path."""

    REMEDY: ClassVar[str] = "train with --fresh, or make it anew with `mriscope split`"

    validation: Share | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Count | None = None
    repeat: Count | None = None
    test: Share | None = None
    protocol: Literal["published", "by_slice", "by_subject"]
    seed: int | None = None
    data: str
    """Fingerprint of the slices."""
    parts: Parts
    """Paths."""
    seen: list[str] = []
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


# What cross-validation and comparison give


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
    notes: list[str] = []
    failures: dict[str, str] = {}

    @property
    def leaky(self) -> bool:
        """Whether a row was evaluated on subjects that are also in training."""
        return any(one.leaky for one in self.standings)


# What explain-compare gives


class Recommendation(Record):
    """The method to use; None where none can be recommended."""

    method: str | None
    sentence: str
    rule: str


class Randomisation(Record):
    """What is left of a method's maps when the weights become random."""

    passes: bool
    ssim: Estimate
    rank_correlation: Estimate
    chance: Estimate
    stages: dict[str, Estimate]
    """Rank correlation by the layer up to which weights are random."""


class MethodResult(Record):
    """What was measured of the maps of one method or baseline."""

    name: str
    title: str
    kind: Literal["method", "baseline"]
    recommended: bool
    seconds: Seconds | None
    """For the map of one slice; None for baselines."""
    empty: Count = Field(validation_alias="silent", serialization_alias="silent")
    """How many maps are empty."""
    randomisation: Randomisation | None
    metrics: dict[str, Estimate] = Field(validation_alias="figures", serialization_alias="figures")
    against_random: dict[str, Estimate]
    """Metrics less those of random maps on the same slices."""


class Agreement(Record):
    """Mean rank correlation of the maps of each two methods."""

    titles: list[str]
    matrix: list[list[Number]]


class CohortGroup(Record):
    """A group of slices whose maps were averaged."""

    class_name: str = Field(validation_alias="class", serialization_alias="class")
    third: str | None
    positions: tuple[int, int] | None
    n_slices: Count
    n_subjects: Count | None
    width: Seconds | None
    """Mean width of the interval of a pixel; None where the group has none."""


class Cohort(Record):
    """Mean maps of one method by class and third of the positions."""

    method: str
    title: str
    why: str
    note: str
    groups: list[CohortGroup]
    file: str | None


class ExplainComparison(ResultFile):
    """What explain_compare.json holds: methods of explanation, measured on slices of one run."""

    REMEDY: ClassVar[str] = "give the `mriscope explain-compare` command again"

    run: str
    model: str
    protocol: str
    leaky: bool | None
    evaluated: str = Field(validation_alias="judged", serialization_alias="judged")
    n_slices: Count
    n_subjects: Count | None
    unit: Literal["subject", "slice"]
    unit_note: str
    recommendation: Recommendation
    randomisation_rule: str
    truth: str | None
    methods: Annotated[list[MethodResult], Field(min_length=1)]
    agreement: Agreement
    made: dict[str, str | int]
    cohort: Cohort
