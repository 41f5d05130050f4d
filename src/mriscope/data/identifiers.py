"""Whose slice a file holds, as its path tells: subject, session, position and what else names carry."""

import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mriscope.data.layout import begun_part, is_other
from mriscope.data.naming import part_of_folder, subject_of
from mriscope.errors import DataError

GROUPS = ("subject", "session", "position")
"""What a pattern of the user's own may name."""
SECONDS = 10.0  # for a user's pattern on all names; a sound one takes milliseconds
FEW = 8  # files under which numbers in names suggest nothing
SHOWN = 3

_SCHEMES = {
    "BIDS": r"(?<![a-z\d])(?P<subject>sub-(?=[a-z]*\d)[a-z\d]+)(?:_(?P<session>ses-[a-z\d]+))?"
    r"(?:_acq-(?P<acquisition>[a-z\d]+))?(?:_(?!slice)[a-z]+-[a-z\d]+)*(?:_(?:[TP][12D]?w|FLAIR)(?![a-z\d]))?",
    "OASIS": r"(?<![a-z\d])(?P<subject>OAS[123]_?\d{4}\d?)(?![a-z\d])(?:_(?P<session>MR_?d?\d+))?"
    r"(?:_(?P<acquisition>mpr-\d+))?",
    "ADNI": r"(?<!\d)(?P<subject>\d{3}_S_\d{4,5})(?!\d)",
    "IXI": r"(?<![a-z\d])(?P<subject>IXI\d{3})(?:-(?P<site>Guys|HH|IOP))?(?:-(?P<scan>\d{4}))?(?:-(?:T1|T2|PD|MRA)\b)?",
}
"""How cohorts name their files; each from the subject on. BIDS 1.10; OASIS-1 to 3; ADNI; IXI."""
_KNOWN = {name: re.compile(scheme, re.IGNORECASE) for name, scheme in _SCHEMES.items()}
_SESSION = re.compile(r"ses-[a-z\d]+", re.IGNORECASE)
_ADNI = {
    "series": re.compile(r"(?:^|[_/])(S\d{3,8})(?![\da-z])"),
    "image": re.compile(r"(?:^|[_/])(I\d{3,9})(?![\da-z])"),
}
_POSITION = re.compile(
    r"(?:^|[\W_]|(?<![a-z])(?P<plane>[xyz])|(?<![a-z])(?:slice|slc|sl|im|img|image|axial|coronal|sagittal))"
    r"[\W_]*(?P<position>\d{1,4})\W*$",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<!\d)((19|20)\d\d([-_.])(0?[1-9]|1[0-2])\3(0?[1-9]|[12]\d|3[01])|(0?[1-9]|[12]\d|3[01])([-_.])"
    r"(0?[1-9]|[12]\d|3[01])\7(19|20)\d\d)(?!\d)([-_. T]+\d{2}[-_.:]\d{2}[-_.:]\d{2}(?!\d))?"
)
"""A date, as in 2006-10-09 or 9.10.2006, and the time behind it, which are no position."""
_CHILD = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = re.compile(pattern)
json.dump([one.groupdict() if (one := found.search(name)) else None for name in names], sys.stdout)
"""


@dataclass(frozen=True)
class Identity:
    """What the path of a slice tells of it.

    Args:
        subject: or "".
        session: of the subject; or "".
        position: index along the scan; nan where unknown.
        further: such as acquisition, series, site.
        scheme: whose way of naming it is; "" where none was recognised.
    """

    subject: str = ""
    session: str = ""
    position: float = math.nan
    further: Mapping[str, str] = field(default_factory=dict)
    scheme: str = ""


NOBODY = Identity()
_NUMBERED = ("numbered folders", "numbered files")


def identify(
    paths: Sequence[str], pattern: str | None = None, classes: Sequence[str] = ()
) -> tuple[list[Identity], tuple[str, ...]]:
    """Read the subjects of slices from their paths.

    The ways in which BIDS, OASIS, ADNI and IXI name files and folders are known, and folders or files that begin with
    patient, subject, case or the like and a number. One subject may be written in small or large letters. Such a number
    that several class folders have is taken to count anew in each.

    Args:
        paths: of the slices within their source.
        pattern: a regular expression to search for in each path instead, with the named groups subject, session and
            position, of which subject is needed.
        classes: of each path; nothing where they are unknown.

    Returns:
        an identity for each path; and what a user should be told: which names were recognised, with three examples, or
        that some look like ids and are not used.

    Raises:
        DataError: the pattern is none, names other groups, fits no path, or takes too long.

    Example:
        >>> (found,), _ = identify(["Mild Dementia/OAS1_0028_MR1_mpr-1_100.jpg"])
        >>> found.subject, found.session, found.position, dict(found.further)
        ('OAS1_0028', 'MR1', 100.0, {'acquisition': 'mpr-1'})
    """
    if pattern is not None:
        found = _by_pattern(paths, pattern)
    else:
        found = [_identity(path) for path in paths]
        counted = {one.subject.lower() for one in found if one.scheme == "numbered files"}
        numbered = sum(one.scheme == "numbered files" for one in found)
        if numbered < 2 * len(counted):  # a number that almost no other file bears counts files
            found = [NOBODY if one.scheme == "numbered files" else one for one in found]
    spelling: dict[str, str] = {}
    found = [replace(one, subject=spelling.setdefault(one.subject.lower(), one.subject)) for one in found]
    found, restart = _by_class(paths, found, classes) if pattern is None else (found, ())
    shared = _in_several_parts(paths, found) if pattern is None else ()
    notes = (*_recognised(paths, found), *restart, *shared)
    if not notes and (hint := _unused(paths)):
        notes = (hint,)
    return found, notes


def _identity(path: str) -> Identity:
    """Read one path: cohorts' names anywhere, the deepest first, else folders and files of numbered patients."""
    *folders, file = path.split("/")
    stem = file.rsplit(".", 1)[0].removesuffix(".nii")
    for level in (stem, *reversed(folders)):
        for scheme, known in _KNOWN.items():
            if told := known.search(level):
                rest = stem[told.end() :] if level is stem else stem
                return _complete(path, folders, scheme, told.groupdict(), rest)
    for folder in reversed(folders):
        if subject := subject_of(folder):
            return _complete(path, folders, "numbered folders", {"subject": subject}, stem)
    if subject := subject_of(stem):
        return _complete(path, folders, "numbered files", {"subject": subject}, stem[len(subject) :])
    return NOBODY


def _complete(path: str, folders: Sequence[str], scheme: str, told: Mapping[str, str | None], rest: str) -> Identity:
    """Add what folders and the rest of the file's name tell to what a scheme told."""
    known = {name: text for name, text in told.items() if text}
    if scheme == "ADNI":
        known |= {name: one[1] for name, form in _ADNI.items() if (one := form.search(path))}
        rest = re.sub(r"_[SI]\d{3,9}(?![\da-z])", "", rest)
        known["session"] = known.get("series", "")
    if not known.get("session"):
        levels = [*(one for folder in folders for known_as in _KNOWN.values() if (one := known_as.search(folder)))]
        named = [one["session"] for one in levels if "session" in one.groupdict() and one["session"]]
        named += [one[0] for folder in folders if (one := _SESSION.fullmatch(folder))]
        known["session"] = named[-1] if named else ""
    place = _POSITION.search(_DATE.sub("date", rest))
    if place and place["plane"]:
        known["plane"] = place["plane"].upper()
    subject, session = known.pop("subject"), known.pop("session")
    return Identity(subject, session, float(place["position"]) if place else math.nan, known, scheme)


def _by_class(
    paths: Sequence[str], found: Sequence[Identity], classes: Sequence[str]
) -> tuple[list[Identity], tuple[str, ...]]:
    """Name numbered subjects by their class too, where one number lies below the folders of several classes.

    A number above the class folders, or beside files of another class, is one subject's.
    """
    classes_above: dict[tuple[str, str], set[str]] = {}
    numbered = [
        (path, one.subject, name)
        for path, one, name in zip(paths, found, classes, strict=False)
        if one.scheme in _NUMBERED
    ]
    for path, subject, name in numbered:
        classes_above.setdefault((subject, _above(path, subject)), set()).add(name)
    several: dict[str, set[str]] = {}
    for (subject, _), names in classes_above.items():
        several.setdefault(subject, set()).update(names)
    anew = {who: sorted(names) for who, names in several.items() if len(names) > 1}
    mixed = {subject for (subject, _), names in classes_above.items() if len(names) > 1}
    if not anew.keys() - mixed:
        return list(found), ()
    told = [
        replace(one, subject=f"{name}/{one.subject}") if one.scheme in _NUMBERED and one.subject not in mixed else one
        for one, name in zip(found, classes, strict=True)
    ]
    who = next(one for one in anew if one not in mixed)
    pattern = re.sub(r"\d+", lambda _: r"\d+", who)
    return told, (
        f"{who} lies below the folders of several classes ({', '.join(anew[who])}), so numbers are taken to count "
        f"subjects anew in each class ({len(anew.keys() - mixed):,} numbers occur in several); where a number is the "
        f"same subject in all, say so with --subject-pattern '(?P<subject>{pattern})'",
    )


def _in_several_parts(paths: Sequence[str], found: Sequence[Identity]) -> tuple[str, ...]:
    """Say that numbered subjects lie below folders of several parts, where that may be chance."""
    parts: dict[str, set[str]] = {}
    for path, one in zip(paths, found, strict=True):
        if one.scheme in _NUMBERED:
            parts.setdefault(one.subject, set()).update(filter(None, map(part_of_folder, path.split("/")[:-1])))
    several = {subject: named for subject, named in parts.items() if len(named) > 1}
    if not several:
        return ()
    who = min(several)
    pattern = re.sub(r"\d+", lambda _: r"\d+", who.rpartition("/")[2])
    return (
        f"{who} lies in {' and '.join(sorted(several[who]))} and was taken for one subject, as were "
        f"{len(several) - 1:,} others; where numbers count subjects anew in each part, say so with --subject-pattern "
        f"'(?P<subject>.*{pattern})'",
    )


def _above(path: str, subject: str) -> str:
    """Return the folders above the one, or the file, that a numbered subject is read from."""
    *folders, _ = path.split("/")
    levels = [at for at, folder in enumerate(folders) if subject_of(folder).lower() == subject.lower()]
    return "/".join(folders[: levels[-1]] if levels else folders)


def _by_pattern(paths: Sequence[str], pattern: str) -> list[Identity]:
    """Search for a user's pattern in a process of its own, as one with nested repetitions may never end."""
    try:
        groups = set(re.compile(pattern).groupindex)
    except (re.error, OverflowError, RecursionError) as error:
        raise DataError(f"the subject pattern {pattern!r} is no regular expression ({error}); mend it") from error
    if "subject" not in groups or not groups <= set(GROUPS):
        raise DataError(
            f"the subject pattern {pattern!r} names the groups {', '.join(sorted(groups)) or '(none)'}; expected "
            "(?P<subject>…), and (?P<session>…) and (?P<position>…) where the names tell them"
        )
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD],
            input=json.dumps([pattern, list(paths)]),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise DataError(
            f"the subject pattern {pattern!r} takes more than {SECONDS:.0f} s on {len(paths):,} names; leave out "
            "repetitions within repetitions, such as (a+)+"
        ) from error
    found = [_told(path, one, pattern) for path, one in zip(paths, json.loads(child.stdout), strict=True)]
    if paths and not any(one.subject for one in found):
        raise DataError(f"the subject pattern {pattern!r} fits none of {len(paths):,} paths, such as {paths[0]!r}")
    return found


def _told(path: str, groups: Mapping[str, str | None] | None, pattern: str) -> Identity:
    if not groups or not groups["subject"]:
        return NOBODY
    place = groups.get("position") or "nan"
    try:
        position = float(place)
    except ValueError as error:
        raise DataError(
            f"the subject pattern {pattern!r} finds the position {place!r} in {path!r}; expected a number"
        ) from error
    return Identity(groups["subject"], groups.get("session") or "", position, {}, "the pattern")


def _recognised(paths: Sequence[str], found: Sequence[Identity]) -> tuple[str, ...]:
    """Say which names were recognised, with three examples of other subjects, and how many subjects they give."""
    schemes = Counter(one.scheme for one in found if one.subject)
    if not schemes:
        return ()
    first: dict[str, int] = {}
    for row, one in enumerate(found):
        if one.subject:
            first.setdefault(one.subject, row)
    examples = "; ".join(f"{paths[row]}: {_text(found[row])}" for row in list(first.values())[:SHOWN])
    known = schemes.total()
    whole = f"{known:,} slices" if known == len(found) else f"{known:,} of {len(found):,} slices"
    sessions = len({(one.subject, one.session) for one in found if one.subject and one.session})
    told = f" and {sessions:,} sessions" if sessions else ""
    return (
        f"names tell the subjects ({', '.join(schemes)}), such as {examples}; {len(first):,} subjects{told} of {whole}",
    )


def _text(one: Identity) -> str:
    session = f", session {one.session}" if one.session else ""
    return f"subject {one.subject}{session}" + ("" if math.isnan(one.position) else f", position {one.position:.10g}")


def _unused(paths: Sequence[str]) -> str:
    """Point out names of one form with a number that several of them share, as the number of a subject would."""
    names = [_numbered_end(path.partition("#")[0]) for path in paths]
    forms = Counter(re.sub(r"\d+", "\0", name) for name in names)
    form, count = forms.most_common(1)[0] if forms else ("", 0)
    if form.count("\0") < 2 or count < max(FEW, len(paths) // 2):
        return ""
    chosen = [name for name in names if re.sub(r"\d+", "\0", name) == form]
    fields = zip(*(re.findall(r"\d+", name) for name in chosen), strict=True)
    shared = [at for at, values in enumerate(fields) if 1 < len(set(values)) <= count // 2]
    if not shared:
        return ""
    pieces = [re.escape(piece).replace("\\ ", " ") for piece in form.rsplit(".", 1)[0].split("\0")]
    numbers = [r"(?P<subject>\d+)" if at == shared[0] else r"\d+" for at in range(len(pieces) - 1)]
    told = "".join(piece + number for piece, number in zip(pieces, [*numbers, ""], strict=True))
    return (
        f"names such as {chosen[0]!r} hold numbers that several slices share and that are not used; if one is the "
        f"subject, name it, as in --subject-pattern '{told}'"
    )


def _numbered_end(path: str) -> str:
    """Return the file of a path, below its folder where that has a number; folds, sets and shards count none."""
    *_, folder, file = ["", *path.split("/")]
    file = re.sub(r"-\d+-of-\d+", "", file)
    counts = folder.isdigit() or not (is_other(folder) or begun_part(folder))
    return f"{folder}/{file}" if counts and re.search(r"\d", folder) else file
