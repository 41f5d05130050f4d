"""What ids of subjects in tables and headers mean: one spelling of each, and the sessions that they end with."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_ENDINGS = (
    r"(?P<subject>OAS[123]_?\d{4}\d?)[_\W]+(?P<session>MR_?d?\d+)?.*",
    r"(?P<subject>\d{3}_S_\d{4,5})[_\W]+(?P<session>.+)",
    r"(?P<subject>IXI\d{3})-(?:Guys|HH|IOP|\d{4}|T1|T2|PD|MRA).*",
    r"(?P<subject>sub-[a-z\d]+)(?=_.)(?:_(?P<session>ses-[a-z\d]+))?(?:_[a-z]+-[a-z\d]+)*(?:_(?:[TP][12D]?w|FLAIR))?",
)
"""Ids of OASIS, ADNI, IXI and BIDS with more than the subject, as `identifiers` knows them in paths."""
_KNOWN = tuple(re.compile(ending, re.IGNORECASE | re.DOTALL) for ending in _ENDINGS)
_WORDS = "subject|subj|sub|participant|patient|person|pat|case|id"
_VISITS = "visit|session|scan|ses|month|year|timepoint|tp|v|m|t|bl|baseline"
"""What may stand before and behind the number of a subject."""


@dataclass(frozen=True)
class SubjectIds:
    """What a column of ids means.

    Args:
        subjects: of each row, "" where unknown.
        sessions: that each id ends with; or "".
        notes: what the user should be told.
    """

    subjects: list[str]
    sessions: list[str]
    notes: tuple[str, ...] = ()


def split_session(name: str) -> tuple[str, str]:
    """Return the subject of an id that a known cohort writes with a session, and the session; others as they are.

    Example:
        >>> split_session("OAS1_0028_MR1"), split_session("sub-01_ses-M00"), split_session("p1_v2")
        (('OAS1_0028', 'MR1'), ('sub-01', 'ses-M00'), ('p1_v2', ''))
    """
    found = next((one for known in _KNOWN if (one := known.fullmatch(name))), None)
    return (found["subject"], found.groupdict().get("session") or "") if found else (name, "")


def fold(name: str) -> str:
    """Return the form in which spellings of one id are equal: case and blanks around it do not count."""
    return name.strip().casefold()


def unify_subjects(names: Sequence[str]) -> SubjectIds:
    """Return the subjects that ids mean: without known sessions, and in the first of several spellings.

    Args:
        names: of one source, "" where unknown.

    Example:
        >>> unify_subjects(["OAS1_0028_MR1", "oas1_0028_MR2", "p0", "P0 "]).subjects
        ['OAS1_0028', 'OAS1_0028', 'p0', 'p0']
    """
    split = {name: split_session(name.strip()) for name in dict.fromkeys(names)}
    spelling: dict[str, str] = {}
    respelled = ""
    for subject, _ in split.values():
        first = spelling.setdefault(fold(subject), subject)
        if first != subject:
            respelled = respelled or f"{first} and {subject}"
    if not respelled:
        blank = next((name for name in split if name != name.strip() and name.strip() in split), "")
        respelled = f"{blank.strip()} and {blank!r}" if blank else ""
    cut = next((name for name, (subject, _) in split.items() if subject != name.strip()), "")
    notes = []
    if cut:
        notes.append(
            f"ids of subjects also tell a session or scan, such as {cut}: they are taken for the subject "
            f"{split[cut][0]}, as its cohort names it"
        )
    if respelled:
        notes.append(f"ids that differ only in case or surrounding blanks are one subject, such as {respelled}")
    known = [split[name] for name in names]
    return SubjectIds([spelling[fold(subject)] for subject, _ in known], [when for _, when in known], tuple(notes))


def loose_id(name: str) -> str:
    """Return the form in which ids are equal that may be one subject: without visit, word and leading zeros.

    Example:
        >>> loose_id("sub-001"), loose_id("1.0"), loose_id("Patient 1_v2"), loose_id("S10_02")
        ('1', '1', '1', 's10-2')
    """
    text = re.sub(r"(?<=\d)\.0+$", "", fold(name))
    text = re.sub(rf"(?<=\d)[\W_]+(?:{_VISITS})[\W_]*\d*$", "", text)
    text = re.sub(rf"^(?:{_WORDS})(?=[\W_]*\d)", "", text)
    return re.sub(r"[\W_]+", "-", re.sub(r"(?<!\d)0+(?=\d)", "", text)).strip("-")


def alike_ids(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of ids that may be one subject, one for each such subject.

    Example:
        >>> alike_ids(["001", "2", "1", "sub-01"])
        [('001', '1')]
    """
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        found.setdefault(loose_id(name), []).append(name)
    return [(same[0], same[1]) for loose, same in found.items() if loose and len(same) > 1]
