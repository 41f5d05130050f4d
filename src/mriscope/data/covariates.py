"""Covariates of slices: read from a CSV file, and one value for each subject."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from mriscope.data.manifest import with_manifest
from mriscope.data.slices import SliceSet
from mriscope.data.tables import ROLES, find_column, read_table
from mriscope.errors import DataError


def with_covariates(slices: SliceSet, file: str | Path, passed_over: Collection[str] = ()) -> SliceSet:
    """Return slices with the covariates of a CSV file, by path or by subject; all else stays as it is.

    Args:
        slices: what a source holds, with its subjects; the fingerprint stays.
        file: as with_manifest takes it, with path or subject, and a column for each covariate.
        passed_over: paths that the file may name though there is no such slice.

    Raises:
        DataError: the file cannot be read, does not fit the slices, or holds no covariate.
    """
    table = read_table(file)
    used = {find_column(role, table.columns, None, file) for role in ROLES}
    if not set(table.columns) - used:
        found = f"has the columns {', '.join(table.columns)}" if table.columns else "is empty"
        raise DataError(f"{file} {found}, and none is a covariate; add a column such as age beside path or subject")
    told = with_manifest(slices, file, passed_over)
    return slices.with_subjects(
        slices.subject_names if slices.subject_ids else slices.subjects, slices.positions, covariates=told.covariates
    )


def value_by_unit(column: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Reduce a covariate of slices to one value for each unit: of numbers the mean, of texts the most frequent.

    Args:
        column: float64 (N,) with nan, or str (N,) with "", where unknown.
        units: int64 (N,), from 0 and without gaps: the unit of each slice, such as its subject.

    Returns:
        the same type, (U,); unknown where all of a unit is.

    Example:
        >>> value_by_unit(np.array([70.0, 72.0, np.nan]), np.array([0, 0, 1])).tolist()
        [71.0, nan]
    """
    count = int(units.max(initial=-1)) + 1
    if column.dtype.kind != "U":
        known = ~np.isnan(column)
        sums = np.bincount(units[known], column[known], minlength=count)
        counts = np.bincount(units[known], minlength=count)
        return np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)
    names, numbers = np.unique(column, return_inverse=True)
    table = np.zeros((count, len(names)), np.int64)
    np.add.at(table, (units, numbers), 1)
    if names[0] == "" and len(names) > 1:
        table[:, 0] = np.where(table[:, 1:].any(axis=1), -1, table[:, 0])  # a known value goes before an unknown one
    return names[table.argmax(axis=1)]
