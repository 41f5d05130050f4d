"""Columns of a CSV file that hold a number for each class, told by their names, as probabilities."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache

import numpy as np

from mriscope.data.naming import canonical_class
from mriscope.data.tables import Table, known, position_of
from mriscope.errors import DataError

_PROBABILITY = "probability|probabilities|prob|proba|p|score|softmax|logits|logit"
_BEFORE = re.compile(rf"({_PROBABILITY})[\W_]+?([+-]?\w.*|[+-])", re.IGNORECASE)
_AFTER = re.compile(rf"(.*\w[+-]?|[+-])[\W_]+({_PROBABILITY})\W*", re.IGNORECASE)
_TINY = re.compile(r"[+-]?\d[\d.,]*e-\d{3}", re.IGNORECASE)
_FLOAT = 1e-3
"""How far probabilities that were computed in half precision may sum beside 1."""


def whole(label: str) -> str:
    """Return a label without the ".0" that makes a class number a decimal one."""
    return label.partition(".")[0] if re.fullmatch(r"[+-]?\d+\.0*", label) else label


@lru_cache(maxsize=4096)
def class_key(label: str) -> str:
    """Return the form in which spellings of one class are equal; signs count where they tell classes apart.

    Example:
        >>> class_key("Early MCI") == class_key("early_mci"), class_key("-1"), class_key("A+"), class_key("A-")
        (True, '-1', 'a+', 'a-')
    """
    text = whole(label.strip())
    if found := canonical_class(text):
        return found
    sign, text = ("-" if re.match(r"-\d", text) else ""), re.sub(r"^\+(?=\d)", "", text)
    word = re.sub(r"[^\w+]|_", "", text).lower()
    return sign + word + "-" * text.endswith("-")


def class_in(column: str) -> tuple[str, str, bool] | None:
    """Return the class that a column such as probability_AD is of, the word beside it, and whether that comes first.

    Example:
        >>> class_in("prob_Mild Demented"), class_in("AD_Logit"), class_in("p_-1"), class_in("age")
        (('Mild Demented', 'prob', True), ('AD', 'logit', False), ('-1', 'p', True), None)
    """
    if found := _BEFORE.fullmatch(column):
        return found[2], found[1].lower(), True
    found = _AFTER.fullmatch(column)
    return (found[1], found[2].lower(), False) if found else None


def find_class_columns(
    where: object, columns: Sequence[str], labels: Set[str], classes: Sequence[str] | None, *, required: bool
) -> dict[str, str]:
    """Return the column of each class: those called alike, as probability_<class>, else those called as the classes.

    Args:
        where: the table, for messages.
        columns: those that are nothing else.
        labels: the keys of the classes that occur.
        classes: of all classes, in the order of their numbers; None where nobody says.
        required: whether nothing else tells what was predicted, so that columns of other classes are returned too.

    Returns:
        by the name of the class in the column; a single one where there is but one; none where nothing fits.

    Raises:
        DataError: several sets of columns fit.
    """
    alike: dict[tuple[str, bool], dict[str, str]] = {}
    for column in columns:
        if (found := class_in(column)) is not None:
            alike.setdefault((found[1], found[2]), {})[found[0]] = column
    allowed = {class_key(name) for name in classes or ()} | {str(number) for number in range(len(classes or ()))}
    sets = [(one, {class_key(name) for name in one}) for one in alike.values()]
    if classes is not None:
        fitting = [one for one, keys in sets if keys <= allowed]
        most = max(map(len, fitting), default=0)
        fitting = [one for one in fitting if len(one) == most and most > 1]
    else:
        fitting = [one for one, keys in sets if labels <= keys and len(one) > 1]
    plain = [one for one in fitting if not are_logits(one.values())] or fitting[:1]
    if len(plain) > 1:
        both = " and ".join(", ".join(one.values()) for one in plain[:2])
        raise DataError(f"{where} has the columns {both}, and each set may hold the probabilities; leave one out")
    if plain:
        return plain[0]
    bare = {name: name for name in columns if canonical_class(name) or class_key(name) in labels | allowed}
    single = [one for one, keys in sets if len(one) == 1 and keys <= labels | allowed]
    others = [one for one, keys in sets if len(one) > 1 and (required or keys & labels)]
    choices = [bare if len(bare) > 1 else {}, *single[:1], bare, *others]
    return next(filter(None, choices), {})


def are_logits(columns: Iterable[str]) -> bool:
    """Tell whether columns are called logits."""
    return all(re.search("logit", column, re.IGNORECASE) for column in columns)


def columns_of_classes(where: object, columns: Mapping[int, str], names: Sequence[str]) -> list[str]:
    """Return the column of each class in the order of the classes.

    Raises:
        DataError: a class has none.
    """
    if missing := [name for number, name in enumerate(names) if number not in columns]:
        raise DataError(
            f"{where} has columns of scores, {', '.join(columns.values())}, and none for the class {missing[0]}; "
            f"give every class one, called probability_{missing[0]}"
        )
    return [columns[number] for number in range(len(names))]


def softmax_of(table: Table, columns: Sequence[str]) -> np.ndarray:
    """Return the softmax of columns of logits, float32 (N, K).

    Raises:
        DataError: a cell is no number, or these are probabilities already.
    """
    values = _values(table, columns)
    if (values >= 0).all() and (np.abs(values.sum(axis=1) - 1) < _FLOAT).all():
        raise DataError(
            f"{table.path} has the columns {', '.join(columns)}, which lie between 0 and 1 and sum to 1 in each row, "
            "so they are no logits; leave --logits out, or call them probability_<class>"
        )
    odds = np.exp(values - values.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def probabilities_of(table: Table, columns: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the probabilities of columns, float32 (N, K), brought to the sum of 1 as far as they were rounded.

    Returns:
        the probabilities, and what a reader should know of them.

    Raises:
        DataError: a cell is no number, one is negative, or a row does not sum to 1, nor every row to 100.
    """
    values = _values(table, columns)
    cells = [known(row[name]).rstrip(" %").replace(",", ".") for row in table.rows for name in columns]
    digits = max(len(cell.partition(".")[2]) for cell in cells)
    sums, scale = values.sum(axis=1), 1.0
    notes: tuple[str, ...] = ()
    if (np.abs(sums - 100) < 0.5 * len(columns)).all():
        scale, notes = 100.0, ("probabilities are read as per cent, as each row sums to 100",)
    rounded = len(columns) * 0.5 * 10.0 ** -min(digits, 15) if digits or scale > 1 else 0.0
    wrong = (np.abs(sums - scale) > max(_FLOAT * scale, rounded) * 1.001) | (values < 0).any(axis=1) | (sums <= 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"the scores of row {row + 1} of {table.path} ({', '.join(columns)}) are "
            f"{', '.join(f'{value:g}' for value in values[row])}, with the sum {sums[row]:g}; probabilities sum to 1, "
            "and if these are logits, add --logits"
        )
    return (values / sums[:, None]).astype(np.float32), notes


def probabilities_of_one(table: Table, column: str, place: int, *, logits: bool) -> np.ndarray:
    """Return the probabilities of two classes from the column of one, float64 (N, 2).

    Args:
        table: the table.
        column: its column.
        place: the number of its class.
        logits: whether it holds log odds.

    Raises:
        DataError: a cell is no probability.
    """
    values = _values(table, [column])[:, 0]
    if logits:
        values = 1 / (1 + np.exp(-np.clip(values, -700, 700)))
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{column} is {values[row]:g} in row {row + 1} of {table.path}; a probability lies between 0 and 1: divide "
            "per cent by 100, and if these are logits, add --logits"
        )
    return np.stack([values if place == 0 else 1 - values, values if place == 1 else 1 - values], axis=1)


def _values(table: Table, columns: Sequence[str]) -> np.ndarray:
    """Return the numbers of columns, float64 (N, K)."""
    found = np.empty((len(table.rows), len(columns)))
    for place, column in enumerate(columns):
        for number, row in enumerate(table.rows):
            cell = row[column].rstrip(" %")
            value = 0.0 if _TINY.fullmatch(cell.strip()) else position_of(cell)
            if value is None or np.isnan(value):
                raise DataError(f"{column} is {row[column]!r} in row {number + 1} of {table.path}; expected a number")
            found[number, place] = value
    return found
