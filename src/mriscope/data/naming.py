"""What the names of files and folders say: the part, the class, the subject, the order."""

import re
from collections.abc import Collection, Iterable

from mriscope.errors import DataError

CLASS_NAMES = ("Mild_Demented", "Moderate_Demented", "Non_Demented", "Very_Mild_Demented")

PARTS = ("train", "validation", "test")
_WORDS = {"train": "train|training", "validation": "val|valid|validation|dev", "test": "test|testing"}
_FOLDERS = {
    part: rf"({words})[\W_]*(set|data|dataset|images?|imgs?|slices|split|part)?" for part, words in _WORDS.items()
}
_FILES = {"train": "train", "validation": "(val|valid|validation|dev)(?![a-z])", "test": "test"}
_CLASS = re.compile(r"(verymild|mild|moderate|non|no)(demented|dementia|impairment|impaired)")
_SUBJECT = re.compile(
    r"(sub-(?=[a-z]*\d)[a-z\d]+|(?:subject|subj|sub|patient|participant|pat|case|person)[\W_]*\d+"
    r"|OAS[123]_?\d{4}\d?|\d{3}_S_\d{4,5}|IXI\d{3})(?![a-z\d]).*",
    re.IGNORECASE | re.DOTALL,
)
_SEGMENTATION = re.compile(r"[-_](mask|d?seg|segmentation)(\.[a-z]+|\.nii\.gz)$", re.IGNORECASE)
_CANONICAL = {
    "no": "Non_Demented",
    "non": "Non_Demented",
    "verymild": "Very_Mild_Demented",
    "mild": "Mild_Demented",
    "moderate": "Moderate_Demented",
}


def part_of(file: str) -> str:
    """Return the published part that the name of a file begins with, or "".

    Example:
        >>> part_of("train-00000-of-00012.parquet"), part_of("valid_1.csv"), part_of("values.csv")
        ('train', 'validation', '')
    """
    return next((part for part, begin in _FILES.items() if re.match(begin, file, re.IGNORECASE)), "")


def part_of_folder(folder: str) -> str:
    """Return the published part that a folder is named for, or "".

    Example:
        >>> part_of_folder("Training"), part_of_folder("dev"), part_of_folder("test set"), part_of_folder("tested")
        ('train', 'validation', 'test', '')
    """
    return next((part for part, words in _FOLDERS.items() if re.fullmatch(words, folder, re.IGNORECASE)), "")


def segmentations(paths: Iterable[str]) -> set[str]:
    """Return the files that segment others beside them, by their names' ends: _seg, _mask, _dseg, _segmentation.

    A folder of nothing else has images of its own, which are none.

    Example:
        >>> sorted(segmentations(["AD/1.png", "AD/1_mask.png", "masks/2_mask.png"]))
        ['AD/1_mask.png']
    """
    found, others = [], set()
    for path in paths:
        folder, _, file = path.rpartition("/")
        if _SEGMENTATION.search(file):
            found.append((folder, path))
        else:
            others.add(folder)
    return {path for folder, path in found if folder in others}


def segmentation_notes(left_out: Collection[str]) -> tuple[str, ...]:
    """Say how many segmentations were left out."""
    if not left_out:
        return ()
    return (f"{len(left_out):,} segmentations such as {min(left_out)} lie beside the images and were left out",)


def part_order(part: str) -> int:
    """Return the place of a part: train, validation, test; slices of no part come first."""
    return PARTS.index(part) if part in PARTS else -1


def canonical_class(name: str) -> str | None:
    """Return the class of the study that a name means, whatever its case and punctuation; None for other names."""
    found = _CLASS.fullmatch(re.sub(r"[\W_]+", "", name).lower())
    return _CANONICAL[found[1]] if found else None


class LabelsError(DataError):
    """A table without a column of labels, or whose labels are of fewer than two classes."""


def number_classes(name: str, labels: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return numbers for classes that are named by texts.

    Labels that all mean one of the four classes of this field, whatever their case and punctuation, are those; others
    are classes of their own, in natural order. Those that differ only in case are one class.

    Args:
        name: the source, for messages.
        labels: of each slice; "" where unknown.

    Returns:
        the names of the classes, and the number of each label.

    Raises:
        LabelsError: there are fewer than two classes.

    Example:
        >>> number_classes("x.csv", ["MCI", "AD", "", "MCI"])
        (('AD', 'MCI'), {'AD': 0, 'MCI': 1})
    """
    found = sorted({*labels} - {""}, key=natural)
    spelling: dict[str, str] = {}
    classes = [label for label in found if spelling.setdefault(label.casefold(), label) == label]
    if len(classes) < 2:
        raise LabelsError(f"{name} has the labels {', '.join(found) or '(none)'}; expected two classes or more")
    meant = {label: canonical_class(label) for label in found}
    if all(meant.values()):
        return CLASS_NAMES, {label: CLASS_NAMES.index(str(known)) for label, known in meant.items()}
    return tuple(map(printable, classes)), {label: classes.index(spelling[label.casefold()]) for label in found}


def spelling_notes(labels: Iterable[str]) -> tuple[str, ...]:
    """Say which labels were taken for one class although they differ in case; the study's own classes aside.

    Example:
        >>> spelling_notes(["AD", "ad", "CN"])
        ('labels that differ only in case are one class: AD, ad',)
    """
    found = sorted({*labels} - {""}, key=natural)
    spellings: dict[str, list[str]] = {}
    for label in found:
        spellings.setdefault(label.casefold(), []).append(label)
    several = [", ".join(same) for same in spellings.values() if len(same) > 1]
    if not several or all(map(canonical_class, found)):
        return ()
    return (f"labels that differ only in case are one class: {'; '.join(several)}",)


def subject_of(name: str) -> str:
    """Return the subject that the name of a folder begins with, or "".

    These are known: sub-01 (BIDS), OAS1_0028 (OASIS; its _MR1 is a session of that subject), 133_S_0912 (ADNI), IXI002,
    and patient 12, subject_12, case-12 and the like. A plain number tells nothing.

    Example:
        >>> subject_of("OAS1_0028_MR1"), subject_of("Patient 12"), subject_of("0012")
        ('OAS1_0028', 'Patient 12', '')
    """
    found = _SUBJECT.fullmatch(name)
    return found[1] if found else ""


def natural(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Return a sorting key by which slice_9 comes before slice_10; the name itself settles slice_9 and slice_09."""
    parts = re.split(r"([0-9]+)", name)
    return [(len(part.lstrip("0")), part.lstrip("0")) if odd % 2 else part for odd, part in enumerate(parts)], name


def as_word(name: str) -> str:
    """Return a name reduced to small letters and digits, by which Subject ID and subject_id are one."""
    return re.sub(r"[\W_]+", "", name).lower()


def printable(name: str) -> str:
    """Return a name that can be shown and written; U+FFFD replaces what is no UTF-8 or not printable."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
