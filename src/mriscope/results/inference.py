"""What a trained model says of slices it was asked about, and how: inference.json, model.json and answers."""

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mriscope.choices import Plane, Scale
from mriscope.results.records import Count, Estimate, Number, Record, ResultFile, Share

PoolingName = Literal["mean_probability", "mean_logit", "majority"]


class Conformal(Record):
    """Split conformal prediction, calibrated on the validation part."""

    coverage: Share
    """Share of the slices of new subjects whose true class should lie in their prediction set."""
    threshold: Number
    """Classes with a probability of at least 1 - threshold are in the set; nan where every class is."""
    unit: Literal["subject", "slice"]
    """What counts as one draw; slices where subjects are unknown."""
    n_units: Count
    unseen: bool | None
    """Whether the validation subjects are unseen in training, without which the coverage is not that of new subjects;
    None where that is unknown."""


class DistanceThreshold(Record):
    """From which distance on a slice is out of distribution."""

    value: Number
    level: Share
    """Share of the slices within, of that share of new subjects; of all slices where the unit is the slice."""
    unit: Literal["subject", "slice"]
    """What counts as one draw; slices where subjects are unknown, or fewer than five."""
    n_units: Count


class InferenceSettings(ResultFile):
    """What inference.json of a run holds: everything that was fitted after training, on the validation part."""

    REMEDY: ClassVar[str] = "train the run again with --fresh"

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """The logits are divided by it."""
    conformal: Conformal | None = None
    conformal_subjects: Conformal | None = None
    """Of whole subjects, their slices pooled; None where no validation subjects are known."""
    pooling: PoolingName = "mean_probability"
    """How the slices of a subject become one answer; chosen on the validation part where its subjects are known."""
    distance: DistanceThreshold | None = None
    notes: list[str] = Field(default_factory=list)
    """What is missing, and why; a sentence each."""


class ModelOrigin(Record):
    """Which run a model comes from, and how it did on its test part."""

    run: str
    """Name of the run directory."""
    model: str
    mriscope: str
    """Version that trained it."""
    commit: str | None
    protocol: str
    """How train and test were split: published, by_slice, by_subject, or imported."""
    leaky: bool | None
    """Whether test subjects also have slices in the training part; None where that is unknown."""
    unseen_subjects: dict[str, Estimate] | None
    """Metrics of the test part, by slice; None where its subjects are not known to be unseen in training."""
    by_chance: dict[str, float] | None = None
    """What a guess in the proportions of the tested classes has of each; None where there are no metrics."""
    n_subjects: Count | None
    """Subjects of the test part."""
    statement: str
    """What these metrics say of new subjects, in one sentence."""


class ModelDescription(ResultFile):
    """A model as it is used: what model.json of an export holds."""

    REMEDY: ClassVar[str] = "export the run again"

    origin: ModelOrigin
    class_names: list[str]
    """In the order of the model's outputs, which answers do not have: see `display_order`."""
    size: Annotated[int, Field(gt=0)]
    """Height and width of its input in pixels."""
    stretch: bool = False
    """Whether images of another aspect fill the square; else they keep it, on black."""
    scale: Scale
    plane: Plane = "axial"
    """Of the volumes that it was trained on, if any."""
    slices: str = "all"
    """Which slices of those, as mriscope.read takes it."""
    inference: InferenceSettings
    severity: list[str] | None = None
    """The classes from the least to the most severe; None where that is not known."""

    @property
    def display_order(self) -> list[int]:
        """The places in class_names of the classes in the order of answers: by severity, or as they are."""
        return [self.class_names.index(name) for name in self.severity or self.class_names]


class SlicePrediction(Record):
    """What a model says of one slice."""

    path: str
    class_name: str = Field(validation_alias="class", serialization_alias="class")
    """The most probable class."""
    probabilities: dict[str, float]
    """Calibrated, by class, from the least to the most severe where that is known; so is the prediction set."""
    prediction_set: list[str] | None
    """Classes that cannot be excluded at the coverage named; None where nothing was calibrated."""
    out_of_distribution: bool | None
    """Whether the slice is unlike those of training; None where the model has no reference."""
    distance: Number
    """From the training slices, in the model's features; nan where the model has no reference."""
    subject: str | None = None
    """None where it is unknown."""
    session: str | None = None
    """Of the subject; None where it is unknown."""
    position: Number = math.nan
    """Along the scan, in mm where the slice is cut from a volume; nan where it is unknown."""


class SubjectPrediction(Record):
    """What a model says of a subject, by all slices together."""

    name: str
    """Of the subject, else of the volume."""
    unit: Literal["subject", "volume"]
    """What the slices have in common; a volume where its subject is unknown."""
    n_slices: Count
    class_name: str = Field(validation_alias="class", serialization_alias="class")
    """The most probable class."""
    probabilities: dict[str, float]
    """Pooled, by class."""
    prediction_set: list[str] | None
    """Classes that cannot be excluded of a subject; None where no validation subjects are known."""
    share_out_of_distribution: Number
    """Of its slices; nan where the model has no reference."""
    out_of_distribution: bool | None
    """Whether more slices are than the threshold should leave outside of a new subject; None without a reference."""


class Answer(ResultFile):
    """What a model says of slices, and on what grounds.

    Example:
        >>> answer = mriscope.predict("mriscope-demo/run", ["slice.png"])  # doctest: +SKIP
        >>> answer.slices[0].prediction_set, answer.origin.leaky  # doctest: +SKIP
    """

    origin: ModelOrigin
    inference: InferenceSettings
    slices: list[SlicePrediction]
    subjects: list[SubjectPrediction] = Field(default_factory=list)
    """An answer for each known subject, and for each volume whose subject is unknown, in order of their slices."""


@dataclass(frozen=True)
class PartsPredicted:
    """What came of a prediction in parts.

    Attributes:
        parts: how many there are.
        kept: how many were finished before, from the same content by the same model.
        slices: answers in all parts that are finished.
        unusable: rows and files among them that hold no slice; the column `problem` says why.
        failures: parts that could not be predicted, and why.
    """

    parts: int
    kept: int
    slices: int
    unusable: int
    failures: dict[str, str] = field(default_factory=dict)
