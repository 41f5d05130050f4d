"""Predictions: the probabilities of a model for each slice; kept as a parquet file that is readable without torch."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.severity import known_severity
from mriscope.data.slices import CLASS_NAMES, UNKNOWN, join_subjects, names_of_subjects, number_subjects
from mriscope.errors import DataError, RunError, UnknownNameError, check_type
from mriscope.files import read_file, write_bytes

PARTS = ("train", "validation", "test")

_TOLERANCE = 1e-3  # of a row's sum; bfloat16 softmax stays well within
_ROWS = ("paths", "labels", "subjects", "parts", "probabilities")
_PREFIX = "probability_"
_MOST_COLUMNS, _MOST_ROWS_PER_BYTE, _LONGEST_TEXT = 10_000, 8, 4096
_LEAST_TEXTS, _MOST_TEXTS_PER_BYTE = 2**24, 30  # bytes of a column of texts, for each byte of the file


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of a model for each slice, beside what is known of it; checks itself and cannot be changed.

    Args:
        paths: str (N,), name of each slice within its source.
        labels: int64 (N,), the true class, index into class_names.
        subjects: int64 (N,), equal for slices of one brain; -1 where unknown, which is never one subject.
        parts: str (N,), the part each slice belonged to: "train", "validation" or "test".
        probabilities: float32 (N, K) in [0, 1]; each row sums to 1.
        class_names: name of each of the K classes, in the order of the labels.
        severity: the same names from the least to the most severe; None where the names themselves tell, or nothing
            does.
        subject_ids: what each subject is called, by its number; () where the numbers themselves are the names.

    Raises:
        DataError: an array has another shape or type, or a value outside its range.
        ArgumentTypeError: a column is no array.
    """

    paths: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    parts: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...] = CLASS_NAMES
    severity: tuple[str, ...] | None = None
    subject_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count, classes = len(self.labels), len(self.class_names)
        for name, kind, shape in (
            ("paths", "str", (count,)),
            ("labels", "int64", (count,)),
            ("subjects", "int64", (count,)),
            ("parts", "str", (count,)),
            ("probabilities", "float32", (count, classes)),
        ):
            column = getattr(self, name)
            check_type(name, column, np.ndarray, "an array, or use Predictions.of, which takes lists")
            found = "str" if column.dtype.kind == "U" else column.dtype.name
            if (found, column.shape) != (kind, shape):
                raise DataError(f"{name} is {found} {column.shape}; Predictions need {kind} {shape}")
        self._check_values()
        for name in _ROWS:
            locked = getattr(self, name).view()
            locked.setflags(write=False)
            object.__setattr__(self, name, locked)

    def _check_values(self) -> None:
        if not self.class_names or len(set(self.class_names)) < len(self.class_names):
            raise DataError(f"class_names are {self.class_names}; each class needs one name of its own")
        known_severity(self.class_names, self.severity)
        sums = self.probabilities.sum(axis=1, dtype=np.float64)
        for wrong, name, values, expected in (
            ((self.labels < 0) | (self.labels >= len(self.class_names)), "label", self.labels, "an index of a class"),
            (self.subjects < UNKNOWN, "subject", self.subjects, "a number from 0, or -1 where it is unknown"),
            (
                (self.subjects >= len(self.subject_ids)) & bool(self.subject_ids),
                "subject",
                self.subjects,
                f"one of the {len(self.subject_ids)} that subject_ids names",
            ),
            (~np.isin(self.parts, PARTS), "part", self.parts, f"one of {', '.join(PARTS)}"),
            (~np.isfinite(sums), "sum of probabilities", sums, "finite (did the training diverge?)"),
            ((self.probabilities < 0).any(axis=1), "least probability", self.probabilities.min(axis=1), "0 or more"),
            (np.abs(sums - 1) > _TOLERANCE, "sum of probabilities", sums, "1 (apply softmax to the logits)"),
        ):
            if wrong.any():
                row = int(wrong.argmax())
                raise DataError(f"the {name} of row {row} is {values[row]}; it should be {expected}")

    @classmethod
    def of(
        cls,
        labels: Sequence[int] | np.ndarray,
        probabilities: Sequence[Sequence[float]] | np.ndarray,
        *,
        subjects: Sequence[int] | Sequence[str] | np.ndarray | None = None,
        parts: Sequence[str] | np.ndarray | None = None,
        paths: Sequence[str] | np.ndarray | None = None,
        class_names: Sequence[str] = CLASS_NAMES,
    ) -> "Predictions":
        """Make predictions from plain sequences; subjects left out are unknown, parts "test", and paths row numbers.

        Subjects may be numbers, -1 where unknown, or texts, "" where unknown.
        """
        count = len(labels)
        who = np.full(count, UNKNOWN) if subjects is None else np.asarray(subjects)
        numbers, ids = number_subjects(who.tolist()) if who.dtype.kind == "U" else (np.asarray(who, np.int64), ())
        return cls(
            paths=_to_texts([str(row) for row in range(count)] if paths is None else paths),
            labels=np.asarray(labels, np.int64),
            subjects=numbers,
            parts=_to_texts(["test"] * count if parts is None else parts),
            probabilities=np.asarray(probabilities, np.float32).reshape(-1, len(class_names)),
            class_names=tuple(class_names),
            subject_ids=ids,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Return the most probable class, int64 (N,); the first of several that tie."""
        return self.probabilities.argmax(axis=1).astype(np.int64)

    @cached_property
    def ranks(self) -> np.ndarray:
        """Return the rank of each slice by its probability of each class, int64 (K, N), from 0; equal where those tie.

        Computed once, so that no resample of a bootstrap sorts again.
        """
        by_class = [np.unique(column, return_inverse=True)[1] for column in self.probabilities.T]
        return np.stack(by_class).astype(np.int64)

    @cached_property
    def severity_ranks(self) -> np.ndarray | None:
        """Return the step of severity of each class, int64 (K,); None where it is unknown, see known_severity."""
        return known_severity(self.class_names, self.severity)

    @property
    def knows_subjects(self) -> bool:
        """Tell whether the subject of every slice is known."""
        return len(self) > 0 and bool((self.subjects != UNKNOWN).all())

    @property
    def subject_names(self) -> np.ndarray:
        """Return str (N,), what the subject of each slice is called; "" where unknown."""
        return names_of_subjects(self.subjects, self.subject_ids)

    @property
    def n_subjects(self) -> int:
        """Count the subjects that are known; slices without one do not count."""
        return len(np.unique(self.subjects[self.subjects != UNKNOWN]))

    def of_part(self, name: str) -> "Predictions":
        """Return the predictions of one part, which may be none.

        Raises:
            UnknownNameError: it is not "train", "validation" or "test".
        """
        if name not in PARTS:
            raise UnknownNameError("part", name, PARTS)
        return self.select(self.parts == name)

    def select(self, rows: np.ndarray) -> "Predictions":
        """Return some rows, by a mask or by indices, which also order them."""
        return replace(self, **{column: getattr(self, column)[rows] for column in _ROWS})


def join(several: Sequence[Predictions]) -> Predictions:
    """Join the rows of several predictions, one after the other: the folds of a cross-validation as one.

    Raises:
        DataError: there are none, or two have other classes.
    """
    if not several:
        raise DataError("there are no predictions to join")
    for one in several:
        if one.class_names != several[0].class_names:
            names = " and ".join(", ".join(classes) for classes in (several[0].class_names, one.class_names))
            raise DataError(f"predictions of other classes do not join: {names}")
    columns = {name: np.concatenate([getattr(one, name) for one in several]) for name in _ROWS}
    columns["subjects"], ids = join_subjects([(one.subjects, one.subject_ids) for one in several])
    return replace(several[0], **columns, subject_ids=ids)


def write_predictions(predictions: Predictions, path: str | Path) -> None:
    """Write predictions as a parquet file, which appears whole or not at all.

    Its columns are path, label, predicted, subject, part, and probability_<class name> for each class. Subjects are
    whole numbers, -1 where unknown; or texts, "" where unknown, if they have names.

    Raises:
        RunError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [
        predictions.paths.tolist(),
        predictions.labels,
        predictions.predicted,
        predictions.subject_names.tolist() if predictions.subject_ids else predictions.subjects,
        predictions.parts.tolist(),
        *predictions.probabilities.T,
    ]
    schema = _schema(predictions.class_names, "string" if predictions.subject_ids else "int64")
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer, write_page_checksum=True)
    write_bytes(path, buffer.getvalue())


def read_predictions(path: str | Path) -> Predictions:
    """Read predictions from the file that write_predictions made.

    Raises:
        RunError: the file is missing, damaged, or holds something else.
    """
    import pyarrow as pa

    try:
        content = read_file(path)
        return _of_table(_read_table(content))
    except (OSError, ValueError, pa.ArrowException, DataError) as error:  # pyarrow raises OSError for damaged pages too
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise RunError(
            f"{path}: cannot be read as predictions ({reason}); name a finished run, or train it again"
        ) from error


def _read_table(content: bytes) -> Any:
    """Read a table that is as large as its file says: no rows or texts that a few bytes repeat without end."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(content))
    found, columns = file.metadata, file.schema
    if found.num_rows > _MOST_ROWS_PER_BYTE * len(content) or found.num_columns > _MOST_COLUMNS:
        raise DataError(f"it claims {found.num_rows:,} rows of {found.num_columns:,} columns in {len(content):,} bytes")
    texts = [one.path for one in map(columns.column, range(len(columns))) if one.physical_type == "BYTE_ARRAY"]
    table = pq.read_table(io.BytesIO(content), page_checksum_verification=True, read_dictionary=texts)
    most = max(_LEAST_TEXTS, _MOST_TEXTS_PER_BYTE * len(content))
    for place, column in enumerate(table.columns):
        if not pa.types.is_dictionary(column.type):
            continue
        lengths = (pc.call_function("binary_length", [one.dictionary]) for one in column.chunks)
        longest = max((pc.call_function("max", [one]).as_py() or 0 for one in lengths), default=0)
        if longest > _LONGEST_TEXT:
            raise DataError(f"a {table.column_names[place]} has {longest:,} bytes, at most {_LONGEST_TEXT:,} are read")
        if longest * len(table) > most:  # NumPy takes as much for each text as for the longest
            raise DataError(f"its column {table.column_names[place]} takes {longest * len(table):,} bytes of {most:,}")
        table = table.set_column(place, table.column_names[place], column.cast(column.type.value_type))
    return table


def _schema(class_names: Sequence[str], subject: str) -> Any:
    import pyarrow as pa

    fixed = [("path", "string"), ("label", "int64"), ("predicted", "int64"), ("subject", subject), ("part", "string")]
    return pa.schema([*fixed, *((_PREFIX + name, "float32") for name in class_names)])


def _of_table(table: Any) -> Predictions:
    class_names = [name.removeprefix(_PREFIX) for name in table.column_names if name.startswith(_PREFIX)]
    if not class_names or not any(table.schema.equals(_schema(class_names, kind)) for kind in ("int64", "string")):
        fixed = ", ".join(_schema(class_names, "int64").names[:5])
        raise DataError(f"its columns are {', '.join(table.column_names)}, not {fixed}, {_PREFIX}<class name>, ...")
    if any(column.null_count for column in table.columns):
        raise DataError("some of its values are missing")
    column = {name: table[name].to_numpy() for name in table.column_names}
    predictions = Predictions.of(
        column["label"],
        np.stack([column[_PREFIX + name] for name in class_names], axis=1),
        subjects=np.array(table["subject"].to_pylist()),
        parts=table["part"].to_pylist(),
        paths=table["path"].to_pylist(),
        class_names=class_names,
    )
    if not np.array_equal(column["predicted"], predictions.predicted):
        raise DataError("its predicted column is not the most probable class")
    return predictions


def _to_texts(values: Sequence[str] | np.ndarray) -> np.ndarray:
    return np.asarray(values, str).reshape(len(values))
