"""What is known of the slices that a run is evaluated on: covariates, and the condition that chooses among them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mriscope.data.covariates import with_covariates
from mriscope.data.slices import SliceSet
from mriscope.data.where import Condition, columns_of
from mriscope.errors import ArgumentError, MriscopeError, RunError
from mriscope.run_directory import RunDirectory
from mriscope.workflows._baselines import load_own

LOG = logging.getLogger("mriscope")


@dataclass(frozen=True)
class Known:
    """What is known of slices.

    Attributes:
        paths: str (N,).
        covariates: by name, of each slice.
        chosen: bool (N,), the slices to evaluate.
    """

    paths: np.ndarray
    covariates: Mapping[str, np.ndarray]
    chosen: np.ndarray

    def covariates_of(self, paths: np.ndarray) -> dict[str, np.ndarray]:
        """Return the covariates of some slices, by name."""
        places = self.rows_of(paths)
        return {name: column[places] for name, column in self.covariates.items()}

    def rows_of(self, paths: np.ndarray) -> np.ndarray:
        """Return the place of each path, int64.

        Raises:
            RunError: one is not there.
        """
        place_of = {path: place for place, path in enumerate(self.paths.tolist())}
        if missing := [path for path in paths.tolist() if path not in place_of]:
            raise RunError(f"the source lacks {missing[0]}, which the run was evaluated on; it has changed since")
        return np.array([place_of[path] for path in paths.tolist()], np.int64)


def know_own(directory: RunDirectory, covariates: str | None, condition: Condition | None) -> Known | None:
    """Find what is known of a run's own slices; None where nothing is asked for and its source brings nothing.

    Raises:
        MriscopeError: something is asked for, and the source or file cannot be read or does not fit.
        ArgumentError: the condition names no column, or chooses no slice.
    """
    if covariates is not None or condition is not None:
        return know(load_own(directory)[0], covariates, condition)
    if not directory.environment.covariates:
        return None
    try:
        return know(load_own(directory)[0], None, None)
    except MriscopeError as error:
        LOG.warning("%s is evaluated without its covariates: %s", directory.path, error)
        return None


def know(slices: SliceSet, covariates: str | None, condition: Condition | None, *, warn: bool = True) -> Known:
    """Find what is known of slices, and which of them a condition chooses.

    Args:
        slices: of a source.
        covariates: a CSV file that adds to what the source brings; None adds nothing.
        condition: None chooses all.
        warn: say of how many slices that are left out a column of the condition is unknown.

    Raises:
        DataError: the file cannot be read or does not fit.
        ArgumentError: the condition names no column, or chooses no slice.
    """
    if covariates is not None:
        slices = with_covariates(slices, covariates)
    if condition is None:
        return Known(slices.paths, slices.covariates, np.ones(len(slices), np.bool_))
    columns = columns_of(slices)
    chosen = condition.select(columns)
    if not chosen.any():
        raise ArgumentError(f"--where {condition.text!r} is true of none of {len(slices):,} slices")
    for name in condition.names if warn else ():
        unknown = columns[name] == "" if columns[name].dtype.kind == "U" else np.isnan(columns[name])
        if count := int((unknown & ~chosen).sum()):
            LOG.warning(
                "%s is unknown of %s of the %s slices, and --where %r leaves these out",
                name, f"{count:,}", f"{len(slices):,}", condition.text,
            )  # fmt: skip
    return Known(slices.paths, slices.covariates, chosen)
