"""An audit in words and as a page of its own."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mriscope.data.slices import SliceSet
from mriscope.reports.confounds import auroc_rows, cell_rows, warn
from mriscope.reports.page import Picture, label_source, render
from mriscope.reports.text import ORIGINS, UNRELIABLE, by_severity, table
from mriscope.results import Audit, ControlScore, LeakageReport, Part, PermutedScore, Power, Repair, SplitSummary

CONTROLS = {
    "audited": "the audited split",
    "by_slice": "splits by slice",
    "by_subject": "splits by subject",
}
PERMUTED = {f"{name}_permuted": CONTROLS[name] for name in ("audited", "by_subject")}
FEW = 10
"""Subjects of a class, below which its figures come with a warning."""
_GAP = 4  # pixels between the slices of a pair


@dataclass(frozen=True)
class Strip:
    """Slices side by side, their correlation, and a line about each."""

    picture: Picture
    similarity: float
    lines: tuple[str, ...]


def verdict_text(audit: LeakageReport, *, repairs: bool = True) -> str:
    """Return what the audit comes to, in one or two sentences; `repairs` says whether --repair is at hand."""
    split = audit.split
    if split is None:
        return "No split was audited: the source publishes none and none was named with --split."
    protocol, power = split.protocol.replace("_", " "), split.power
    if audit.leaky is None:
        way_out = "Name the subjects with --manifest or --subject-pattern"
        if repairs and audit.subjects.n:
            way_out += ", or let --repair DIR write a split of those that are sure"
        return f"CANNOT TELL whether the {protocol} split shares brains: {_doubt_text(audit, power)}. {way_out}."
    if audit.leaky:
        doubt = f" Of {_count_slices(power.open)} more nothing can be said." if power.open else ""
        little = f"so a score on the {protocol} split says little about new brains"
        return f"LEAKY: {_leak_text(audit, split)}, {little}{_proof_text(audit)}.{doubt}"
    known = ORIGINS[audit.subjects.known_from].strip() if audit.subjects.known_from else "as pixels tell"
    who = f"the {split.shared.test_subjects:,} test subjects" if audit.subjects.n else "the brains"
    searched = f", and none of {_count_slices(power.searched)} looked at is an altered copy of a slice there"
    return (
        f"No leak found: {who} of the {protocol} split, {known}, have no slice in its training or validation part"
        f"{searched if power.searched else ''}."
    )


def _count_slices(count: int) -> str:
    return f"{count:,} test slice{'' if count == 1 else 's'}"


def _doubt_text(audit: LeakageReport, power: Power) -> str:
    """Why it cannot be told."""
    known, total = audit.subjects, power.shared + power.settled + power.open
    share = f"of {power.open:,} of the {total:,} test slices ({_hundred(power.open / total)} %) nothing can be said"
    if (named := str(known.known_from).partition(",")[0]) in ("manifest", "source"):
        return f"{share}, as the {named} leaves subjects unknown"
    if known.level is None or not known.groups:
        return f"{share}, as no two slices are alike enough to be of one brain beyond doubt"
    return (
        f"{share}: no training slice is near enough in height to be compared, as where both parts hold pieces of a "
        "brain that lacks the slices in between, or the slices were altered so that they link to no other"
    )


def _leak_text(audit: LeakageReport, split: SplitSummary) -> str:
    """Say what is shared, as far as it is proven."""
    shared, power = split.shared, split.power
    slices = shared.test_slices
    if audit.subjects.known_slices == audit.n_slices and shared.subjects_in_either:
        share = _share_of(shared.slices_in_either or 0, slices)
        part = "training" if shared.slices_in_train == shared.slices_in_either else "training or validation"
        return (
            f"{shared.subjects_in_either:,} of the {shared.test_subjects:,} test subjects, with {share} of the "
            f"test slices, also have slices in the {part} part"
        )
    seen = (
        f"{power.shared:,} of the {slices:,} test slices ({_share_of(power.shared, slices)}) show brains that the "
        "training part shows too"
    )
    if power.altered * 2 >= power.shared:
        return f"{seen}, {power.altered:,} of them as altered copies"
    if shared.near_copies >= power.shared:
        kind = "an exact copy" if shared.exact_copies == shared.near_copies else "a copy that is all but equal"
        return f"{shared.near_copies:,} of the {slices:,} test slices have {kind} in the training part"
    return seen


def _share_of(count: int, total: int) -> str:
    return f"{100 * count / total:.4g} %"


def _proof_text(audit: LeakageReport) -> str:
    audited, honest = audit.controls.audited, audit.controls.by_subject
    if audited is None or not audited.accuracy.value > audited.majority:
        return ""  # pixels alone prove nothing here
    told = f": without any training, the most similar training slice has the class of {_accuracy_text(audited)}"
    return f"{told} of them" + (f", and of {_accuracy_text(honest)} where no subject is shared" if honest else "")


def audit_text(audit: Audit) -> str:
    """Format the verdict, then the figures behind it, as the command prints them."""
    lines = [audit.verdict, "", *evidence_texts(audit), shortcuts_text(audit), ""]
    lines += [table(*class_table(audit)), *filter(None, [few_subjects_text(audit)]), ""]
    lines += [table(*control_table(audit))]
    permuted = permuted_table(audit)
    lines += ["", table(*permuted)] if permuted[1] else []
    if audit.covariate_table is not None:
        lines += ["", table(*cell_rows(audit.covariate_table)), "", table(*auroc_rows(audit.covariate_table.aurocs))]
    return "\n".join(lines)


def subjects_text(audit: Audit) -> str:
    """Return how many subjects there are, and how that is known."""
    one = audit.subjects
    evidence = ""
    if one.level is not None and one.weakest is not None:
        evidence = (
            f" Pixels link two slices from a whitened correlation of {one.level:.2f} on, which one pair of two "
            f"brains in a hundred such sets reaches; linked slices have {one.weakest:.2f} or more"
            + (f", others {one.strongest:.2f} at most." if one.strongest is not None else ".")
        )
    if one.n is None:
        return f"Subjects unknown: no slice has a subject beyond doubt.{evidence}"
    each = f"{one.fewest}" if one.fewest == one.most else f"{one.fewest} to {one.most}"
    origin = ORIGINS.get(one.known_from or "", "")
    text = f"{one.n:,} subjects{origin}, {each} slices each."
    if one.known_slices < audit.n_slices:
        rest = audit.n_slices - one.known_slices
        share = f" {rest:,} of {audit.n_slices:,} slices ({_share_of(rest, audit.n_slices)}) have no"
        if one.known_from in ("source, partly", "manifest, partly"):
            return f"{text}{share} named subject.{evidence}"
        text += (
            f"{share} subject beyond doubt: they link to no other slice, or are pieces that may belong to a subject "
            f"({one.groups:,} groups were found in all)."
        )
    return text + evidence


def evidence_texts(audit: Audit) -> list[str]:
    """Return what speaks for the verdict, one text for each kind of evidence."""
    texts = [subjects_text(audit), power_text(audit), duplicates_text(audit), conflicts_text(audit)]
    warnings = [] if audit.covariate_table is None else list(warn(audit.covariate_table))
    return [text for text in texts if text] + warnings


def power_text(audit: Audit) -> str:
    """Return of how many test slices something is proven; "" where no split was audited."""
    if audit.split is None:
        return ""
    power = audit.split.power
    text = (
        f"Test slices: {power.shared:,} proven to share their brain with the training or validation part, "
        f"{power.settled:,} proven not to, {power.open:,} open."
    )
    if power.searched:
        text += f" Altered copies were looked for of {power.searched:,}, and found of {power.altered:,}."
    return text


def shortcuts_text(audit: Audit) -> str:
    """Return whether facts about the files alone tell the class."""
    one = audit.shortcuts
    if one is None:
        return "Whether facts about the files tell the class cannot be told: fewer than two classes have five subjects."
    score = f"{_hundred(one.score)} % of classes right on the mean, chance {_hundred(one.chance)} %, p {one.p:.3g}"
    if not one.flagged:
        return f"No shortcut found: facts about the files tell the class no better than chance ({score})."
    return (
        f"SHORTCUT: the file tells the class. {'; '.join(one.told)}. A classifier on such facts alone has {score}; "
        "a network may learn the source instead of the disease."
    )


def repair_text(repair: Repair) -> str:
    """Return what the split is that replaces the audited one."""
    left = f"{repair.left_out:,} slices in doubt are left out, " if repair.left_out else ""
    return (
        f"repaired split: {repair.file}; {left}class shares of its training and test part differ by "
        f"{100 * repair.uneven:.1f} points at most. Its own audit: {repair.verdict}"
    )


def duplicates_text(audit: Audit) -> str:
    """Format exact and near-duplicates, in all and across the parts."""
    one, known = audit.duplicates, audit.subjects
    meaning = "more alike than any slices of two brains" if known.clear else "all but equal"
    text = (
        f"Exact duplicates: {one.exact_slices:,} slices in {one.exact_groups:,} groups. Near-duplicates "
        f"(correlation above {known.threshold:.4f}, {meaning}): {one.near_slices:,} of "
        f"{audit.n_slices:,} slices have one"
    )
    if audit.split is None:
        return f"{text}."
    shared = audit.split.shared
    return (
        f"{text}; of {shared.test_slices:,} test slices, {shared.near_copies:,} have one in the training or "
        f"validation part, and {shared.exact_copies:,} an exact copy."
    )


def conflicts_text(audit: Audit) -> str:
    """Format labels that contradict each other."""
    one = audit.conflicts
    subjects = "" if one.subjects is None else f", {one.subjects:,} subjects with several"
    return (
        f"Conflicting labels: {one.exact_groups:,} groups of exact duplicates with several, "
        f"{one.near_pairs:,} pairs of near-duplicates with two{subjects}."
    )


def few_subjects_text(audit: Audit) -> str:
    """Format classes of so few subjects that no figure for them can say much; "" where there is none."""
    few = [
        f"{name} has {one.slices:,} slices, but {one.subjects} subject{'s' * (one.subjects != 1)}"
        for name, one in audit.classes.items()
        if one.slices and one.subjects is not None and one.subjects < FEW
    ]
    return f"{'; '.join(few)}: figures for so few say little." if few else ""


def class_table(audit: Audit) -> tuple[list[str], list[list[str]]]:
    """Return the head and rows: each class in slices and in subjects, and what its test slices share."""
    split = audit.split
    known = audit.subjects.n is not None
    columns = ["class", "slices", "share", *["subjects"] * known]
    if split is not None:
        columns += [*_filled_parts(split), *["test slices, subject seen", "test subjects", "of them seen"] * known]
    return columns, [_class_row(audit, name, known) for name in by_severity(audit.classes)]


def _class_row(audit: Audit, name: str, known: bool) -> list[str]:
    one = audit.classes[name]
    row = [name, f"{one.slices:,}", f"{100 * one.share:.1f} %", *[f"{one.subjects}"] * known]
    if audit.split is not None:
        shared = audit.split.classes[name]
        row += [f"{one.parts[part]:,}" for part in _filled_parts(audit.split)]
        counts = (shared.slices_in_either, shared.test_subjects, shared.subjects_in_either) if known else ()
        row += [f"{count:,}" for count in counts]
    return row


def _filled_parts(split: SplitSummary) -> list[Part]:
    return [part for part, count in split.parts.items() if count]


def control_table(audit: Audit) -> tuple[list[str], list[list[str]]]:
    """Return the head and rows: 1-nearest-neighbour on pixels by way of splitting."""
    columns = ["1-nearest-neighbour on", "draws", "accuracy", "95 % interval", "of a draw", "most common class"]
    rows = []
    for name, title in CONTROLS.items():
        one: ControlScore | None = getattr(audit.controls, name)
        if one is not None:
            low, high = _hundred(one.accuracy.low), _hundred(one.accuracy.high)
            bounds = f"{low} to {high} % by {one.unit}" if one.accuracy.has_interval else "none"
            bounds = UNRELIABLE if one.accuracy.reliable is False else bounds
            spread = f"{_hundred(one.least)} to {_hundred(one.greatest)} %" if one.draws > 1 else ""
            value, majority = f"{_hundred(one.accuracy.value)} %", f"{_hundred(one.majority)} %"
            rows.append([title, f"{one.draws}", value, bounds, spread, majority])
    return columns, rows


def permuted_table(audit: Audit) -> tuple[list[str], list[list[str]]]:
    """Return the head and rows: the same with labels shuffled between subjects."""
    columns = ["labels shuffled between subjects", "shuffles", "accuracy", "of a shuffle", "chance"]
    rows = []
    for name, title in PERMUTED.items():
        one: PermutedScore | None = getattr(audit.controls, name)
        if one is not None:
            spread = f"{_hundred(one.least)} to {_hundred(one.greatest)} %"
            rows.append([title, f"{one.permutations}", f"{_hundred(one.mean)} %", spread, f"{_hundred(one.chance)} %"])
    return columns, rows


def pair_strip(slices: SliceSet, row: int, other: int, similarity: float, sides: tuple[str, str]) -> Strip:
    """Show two slices of a set side by side.

    Args:
        slices: the set.
        row: of the left one.
        other: of the right one.
        similarity: correlation of the two.
        sides: what each is, such as "test" and "training".
    """
    left, right = (
        f"{side}: {_slice_text(slices, one)} ({slices.paths[one]})"
        for side, one in zip(sides, (row, other), strict=True)
    )
    return Strip(_picture((left, right), (slices.images[row], slices.images[other])), similarity, (left, right))


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
    lines = (
        f"test: {_slice_text(slices, row)} ({slices.paths[row]})",
        f"in the middle the same, with its change taken back: {change}",
        f"training: {_slice_text(slices, origin)} ({slices.paths[origin]})",
    )
    return Strip(_picture(lines, (slices.images[row], undone, slices.images[origin])), similarity, lines)


def _picture(lines: Sequence[str], images: Sequence[np.ndarray]) -> Picture:
    """Show slices in a row, white between them."""
    gap = np.full((len(images[0]), _GAP), 255, np.uint8)
    pixels = np.hstack([part for image in images for part in (gap, image)][1:])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    count = ("", "", "Two", "Three")[len(images)]
    return Picture(f"{count} slices side by side. {'; '.join(lines)}", "", file.getvalue())


def _slice_text(slices: SliceSet, row: int) -> str:
    subject, position = slices.subject_names[row], slices.positions[row]
    name = slices.class_names[slices.labels[row]].replace("_", " ")
    known = f"subject {subject}" if subject else "subject unknown"
    return f"{name}, {known}" + ("" if np.isnan(position) else f", position {position:.10g}")


def audit_page(
    audit: Audit,
    *,
    next_steps: Sequence[tuple[str, str]],
    pictures: Mapping[str, Picture],
    strips: Sequence[Strip],
    strips_caption: str,
) -> str:
    """Format the audit as HTML: the verdict, the figures behind it, and the pairs that show it.

    Args:
        audit: what was found.
        next_steps: why, and the command.
        pictures: controls and similarity, as far as they exist.
        strips: pairs of slices.
        strips_caption: what pairs these are.
    """
    class_heads, class_rows = class_table(audit)
    return render(
        "audit.html.j2",
        title=f"Audit of {audit.source}",
        audit=audit,
        evidence=evidence_texts(audit),
        shortcuts=shortcuts_text(audit),
        next_steps=next_steps,
        classes=(class_heads, [[row[0].replace("_", " "), *row[1:]] for row in class_rows]),
        few=few_subjects_text(audit),
        controls=control_table(audit),
        permuted=permuted_table(audit),
        pictures=pictures,
        strips=strips,
        strips_caption=strips_caption,
        made=_made(audit),
    )


def _made(audit: Audit) -> list[tuple[str, str]]:
    split = [("Split", audit.split.protocol.replace("_", " "))] if audit.split is not None else []
    return [
        ("Source", label_source(audit.source)),
        ("Fingerprint", audit.fingerprint[:16]),
        ("Slices", f"{audit.n_slices:,}"),
        *split,
        ("Seed", f"{audit.seed}"),
        ("mriscope", audit.mriscope),
    ]


def _accuracy_text(score: ControlScore) -> str:
    figure = score.accuracy
    bounds = f" (95 % interval {_hundred(figure.low)} to {_hundred(figure.high)} %)" if figure.has_interval else ""
    bounds = f" ({UNRELIABLE})" if figure.reliable is False else bounds
    return f"{_hundred(figure.value)} %{bounds}"


def _hundred(share: float) -> str:
    return "undefined" if math.isnan(share) else f"{100 * share:.1f}"
