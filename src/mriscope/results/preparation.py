"""What `mriscope prepare` gives: the steps, and how they went for each volume."""

from typing import ClassVar, Literal

from mriscope.choices import BiasCorrection, Intensity, Orientation, Registration, SkullStripping
from mriscope.results.records import Count, Number, Record, ResultFile

SkullState = Literal["removed", "came without", "not stripped"]


class VolumeMeasures(Record):
    """How the steps went for a volume."""

    skull: SkullState
    outside: Number
    """Share of the signal over 8 mm outside the brain, before any step."""
    likeness: Number
    """Correlation with the template after registration; null where there was none."""
    scale: Number
    """Volume of the brain over that of the template; 1 without registration."""
    matrix: list[list[float]]
    """Four rows of four: from mm (RAS+) in the template to mm of the volume."""
    empty: Count
    """Slices of the choice that show nothing and were left out."""


class PreparedVolume(Record):
    """A volume of the source, and what became of it."""

    path: str
    subject: str
    """"" where unknown, as the session and the part are."""
    session: str
    part: str
    class_name: str
    key: str
    """SHA-256 of the volume's files and the steps, by which a finished volume is known again; "" of one unread."""
    slices: Count
    problem: str
    """Why there are no slices, as the predicate of a sentence; "" where there are."""
    measures: VolumeMeasures | None


class PrepareSettings(Record):
    """The steps, as `mriscope.preparation.options.PrepareOptions` has them."""

    orientation: Orientation
    strip: SkullStripping
    bias: BiasCorrection
    registration: Registration
    intensity: Intensity
    plane: str
    slices: str
    spacing: float
    size: Count
    stretch: bool


class Preparation(ResultFile):
    """What `prepare.json` holds."""

    REMEDY: ClassVar[str] = "prepare the volumes again"

    source: str
    """Without the folders above it."""
    mriscope: str
    packages: dict[str, str]
    settings: PrepareSettings
    class_names: list[str]
    volumes: list[PreparedVolume]

    @property
    def failed(self) -> list[PreparedVolume]:
        """Return the volumes without slices."""
        return [one for one in self.volumes if one.problem]
