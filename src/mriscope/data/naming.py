"""What the names of files and folders say: the part, the class, the subject, the order."""

import re

_PART = re.compile(r"(train|test)", re.IGNORECASE)
_CLASS = re.compile(r"(verymild|mild|moderate|non|no)(demented|dementia|impairment|impaired)")
_SUBJECT = re.compile(
    r"(sub-(?=[a-z]*\d)[a-z\d]+|(?:subject|subj|sub|patient|participant|pat|case|person)[\W_]*\d+"
    r"|OAS[123]_?\d{4}|\d{3}_S_\d{4,5}|IXI\d{3})(?![a-z\d]).*",
    re.IGNORECASE | re.DOTALL,
)
_CANONICAL = {
    "no": "Non_Demented",
    "non": "Non_Demented",
    "verymild": "Very_Mild_Demented",
    "mild": "Mild_Demented",
    "moderate": "Moderate_Demented",
}


def part_of(name: str) -> str:
    """Return the published part that a name begins with, train or test, as Training and test-00000 do; or ""."""
    found = _PART.match(name)
    return found[0].lower() if found else ""


def canonical_class(name: str) -> str | None:
    """Return the class of the study that a name means, whatever its case and punctuation; None for other names."""
    found = _CLASS.fullmatch(re.sub(r"[\W_]+", "", name).lower())
    return _CANONICAL[found[1]] if found else None


def subject_of(name: str) -> str:
    """Return the subject that the name of a folder begins with, or "".

    These are known: sub-01 (BIDS), OAS1_0028 (OASIS; its _MR1 is a session of that subject), 133_S_0912 (ADNI), IXI002,
    and patient 12, subject_12, case-12 and the like. A plain number tells nothing.

    Example:
        >>> subject_of("OAS1_0028_MR1"), subject_of("Patient 12"), subject_of("0012")
        ('oas1_0028', 'patient 12', '')
    """
    found = _SUBJECT.fullmatch(name)
    return found[1].lower() if found else ""


def natural(name: str) -> tuple[list[str | int], str]:
    """Return a sorting key by which slice_9 comes before slice_10; the name itself settles slice_9 and slice_09."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], name


def printable(name: str) -> str:
    """Return a name that can be shown and written; U+FFFD replaces what is no UTF-8 or not printable."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
