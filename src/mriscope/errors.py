"""What can go wrong, as one tree. Every message says what was found, what was expected and what to do.

MriscopeError
├── ArgumentError      an argument with a value that does not fit; also a ValueError
│   └── UnknownNameError   a model, layer, class or setting that does not exist; also a LookupError
├── ArgumentTypeError  an argument of the wrong type; also a TypeError
├── DataError          a source that cannot be read, or data that does not fit together; also a ValueError
│   └── BadRowsError       ... with the list of unusable rows
├── RecipeError        a recipe with unknown or unfit settings; also a ValueError
├── WriteError         a file that the system refuses to write
├── RunError           a run directory that is missing, unfinished, damaged or another's
├── TrainingError      a training run that cannot go on (a loss that is not finite)
│   └── InterruptedTrainingError   ... because it was asked to stop; it can be resumed
└── MissingExtraError  an optional package that is not installed; also an ImportError
"""

import difflib
import importlib
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

_LONGEST_NAME = 100  # characters of a mistyped name that are compared with the known ones


class MriscopeError(Exception):
    """A mistake that its user can mend; the command line prints its text alone and exits with 2."""


class ArgumentError(MriscopeError, ValueError):
    """An argument with a value that does not fit, alone or beside the others."""


class ArgumentTypeError(MriscopeError, TypeError):
    """An argument of the wrong type."""


class DataError(MriscopeError, ValueError):
    """A source that cannot be read, or data that does not fit together.

    Example:
        >>> import mriscope
        >>> try:
        ...     mriscope.read("missing.parquet")
        ... except mriscope.DataError as error:
        ...     print(str(error).split(";")[0])
        missing.parquet does not exist
    """


@dataclass(frozen=True)
class BadRow:
    """One row of a source that holds no usable slice."""

    row: int
    path: str
    reason: str


class BadRowsError(DataError):
    """Rows of a source that hold no usable slice.

    Attributes:
        rows: every bad row; the message lists the first 20.
    """

    SHOWN = 20
    LEAVE_OUT = "mend them, or leave them out with --skip-bad (skip_bad=True)"

    def __init__(self, source: str, rows: Sequence[BadRow], total: int, remedy: str = LEAVE_OUT) -> None:
        self.rows = tuple(rows)
        listed = "".join(f"\n  row {bad.row} ({bad.path}): {bad.reason}" for bad in rows[: self.SHOWN])
        more = f"\n  ... and {len(rows) - self.SHOWN} more" if len(rows) > self.SHOWN else ""
        super().__init__(f"{source}: {len(rows)} of {total} rows are unusable; {remedy}{listed}{more}")


class RecipeError(MriscopeError, ValueError):
    """A recipe whose settings are unknown or do not fit.

    Attributes:
        problems: one sentence per unfit setting; the message lists the first 20.
    """

    SHOWN = 20

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        one = f"{where}: {problems[0]}"
        many = f"{where}: {len(problems):,} settings do not fit"
        many += "".join(f"\n  {text}" for text in problems[: self.SHOWN])
        many += f"\n  ... and {len(problems) - self.SHOWN:,} more" if len(problems) > self.SHOWN else ""
        super().__init__(one if len(problems) == 1 else many)


class UnknownNameError(ArgumentError, LookupError):
    """A name that is not among the known ones; the message names the near ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no {kind} {name!r}; {suggest(name, known)}")


class WriteError(MriscopeError):
    """A file that cannot be written."""


class RunError(MriscopeError):
    """A run directory that is missing, unfinished, damaged, or holds another recipe."""


class TrainingError(MriscopeError):
    """A training run that cannot go on."""


class InterruptedTrainingError(TrainingError):
    """A training run that was asked to stop (Ctrl-C, SIGTERM) and can be resumed.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        self.signal = signal
        super().__init__(message)


class MissingExtraError(MriscopeError, ImportError):
    """An optional package that is not installed."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the hint that ends an unknown-name message: the near names (lr is near learning_rate), or else all."""
    names = {full.lower(): full for full in sorted(known)}
    wanted = name.lower()[:_LONGEST_NAME]
    near = [low for low in names if wanted == "".join(word[:1] for word in low.split("_"))]
    for least in (0.8, 0.6):  # the far ones only where there is no closer one
        near = near or difflib.get_close_matches(wanted, names, n=3, cutoff=least)
    near = [names[low] for low in near or [low for low in names if len(wanted) > 2 and wanted in low][:3]]
    return f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(names.values())}"


def check_type(name: str, value: object, expected: type | tuple[type, ...], wanted: str) -> None:
    """Refuse an argument of the wrong type.

    Args:
        name: the argument.
        value: what was given.
        expected: the types that fit.
        wanted: these in words, with an example or the call that makes one.

    Raises:
        ArgumentTypeError: the value is of none of these types.

    Example:
        >>> check_type("images", 3, str, "a path")
        Traceback (most recent call last):
        ...
        mriscope.errors.ArgumentTypeError: images is 3 (int); give a path
    """
    if not isinstance(value, expected):
        raise ArgumentTypeError(f"{name} is {reprlib.repr(value)} ({type(value).__name__}); give {wanted}")


def need(extra: str, module: str) -> ModuleType:
    """Import an optional package.

    Args:
        extra: the extra of mriscope that installs it.
        module: its import name.

    Raises:
        MissingExtraError: names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{module} is not installed; run: pip install 'mriscope[{extra}]'") from error
