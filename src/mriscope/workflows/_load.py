"""Load the slices of a source: the one way in for every workflow. Imports no torch where subjects are known."""

from dataclasses import dataclass
from pathlib import Path

from mriscope.data.manifest import names_subjects
from mriscope.data.read_options import ReadOptions
from mriscope.data.readers import check_bad_rows_place, report_bad_rows
from mriscope.data.rows import Reading
from mriscope.data.severity import known_severity
from mriscope.data.slices import SIZE, SliceSet
from mriscope.data.source import parse_source
from mriscope.errors import DataError
from mriscope.recipe import Recipe
from mriscope.results import KnownFrom
from mriscope.run_directory import BAD_ROWS
from mriscope.workflows._subjects import origin_of_subjects, with_known_subjects

__all__ = ["Loaded", "check_bad_rows_place", "load", "name_subjects", "read_any_size"]


@dataclass(frozen=True)
class Loaded:
    """The slices of a source, and what a workflow has to know of them.

    Attributes:
        source: as mriscope.read takes it.
        slices: their subjects are those of a manifest, else of the source, else those that pixels tell beyond doubt.
        reading: the slices with no more subjects than were named, and the rows that hold none.
        subjects_from: manifest, source or pixels, with ", partly" where some slices have no subject; None where all
            have none.
    """

    source: str
    slices: SliceSet
    reading: Reading
    subjects_from: KnownFrom | None

    def report_bad_rows(self, to: str | Path = BAD_ROWS) -> None:
        """List the rows that were left out in a CSV file, and say how many; without any, do nothing."""
        report_bad_rows(self.source, self.reading, to)


def load(
    source: str,
    *,
    size: int | None = None,
    stretch: bool = False,
    manifest: str | None = None,
    skip_bad: bool = False,
    recipe: Recipe | None = None,
) -> Loaded:
    """Load the slices of a source: read and resize them, check that they fit a recipe, and find their subjects.

    What a manifest leaves unknown stays so, as what a person wrote down is not guessed at. The bad rows are reported by
    the caller, who knows where the list belongs.

    Args:
        source: as mriscope.read takes it.
        size: height and width to bring slices to, as mriscope.read takes it.
        stretch: as mriscope.read takes it.
        manifest: a CSV file that gives the slices their subjects.
        skip_bad: leave unusable rows out, where they would be an error.
        recipe: its input size, stretch and manifest replace those above, and its severity has to fit.

    Raises:
        DataError: the source or the manifest cannot be read or do not fit, or the recipe's size or severity.
    """
    parsed = parse_source(source)
    if recipe is not None:
        own = parsed.kind == "phantom" and recipe.input.size == SIZE  # a phantom has a size that it was made at
        size, manifest = None if own else recipe.input.size, recipe.manifest
        stretch = recipe.input.stretch
    reading = parsed.read(skip_bad=skip_bad, size=size, manifest=manifest, options=ReadOptions(stretch=stretch))
    slices = reading.slices
    if recipe is not None:
        height, width = slices.images.shape[1:]
        if (height, width) != (recipe.input.size, recipe.input.size):
            raise DataError(
                f"{source} has slices of {height}×{width} and input.size is {recipe.input.size}; "
                f"set input.size={height}"
            )
        known_severity(slices.class_names, recipe.severity)
    return name_subjects(source, reading, manifest)


def read_any_size(source: str, *, manifest: str | None, skip_bad: bool) -> Reading:
    """Read a source, also one of mixed sizes, which are then brought to the usual one.

    Raises:
        DataError: the source or the manifest cannot be read or do not fit.
    """
    parsed = parse_source(source)
    try:
        return parsed.read(skip_bad=skip_bad, manifest=manifest)
    except DataError as error:
        try:
            return parsed.read(skip_bad=skip_bad, manifest=manifest, size=SIZE)
        except DataError:
            raise error from None


def name_subjects(source: str, reading: Reading, manifest: str | None) -> Loaded:
    """Find the subjects of slices that were read: as a manifest or the source names them, else as pixels tell.

    Args:
        source: of the reading.
        reading: its slices with the subjects that were named.
        manifest: what it was read with.
    """
    slices = reading.slices
    named = manifest if manifest is not None and names_subjects(manifest) else None
    known = slices if named else with_known_subjects(slices, source)
    return Loaded(source, known, reading, origin_of_subjects(slices, known, named))
