"""Which folders of a tree name the part and the class of its slices."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mriscope.data.naming import as_word, canonical_class, natural, part_of_folder, subject_of
from mriscope.errors import DataError

CLASS_WORDS = re.compile(
    "ad|alzheimers?(disease)?|cn|cognitivelynormal|nc|hc|normal|healthy|controls?|[elsp]?mci|smci|smc|scd|ftd|dlb|vad"
    "|(non)?demen(ted|tia)|non|no|yes|(very)?mild|moderate|severe|(no|glioma|meningioma|pituitary)?tumou?r"
    "|glioma|meningioma|pituitary"
)
"""Names of classes, in small letters and without punctuation, beside the four of this field."""
OTHER_WORDS = re.compile(
    "original|augmented|augmentation|raw|(pre)?processed|resized|(data)?sets?|data|images?|img|slices|jpe?g|png"
    "|folds?|cv|split|axial|coronal|sagittal|transverse|view|site|cent(er|re)|scanner|batch|ses|session|visit",
    re.IGNORECASE,
)
"""Words in the names of folders that hold class folders, or lie within them: sets, folds, planes, sites, sessions."""
_PART = "train|training|val|valid|validation|dev|test|testing"
_BEGUN = re.compile(rf"(?P<first>(?i:{_PART}))(?=[\W_\dA-Z])|.*(?:[\W_\d]|(?<=[a-z])(?=[A-Z]))(?P<last>(?i:{_PART}))$")
SHOWN = 4

Chain = tuple[str, ...]
"""The folders above a file, from the source's own downwards."""


@dataclass(frozen=True)
class Place:
    """What the folders above a file say of it, "" where they say nothing: part and class folder."""

    part: str = ""
    class_folder: str = ""


def find_places(name: str, chains: Iterable[Chain]) -> dict[Chain, Place]:
    """Find the part and the class folder of the slices in each folder.

    Folders of train, validation (val, valid, dev) and test may stand at any level, as may folders with the number of a
    subject (`subject_of`). Of the others, class folders are those with a known name, such as NonDemented, AD or glioma
    (`CLASS_WORDS`); where names tell nothing, those at the top. A level of sets, folds, planes or sites
    (`OTHER_WORDS`) or of plain numbers holds no classes where there is another; the names of one below it must then
    recur in its folders.

    Args:
        name: the source as its user wrote it, for messages.
        chains: the folders that hold images themselves, each as the names of the folders that lead there.

    Returns:
        a place for each; the class folder is "" for folders above the class folders.

    Raises:
        DataError: the folders can be read in two ways, or one does not go with the others.

    Example:
        >>> places = find_places("set", [("Original", "AD"), ("Original", "CN"), ("Augmented", "AD")])
        >>> places["Augmented", "AD"]
        Place(part='', class_folder='AD')
    """
    known = sorted(set(chains), key=lambda chain: [natural(folder) for folder in chain])
    _check_begun(name, known)
    level = _class_levels(name, known)
    parts = _parts(name, {chain: level.get(chain) for chain in known})
    return {chain: Place(parts[chain], chain[level[chain]]) if chain in level else Place() for chain in known}


def _class_levels(name: str, chains: Sequence[Chain]) -> dict[Chain, int]:
    """Find the place of the class folder in each chain; chains that end above the class folders are left out."""
    rest = {
        chain: [at for at, folder in enumerate(chain) if not part_of_folder(folder) and not subject_of(folder)]
        for chain in chains
    }
    if not any(rest.values()):
        if subjects := [chain for chain in chains if any(map(subject_of, chain))]:
            raise DataError(
                f"{name} has folders of subjects, such as {'/'.join(subjects[0])}, and no class folders; expected one "
                "folder of images for each class, above or below them"
            )
        return {}
    by_name = {chain: [at for at in rest[chain] if _is_class_word(chain[at])] for chain in chains}
    found = {chain: levels[0] for chain, levels in by_name.items() if len(levels) == 1}
    if not found or any(len(levels) > 1 for levels in by_name.values()) or _misfits(chains, found):
        chosen = _chosen(name, rest)
        found = {chain: levels[chosen] for chain, levels in rest.items() if len(levels) > chosen}
    if misfits := _misfits(chains, found):
        raise DataError(
            f"{name}: the folder {'/'.join(misfits[0])} holds images and no class folder, as others do; move it away"
        )
    return found


def _misfits(chains: Sequence[Chain], level: Mapping[Chain, int]) -> list[Chain]:
    """Return the chains that neither have a class folder nor end above one."""
    above = {chain[:end] for chain, at in level.items() for end in range(at + 1)}
    return [chain for chain in chains if chain and chain not in level and chain not in above]


def _chosen(name: str, rest: Mapping[Chain, Sequence[int]]) -> int:
    """Choose the level that holds the class folders, counted from 0 at the top."""
    columns = [
        {chain: chain[levels[depth]] for chain, levels in rest.items() if len(levels) > depth}
        for depth in range(max(map(len, rest.values()), default=0))
    ]
    names = [sorted(set(column.values()), key=natural) for column in columns]
    classes = [depth for depth, folders in enumerate(names) if any(map(_is_class_word, folders))]
    if len(classes) > 1:
        raise _two_readings(name, rest, names, classes[0], classes[1])
    if classes:
        return classes[0]
    telling = [depth for depth, folders in enumerate(names) if not all(map(is_other, folders))]
    telling = telling or [depth for depth, folders in enumerate(names) if len(folders) > 1]
    if not telling:
        return 0
    first, *deeper = telling
    for depth in range(first):
        if len(names[depth]) > 1 and not _recur(columns[depth], columns[first]):
            raise _two_readings(name, rest, names, depth, first)
    for depth in deeper:
        if _recur(columns[first], columns[depth]):
            raise _two_readings(name, rest, names, first, depth)
    return first


def _recur(upper: Mapping[Chain, str], lower: Mapping[Chain, str]) -> bool:
    """Tell whether at least half of the lower names, of two or more, lie in several of the upper folders."""
    parents: dict[str, set[str]] = {}
    for chain, folder in lower.items():
        parents.setdefault(folder, set()).add(upper[chain])
    return len(parents) > 1 and 2 * sum(len(found) > 1 for found in parents.values()) >= len(parents)


def _two_readings(
    name: str, rest: Mapping[Chain, Sequence[int]], names: Sequence[Sequence[str]], upper: int, lower: int
) -> DataError:
    chain = next(chain for chain, levels in rest.items() if len(levels) > lower)
    one = "/".join(chain[: rest[chain][upper] + 1])
    return DataError(
        f"{name} can be read in two ways: the classes are {_listed(names[upper])}, or {_listed(names[lower])} within "
        "them; for the first put the images straight into the upper folders, for the second name one of these as the "
        f"source, such as {name}/{one}"
    )


def _listed(folders: Sequence[str]) -> str:
    more = f" and {len(folders) - SHOWN} more" if len(folders) > SHOWN else ""
    return ", ".join(folders[:SHOWN]) + more


def _parts(name: str, level: Mapping[Chain, int | None]) -> dict[Chain, str]:
    """Return the part of each chain; either every chain with a class folder has one or none has."""
    at = {chain: [depth for depth, folder in enumerate(chain) if part_of_folder(folder)] for chain in level}
    named = {chain: {part_of_folder(chain[depth]) for depth in depths} for chain, depths in at.items()}
    if both := next((chain for chain, parts in named.items() if len(parts) > 1), None):
        raise DataError(f"{name}: the folder {'/'.join(both)} lies in two parts; move it away")
    usual = next((depths[0] for depths in at.values() if depths), None)
    odd = [chain for chain, parts in named.items() if level[chain] is not None and not parts]
    if usual is not None and odd:
        shown = "/".join(odd[0][: usual + 1])
        raise DataError(
            f"{name}: the folder {shown} is no train, validation or test folder, as others are; move it away"
        )
    return {chain: next(iter(parts), "") for chain, parts in named.items()}


def begun_part(folder: str) -> str:
    """Return the part that a folder's name begins or ends with, beside more than `part_of_folder` knows, or "".

    Example:
        >>> begun_part("train_1"), begun_part("AD_test"), begun_part("train"), begun_part("tested")
        ('train', 'test', '', '')
    """
    if part_of_folder(folder):
        return ""
    found = _BEGUN.match(folder)
    return part_of_folder(found["first"] or found["last"]) if found else ""


def _check_begun(name: str, chains: Sequence[Chain]) -> None:
    """Refuse folders such as train_AD and test_AD, or train_1 and test_1, of which nobody knows what they are."""
    begun = {folder: part for chain in chains for folder in chain if (part := begun_part(folder))}
    if len(set(begun.values())) > 1:
        raise DataError(
            f"{name} can be read in two ways: the folders {_listed([*begun])} are parts, as their names begin or end, "
            "or they are not; for the first move their images into folders such as train/CLASS and test/CLASS, for the "
            "second rename them without train, validation and test"
        )


def _is_class_word(folder: str) -> bool:
    return bool(canonical_class(folder) or CLASS_WORDS.fullmatch(as_word(folder)))


def is_other(folder: str) -> bool:
    """Tell whether a folder is called as sets, folds, planes, sites and sessions are, or by a plain number."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", folder)
    return folder.isdigit() or any(map(OTHER_WORDS.fullmatch, words))
