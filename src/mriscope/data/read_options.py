"""How a source is read, as part of the source's text, so that recipes and runs keep it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from mriscope.errors import DataError, suggest

OF_VOLUMES = ("plane", "slices", "series")
OF_TABLES = ("image_column", "label_column", "subject_column")


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say of a source, beside the size of its slices; None leaves it to the source's own names.

    Args:
        stretch: resize height and width each by itself, instead of keeping the aspect on a black square.
        image_column: the column of a parquet file that holds the images.
        label_column: the column of a table that holds the classes, also in BIDS.
        subject_column: the column of a table that holds the subjects.
        subject_pattern: a regular expression for paths, see `mriscope.data.identifiers.identify`.
        plane: of volumes: axial, coronal or sagittal.
        slices: of volumes: all; a number, those of highest entropy; or LOW:HIGH in mm.
        series: which of several volumes: a pattern of file names (BIDS), the number or a pattern of the description
            (DICOM).
    """

    stretch: bool = False
    image_column: str | None = None
    label_column: str | None = None
    subject_column: str | None = None
    subject_pattern: str | None = None
    plane: str = "axial"
    slices: str = "all"
    series: str | None = None

    def joined(self, other: "ReadOptions") -> "ReadOptions":
        """Return these options, and the other ones where those are given."""
        given = {name: value for name, value in asdict(other).items() if value != _DEFAULT[name]}
        return replace(self, **given)

    def refuse(self, names: tuple[str, ...], where: str) -> None:
        """Refuse options that say nothing about a source of another kind.

        Args:
            names: of the options.
            where: what the source is, such as "data has class folders".

        Raises:
            DataError: one of them is given.
        """
        for name in names:
            if getattr(self, name) != _DEFAULT[name]:
                kind = "volumes" if name in OF_VOLUMES else "tables"
                raise DataError(f"{where}, and {name} is for {kind}; leave it out")


AS_IT_IS = ReadOptions()
_DEFAULT = asdict(AS_IT_IS)


def split_options(source: str | Path) -> tuple[str | Path, ReadOptions]:
    """Split a source into what names it and the options behind the last question mark; a Path, or a file, has none.

    Raises:
        DataError: an option that does not exist.

    Example:
        >>> name, options = split_options("bids?plane=coronal&slices=32")
        >>> name, options.plane, options.slices
        ('bids', 'coronal', '32')
    """
    name, values = _split_values(source)
    return name, ReadOptions(**values)


def override_options(source: str | Path, options: ReadOptions) -> ReadOptions:
    """Return options with those of a source in their place, also where the source names a default.

    Raises:
        DataError: an option that does not exist.

    Example:
        >>> override_options("scan.nii?plane=axial", ReadOptions(plane="coronal", slices="8"))  # doctest: +ELLIPSIS
        ReadOptions(..., plane='axial', slices='8', series=None)
    """
    return replace(options, **_split_values(source)[1])


def _split_values(source: str | Path) -> tuple[str | Path, dict[str, Any]]:
    if isinstance(source, Path) or "=" not in source or _exists(source):
        return source, {}
    name, mark, text = source.rpartition("?")
    if not mark:
        return source, {}
    given = dict(parse_qsl(text, keep_blank_values=True))
    known = [field.name for field in fields(ReadOptions)]
    for option in given:
        if option not in known:
            raise DataError(f"{source}: there is no option {option!r} of a source; {suggest(option, known)}")
    named, stretch = {*given}, given.pop("stretch", "no")
    if stretch not in ("yes", "no"):
        raise DataError(f"{source}: stretch is {stretch!r}; choose yes or no")
    return name, {**given, **({"stretch": stretch == "yes"} if "stretch" in named else {})}


def with_options(source: str, **given: str | bool | None) -> str:
    """Return a source with options; those that are None stay as they are.

    Example:
        >>> with_options("bids?plane=coronal", slices="-12:34", series=None)
        'bids?plane=coronal&slices=-12:34'
    """
    named = {name: value for name, value in given.items() if value is not None}
    if not named:
        return source
    name, options = split_options(source)
    text = _as_text({**asdict(options), **named})
    return f"{name}?{text}" if text else str(name)


def _as_text(options: Mapping[str, str | bool | None]) -> str:
    wanted = {key: "yes" if value is True else str(value) for key, value in options.items() if value != _DEFAULT[key]}
    return "&".join(f"{key}={quote(value, safe=':*')}" for key, value in wanted.items())


def _exists(source: str) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):
        return False
