"""What the names of files and folders say: the part, the class, the order."""

import re

_PART = re.compile(r"(train|test)", re.IGNORECASE)
_CLASS = re.compile(r"(verymild|mild|moderate|non|no)(demented|dementia|impairment|impaired)")
_CANONICAL = {
    "no": "Non_Demented",
    "non": "Non_Demented",
    "verymild": "Very_Mild_Demented",
    "mild": "Mild_Demented",
    "moderate": "Moderate_Demented",
}


def part_of(name: str) -> str:
    """The published part that a name begins with, train or test, as Training and test-00000 do; or ""."""
    found = _PART.match(name)
    return found[0].lower() if found else ""


def canonical_class(name: str) -> str | None:
    """The class of this field that a name means, whatever its case and punctuation; None for any other name."""
    found = _CLASS.fullmatch(re.sub(r"[\W_]+", "", name).lower())
    return _CANONICAL[found[1]] if found else None


def natural(name: str) -> tuple[list[str | int], str]:
    """A sorting key by which slice_9 comes before slice_10; the name itself settles slice_9 and slice_09."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], name


def printable(name: str) -> str:
    """A name that can be shown and written; the replacement character marks what is no UTF-8 or not printable."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
