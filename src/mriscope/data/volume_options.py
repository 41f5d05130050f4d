"""How volumes of a source are read, as part of the source's text, so that recipes and runs keep it."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import parse_qsl, quote

from mriscope.data.volumes import Cut
from mriscope.errors import DataError, suggest


@dataclass(frozen=True)
class VolumeOptions:
    """What a user may say of volumes.

    Args:
        plane: axial, coronal or sagittal.
        slices: all; a number, those of highest entropy; or LOW:HIGH in mm.
        series: which of several: a pattern of file names (BIDS), the number or a pattern of the description (DICOM).
        label_column: the column of the labels in the tables of a BIDS data set.
    """

    plane: str = "axial"
    slices: str = "all"
    series: str | None = None
    label_column: str | None = None

    @property
    def cut(self) -> Cut:
        """Return how volumes become slices.

        Raises:
            DataError: a plane or choice of slices that does not exist.
        """
        return Cut(self.plane, self.slices)


def split_options(source: str | Path) -> tuple[str | Path, VolumeOptions]:
    """Split a source into what names it and the options behind the last question mark; a Path, or a file, has none.

    Raises:
        DataError: an option that does not exist.

    Example:
        >>> split_options("bids?plane=coronal&slices=32")
        ('bids', VolumeOptions(plane='coronal', slices='32', series=None, label_column=None))
    """
    if isinstance(source, Path) or "=" not in source or Path(source).exists():
        return source, VolumeOptions()
    name, mark, text = source.rpartition("?")
    if not mark:
        return source, VolumeOptions()
    given = dict(parse_qsl(text, keep_blank_values=True))
    known = [field.name for field in fields(VolumeOptions)]
    for option in given:
        if option not in known:
            raise DataError(f"{source}: there is no option {option!r} of a source; {suggest(option, known)}")
    return name, VolumeOptions(**given)


def with_options(source: str | Path, **given: str | None) -> str | Path:
    """Return a source with options; those that are None stay as they are.

    Example:
        >>> with_options("bids?plane=coronal", slices="-12:34", series=None)
        'bids?plane=coronal&slices=-12:34'
    """
    named = {name: value for name, value in given.items() if value is not None}
    if not named:
        return source
    name, options = split_options(str(source))
    default = asdict(VolumeOptions())
    wanted = {**asdict(options), **named}
    told = [f"{key}={quote(value, safe=':*')}" for key, value in wanted.items() if value != default[key]]
    return f"{name}?{'&'.join(told)}" if told else str(name)
