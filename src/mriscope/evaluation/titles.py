"""Titles of pictures and pages: no number without its interval and its protocol."""

import numpy as np

from mriscope.data.slices import SEVERITY
from mriscope.evaluation.metrics import print_format
from mriscope.results import Estimate

LEAKY = "LEAKY: train and test share subjects"
UNRELIABLE = "interval not reliable here"
_CASES = {"auroc": "AUROC", "macro f1": "Macro-F1", "f1": "F1"}


def headline(name: str, estimate: Estimate, protocol: str, *, level: float = 0.95, leaky: bool | None = False) -> str:
    """Make a title that shows no number without its interval and its protocol.

    Args:
        name: of the metric; shares such as accuracy are shown in per cent.
        estimate: the metric with its interval.
        protocol: how train and test were split: "published", "by_slice" or "by_subject".
        level: of the interval.
        leaky: as split_title takes it.
    """
    split = split_title(protocol, leaky)
    if np.isnan(estimate.value):
        return f"{to_words(name)} undefined, {split}"
    unit, scale, digits = print_format(name)
    value, low, high = (f"{scale * number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    interval = "no interval" if np.isnan(estimate.low) else f"{100 * level:g} % interval {low} to {high}"
    interval = UNRELIABLE if estimate.reliable is False else interval
    return f"{to_words(name)} {value}{unit} ({interval}), {split}"


def split_title(protocol: str, leaky: bool | None = False) -> str:
    """Say how train and test were split, for a title that nobody overlooks.

    Args:
        protocol: "published", "by_slice" or "by_subject".
        leaky: whether they share subjects; None where subjects are unknown.
    """
    words = to_words(protocol).lower()
    split = f"split {words}" if protocol.startswith("by_") else f"{words} split"
    unknown = "subjects unknown" if leaky is None else ""
    return ", ".join(filter(None, [split, LEAKY if leaky else unknown]))


def class_title(class_name: str) -> str:
    """Make a class name readable: Very_Mild_Demented becomes Very mild, and Non_Demented becomes Non-demented."""
    if class_name == SEVERITY[0]:
        return "Non-demented"
    if class_name in SEVERITY:
        return to_words(class_name.removesuffix("_Demented"))
    return class_name.replace("_", " ")  # its capitals may mean something: MCI, AD


def to_words(name: str) -> str:
    """Make a name of code readable: macro_f1 becomes Macro-F1, and train Train."""
    words = name.replace("_", " ").strip()
    return _CASES.get(words.lower(), words[:1].upper() + words[1:].lower())
