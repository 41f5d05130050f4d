"""What a split of a source shares between its parts: the split that is named, and the slices examined for it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mriscope.audit.controls import Neighbours
from mriscope.audit.leakage import AuditedSplit, audit_slices, search_of
from mriscope.audit.subjects import RecoveredSubjects
from mriscope.audit.verdict import CopySearch, choose_queries, search_copies, with_copies
from mriscope.data.manifest import names_subjects
from mriscope.data.readers import read_silently
from mriscope.data.slices import SliceSet
from mriscope.data.split_files import read_split_file
from mriscope.errors import DataError, RunError
from mriscope.progress import saying
from mriscope.recipe import read_recipe
from mriscope.results import LeakageReport
from mriscope.run_directory import RECIPE
from mriscope.training.devices import pick_device
from mriscope.workflows._load import Loaded
from mriscope.workflows._subjects import PARTLY, origin_of_subjects, recovered

PUBLISHED = "published"
EXIT_CODES = {True: 3, False: 0, None: 4}
"""Of a command, by whether what it looked at is leaky."""


@dataclass(frozen=True, eq=False)
class Examined:
    """A source as an audit leaves it.

    Attributes:
        slices: with the subjects of altered copies too, where pixels tell subjects.
        found: subjects as pixels tell.
        neighbours: of every slice.
        search: for altered copies of test slices; None where none was made.
        report: what was found.
    """

    slices: SliceSet
    found: RecoveredSubjects
    neighbours: Neighbours
    search: CopySearch | None
    report: LeakageReport


def examine(
    loaded: Loaded, neighbours: Neighbours, manifest: str | None, parts: AuditedSplit | None, *, seed: int
) -> Examined:
    """Find the subjects and copies of a source, and what a split of it shares.

    Args:
        loaded: the source.
        neighbours: find_neighbours of its images.
        manifest: what it was loaded with.
        parts: the split; None examines the data alone.
        seed: of the controls.

    Raises:
        DataError: there are fewer than two slices.
    """
    reading, slices, known_from = loaded.reading, loaded.slices, loaded.subjects_from
    device = str(pick_device("auto"))
    found = recovered(reading.slices)
    named = manifest if manifest is not None and names_subjects(manifest) else None
    if known_from in (None, PARTLY) and named is None:
        found = with_own_copies(slices, found, device)
        slices = slices.with_subjects(found.subjects, found.positions) if found.known.any() else slices
        known_from = origin_of_subjects(reading.slices, slices, named)
    search = None
    if parts is not None:
        with saying("looking for altered copies of test slices") as progress:
            search = search_of(slices, found, parts, device=device, progress=progress)
    report = audit_slices(slices, neighbours, found, known_from=known_from, split=parts, search=search, seed=seed)
    return Examined(slices, found, neighbours, search, report)


def split_of(slices: SliceSet, source: str, split: str | None) -> AuditedSplit | None:
    """Return the parts of a split that a source publishes or a file holds; None where none is named nor published.

    Args:
        slices: of the source.
        source: its name, for messages.
        split: published, a file, or None for the published one where there is one.

    Raises:
        DataError: there is no such split, or it was made for other data.
    """
    train, validation, test = (np.flatnonzero(slices.parts == part) for part in ("train", "validation", "test"))
    if not len(test):  # of two parts the second is what a model is judged on, whatever it is called
        validation, test = test, validation
    if split in (None, PUBLISHED):
        if len(train) and len(test):
            return AuditedSplit(PUBLISHED, train, validation, test)
        if split is None:
            return None
        raise DataError(f"{source} publishes no train and test part; name a split file, or leave --split out")
    path = Path(split)
    if not path.is_file():
        raise DataError(f"there is no split {split}; name {PUBLISHED}, or a file of `mriscope split` or of a run")
    found = read_split_file(path, _as_split(slices, source, path))
    return AuditedSplit(found.protocol, found.train, found.validation, found.test)


def _as_split(slices: SliceSet, source: str, path: Path) -> SliceSet:
    """Resize slices to what the run beside a split was fed, as its fingerprint is of those."""
    recipe = path.with_name(RECIPE)
    if not recipe.is_file():
        return slices
    size = read_recipe(recipe).input.size
    if slices.images.shape[1:] == (size, size):
        return slices
    fed = read_silently(source, size).slices
    if not np.array_equal(fed.paths, slices.paths):
        raise RunError(f"{path} is of slices of mixed sizes, which an audit reads otherwise; bring them to one size")
    return fed


def with_own_copies(slices: SliceSet, found: RecoveredSubjects, device: str) -> RecoveredSubjects:
    """Put altered copies that link to no slice with the brain of their origin."""
    sizes = np.bincount(found.groups)[found.groups]
    lonely, linked = np.flatnonzero(sizes == 1), np.flatnonzero(sizes > 1)
    queries = choose_queries(found.groups, lonely)
    if not len(queries) or not len(linked):
        return found
    with saying("looking for the brains of altered copies") as progress:
        return with_copies(found, search_copies(slices.images, queries, linked, device=device, progress=progress))
