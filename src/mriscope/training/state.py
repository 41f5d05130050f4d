"""The state of a training run, as its checkpoint holds it: typed, and checked before it is used."""

import math
import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)


class Totals(_Record):
    """Sums over the steps of an epoch that have been taken."""

    loss: Finite = 0.0
    right: NotNegative = 0.0
    """Slices that were classified correctly."""
    seen: Count = 0
    """Slices."""
    seconds: NotNegative = 0.0

    @property
    def rate(self) -> float:
        """Return slices per second."""
        return self.seen / max(self.seconds, 1e-9)


class EpochMetrics(_Record):
    """The metrics of one epoch, a row of history.csv."""

    epoch: Count
    train_loss: Finite
    train_accuracy: Finite
    validation_loss: Finite
    validation_accuracy: Finite
    learning_rate: Finite
    seconds: NotNegative
    slices_per_second: NotNegative


class Best(_Record):
    """The epoch with the lowest validation loss so far."""

    epoch: Count
    loss: Finite
    weights: dict[str, Tensor]


class TrainingState(_Record):
    """Progress of a training run.

    Attributes:
        epoch: number of epochs that are finished.
        step: number of steps of the next epoch that are finished.
        totals: of those steps.
        best: None before the first epoch ends.
        history: one row for each finished epoch.
    """

    epoch: Count = 0
    step: Count = 0
    totals: Totals = Field(default_factory=Totals)
    best: Best | None = None
    history: list[EpochMetrics] = Field(default_factory=list)

    def check_progress(self, epochs: int, batches: int, batch_size: int, rows: int) -> None:
        """Check that the numbers fit each other and the run.

        Args:
            epochs: of the run.
            batches: steps of an epoch.
            batch_size: slices of a batch.
            rows: slices of an epoch.

        Raises:
            ValueError: names the first field that does not fit, and what was expected.
        """
        seen = rows if self.step == batches else self.step * batch_size
        best = None if self.best is None else self.best.epoch
        for fits, problem in (
            (self.epoch <= epochs, f"epoch is {self.epoch}, expected at most {epochs}"),
            (self.step <= batches, f"step is {self.step}, expected at most {batches}"),
            (self.totals.seen == seen, f"totals.seen is {self.totals.seen}, expected {seen} after {self.step} steps"),
            (
                len(self.history) == self.epoch and all(row.epoch == n for n, row in enumerate(self.history, 1)),
                f"history has {len(self.history)} rows, expected epochs 1 to {self.epoch}",
            ),
            (
                best is None if self.epoch == 0 else best is not None and 1 <= best <= self.epoch,
                f"best.epoch is {best}, expected one of the {self.epoch} finished epochs",
            ),
        ):
            if not fits:
                raise ValueError(problem)


def parse_state(content: Mapping[str, Any]) -> TrainingState:
    """Validate the plain values of a checkpoint.

    Raises:
        ValueError: names the first field that does not fit, and what was expected.
    """
    try:
        return TrainingState.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        if first["type"] in ("missing", "extra_forbidden"):
            raise ValueError(f"{field} is {'missing' if first['type'] == 'missing' else 'unknown'}") from error
        expected = first["msg"].removeprefix("Input should be ")
        raise ValueError(f"{field} is {reprlib.repr(first['input'])}, expected {expected}") from error


def check_like(found: object, expected: object, field: str) -> None:
    """Check that a nested value has the keys, lengths, kinds and shapes of another; tensors must be finite too.

    Args:
        found: what a checkpoint holds.
        expected: what the run would have written, whatever its values.
        field: name for the error.

    Raises:
        ValueError: names the first field that does not fit, and what was expected.
    """
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            raise ValueError(f"{field} is {reprlib.repr(found)}, expected values by name")
        for name in dict.fromkeys([*expected, *found]):
            if name not in found or name not in expected:
                raise ValueError(f"{field}.{name} is {'missing' if name in expected else 'unknown'}")
            check_like(found[name], expected[name], f"{field}.{name}")
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple) and len(found) == len(expected):
        for place, (one, like) in enumerate(zip(found, expected, strict=True)):
            check_like(one, like, f"{field}.{place}")
    elif _kind(found) != _kind(expected):
        raise ValueError(f"{field} is {_kind(found)}, expected {_kind(expected)}")
    elif isinstance(found, Tensor):
        if not found.isfinite().all():
            raise ValueError(f"{field} holds numbers that are not finite")
    elif isinstance(found, int | float) and not abs(found) <= sys.float_info.max and expected != math.inf:
        raise ValueError(f"{field} is {reprlib.repr(found)}, expected a finite number")


def check_equal(found: Mapping[str, Any], expected: Mapping[str, Any], field: str, except_for: Sequence[str]) -> None:
    """Check that all values are those of another mapping with the same keys, except for some.

    Raises:
        ValueError: names the first value that is not, and what was expected.
    """
    for name in expected:
        if name not in except_for and found[name] != expected[name]:
            one, like = reprlib.repr(found[name]), reprlib.repr(expected[name])
            raise ValueError(f"{field}.{name} is {one}, expected {like}")


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and value.device.type != "meta"
        return f"a {'' if plain else 'sparse or empty '}tensor {str(value.dtype)[6:]} {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"{len(value)} values"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    return reprlib.repr(value) if isinstance(value, str) else type(value).__name__
