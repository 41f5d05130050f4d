"""What `mriscope audit` gives: what a split shares between its parts, and what is known of that."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from mriscope.results.confounds import CovariateTable
from mriscope.results.records import Count, Estimate, Number, Record, ResultFile

Fraction = Annotated[float, Field(ge=0, le=1)]
Part = Literal["train", "validation", "test"]
KnownFrom = Literal["source", "manifest", "pixels", "source, partly", "manifest, partly", "pixels, partly"]
"""How subjects are known; partly where some slices have none."""


class SubjectSummary(Record):
    """Which subjects there are, and how they are known; counts are None where no slice has a known subject."""

    known_from: KnownFrom | None
    n: Count | None
    known_slices: Count
    """Slices that have a subject."""
    fewest: Count | None
    """Slices of the subject with the fewest."""
    most: Count | None
    groups: Count
    """Groups of two slices or more that pixels find, subjects and pieces of subjects."""
    clear: bool
    """Whether pixels give every slice a subject."""
    threshold: float
    """Correlation of pixels above which two slices are near-duplicates."""
    level: float | None
    """Whitened correlation that links two slices; None where pixels tell nothing."""
    weakest: float | None
    """The least by which a linked slice is linked; None without links."""
    strongest: float | None
    """The highest between slices of two groups; None without any."""

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if len({one is None for one in (self.n, self.fewest, self.most)}) > 1:
            raise PydanticCustomError("counts", "n, fewest and most should be given together, or all be null")
        return self


class ClassSummary(Record):
    """How many slices and subjects a class has; subjects are None where unknown."""

    slices: Count
    share: Fraction
    subjects: Count | None
    parts: dict[Part, Count]


class Duplicates(Record):
    """Slices that are equal or nearly so. One of a single grey value shows no brain, and is equal to none."""

    exact_groups: Count
    """Groups of slices with equal pixels."""
    exact_slices: Count
    """Slices in these groups."""
    near_slices: Count
    """Slices whose nearest slice is more similar than the threshold, equal ones among them."""
    near_pairs_across_subjects: Count | None
    """Pairs above the threshold of slices of two known subjects."""


class Conflicts(Record):
    """Slices that should have the same label and do not."""

    exact_groups: Count
    """Groups of equal slices with several labels."""
    near_pairs: Count
    """Pairs above the threshold with two labels."""
    subjects: Count | None
    """Subjects whose slices have several labels; None where unknown."""
    examples: tuple[tuple[str, str, str, str], ...]
    """Path and class of either slice of the first pairs, the most similar first."""


class Sharing(Record):
    """What the test part, or one class of it, shares with the parts before it.

    Slices of unknown subject count for no subject; where no subject is known at all, counts that need one are None.
    """

    test_slices: Count
    test_subjects: Count | None = None
    slices_in_train: Count | None = None
    """Test slices whose subject has slices in the training part; the next two likewise."""
    slices_in_validation: Count | None = None
    slices_in_either: Count | None = None
    subjects_in_train: Count | None = None
    """Test subjects with slices in the training part; the next two likewise."""
    subjects_in_validation: Count | None = None
    subjects_in_either: Count | None = None
    exact_copies: Count
    """Test slices with an equal slice in the training or validation part."""
    near_copies: Count
    """Test slices with one there that is more similar than the threshold."""

    @property
    def knows_subjects(self) -> bool:
        """Whether the counts that need a subject exist, all of them."""
        return all(getattr(self, name) is not None for name in type(self).model_fields)


class Power(Record):
    """What can be said of the slices of a test part; the first three counts add up to all of them."""

    shared: Count
    """Slices whose subject, or a copy of them, is proven to be in the training or validation part."""
    settled: Count
    """Slices whose subject is proven not to be there."""
    open: Count
    """Slices of which neither can be told."""
    altered: Count
    """Slices that are altered copies of slices there, or show the brain of an altered one."""
    searched: Count
    """Slices for which altered copies were looked for."""

    @property
    def leaky(self) -> bool | None:
        """Whether subjects or slices are shared; None where it cannot be told."""
        return True if self.shared else None if self.open else False


class SplitSummary(Record):
    """A split: what its test part shares, in all and by class, and what is proven of that."""

    protocol: str
    parts: dict[Part, Count]
    """Slices of each part."""
    shared: Sharing
    classes: dict[str, Sharing]
    power: Power

    @model_validator(mode="after")
    def _check_slices(self) -> Self:
        power, total = self.power, self.shared.test_slices
        if not total or power.shared + power.settled + power.open != total:
            text = "shared, settled and open of power should add up to the {total} test slices, one at least"
            raise PydanticCustomError("power", text, {"total": total})
        return self


class ControlScore(Record):
    """How often the nearest slice of the training part has the label of a test slice (1-nearest-neighbour)."""

    draws: Annotated[int, Field(ge=1)]
    """How many splits were evaluated."""
    n_slices: Count
    """Test slices, over all draws."""
    n_subjects: Count | None
    """Subjects among them; None where unknown."""
    accuracy: Estimate
    """Of all draws together."""
    balanced_accuracy: Estimate
    least: Fraction
    """Lowest accuracy of a draw."""
    greatest: Fraction
    majority: Fraction
    """Share of the most common class among the test slices."""
    unit: Literal["subject", "slice"]
    """What the intervals resample."""


class PermutedScore(Record):
    """Accuracy of the nearest neighbour when the labels of whole subjects are shuffled between them.

    Such labels say nothing of disease, so what is above chance is recognised brains.
    """

    permutations: Count
    """How often they were shuffled."""
    mean: Fraction
    """Accuracy, the mean over the permutations."""
    least: Fraction
    greatest: Fraction
    chance: Number
    """Probability that two subjects drawn at random have the same class; nan for fewer than two."""


class Controls(Record):
    """Scores without training, by how train and test were divided; None where there is no such division."""

    audited: ControlScore | None
    """On the audited split."""
    by_slice: ControlScore | None
    """On random splits of slices."""
    by_subject: ControlScore | None
    """On random splits of subjects."""
    audited_permuted: PermutedScore | None
    """On the audited split, labels shuffled between subjects."""
    by_subject_permuted: PermutedScore | None


class FactScore(Record):
    """How far one fact about the files tells one class from the others."""

    fact: str
    from_brain: bool
    """Whether the brain shown has a say in it."""
    class_name: str
    """The class that it tells best."""
    inside: str
    """Its usual value there, or the value that is more frequent there than elsewhere."""
    share_inside: Fraction | None
    """Share of the class that has this value; None for numbers, where `inside` is the median."""
    outside: str
    """The same of the other classes."""
    share_outside: Fraction | None
    """Share of the other classes that has the value `inside`; None for numbers."""
    informedness: float
    """Sensitivity and specificity of the cross-validated classifier, less 1: 0 is chance, 1 is perfect."""
    p: Fraction
    """Probability that labels without a meaning reach as much with any fact and class."""
    flagged: bool
    """Whether it counts as a shortcut."""


class Shortcuts(Record):
    """What facts about the files tell of the class."""

    flagged: bool
    """Whether one of them is a shortcut."""
    score: Fraction
    """Balanced accuracy of a classifier on all facts in which the brain has no say, cross-validated."""
    chance: Fraction
    """What it reaches with shuffled labels, on average."""
    p: Fraction
    """Probability that it reaches as much with them."""
    unit: Literal["subject", "slice"]
    """What is shuffled and scored: slices where the subject of one is unknown."""
    units: Count
    shuffles: Count
    """How often labels were shuffled."""
    left_out: tuple[str, ...]
    """Classes with fewer than five units."""
    facts: tuple[FactScore, ...]
    """Those that vary, the surest first."""
    told: tuple[str, ...]
    """What the flagged ones tell, in words."""


class Repair(Record):
    """The split that was written in the place of the audited one, and what its own audit says."""

    file: str
    left_out: Count
    """Slices whose subject is in doubt."""
    uneven: Fraction
    """The largest difference between a class's shares of the test part and of the other parts."""
    leaky: bool | None
    verdict: str


class LeakageReport(Record):
    """What an audit finds in slices and a split of them."""

    leaky: bool | None
    """Whether test subjects or slices are in the training or validation part; None where that cannot be told, or no
    split was audited."""
    fingerprint: str
    n_slices: Annotated[int, Field(ge=2, le=2**53)]
    subjects: SubjectSummary
    classes: dict[str, ClassSummary]
    duplicates: Duplicates
    conflicts: Conflicts
    split: SplitSummary | None
    controls: Controls

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        if self.split is None:
            return self
        if self.controls.audited is None:
            raise PydanticCustomError("audited", "controls.audited should be given, as a split was audited")
        if list(self.split.classes) != list(self.classes):
            raise PydanticCustomError("classes", "split.classes should hold the same classes as classes")
        every = (self.split.shared, *self.split.classes.values())
        if self.subjects.n is not None and not all(one.knows_subjects for one in every):
            raise PydanticCustomError("subjects", "split.shared and split.classes should count subjects, as n is known")
        if any(list(one.parts) != list(self.split.parts) for one in self.classes.values()):
            raise PydanticCustomError("parts", "parts of every class should hold the same parts as split.parts")
        return self


class Audit(LeakageReport, ResultFile):
    """What audit.json holds: what an audit found, of which source, and what it comes to.

    Example:
        >>> audit = Audit.read("audit/audit.json")  # doctest: +SKIP
        >>> audit.leaky, audit.split.power.shared  # doctest: +SKIP
    """

    REMEDY: ClassVar[str] = "give the `mriscope audit` command again"

    verdict: str
    """In one or two sentences."""
    source: str
    mriscope: str
    """Version."""
    seed: int
    shortcuts: Shortcuts | None = None
    """None where fewer than two classes have the five subjects that a finding needs."""
    covariate_table: CovariateTable | None = None
    """None where no covariate is known."""
    repaired: Repair | None = None
    """None where no repaired split was asked for."""
