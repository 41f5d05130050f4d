"""An audit in words, as CSV and as a page of its own."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mriscope.data.manifest import COLUMNS
from mriscope.data.slices import SliceSet
from mriscope.files import spreadsheet_safe
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
    """Return what the audit comes to, in one or two sentences."""
    if facts["split"] is None:
        return "No split was audited: the source publishes none and none was named with --split."
    protocol, power = facts["split"]["protocol"].replace("_", " "), facts["split"]["power"]
    if facts["leaky"] is None:
        return f"CANNOT TELL whether the {protocol} split shares brains: {_doubt(facts)}. {_way_out(facts)}"
    if facts["leaky"]:
        doubt = f" Of {_slices(power['open'])} more nothing can be said." if power["open"] else ""
        little = f"so a score on the {protocol} split says little about new brains"
        return f"LEAKY: {_leak(facts)}, {little}{_proof(facts)}.{doubt}"
    known = ORIGINS[facts["subjects"]["known_from"]].strip() if facts["subjects"]["known_from"] else "as pixels tell"
    who = f"the {facts['split']['shared']['test_subjects']:,} test subjects" if facts["subjects"]["n"] else "the brains"
    return (
        f"No leak found: {who} of the {protocol} split, {known}, have no slice in its training or validation part"
        f"{_searched(power)}."
    )


def _slices(count: int) -> str:
    return f"{count:,} test slice{'' if count == 1 else 's'}"


def _searched(power: Facts) -> str:
    if not power["searched"]:
        return ""
    return f", and none of {_slices(power['searched'])} looked at is an altered copy of a slice there"


def _doubt(facts: Facts) -> str:
    """Why it cannot be told."""
    power, one = facts["split"]["power"], facts["subjects"]
    total = power["shared"] + power["settled"] + power["open"]
    share = (
        f"of {power['open']:,} of the {total:,} test slices ({_hundred(power['open'] / total)} %) nothing can be said"
    )
    if (named := str(one["known_from"]).partition(",")[0]) in ("manifest", "source"):
        return f"{share}, as the {named} leaves subjects unknown"
    if one["level"] is None or not one["groups"]:
        return f"{share}, as no two slices are alike enough to be of one brain beyond doubt"
    return (
        f"{share}: no training slice is near enough in height to be compared, as where both parts hold pieces of a "
        "brain that lacks the slices in between, or the slices were altered so that they link to no other"
    )


def _way_out(facts: Facts) -> str:
    if facts["subjects"]["n"]:
        return "Name the subjects with --manifest, or let --repair DIR write a split of those that are sure."
    return "Name the subjects with --manifest."


def _leak(facts: Facts) -> str:
    """What is shared, as far as it is proven."""
    shared, power, known = facts["split"]["shared"], facts["split"]["power"], facts["subjects"]
    slices = shared["test_slices"]
    everyone = known["known_slices"] == facts["n_slices"]
    if everyone and shared["subjects_in_either"]:
        share = _percent_of(shared["slices_in_either"], slices)
        part = "training" if shared["slices_in_train"] == shared["slices_in_either"] else "training or validation"
        return (
            f"{shared['subjects_in_either']:,} of the {shared['test_subjects']:,} test subjects, with {share} of the "
            f"test slices, also have slices in the {part} part"
        )
    if power["altered"] * 2 >= power["shared"]:
        return (
            f"{power['altered']:,} of the {slices:,} test slices ({_percent_of(power['altered'], slices)}) are altered "
            "copies of slices in the training part, or show the same brain"
        )
    if shared["near_copies"] >= power["shared"]:
        exact = shared["exact_copies"] == shared["near_copies"]
        kind = "an exact copy" if exact else "a copy that is all but equal"
        return f"{shared['near_copies']:,} of the {slices:,} test slices have {kind} in the training part"
    return (
        f"{power['shared']:,} of the {slices:,} test slices ({_percent_of(power['shared'], slices)}) show brains that "
        "the training part shows too"
    )


def _percent_of(count: int, total: int) -> str:
    return f"{100 * count / total:.4g} %"


def _proof(facts: Facts) -> str:
    controls = facts["controls"]
    if controls["audited"]["accuracy"]["value"] <= controls["audited"]["majority"]:
        return ""  # pixels alone prove nothing here
    told = f": without any training, the most similar training slice has the class of {_percent(controls['audited'])}"
    honest = controls["by_subject"]
    return f"{told} of them" + (f", and of {_percent(honest)} where no subject is shared" if honest else "")


def audit_text(facts: Facts) -> str:
    """The verdict, then the figures behind it, as the command prints them."""
    found = [
        subjects_text(facts),
        power_text(facts),
        duplicates_text(facts),
        conflicts_text(facts),
        shortcuts_text(facts),
    ]
    lines = [verdict_text(facts), "", *filter(None, found), ""]
    lines += [table(*class_table(facts)), *filter(None, [few_subjects_text(facts)]), ""]
    lines += [table(*control_table(facts))]
    permuted = permuted_table(facts)
    return "\n".join([*lines, "", table(*permuted)] if permuted[1] else lines)


def subjects_text(facts: Facts) -> str:
    """Return how many subjects there are, and how that is known."""
    one = facts["subjects"]
    evidence = ""
    if one["level"] is not None and one["weakest"] is not None:
        evidence = (
            f" Pixels link two slices from a whitened correlation of {one['level']:.2f} on, which one pair of two "
            f"brains in a hundred such sets reaches; linked slices have {one['weakest']:.2f} or more"
            + (f", others {one['strongest']:.2f} at most." if one["strongest"] is not None else ".")
        )
    if one["n"] is None:
        return f"Subjects unknown: no slice has a subject beyond doubt.{evidence}"
    each = f"{one['fewest']}" if one["fewest"] == one["most"] else f"{one['fewest']} to {one['most']}"
    origin = ORIGINS.get(one["known_from"] or "", "")
    text = f"{one['n']:,} subjects{origin}, {each} slices each."
    if one["known_slices"] < facts["n_slices"]:
        rest = facts["n_slices"] - one["known_slices"]
        share = f" {rest:,} of {facts['n_slices']:,} slices ({_percent_of(rest, facts['n_slices'])}) have no"
        if one["known_from"] in ("source, partly", "manifest, partly"):
            return f"{text}{share} named subject.{evidence}"
        text += (
            f"{share} subject beyond doubt: they link to no other slice, or are pieces that may belong to a subject "
            f"({one['groups']:,} groups were found in all)."
        )
    return text + evidence


def evidence_texts(facts: Facts) -> list[str]:
    """Return what speaks for the verdict, one text for each kind of evidence."""
    texts = [subjects_text(facts), power_text(facts), duplicates_text(facts), conflicts_text(facts)]
    return [text for text in texts if text]


def power_text(facts: Facts) -> str:
    """Return of how many test slices something is proven; "" where no split was audited."""
    if facts["split"] is None:
        return ""
    power = facts["split"]["power"]
    text = (
        f"Test slices: {power['shared']:,} proven to share their brain with the training or validation part, "
        f"{power['settled']:,} proven not to, {power['open']:,} open."
    )
    if power["searched"]:
        text += f" Altered copies were looked for of {power['searched']:,}, and found of {power['altered']:,}."
    return text


def shortcuts_text(facts: Facts) -> str:
    """Return whether facts about the files alone tell the class."""
    one = facts.get("shortcuts")
    if one is None:
        return "Whether facts about the files tell the class cannot be told: fewer than two classes have five subjects."
    score = (
        f"{_hundred(one['score'])} % of classes right on the mean, chance {_hundred(one['chance'])} %, p {one['p']:.3g}"
    )
    if not one["flagged"]:
        return f"No shortcut found: facts about the files tell the class no better than chance ({score})."
    return (
        f"SHORTCUT: the file tells the class. {'; '.join(one['told'])}. A classifier on such facts alone has {score}; "
        "a network may learn the source instead of the disease."
    )


def repaired_text(repaired: Facts) -> str:
    """Return what the split is that replaces the audited one."""
    left = f"{repaired['left_out']:,} slices in doubt are left out, " if repaired["left_out"] else ""
    return (
        f"repaired split: {repaired['file']}; {left}class shares of its training and test part differ by "
        f"{100 * repaired['uneven']:.1f} points at most. Its own audit: {repaired['verdict']}"
    )


def duplicates_text(facts: Facts) -> str:
    """Exact and near-duplicates, in all and across the parts."""
    one, known = facts["duplicates"], facts["subjects"]
    meaning = "more alike than any slices of two brains" if known["clear"] else "all but equal"
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
    subjects = slices.subject_names.tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, path in enumerate(slices.paths):
        position = "" if np.isnan(slices.positions[row]) else f"{slices.positions[row]:.10g}"
        names = (path, part_of[row], slices.class_names[slices.labels[row]], subjects[row])
        writer.writerow((*map(spreadsheet_safe, names), position))
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
    left, right = (
        f"{side}: {_slice_text(slices, one)} ({slices.paths[one]})"
        for side, one in zip(sides, (row, other), strict=True)
    )
    return Strip(
        Picture(f"{slices.paths[row]} beside {slices.paths[other]}", "", file.getvalue()), similarity, left, right
    )


def copy_strip(slices: SliceSet, row: int, origin: int, undone: np.ndarray, change: str, similarity: float) -> Strip:
    """Return an altered slice, the same with its change taken back, and its origin, side by side.

    Args:
        slices: the set.
        row: of the altered slice.
        origin: of the slice that it was made from, or one of the same brain.
        undone: uint8 (H, W), the altered slice with its change taken back.
        change: what the change is, in words.
        similarity: correlation of the two after the change is taken back.
    """
    height, width = slices.images.shape[1:]
    pixels = np.full((height, 3 * width + 2 * _GAP), 255, np.uint8)
    pixels[:, :width] = slices.images[row]
    pixels[:, width + _GAP : 2 * width + _GAP] = undone
    pixels[:, 2 * (width + _GAP) :] = slices.images[origin]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    title = f"{slices.paths[row]}, the same with its change taken back, and {slices.paths[origin]}"
    left = f"test: {_slice_text(slices, row)} ({slices.paths[row]}); {change}, taken back in the middle"
    right = f"training: {_slice_text(slices, origin)} ({slices.paths[origin]})"
    return Strip(Picture(title, "", file.getvalue()), similarity, left, right)


def next_steps(facts: Facts) -> list[tuple[str, str]]:
    """Return what to do next: why, and the command."""
    source = shlex.quote(facts["source"])
    crossval = f"mriscope crossval recipes/honest/tissue_families.yaml --data {source}"
    if facts["split"] is None:
        return [("Make a split by subject", f"mriscope split {source} --protocol by_subject --out splits")]
    if facts["leaky"] is False:
        return [
            ("Train and judge by subject", f"mriscope crossval recipes/honest/tissue_families.yaml --data {source}")
        ]
    steps = []
    if facts["subjects"]["n"]:
        steps.append(("Write a split of the sure subjects", f"mriscope audit {source} --repair repaired"))
    if facts["subjects"]["known_slices"] == facts["n_slices"]:
        steps.append(("Evaluate by subject", crossval))
    else:
        steps.append(("Name the subjects yourself", f"mriscope audit {source} --manifest subjects.csv"))
    return steps


def _slice_text(slices: SliceSet, row: int) -> str:
    subject, position = slices.subject_names[row], slices.positions[row]
    name = slices.class_names[slices.labels[row]].replace("_", " ")
    known = f"subject {subject}" if subject else "subject unknown"
    return f"{name}, {known}" + ("" if np.isnan(position) else f", position {position:.10g}")


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
        evidence=[
            *filter(None, (subjects_text(facts), power_text(facts), duplicates_text(facts), conflicts_text(facts)))
        ],
        shortcuts=shortcuts_text(facts),
        next_steps=next_steps(facts),
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
