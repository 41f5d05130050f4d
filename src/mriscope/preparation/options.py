"""How volumes are prepared."""

from dataclasses import dataclass, fields
from typing import get_args, get_type_hints

from mriscope.choices import BiasCorrection, Intensity, Orientation, Registration, SkullStripping
from mriscope.data.slices import SIZE
from mriscope.data.volumes import Cut
from mriscope.errors import DataError, suggest

SIDES, SPACINGS = (32, 512), (0.25, 20.0)


@dataclass(frozen=True)
class PrepareOptions:
    """The steps from a volume to its slices, each by the name of its method.

    Args:
        orientation: header turns a volume to RAS+ by its affine; axes takes its axes for right, anterior and superior,
            where the header is wrong.
        strip: deepbet removes skull and scalp; none keeps the volume as it is, and says where it has a skull.
        bias: n4 divides by the bias field of N4 (Tustison et al., 2010); none does not.
        registration: affine brings the volume to the MNI152 template; none takes its own mm as those of the template.
        intensity: minmax maps the least and greatest value of each slice to 0 and 255; tissue maps the peak of white
            matter in the volume to 217; percentiles maps the 0.1th and 99.9th percentile of the brain.
        plane: axial, coronal or sagittal.
        slices: LOW:HIGH in mm; a number, those of highest entropy (Hon and Khan, 2017); or all.
        spacing: mm between slices.
        size: height and width of a slice in pixels.
        stretch: fill the square with the field of view, as the public slices do; without it, pixels are square.

    Raises:
        DataError: a method that does not exist, or a number outside its limits.

    Example:
        >>> PrepareOptions(slices="32").cut.count
        32
    """

    orientation: Orientation = "header"
    strip: SkullStripping = "deepbet"
    bias: BiasCorrection = "n4"
    registration: Registration = "affine"
    intensity: Intensity = "minmax"
    plane: str = "axial"
    slices: str = "-12:34"
    spacing: float = 1.5
    size: int = SIZE
    stretch: bool = True

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if (choices := get_args(types[field.name])) and value not in choices:
                raise DataError(f"there is no {field.name} {value!r}; {suggest(str(value), choices)}")
        for name, unit, (low, high) in (("spacing", " mm", SPACINGS), ("size", " pixels", SIDES)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise DataError(f"{name} is {value:g}{unit}; choose {low:g} to {high:g}")
        object.__setattr__(self, "spacing", float(self.spacing))  # 10 and 10.0 are one choice, with one key
        assert self.cut

    @property
    def cut(self) -> Cut:
        """Return plane and choice of slices."""
        return Cut(self.plane, self.slices)
