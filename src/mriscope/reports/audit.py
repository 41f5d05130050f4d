"""An audit in words, as CSV and as a page of its own."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mriscope.data.manifest import COLUMNS
from mriscope.data.slices import UNKNOWN, SliceSet
from mriscope.reports.page import Picture, render
from mriscope.reports.text import ORIGINS, table

Facts = Mapping[str, Any]

CONTROLS = {
    "audited": "the audited split",
    "by_slice": "splits by slice",
    "by_subject": "splits by subject",
}
PERMUTED = {
    "audited_permuted": "the audited split",
    "by_subject_permuted": "splits by subject",
}
FEW = 10
"""Subjects of a class, below which its figures come with a warning."""
_GAP = 4  # pixels between the slices of a pair


@dataclass(frozen=True)
class Strip:
    """Two slices side by side, and what is known of them."""

    picture: Picture
    similarity: float
    left: str
    right: str


def verdict_text(facts: Facts) -> str:
    """What the audit comes to, in one sentence."""
    if facts["split"] is None:
        return "No split was audited: the source publishes none and none was named with --split."
    shared, protocol = facts["split"]["shared"], facts["split"]["protocol"].replace("_", " ")
    if facts["leaky"] is None:
        reason = _unknown(facts["subjects"])
        return f"Whether test brains are also in the training part cannot be told: {reason}; name them with --manifest."
    if not facts["leaky"]:
        known = ORIGINS[facts["subjects"]["known_from"]].strip()
        return (
            f"No leak found: the {shared['test_subjects']:,} test subjects of the {protocol} split, {known}, have no "
            "slice in its training or validation part."
        )
    return f"LEAKY: {_leak(shared)}, so a score on the {protocol} split says little about new brains{_proof(facts)}."


def _unknown(subjects: Facts) -> str:
    if subjects["clear"]:  # or pixels would have told
        return "the manifest leaves subjects unknown"
    return "not every slice has a known subject, and pixels do not tell subjects apart"


def _leak(shared: Facts) -> str:
    slices = shared["test_slices"]
    if not shared["slices_in_either"]:
        return f"{shared['exact_copies']:,} of the {slices:,} test slices have an exact copy in the training part"
    share = 100 * shared["slices_in_either"] / slices
    part = "training" if shared["slices_in_train"] == shared["slices_in_either"] else "training or validation"
    return (
        f"{shared['subjects_in_either']:,} of the {shared['test_subjects']:,} test subjects, with {share:.4g} % of the "
        f"test slices, also have slices in the {part} part"
    )


def _proof(facts: Facts) -> str:
    controls = facts["controls"]
    if controls["audited"]["accuracy"]["value"] <= controls["audited"]["majority"]:
        return ""  # pixels alone prove nothing here
    told = f": without any training, the most similar training slice has the class of {_percent(controls['audited'])}"
    honest = controls["by_subject"]
    return f"{told} of them" + (f", and of {_percent(honest)} where no subject is shared" if honest else "")


def audit_text(facts: Facts) -> str:
    """The verdict, then the figures behind it, as the command prints them."""
    lines = [verdict_text(facts), "", subjects_text(facts), duplicates_text(facts), conflicts_text(facts), ""]
    lines += [table(*class_table(facts)), *filter(None, [few_subjects_text(facts)]), ""]
    lines += [table(*control_table(facts))]
    permuted = permuted_table(facts)
    return "\n".join([*lines, "", table(*permuted)] if permuted[1] else lines)


def subjects_text(facts: Facts) -> str:
    """How many subjects there are, and how that is known."""
    one = facts["subjects"]
    if one["n"] is None:
        return f"Subjects unknown: {_unknown(one)}."
    each = f"{one['fewest']}" if one["fewest"] == one["most"] else f"{one['fewest']} to {one['most']}"
    head = f"{one['n']:,} subjects{ORIGINS[one['known_from']]}, {each} slices each"
    if not one["clear"]:
        return f"{head}; pixels alone would not tell them apart."
    return (
        f"{head}; pixels link slices of one brain at a correlation of {one['within']:.4f} or more, and those of two "
        f"brains reach {one['between']:.4f}."
    )


def duplicates_text(facts: Facts) -> str:
    """Exact and near-duplicates, in all and across the parts."""
    one, known = facts["duplicates"], facts["subjects"]
    meaning = "more alike than slices of two brains" if known["clear"] else "all but equal"
    text = (
        f"Exact duplicates: {one['exact_slices']:,} slices in {one['exact_groups']:,} groups. Near-duplicates "
        f"(correlation above {known['threshold']:.4f}, {meaning}): {one['near_slices']:,} of "
        f"{facts['n_slices']:,} slices have one"
    )
    if facts["split"] is None:
        return f"{text}."
    shared = facts["split"]["shared"]
    return (
        f"{text}; of {shared['test_slices']:,} test slices, {shared['near_copies']:,} have one in the training or "
        f"validation part, and {shared['exact_copies']:,} an exact copy."
    )


def conflicts_text(facts: Facts) -> str:
    """Labels that contradict each other."""
    one = facts["conflicts"]
    subjects = "" if one["subjects"] is None else f", {one['subjects']:,} subjects with several"
    return (
        f"Conflicting labels: {one['exact_groups']:,} groups of exact duplicates with several, "
        f"{one['near_pairs']:,} pairs of near-duplicates with two{subjects}."
    )


def few_subjects_text(facts: Facts) -> str:
    """Classes of so few subjects that no figure for them can say much; "" where there is none."""
    few = [
        f"{name} has {one['slices']:,} slices, but {one['subjects']} subject{'s' * (one['subjects'] != 1)}"
        for name, one in facts["classes"].items()
        if one["slices"] and one["subjects"] is not None and one["subjects"] < FEW
    ]
    return f"{'; '.join(few)}: figures for so few say little." if few else ""


def class_table(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """Head and rows: each class in slices and in subjects, and what its test slices share."""
    split = facts["split"]
    known = facts["subjects"]["n"] is not None
    columns = ["class", "slices", "share", *["subjects"] * known]
    if split is not None:
        columns += [*_parts(split), *["test slices, subject seen", "test subjects", "of them seen"] * known]
    return columns, [_class_row(facts, name, known) for name in facts["classes"]]


def _class_row(facts: Facts, name: str, known: bool) -> list[str]:
    one = facts["classes"][name]
    row = [name, f"{one['slices']:,}", f"{100 * one['share']:.1f} %", *[f"{one['subjects']}"] * known]
    if facts["split"] is not None:
        shared = facts["split"]["classes"][name]
        keys = ("slices_in_either", "test_subjects", "subjects_in_either") if known else ()
        row += [
            f"{count:,}"
            for count in (*(one["parts"][part] for part in _parts(facts["split"])), *(shared[key] for key in keys))
        ]
    return row


def _parts(split: Facts) -> list[str]:
    return [part for part, count in split["parts"].items() if count]


def control_table(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """Head and rows: 1-nearest-neighbour on pixels by way of splitting."""
    columns = ["1-nearest-neighbour on", "draws", "accuracy", "95 % interval", "of a draw", "most common class"]
    rows = []
    for name, title in CONTROLS.items():
        if one := facts["controls"][name]:
            figure = one["accuracy"]
            bounds = "none" if figure["low"] is None else f"{_hundred(figure['low'])} – {_hundred(figure['high'])}"
            spread = f"{_hundred(one['least'])} – {_hundred(one['greatest'])}" if one["draws"] > 1 else ""
            value, majority = f"{_hundred(figure['value'])} %", f"{_hundred(one['majority'])} %"
            rows.append([title, f"{one['draws']}", value, f"{bounds} by {one['unit']}", spread, majority])
    return columns, rows


def permuted_table(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """Head and rows: the same with labels shuffled between subjects."""
    columns = ["labels shuffled between subjects", "shuffles", "accuracy", "of a shuffle", "chance"]
    rows = []
    for name, title in PERMUTED.items():
        if one := facts["controls"][name]:
            spread = f"{_hundred(one['least'])} – {_hundred(one['greatest'])}"
            shares = f"{_hundred(one['mean'])} %", spread, f"{_hundred(one['chance'])} %"
            rows.append([title, f"{one['permutations']}", *shares])
    return columns, rows


def slices_csv(slices: SliceSet, parts: Mapping[str, np.ndarray]) -> str:
    """The slices as a manifest: path, part, label, subject, position; empty where unknown.

    Args:
        slices: the set.
        parts: the rows of each part.
    """
    part_of = np.full(len(slices), "", "U10")
    for name, rows in parts.items():
        part_of[rows] = name
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, path in enumerate(slices.paths):
        numbers = ("" if value == UNKNOWN else value for value in (slices.subjects[row], slices.positions[row]))
        writer.writerow((path, part_of[row], slices.class_names[slices.labels[row]], *numbers))
    return text.getvalue()


def pair_strip(slices: SliceSet, row: int, other: int, similarity: float, sides: tuple[str, str]) -> Strip:
    """Two slices of a set side by side.

    Args:
        slices: the set.
        row: of the left one.
        other: of the right one.
        similarity: correlation of the two.
        sides: what each is, such as "test" and "training".
    """
    height, width = slices.images.shape[1:]
    pixels = np.full((height, 2 * width + _GAP), 255, np.uint8)
    pixels[:, :width], pixels[:, width + _GAP :] = slices.images[row], slices.images[other]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    left, right = (f"{side}: {_slice_text(slices, one)}" for side, one in zip(sides, (row, other), strict=True))
    return Strip(
        Picture(f"{slices.paths[row]} beside {slices.paths[other]}", "", file.getvalue()), similarity, left, right
    )


def _slice_text(slices: SliceSet, row: int) -> str:
    subject, position = slices.subjects[row], slices.positions[row]
    name = slices.class_names[slices.labels[row]].replace("_", " ")
    known = "subject unknown" if subject == UNKNOWN else f"subject {subject}"
    return f"{name}, {known}" + ("" if position == UNKNOWN else f", position {position}")


def audit_page(
    title: str, facts: Facts, pictures: Mapping[str, Picture], strips: Sequence[Strip], strips_caption: str
) -> str:
    """The audit as HTML: the verdict, the figures behind it, and the pairs that show it.

    Args:
        title: of the page.
        facts: what audit.json holds.
        pictures: controls and similarity, as far as they exist.
        strips: pairs of slices.
        strips_caption: what pairs these are.
    """
    return render(
        "audit.html.j2",
        title=title,
        facts=facts,
        verdict=verdict_text(facts),
        evidence=[subjects_text(facts), duplicates_text(facts), conflicts_text(facts)],
        classes=class_table(facts),
        few=few_subjects_text(facts),
        controls=control_table(facts),
        permuted=permuted_table(facts),
        pictures=pictures,
        strips=strips,
        strips_caption=strips_caption,
    )


def _percent(score: Mapping[str, Any]) -> str:
    figure = score["accuracy"]
    bounds = (
        "" if figure["low"] is None else f" (95 % interval {_hundred(figure['low'])} to {_hundred(figure['high'])})"
    )
    return f"{_hundred(figure['value'])} %{bounds}"


def _hundred(share: float | None) -> str:
    return "undefined" if share is None else f"{100 * share:.1f}"
