"""What explain-compare gives: methods of explanation, measured on slices of one run."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from mriscope.results.records import Count, Estimate, Number, Record, ResultFile, Seconds


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
    positions: tuple[float, float] | None
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


class RegionArea(Record):
    """How much of the brain one region is; a mean over the slices that show it."""

    region: str
    n_slices: Count
    n_subjects: Count | None
    """None where subjects are unknown."""
    share: Number


class RegionShare(Record):
    """How much of the maps of one method lies in one region; means over the slices that show it."""

    region: str
    n_slices: Count
    """With the region, and a map that is not empty."""
    map_share: Number
    """Of the map within the brain."""
    area_share: Number
    """Of the area of the brain, in the same slices."""
    ratio: Estimate
    """The first share over the second; its bounds do not exist where too few subjects show the region."""


class MethodRegions(Record):
    """The regions of the maps of one method or baseline."""

    name: str
    title: str
    regions: list[RegionShare]


class RegionTable(Record):
    """Where maps lie by region of the brain, and which slices that is told of."""

    note: str
    n_slices: Count
    n_placed: Count
    """Slices that could be placed in template space; of the others nothing is told."""
    areas: list[RegionArea]
    methods: list[MethodRegions]
    """Empty where no slice could be placed."""


class ExplainedRegions(ResultFile):
    """What regions.json of an explanation holds."""

    REMEDY: ClassVar[str] = "give the `mriscope explain` command again"

    run: str
    model: str
    protocol: str | None
    leaky: bool | None
    explained: str
    """The class whose maps these are; in words where it is the predicted one."""
    regions: RegionTable


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
    regions: RegionTable | None = None
    """None in files of versions that did not look at regions."""
    made: dict[str, str | int]
    cohort: Cohort

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        for one in self.methods:
            if "gain" not in one.metrics or list(one.metrics) != list(self.methods[0].metrics):
                raise PydanticCustomError("metrics", "every method should hold the same metrics, gain among them")
        count, matrix = len(self.agreement.titles), self.agreement.matrix
        if len(matrix) != count or any(len(row) != count for row in matrix):
            raise PydanticCustomError("square", "agreement should have a row and a column for each title")
        return self
