"""What `mriscope evaluate` finds of a table of predictions that another program wrote."""

from typing import ClassVar, Literal

from mriscope.results.audit import KnownFrom
from mriscope.results.records import Count, ResultFile
from mriscope.results.runs import Scores

SubjectsKnownFrom = KnownFrom | Literal["column", "paths"]
TrainKnownFrom = Literal["column", "published", "rest", "split file"]


class PublishedEvaluation(ResultFile):
    """What evaluation.json holds: published predictions by slice and by subject, and what is known of leakage.

    Example:
        >>> found = PublishedEvaluation.read("reviewed/evaluation.json")  # doctest: +SKIP
        >>> found.leaky, found.subjects.metrics["accuracy"].low  # doctest: +SKIP
    """

    REMEDY: ClassVar[str] = "give the `mriscope evaluate` command again"

    file: str
    """The table, its name alone."""
    mriscope: str
    """Version."""
    verdict: str
    """Whether test subjects were trained on, in one or two sentences."""
    leaky: bool | None
    """Whether subjects or slices that are evaluated also trained the model; None where that cannot be told."""
    train_known_from: TrainKnownFrom | None
    """What says which slices trained the model; None where nothing does."""
    part: Literal["test", "validation", "whole"]
    """What was evaluated; whole where the table tells no parts."""
    subjects_from: SubjectsKnownFrom | None
    """How subjects are known; None where no slice has one."""
    n_slices: Count
    n_unnamed: Count
    """Slices evaluated whose subject is unknown."""
    slices: Scores | None
    """Each slice scored; None where only subjects were asked for."""
    subjects: Scores | None
    """Each subject scored once; None where subjects are unknown, or only slices were asked for."""
    baselines_from: str
    """What the baselines were fitted to, in words."""
    notes: list[str]
    """What a reader should know of how the table was read."""
