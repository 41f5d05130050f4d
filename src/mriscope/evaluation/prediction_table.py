"""A CSV file of predictions that any program wrote: its columns, told by their names, as Predictions."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mriscope.data.naming import CLASS_NAMES, as_word, canonical_class, natural, part_of_folder, printable
from mriscope.data.slices import number_subjects
from mriscope.data.subject_ids import unify_subjects
from mriscope.data.tables import ROLES, Table, find_column, known, position_of, read_table
from mriscope.errors import DataError
from mriscope.evaluation.predictions import Predictions

NAMES = {
    "path": ROLES["path"],
    "label": (*ROLES["label"], "true", "truelabel", "trueclass", "ytrue", "target", "groundtruth", "actual", "gt"),
    "predicted": (
        *("predicted", "prediction", "pred", "predictedlabel", "predictedclass", "predlabel", "predclass"),
        *("ypred", "yhat", "output"),
    ),
    "subject": ROLES["subject"],
    "part": ROLES["part"],
    "score": ("probability", "prob", "proba", "score", "yscore", "yprob", "yproba"),
}
"""What columns are called that mean the same, as `as_word` reduces them."""
OF_IMAGES = ("image", "img", "imageid", "imagename", "id")
"""What the column of paths is called where none has a usual name."""
_WORDS = "probability|probabilities|prob|proba|p|score|softmax|logits|logit"
_BEFORE = re.compile(rf"({_WORDS})[\W_]+(.*\w.*)", re.IGNORECASE)
_AFTER = re.compile(rf"(.*\w)[\W_]+({_WORDS})\W*", re.IGNORECASE)
_FLOAT = 1e-3
"""How far probabilities that were computed in half precision may sum beside 1."""


@dataclass(frozen=True)
class ColumnChoice:
    """What a user says of the columns of a table; None leaves it to their names.

    Args:
        label: the column of the true class.
        predicted: the column of the predicted class.
        subject: the column of the subjects.
        classes: what the labels 0, 1, ... are called, in this order.
        positive: of two classes, the one that a single column of probabilities is of.
        logits: columns of classes hold logits, of which softmax makes probabilities.
    """

    label: str | None = None
    predicted: str | None = None
    subject: str | None = None
    classes: tuple[str, ...] | None = None
    positive: str | None = None
    logits: bool = False


@dataclass(frozen=True, eq=False)
class PublishedPredictions:
    """Predictions as a table has them.

    Attributes:
        predictions: of every row; of a table without probabilities 1 for the predicted class, which is no probability.
        has_probabilities: whether the table has them.
        notes: what a reader should know of how the table was read.
    """

    predictions: Predictions
    has_probabilities: bool
    notes: tuple[str, ...]


class PredictionTable:
    """A table of predictions whose columns are found.

    Args:
        path: of a CSV file with a header.
        choice: what the user says of its columns.

    Attributes:
        roles: the column of path, label, predicted, subject, part and score; None where there is none.
        paths: what each row calls its slice; None without such a column.

    Raises:
        DataError: the file cannot be read, a column is not there or ambiguous, nothing says what was predicted, or two
            rows have one path.
    """

    def __init__(self, path: object, choice: ColumnChoice) -> None:
        self.table: Table = read_table(str(path))
        self.choice = choice
        if not self.table.rows:
            raise DataError(f"{path} has no rows below its header; name a CSV file of predictions")
        given = {"label": choice.label, "predicted": choice.predicted, "subject": choice.subject}
        columns = self.table.columns
        self.roles = {role: find_column(role, columns, given.get(role), path, usual) for role, usual in NAMES.items()}
        self.roles["path"] = self.roles["path"] or find_column("path", columns, None, path, OF_IMAGES)
        self._scores = self._score_columns()
        if not self._scores and self.roles["predicted"] is None and self.roles["score"] is None:
            raise DataError(
                f"{path} has the columns {', '.join(self.table.columns)}, and none says what was predicted; expected "
                "predicted, or probability_<class> for each class, or name one with --predicted-column"
            )
        column = self.roles["path"]
        self.paths = None if column is None else [row[column] for row in self.table.rows]
        _check_once(path, self.paths or ())

    def _score_columns(self) -> dict[str, str]:
        """Return the column of scores of each class: those called alike, as probability_<class>, or as the classes."""
        told = [self.roles[role] for role in ("label", "predicted")]
        labels = {_key(known(row[column])) for column in told if column for row in self.table.rows} - {""}
        rest = [name for name in self.table.columns if name not in self.roles.values()]
        alike: dict[tuple[str, bool], dict[str, str]] = {}
        for column in rest:
            if (found := _class_in(column)) is not None:
                class_name, word, first = found
                alike.setdefault((word, first), {})[class_name] = column
        fitting = [one for one in alike.values() if self.choice.classes or labels <= {_key(name) for name in one}]
        if fitting:
            return next((one for one in fitting if not _are_logits(one.values())), fitting[0])
        labels |= {_key(name) for name in self.choice.classes or ()}
        bare = {name: name for name in rest if canonical_class(name) or _key(name) in labels}
        return bare or next(iter(alike.values()), {})

    def labels(self) -> list[str] | None:
        """Return the true class of each row as the table calls it; None without such a column."""
        column = self.roles["label"]
        return None if column is None else [known(row[column]) for row in self.table.rows]

    def subjects(self) -> list[str] | None:
        """Return the subject of each row, "" where unknown; None without such a column."""
        column = self.roles["subject"]
        return None if column is None else unify_subjects([known(row[column]) for row in self.table.rows]).subjects

    def parts(self) -> list[str] | None:
        """Return the part of each row: train, validation or test; None without such a column.

        Raises:
            DataError: a cell is none.
        """
        column = self.roles["part"]
        if column is None:
            return None
        found = [part_of_folder(known(row[column])) for row in self.table.rows]
        if "" in found:
            row = found.index("")
            raise DataError(
                f"row {row + 1} of {self.table.path} is of the part {self.table.rows[row][column]!r}; expected train, "
                "validation or test"
            )
        return found

    def read(
        self, labels: Sequence[str] | None = None, class_names: Sequence[str] | None = None
    ) -> PublishedPredictions:
        """Return the predictions.

        Args:
            labels: the true class of each row as a source has it; a table that has true classes too has to agree.
            class_names: of that source, in its order.

        Raises:
            DataError: no true classes are known, or those of table and source differ; a label, class or probability
                does not fit; or the probabilities of a row do not sum to 1.
        """
        own = self.labels()
        if own is None and labels is None:
            raise DataError(
                f"{self.table.path} has the columns {', '.join(self.table.columns)}, and none says what is true; "
                "expected label, or name one with --label-column, or the slices themselves with --data"
            )
        names = self._class_names([*(own or ()), *(labels or ())], class_names)
        truth = self._numbers(own or labels or (), names, "true class")
        if own is not None and labels is not None:
            self._check_agreement(truth, self._numbers(labels, names, "true class"), labels)
        predicted = self._predicted(names)
        probabilities, notes = self._probabilities(names)
        has_probabilities = probabilities is not None
        if probabilities is None:
            probabilities = np.eye(len(names), dtype=np.float32)[predicted]
        paths = self.paths or [f"row {number}" for number in range(1, len(self.table.rows) + 1)]
        found = Predictions.of(truth, probabilities, paths=paths, parts=self.parts(), class_names=names)
        if predicted is not None and has_probabilities and (other := int((found.predicted != predicted).sum())):
            share = 100 * float((predicted == found.labels).mean())
            notes = (
                *notes,
                f"in {other:,} of {len(found):,} rows the column {self.roles['predicted']} is not the most probable "
                f"class, which is what is evaluated; by that column the accuracy of all rows is {share:.1f} %",
            )
        if (subjects := self.subjects()) is not None:
            numbers, ids = number_subjects(subjects)
            found = replace(found, subjects=numbers, subject_ids=ids)
        return PublishedPredictions(found, has_probabilities, notes)

    def _class_names(self, labels: Sequence[str], class_names: Sequence[str] | None) -> tuple[str, ...]:
        """Return the classes: those that the user or the source names, else those of the scores, else of the labels."""
        named = self.choice.classes
        if named is not None and len({*map(_key, named)} - {""}) < max(2, len(named)):
            raise DataError(f"--classes names {', '.join(named)}; name two or more, each of them once")
        if class_names is not None:
            if other := [name for name in named or () if _key(name) not in {*map(_key, class_names)}]:
                raise DataError(f"--classes names {other[0]}; the classes of the source are {', '.join(class_names)}")
            return tuple(class_names)
        if named is not None:
            return named
        column = self.roles["predicted"]
        told = [*labels, *(known(row[column]) for row in self.table.rows if column)]
        found = {_key(name): printable(_whole(name)) for name in sorted({*told} - {""}, key=natural)}
        if self._scores:
            found = {_key(name): printable(name) for name in self._scores}
        if self.choice.positive is not None and len(found) < 2:
            found.setdefault(_key(self.choice.positive), self.choice.positive)
        if len(found) < 2:
            raise DataError(
                f"{self.table.path} has the classes {', '.join(found.values()) or '(none)'}; expected two or more, as "
                "columns probability_<class> or among the labels"
            )
        known_classes = {canonical_class(name) for name in found.values()}
        if known_classes <= {*CLASS_NAMES}:
            return tuple(name for name in CLASS_NAMES if name in known_classes)
        return tuple(found.values())

    def _numbers(self, labels: Sequence[str], names: Sequence[str], what: str) -> np.ndarray:
        number_of = {_key(name): number for number, name in enumerate(names)}
        number_of |= {str(number): number_of[_key(name)] for number, name in enumerate(self.choice.classes or ())}
        found = [number_of.get(_key(label)) for label in labels]
        if None in found:
            row = found.index(None)
            if not labels[row]:
                raise DataError(f"row {row + 1} of {self.table.path} has no {what}; fill it in, or leave the row out")
            mend = "leave out its rows, or give every class a column"
            if re.fullmatch(r"\d+", _key(labels[row])):
                mend = "say what the labels 0, 1, ... are called, in this order, with --classes"
            raise DataError(
                f"row {row + 1} of {self.table.path} has the {what} {labels[row]!r}, and the classes are "
                f"{', '.join(names)}; {mend}"
            )
        return np.array(found, np.int64)

    def _check_agreement(self, own: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> None:
        """Refuse true classes that are not those of the source."""
        if (other := np.flatnonzero(own != truth)).size:
            row, column = int(other[0]), str(self.roles["label"])
            raise DataError(
                f"{other.size:,} of the {len(truth):,} rows of {self.table.path} have another {column} than the "
                f"source, the first {str(self.table.rows[row][column])!r} for {labels[row]!r} in row {row + 1}; "
                "are these the slices that were predicted?"
            )

    def _predicted(self, names: Sequence[str]) -> np.ndarray | None:
        column = self.roles["predicted"]
        if column is None:
            return None
        return self._numbers([known(row[column]) for row in self.table.rows], names, "predicted class")

    def _probabilities(self, names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Return float32 (N, K), or None where the table has none, and what is to be said of them."""
        if not self._scores:
            column = self.roles["score"]
            return (None, ()) if column is None else (self._of_one_column(column, names), ())
        column_of: dict[int, str] = {}
        for class_name, column in self._scores.items():
            number = int(self._numbers([class_name], names, "column of class")[0])
            if number in column_of:
                raise DataError(
                    f"{self.table.path} has the columns {column_of[number]} and {column}, both of the class "
                    f"{names[number]}; keep one"
                )
            column_of[number] = column
        if missing := [name for number, name in enumerate(names) if number not in column_of]:
            raise DataError(
                f"{self.table.path} has columns of scores, {', '.join(self._scores.values())}, and none for the class "
                f"{missing[0]}; give every class one, called probability_{missing[0]}"
            )
        columns = [column_of[number] for number in range(len(names))]
        values = np.stack([self._values(column) for column in columns], axis=1)
        if self.choice.logits or _are_logits(columns):
            odds = np.exp(values - values.max(axis=1, keepdims=True))
            return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), ("softmax of logits",)
        return self._normalised(values, columns)

    def _normalised(self, values: np.ndarray, columns: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return probabilities that sum to 1, as far as they were rounded beside it; refuse what cannot be meant."""
        cells = [known(row[name]).replace(",", ".") for row in self.table.rows for name in columns]
        digits = max(len(cell.partition(".")[2]) for cell in cells)
        sums, scale = values.sum(axis=1), 1.0
        notes: tuple[str, ...] = ()
        if (np.abs(sums - 100) < 0.5 * len(columns)).all():
            scale, notes = 100.0, ("probabilities are read as per cent, as each row sums to 100",)
        rounded = len(columns) * 0.5 * 10.0 ** -min(digits, 15) if digits or scale > 1 else 0.0
        wrong = (np.abs(sums - scale) > max(_FLOAT * scale, rounded * 1.001)) | (values < 0).any(axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"the scores of row {row + 1} of {self.table.path} ({', '.join(columns)}) are "
                f"{', '.join(f'{value:g}' for value in values[row])}, with the sum {sums[row]:g}; probabilities sum to "
                "1, and if these are logits, add --logits"
            )
        return (values / sums[:, None]).astype(np.float32), notes

    def _of_one_column(self, column: str, names: Sequence[str]) -> np.ndarray:
        """Return the probabilities of two classes from those of one."""
        if len(names) != 2 or self.choice.positive is None:
            raise DataError(
                f"{self.table.path} has one column of probabilities, {column}, and the classes {', '.join(names)}; "
                "of two classes say which one it is of with --positive, and else give every class a column"
            )
        keys = [_key(name) for name in names]
        if _key(self.choice.positive) not in keys:
            raise DataError(f"--positive names {self.choice.positive}; the classes are {', '.join(names)}")
        place = keys.index(_key(self.choice.positive))
        values = self._values(column)
        if self.choice.logits:
            values = 1 / (1 + np.exp(-values))
        wrong = (values < 0) | (values > 1)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{column} is {values[row]:g} in row {row + 1} of {self.table.path}; a probability lies between 0 and "
                "1, and if these are logits, add --logits"
            )
        return np.stack([values if place == 0 else 1 - values, values if place == 1 else 1 - values], axis=1)

    def _values(self, column: str) -> np.ndarray:
        found = [position_of(row[column].rstrip(" %")) for row in self.table.rows]
        wrong = [row for row, value in enumerate(found) if value is None or np.isnan(value)]
        if wrong:
            cell = self.table.rows[wrong[0]][column]
            raise DataError(f"{column} is {cell!r} in row {wrong[0] + 1} of {self.table.path}; expected a number")
        return np.array(found, np.float64)


def _check_once(path: object, paths: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(paths, 1):
        if not name:
            raise DataError(f"row {row} of {path} names no slice; fill in its path, or leave the column out")
        if (before := first.setdefault(name, row)) != row:
            raise DataError(f"{path} names {name!r} twice, in rows {before} and {row}; keep one")


def _class_in(column: str) -> tuple[str, str, bool] | None:
    """Return the class that a column such as probability_AD is of, the word beside it, and whether that comes first.

    Example:
        >>> _class_in("prob_Mild Demented"), _class_in("AD_Logit"), _class_in("age")
        (('Mild Demented', 'prob', True), ('AD', 'logit', False), None)
    """
    if found := _BEFORE.fullmatch(column):
        return found[2], found[1].lower(), True
    found = _AFTER.fullmatch(column)
    return (found[1], found[2].lower(), False) if found else None


def _are_logits(columns: Iterable[str]) -> bool:
    return all(re.search("logit", column, re.IGNORECASE) for column in columns)


def _whole(label: str) -> str:
    """Return a label without the ".0" that makes a class number a decimal one."""
    return re.sub(r"(?<=^\d)\.0+$|(?<=^\d\d)\.0+$", "", label)


def _key(label: str) -> str:
    """Return the form in which spellings of one class are equal."""
    return canonical_class(label) or as_word(_whole(label)) or label.strip()
