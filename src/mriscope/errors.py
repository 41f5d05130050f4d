"""What can go wrong, as one tree. Every message says what was found, what was expected and what to do.

MriscopeError
├── DataError        a source that cannot be read, or rows that do not fit
│   └── BadRowsError   ... with the list of them
├── RecipeError      a recipe with unknown or unfit settings
├── UnknownName      a model, layer, class or setting that does not exist
├── WriteError       a file that the system refuses to write
├── RunError         a run directory that is missing, unfinished, damaged or another's
├── TrainingError    a training that cannot go on (a loss that is not finite)
│   └── Interrupted    ... because it was asked to stop; the run can be resumed
└── MissingExtra     an optional package that is not installed
"""

import difflib
import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

_LONGEST_NAME = 100  # characters of a mistyped name that are compared with the known ones


class MriscopeError(Exception):
    """A mistake that its user can mend; the command line prints its text alone and exits with 2."""


class DataError(MriscopeError):
    """A source that cannot be read, or data that does not fit together."""


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


class RecipeError(MriscopeError):
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


class UnknownName(MriscopeError):
    """A name that is not among the known ones; the message names the near ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no {kind} {name!r}; {suggest(name, known)}")


class WriteError(MriscopeError):
    """A file that cannot be written."""


class RunError(MriscopeError):
    """A run directory that is missing, unfinished, damaged, or holds another recipe."""


class TrainingError(MriscopeError):
    """A training that cannot go on."""


class Interrupted(TrainingError):
    """A training that was asked to stop (Ctrl-C, SIGTERM) and can be resumed.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, message: str, signal: int) -> None:
        self.signal = signal
        super().__init__(message)


class MissingExtra(MriscopeError):
    """An optional package that is not installed."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an unknown-name message: the near names (lr is near learning_rate), or else all of them."""
    names = {full.lower(): full for full in sorted(known)}
    asked = name.lower()[:_LONGEST_NAME]
    near = [low for low in names if asked == "".join(word[:1] for word in low.split("_"))]
    for least in (0.8, 0.6):  # the far ones only where there is no closer one
        near = near or difflib.get_close_matches(asked, names, n=3, cutoff=least)
    near = [names[low] for low in near or [low for low in names if len(asked) > 2 and asked in low][:3]]
    return f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(names.values())}"


def need(extra: str, module: str) -> ModuleType:
    """Import an optional package.

    Args:
        extra: the extra of mriscope that installs it.
        module: its import name.

    Raises:
        MissingExtra: names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{module} is not installed; run: pip install 'mriscope[{extra}]'") from error
