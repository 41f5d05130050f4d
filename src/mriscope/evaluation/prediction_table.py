"""A CSV file of predictions that any program wrote: its columns, told by their names, as Predictions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mriscope.data.manifest import plain_path
from mriscope.data.naming import CLASS_NAMES, as_word, canonical_class, natural, part_of_folder, printable
from mriscope.data.slices import number_subjects
from mriscope.data.subject_ids import unify_subjects
from mriscope.data.tables import Table, known, read_table
from mriscope.errors import ArgumentError, DataError
from mriscope.evaluation.class_columns import (
    are_logits,
    class_in,
    class_key,
    columns_of_classes,
    find_class_columns,
    probabilities_of,
    probabilities_of_one,
    softmax_of,
    whole,
)
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.table_roles import OF_IMAGES, find_part, find_roles

_UNKNOWN_SUBJECTS = ("-1", "-1.0", "unknown", "?", "-")
"""What stands in a column of subjects where one is unknown, beside the words of every table."""


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
        self.notes: tuple[str, ...] = ()
        if not self.table.rows:
            raise DataError(f"{path} has no rows below its header; name a CSV file of predictions")
        _check_classes(choice.classes)
        given = {"label": choice.label, "predicted": choice.predicted, "subject": choice.subject}
        self.roles = find_roles(self.table, given)
        if self.roles["part"] is None and (part := find_part(self.table, self.roles)) is not None:
            self.roles["part"], self.notes = part, (f"the column {part} is taken as the part",)
        self._scores = self._find_scores(self.labels() or (), None)
        if not self._scores and self.roles["predicted"] is None and self.roles["score"] is None:
            raise DataError(
                f"{path} has the columns {', '.join(self.table.columns)}, and none says what was predicted; expected "
                "predicted, or probability_<class> for each class, or name one with --predicted-column"
            )
        column = self.roles["path"]
        self.paths = None if column is None else [row[column] for row in self.table.rows]
        _check_once(path, str(column), self.paths or ())

    def _find_scores(self, labels: Sequence[str], class_names: Sequence[str] | None) -> dict[str, str]:
        """Return the column of scores of each class, by the class as the column calls it."""
        column = self.roles["predicted"]
        told = [*labels, *(known(row[column]) for row in self.table.rows if column)]
        rest = [name for name in self.table.columns if name not in self.roles.values()]
        keys = {class_key(label) for label in told if label}
        required = column is None and self.roles["score"] is None
        classes = self.choice.classes or class_names
        return find_class_columns(self.table.path, rest, keys, classes, required=required)

    def labels(self) -> list[str] | None:
        """Return the true class of each row as the table calls it; None without such a column."""
        column = self.roles["label"]
        return None if column is None else [known(row[column]) for row in self.table.rows]

    def subjects(self) -> list[str] | None:
        """Return the subject of each row, "" where unknown; None without such a column."""
        column = self.roles["subject"]
        if column is None:
            return None
        cells = [known(row[column]) for row in self.table.rows]
        return unify_subjects(["" if cell.lower() in _UNKNOWN_SUBJECTS else cell for cell in cells]).subjects

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
        self._scores = self._find_scores([*(own or ()), *(labels or ())], class_names)
        self._check_predicted(own or labels or ())
        names = self._class_names([*(own or ()), *(labels or ())], class_names)
        truth = self._numbers(own or labels or (), names, "true class")
        if own is not None and labels is not None:
            self._check_agreement(truth, self._numbers(labels, names, "true class"), labels)
        predicted = self._predicted(names)
        probabilities, notes = self._probabilities(names)
        notes = (*self.notes, *notes)
        if probabilities is not None and self._are_classes(probabilities):
            predicted, told = self._of_one_hot(probabilities, truth, predicted)
            probabilities, notes = None, (*notes, told)
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

    def _check_predicted(self, labels: Sequence[str]) -> None:
        """Refuse a column of predicted classes that holds numbers of something else, or classes of other names."""
        column = self.roles["predicted"]
        if column is None:
            return
        cells = [known(row[column]) for row in self.table.rows]
        classes = {class_key(label) for label in (*labels, *(self.choice.classes or ())) if label}
        odd = [row for row, cell in enumerate(cells) if class_key(cell) not in classes]
        decimal = next((row for row in odd if re.fullmatch(r"[+-]?\d*[.,]\d+", whole(cells[row]))), None)
        if decimal is not None:
            raise DataError(
                f"{column} is {cells[decimal]} in row {decimal + 1} of {self.table.path}; expected a class: if it "
                "holds probabilities of one class of two, call it probability and name the class with --positive"
            )
        found = {class_key(cell): cell for cell in cells if cell}
        if len(classes) > 1 and len(found) > 1 and len(odd) == len(cells) and self.choice.classes is None:
            raise DataError(
                f"{self.table.path} has the predicted classes {', '.join(sorted(found.values()))}, and none of them is "
                f"true of any row ({', '.join(sorted({*labels} - {''}))}); write them alike, or, where they are "
                "numbers, say what 0, 1, ... are called with --classes"
            )

    def _class_names(self, labels: Sequence[str], class_names: Sequence[str] | None) -> tuple[str, ...]:
        """Return the classes: those that the user or the source names, else those of the scores, else of the labels."""
        named = self.choice.classes
        if class_names is not None:
            keys = {*map(class_key, class_names)}
            if other := [name for name in named or () if class_key(name) not in keys]:
                raise DataError(f"--classes names {other[0]}; the classes of the source are {', '.join(class_names)}")
            return tuple(class_names)
        if named is not None:
            return named
        column = self.roles["predicted"]
        told = [*labels, *(known(row[column]) for row in self.table.rows if column)]
        found = {class_key(name): printable(whole(name)) for name in sorted({*told} - {""}, key=natural)}
        if len(self._scores) > 1:
            found = {class_key(name): printable(name) for name in self._scores}
        found |= {class_key(name): printable(name) for name in self._scores if class_key(name) not in found}
        if (positive := self.choice.positive) is not None and len(found) < 2:
            found.setdefault(class_key(positive), positive)
        if len(found) < 2:
            raise DataError(
                f"{self.table.path} has the classes {', '.join(found.values()) or '(none)'}; expected two or more, as "
                "columns probability_<class> or among the labels, or name them all with --classes"
            )
        known_classes = {canonical_class(name) for name in found.values()}
        if known_classes <= {*CLASS_NAMES}:
            return tuple(name for name in CLASS_NAMES if name in known_classes)
        return tuple(found.values())

    def _numbers(self, labels: Sequence[str], names: Sequence[str], what: str) -> np.ndarray:
        number_of = {class_key(name): number for number, name in enumerate(names)}
        number_of |= {str(number): number_of[class_key(name)] for number, name in enumerate(self.choice.classes or ())}
        found = [number_of.get(class_key(label)) for label in labels]
        if None in found:
            row = found.index(None)
            if not labels[row]:
                raise DataError(
                    f"row {row + 1} of {self.table.path} has no {what} (nothing, or a word such as none or NA, which "
                    "says that it is unknown); fill it in, or leave the row out"
                )
            mend = "write it as one of these, leave out its rows, or give every class a column"
            if re.fullmatch(r"-?\d+", class_key(labels[row])):
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
        """Return float (N, K), or None where the table has none, and what is to be said of them."""
        column_of: dict[int, str] = {}
        for class_name, column in self._scores.items():
            number = int(self._numbers([class_name], names, "column of class")[0])
            if number in column_of:
                raise DataError(
                    f"{self.table.path} has the columns {column_of[number]} and {column}, both of the class "
                    f"{names[number]}; keep one"
                )
            column_of[number] = column
        if len(column_of) > 1 or (column_of and len(names) > 2):
            if self.choice.positive is not None:
                raise ArgumentError(
                    f"--positive says whose one column of probabilities is, and {self.table.path} has one for each "
                    "class; leave it out"
                )
            columns = columns_of_classes(self.table.path, column_of, names)
            if self.choice.logits or are_logits(columns):
                return softmax_of(self.table, columns), ("softmax of logits",)
            return probabilities_of(self.table, columns)
        return self._of_one_column(column_of, names)

    def _of_one_column(
        self, column_of: Mapping[int, str], names: Sequence[str]
    ) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Return the probabilities of two classes from those of one; None where there are but predicted classes."""
        column = next(iter(column_of.values()), self.roles["score"])
        positive = self.choice.positive
        keys = [class_key(name) for name in names]
        if positive is not None and class_key(positive) not in keys:
            raise ArgumentError(
                f"--positive {positive} is none of the classes of {self.table.path}, {', '.join(names)}; name one"
            )
        place = None if positive is None else keys.index(class_key(positive))
        if column_of and place not in (None, *column_of):
            raise ArgumentError(f"--positive {positive} is not the class that the column {column} is called for")
        place = next(iter(column_of), place)
        if column is None:
            if self.choice.logits or positive is not None:
                option = "--logits" if self.choice.logits else "--positive"
                raise ArgumentError(f"{option} is of columns of scores, and {self.table.path} has none; leave it out")
            return None, ()
        if place is None and self.roles["predicted"] is not None:
            return None, (f"the column {column} is not read, as nothing says which class it is of; --positive does",)
        if place is None or len(names) != 2:
            raise DataError(
                f"{self.table.path} has one column of probabilities, {column}, and the classes {', '.join(names)}; "
                "of two classes say which one it is of with --positive, and else give every class a column"
            )
        logits = self.choice.logits or are_logits([column])
        found = probabilities_of_one(self.table, column, place, logits=logits)
        predicted = self._predicted(names)
        if predicted is not None and (found[:, place] >= 0.5).all() and (predicted != place).any():
            raise DataError(
                f"{column} is 0.5 or more in every row of {self.table.path}, also where {names[1 - place]} is "
                "predicted, so it tells how sure a prediction is; leave --positive out"
            )
        return found, (f"{column} is read as the probability of {names[place]}, and the other class has the rest",)

    def _are_classes(self, probabilities: np.ndarray) -> bool:
        """Tell whether columns of classes hold 0 and 1 alone."""
        return len(self._scores) > 1 and not self.choice.logits and bool(np.isin(probabilities, (0, 1)).all())

    def _of_one_hot(
        self, values: np.ndarray, truth: np.ndarray, predicted: np.ndarray | None
    ) -> tuple[np.ndarray, str]:
        """Return the predicted classes of a table whose columns of classes hold 0 and 1, and what is to be said."""
        columns, classes = ", ".join(self._scores.values()), values.argmax(axis=1).astype(np.int64)
        if predicted is not None and not np.array_equal(predicted, classes) and not np.array_equal(truth, classes):
            raise DataError(
                f"{self.table.path} has the columns {columns}, of 0 and 1 alone, which are neither the true classes "
                f"nor those of {self.roles['predicted']}; leave them out"
            )
        if predicted is not None:
            return predicted, f"the columns {columns} hold 0 and 1 alone and are not read"
        if all(class_in(name) is None for name in self._scores.values()) and np.array_equal(truth, classes):
            raise DataError(
                f"{self.table.path} has the columns {columns}, which are 1 for the true class in every row, and none "
                "says what was predicted; where they do, call them probability_<class>"
            )
        return classes, f"the columns {columns} hold 0 and 1 alone and are read as predicted classes"


def _check_classes(classes: Sequence[str] | None) -> None:
    """Refuse names of classes that are too few, empty or equal."""
    if classes is not None and (len(classes) < 2 or len({class_key(name) for name in classes} - {""}) < len(classes)):
        raise ArgumentError(
            f"--classes names {', '.join(map(repr, classes))}; expected two names or more, each of a class of its own"
        )


def _check_once(where: object, column: str, paths: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(paths, 1):
        if not name:
            raise DataError(f"row {row} of {where} names no slice; fill in its path, or leave the column out")
        if (before := first.setdefault(plain_path(name), row)) != row:
            subjects = f", or, where it tells subjects, say --subject-column {column}"
            raise DataError(
                f"{where} names {name!r} twice in its column {column}, in rows {before} and {row}; keep one"
                f"{subjects if as_word(column) in OF_IMAGES else ''}"
            )
