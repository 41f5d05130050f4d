"""Find the subjects that a source does not name from its pixels."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from mriscope.audit.subjects import RECOVERY_VERSION, RecoveredSubjects, recover_subjects
from mriscope.data.cache import cached_arrays, content_key
from mriscope.data.readers import read_silently
from mriscope.data.slices import SIZE, SliceSet
from mriscope.results import KnownFrom

PARTLY: KnownFrom = "pixels, partly"
"""How subjects are known where pixels leave some slices in doubt."""


def recovered(slices: SliceSet) -> RecoveredSubjects:
    """Recover the subjects of a set; the result is kept in the user's cache folder, so that a set costs it once."""
    key = content_key({}, method=RECOVERY_VERSION, data=slices.fingerprint)
    arrays = cached_arrays("subjects", key, lambda: _recover(slices))
    kept = [arrays[field.name] for field in fields(RecoveredSubjects)]
    values: list[Any] = [value if value.ndim else value.item() for value in kept]
    return RecoveredSubjects(*values)


def _recover(slices: SliceSet) -> dict[str, Any]:
    from mriscope.training.devices import pick_device  # torch, which a set that is known already does not need

    return vars(recover_subjects(slices.images, device=str(pick_device("auto"))))


def with_known_subjects(slices: SliceSet, source: str | Path) -> SliceSet:
    """Return the slices with their subjects: as they are where some are known, else as pixels tell, else unknown.

    What a person named is not guessed at, so that slices which a source leaves unnamed stay so beside named ones.

    Pixels are compared at 128×128, whatever size the slices were read at, so that every network of a comparison is
    judged on the same subjects.

    Args:
        slices: of the source.
        source: read again where the slices have another size.
    """
    if slices.n_subjects or not len(slices):
        return slices
    native = slices if slices.images.shape[1:] == (SIZE, SIZE) else read_silently(source, SIZE).slices
    found = recovered(native)
    if not found.known.any():
        return slices
    row_of = {path: row for row, path in enumerate(native.paths.tolist())}
    rows = [row_of[path] for path in slices.paths.tolist()]
    return slices.with_subjects(found.subjects[rows], found.positions[rows])


def origin_of_subjects(slices: SliceSet, known: SliceSet, manifest: str | None) -> KnownFrom | None:
    """Return manifest, source or pixels, with ", partly" where some slices have no subject; None where all have none.

    Args:
        slices: as they were read.
        known: with_known_subjects of them.
        manifest: what gave them subjects.
    """
    if not known.n_subjects:
        return None
    if known.knows_subjects:
        return "manifest" if manifest else "source" if slices.n_subjects else "pixels"
    return "manifest, partly" if manifest else "source, partly" if slices.n_subjects else PARTLY
