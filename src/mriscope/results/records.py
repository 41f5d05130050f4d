"""The base of typed results: JSON that checks itself, and numbers that may not exist."""

import json
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from mriscope.errors import MriscopeError, RunError
from mriscope.files import read_file, write_text

_LISTED = 5  # problems of a file that its message names


def _null_to_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        raise PydanticCustomError("finite", "Input should be a finite number, or null where there is none")
    return math.nan if value is None else value


def _one_nan(value: float) -> float:
    return math.nan if math.isnan(value) else value  # always the same object, so that equal results compare equal


def _nan_to_null(value: float) -> float | None:
    return None if math.isnan(value) else value


Number = Annotated[
    float,
    Field(strict=True, allow_inf_nan=True),
    BeforeValidator(_null_to_nan),
    AfterValidator(_one_nan),
    PlainSerializer(_nan_to_null, return_type=float | None, when_used="json"),
]
"""A finite number, or nan where there is none; null in JSON."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(gt=0, lt=1)]
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; nan where a number does not exist.

    Attributes:
        value: what was measured.
        low: of the interval.
        high: of the interval.
        method: how the interval was made; None in files of versions that had one method for all.
        reliable: whether such intervals were found to cover for cohorts of this kind (docs/method.md); None where
            nothing was measured of that.

    >>> Estimate(0.75, 0.5, 0.9).to_json()
    {'value': 0.75, 'low': 0.5, 'high': 0.9, 'method': None, 'reliable': None}
    """

    value: Number
    low: Number
    high: Number
    method: str | None = Field(default=None, kw_only=True)
    reliable: bool | None = Field(default=None, kw_only=True)

    @property
    def is_defined(self) -> bool:
        """Tell whether the value exists."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """Tell whether the bounds exist too."""
        return not (math.isnan(self.value) or math.isnan(self.low) or math.isnan(self.high))

    def numbers(self) -> dict[str, float | None]:
        """Return the numbers by name: None where one does not exist."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("method", "reliable")}
        return {name: _nan_to_null(one) for name, one in found.items()}

    def to_json(self) -> dict[str, float | str | bool | None]:
        """Return what it holds by name as JSON has it: None where a number does not exist."""
        return {**self.numbers(), "method": self.method, "reliable": self.reliable}


@dataclass(frozen=True)
class RunsEstimate(Estimate):
    """The mean of a value over the runs of a recipe, its interval, and the least and greatest of the runs."""

    least: Number
    greatest: Number


class Record(BaseModel):
    """A part of a result: typed, checked and frozen. Unknown keys, as of a later version, are passed over."""

    model_config = ConfigDict(
        strict=True, frozen=True, allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )


class ResultFile(Record):
    """A result that is a JSON file of its own; derive from it, and set `REMEDY` to what mends a damaged file."""

    SCHEMA: ClassVar[int] = 1
    """The version that is written; raise it where a field changes its name or its meaning."""
    REMEDY: ClassVar[str] = "write it anew with the command that made it"

    schema_version: int = Field(default=0, validate_default=True)

    @classmethod
    def read(cls, path: str | Path, *, error: type[MriscopeError] = RunError, remedy: str | None = None) -> Self:
        """Read and check the file.

        Args:
            path: the file.
            error: what to raise.
            remedy: what the message says to do; none: the class's own.

        Raises:
            MriscopeError: of the type `error`; the file is missing, no JSON, or of another form. The message names the
                file, the first fields that do not fit, and what was expected of each.
        """
        try:
            content = read_file(path)
        except OSError as reason:
            found = f"cannot be read ({reason.strerror or reason})"
            raise error(f"{path} {found}; {remedy or cls.REMEDY}") from reason
        try:
            return cls.from_json(content)
        except ValidationError as reason:
            raise error(f"{path} is damaged: {describe_problems(reason)}; {remedy or cls.REMEDY}") from reason

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Return the result that some JSON holds.

        Raises:
            ValidationError: of pydantic; it is no JSON, or of another form.
        """
        return cls.model_validate_json(content)

    @field_validator("schema_version")
    @classmethod
    def _check_version(cls, version: int) -> int:
        if not 0 <= version <= cls.SCHEMA:
            raise PydanticCustomError(
                "version", "Input should be a version from 0 to {last}; is mriscope too old?", {"last": cls.SCHEMA}
            )
        return cls.SCHEMA

    def to_json(self) -> str:
        """Return the file's text without its last newline; null stands for what does not exist."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False, allow_nan=False)

    def write(self, path: str | Path) -> None:
        """Write the file, which appears whole or not at all.

        Raises:
            WriteError: the system refuses to write there.
        """
        write_text(path, self.to_json() + "\n")


def describe_problems(error: ValidationError) -> str:
    """Say in one line which fields do not fit, what they hold and what was expected; the first few by name."""
    found = error.errors(include_url=False)
    found = [item for item in found if item["type"] == "version"] or found  # another version explains all the rest
    told = [_describe_problem(item) for item in found[:_LISTED]]
    return ", ".join([*told, *([f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else [])])


def _describe_problem(item: Mapping[str, Any]) -> str:
    field = reprlib.repr(".".join(str(part) for part in item["loc"]))[1:-1]
    if item["type"] == "missing":
        return f"{field} is missing"
    if item["type"] == "json_invalid":
        return f"it is no valid JSON ({item['ctx']['error']})"
    expected = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
    found = item["input"]
    kind = "an object" if isinstance(found, dict) else f"a list of {len(found)}" if isinstance(found, list) else ""
    place = f"{field} holds {kind or reprlib.repr(found)} and" if field else "it"
    return f"{place} {expected[:1].lower()}{expected[1:]}"
