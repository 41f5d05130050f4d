"""The options of a phantom, as its source names them; readable without numpy."""

from collections.abc import Mapping
from numbers import Integral

from mriscope.errors import DataError, suggest

LIMITS = {"subjects": (1, 10_000), "slices": (1, 64), "seed": (0, 2**31 - 1), "size": (32, 256), "signal": (0, 400)}
"""Least and greatest value of each option."""


def phantom_options(spec: str) -> dict[str, int]:
    """Parse a source such as `phantom:subjects=40,slices=16,seed=3` to arguments of make_phantom.

    Raises:
        DataError: it is no such source, or an option is unknown, given twice, or no whole number within its limits.
    """
    name, colon, rest = spec.partition(":")
    if name != "phantom" or (colon and not rest):
        raise DataError(f"{spec!r} is no phantom; write phantom, or options such as phantom:subjects=40,slices=16")
    options: dict[str, int] = {}
    for part in rest.split(",") if rest else []:
        key, equals, value = (text.strip() for text in part.partition("="))
        if key not in LIMITS:
            raise DataError(f"{spec}: the phantom has no option {key!r}; {suggest(key, LIMITS)}")
        if key in options:
            raise DataError(f"{spec}: {key} is given twice; keep one")
        if not equals or not value.isdecimal():
            raise DataError(f"{spec}: {key} is {value!r}; give a whole number, such as {key}=16")
        options[key] = int(value)
    check_options(options)
    return options


def check_options(options: Mapping[str, object]) -> None:
    """Refuse values of options that are no whole numbers within their limits.

    Raises:
        DataError: names the option, its value and the limits.
    """
    for name, value in options.items():
        least, most = LIMITS[name]
        if not (isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most):
            raise DataError(f"{name} of the phantom is {value!r}; give a whole number from {least} to {most}")
