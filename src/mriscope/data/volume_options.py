"""Options of volumes as part of the text of a source, so that recipes and runs keep them."""

from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote

from mriscope.data.rows import AS_IT_IS, ReadOptions
from mriscope.errors import DataError, suggest

NAMES = ("plane", "slices", "series", "label_column")
"""The fields of ReadOptions that may stand in a text."""


def split_options(source: str | Path, options: ReadOptions = AS_IT_IS) -> tuple[str | Path, ReadOptions]:
    """Split a source into what names it and the options behind its last question mark; a Path, or a file, has none.

    Args:
        source: as its user wrote it.
        options: those that hold where the text does not say otherwise.

    Raises:
        DataError: an option that does not exist.

    Example:
        >>> split_options("bids?plane=coronal&slices=32")[0], split_options("bids?slices=32")[1].slices
        ('bids', '32')
    """
    if isinstance(source, Path) or "?" not in source or "=" not in source or Path(source).exists():
        return source, options
    name, _, text = source.rpartition("?")
    given = dict(parse_qsl(text, keep_blank_values=True))
    for option in given:
        if option not in NAMES:
            raise DataError(f"{source}: there is no option {option!r} of a source; {suggest(option, NAMES)}")
    return name, replace(options, **given)


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
    default, wanted = asdict(AS_IT_IS), {**asdict(options), **named}
    told = [f"{option}={quote(wanted[option], safe=':*')}" for option in NAMES if wanted[option] != default[option]]
    return f"{name}?{'&'.join(told)}" if told else str(name)
