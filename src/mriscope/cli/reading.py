"""The options of how a source is read, which several commands take alike."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from mriscope.errors import ArgumentError

Series = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Which of several volumes: their file names in BIDS, the number or description of a DICOM series.",
        show_default=False,
    ),
]
LabelColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of tables (parquet, CSV, BIDS): the labels.", show_default=False)
]
SubjectColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of tables: the column of the subjects.", show_default=False)
]
SubjectPattern = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Finds (?P<subject>...), and (?P<session>...) and (?P<position>...) if they are there, in paths.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Reading:
    """How a source is read; None leaves it to the source. See mriscope.data.read_options."""

    plane: Annotated[
        str | None,
        typer.Option(help="Of volumes: axial (the default), coronal or sagittal.", show_default=False),
    ] = None
    slices: Annotated[
        str | None,
        typer.Option(
            metavar="all|N|LOW:HIGH",
            help="Of volumes: all slices (the default), the N of highest entropy, or those of a slab in mm.",
            show_default=False,
        ),
    ] = None
    series: Series = None
    label_column: LabelColumn = None
    image_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of parquet files: the column of the images.", show_default=False)
    ] = None
    subject_column: SubjectColumn = None
    subject_pattern: SubjectPattern = None
    stretch: Annotated[
        bool | None,
        typer.Option("--stretch", help="Fill the square, instead of keeping the aspect on black.", show_default=False),
    ] = None

    def of(self, source: str) -> str:
        """Return a source with these options."""
        from mriscope.data.read_options import with_options

        return with_options(source, **asdict(self))

    def of_another(self, source: str | None) -> str | None:
        """Return a source that a command need not be given, with these options.

        Raises:
            ArgumentError: it is not given, and an option is.
        """
        given = [name.replace("_", "-") for name, value in asdict(self).items() if value is not None]
        if source is None and given:
            raise ArgumentError(f"--{given[0]} says how another source is read; name that with --data")
        return None if source is None else self.of(source)


AS_NAMED = Reading()


def takes(parameter: str, record: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the fields of a dataclass as options; they reach it as one record.

    Args:
        parameter: of the command, which gets the record and in whose place the options stand.
        record: the dataclass, each field annotated as an option and with a default.
    """
    hints = get_type_hints(record, include_extras=True)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
            for one in fields(record)
        ]
        signature = inspect.signature(command)
        own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()]
        place = [one.name for one in own].index(parameter)

        @wraps(command)
        def with_record(**values: Any) -> None:
            values[parameter] = record(**{one.name: values.pop(one.name) for one in options})
            command(**values)

        with_record.__dict__["__signature__"] = signature.replace(
            parameters=[*own[:place], *options, *own[place + 1 :]]
        )
        return with_record

    return decorate


takes_reading = takes("reading", Reading)
"""Give a command the options of Reading, which reach it as one record in its parameter `reading`."""
