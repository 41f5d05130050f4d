"""Volumes in class folders, tables and parquet: NIfTI files, and the slices of the figshare brain tumours."""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mriscope.data import matlab
from mriscope.data.folders import name_classes
from mriscope.data.identifiers import identify
from mriscope.data.layout import Place, find_places
from mriscope.data.listing import problem_of
from mriscope.data.naming import natural, part_order, printable, segmentation_notes, segmentations
from mriscope.data.nifti import LARGEST_FILE, is_nifti
from mriscope.data.rows import Row, Source
from mriscope.data.sandbox import Sandbox, children_for
from mriscope.data.scans import Scan, read_scans
from mriscope.data.volumes import Cut
from mriscope.errors import DataError, need

SIDECARS = (".json", ".tsv", ".csv", ".xml", ".txt", ".md", ".bval", ".bvec", ".pdf", ".xls", ".xlsx")
"""Files that go with volumes and hold none, as do those of NO_VOLUMES."""
NO_VOLUMES = ("dicomdir", "license", "readme", "changes")
_KEPT = 64  # files that are unpacked at a time, more than the sandbox asks for ahead

Listing = Mapping[str, Path]
"""The files of a source by their paths within it."""


def open_nifti_folders(name: str, files: Listing, cut: Cut) -> Source:
    """Open a source of NIfTI files in class folders, listed but unread.

    Folders are understood as by `open_folders`; a subject is told by a folder, else by the name of the file.

    Args:
        name: the source as its user wrote it.
        files: all files of the source.
        cut: how volumes become slices.

    Raises:
        DataError: folders that tell no classes.
    """
    masks = segmentations(path for path in files if is_nifti(path))
    volumes = [path for path in files if is_nifti(path) and path not in masks]
    places, class_names, labels = places_of(name, volumes)
    order = in_order(volumes, places)
    identities, notes = identify(order, classes=[places[path].class_folder for path in order])
    scans = []
    for path, who in zip(order, identities, strict=True):
        scan = Scan(path, {"task": "nifti", "files": [str(files[path])]}, subject=who.subject, session=who.session)
        scans.append(in_place(scan, places[path], labels))
    return volume_source(
        files,
        class_names,
        lambda _: scans,
        cut,
        strangers(files, {*volumes, *masks}),
        notes=(*notes, *segmentation_notes(masks)),
    )


def open_listed_volumes(
    table: Path, lines: Sequence[Row], class_names: tuple[str, ...], cut: Cut, notes: Sequence[str]
) -> Source:
    """Open a source of the NIfTI files that a table names.

    Args:
        table: the CSV file; paths are relative to its folder.
        lines: what each of its rows tells of a file, without its pixels.
        class_names: the classes that labels count.
        cut: how volumes become slices.
        notes: what the user should be told of the table.
    """
    need("volumes", "nibabel")
    files = {line.path: table.parent / line.path for line in lines}
    scans = [
        Scan(
            line.path,
            {"task": "nifti", "files": [str(files[line.path])]},
            **{name: getattr(line, name) for name in ("label", "part", "subject", "session", "covariates")},
            problem=problem_of(files[line.path], LARGEST_FILE) or ("" if line.label is not None else "has no label"),
        )
        for line in lines
    ]
    return volume_source({table.name: table, **files}, class_names, lambda _: scans, cut, notes=notes)


def open_packed_volumes(
    files: Mapping[str, Path],
    packed: Callable[[], Iterable[Row]],
    class_names: tuple[str, ...],
    cut: Cut,
    notes: Sequence[str],
) -> Source:
    """Open a source of NIfTI files that are values of a table, such as the feature `Nifti` of the Hugging Face hub.

    Args:
        files: those that decide its content.
        packed: reads the rows, each with the bytes of a file as its content.
        class_names: the classes that labels count.
        cut: how volumes become slices.
        notes: what the user should be told of the table.
    """
    need("volumes", "nibabel")

    def rows() -> Iterator[Row]:
        with tempfile.TemporaryDirectory() as place, Sandbox(children_for(files.values())) as sandbox:
            yield from read_scans(_unpack(packed(), Path(place)), cut, sandbox)

    return Source(files, class_names, rows, notes=tuple(notes), of_volumes=True)


def _unpack(rows: Iterable[Row], folder: Path) -> Iterator[Scan]:
    """Write each file to a folder for the sandbox to read, and remove it once that is long done."""
    for number, row in enumerate(rows):
        path = folder / f"{number}.nii"
        path.write_bytes(row.content or b"")
        (folder / f"{number - _KEPT}.nii").unlink(missing_ok=True)
        about = {name: getattr(row, name) for name in ("label", "part", "subject", "session", "covariates", "problem")}
        about["problem"] = row.problem or ("" if row.content else "has no bytes of a volume")
        yield Scan(row.path, {"task": "nifti", "files": [str(path)]}, **about)


def open_tumour_slices(files: Listing) -> Source:
    """Open a folder of the figshare brain tumours, one slice a MATLAB file; cvind.mat, their folds, is passed over."""
    slices = [path for path in files if path.lower().endswith(".mat") and not path.lower().endswith("cvind.mat")]
    order = sorted(slices, key=lambda path: [*map(natural, path.split("/"))])

    def rows() -> Iterator[Row]:
        with Sandbox(children_for(files.values())) as sandbox:
            asked = sandbox.map(order, lambda path: {"task": "matlab", "files": [str(files[path])]})
            for number, (path, answer) in enumerate(asked):
                if isinstance(answer, DataError) or answer.images is None:
                    yield Row(number, printable(path), problem=str(answer))
                else:
                    label, subject = answer.facts["label"], printable(answer.facts["subject"])
                    yield Row(number, printable(path), label=label, subject=subject, pixels=answer.images[0])
        odd = enumerate((path for path in strangers(files, slices) if not path.lower().endswith(".mat")), len(order))
        yield from (Row(number, printable(path), problem="is no MATLAB file") for number, path in odd)

    return Source(deciding(files), matlab.CLASSES, rows)


def volume_source(
    files: Listing,
    class_names: tuple[str, ...],
    scans: Callable[[Sandbox], Iterable[Scan]],
    cut: Cut,
    odd: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Source:
    """Return the source of some scans.

    Args:
        files: those that decide its content.
        class_names: the classes that labels count.
        scans: finds them, with the sandbox that they will be read in.
        cut: how they become slices.
        odd: files that are no volumes; they come last, each as a bad row.
        notes: what the user should be told.
    """

    def rows() -> Iterator[Row]:
        number = -1
        with Sandbox(children_for(files.values())) as sandbox:
            for row in read_scans(scans(sandbox), cut, sandbox):
                number = row.number
                yield row
        for at, path in enumerate(odd, number + 1):
            yield Row(at, printable(path), problem="is no volume; expected .nii, .nii.gz or DICOM files")

    return Source(deciding(files), class_names, rows, notes=tuple(notes), of_volumes=True, scans=scans)


def deciding(files: Listing) -> dict[str, Path | str]:
    """Return files as `Source.files`: those that are not there, or may never end, by why they are not read."""
    return {path: problem_of(file, LARGEST_FILE) or file for path, file in files.items()}


def strangers(files: Listing, volumes: Collection[str]) -> list[str]:
    """Return the files that are neither volumes nor known to go with them, in order."""
    known = set(volumes)
    names = {path: path.lower().rpartition("/")[2] for path in files if path not in known}
    return sorted(
        path for path, name in names.items() if not name.endswith(SIDECARS) and name.partition(".")[0] not in NO_VOLUMES
    )


def places_of(name: str, paths: Collection[str]) -> tuple[dict[str, Place], tuple[str, ...], dict[str, int]]:
    """Return the place of each file, the names of the classes, and the label of each class folder."""
    chains = {path: tuple(path.split("/")[:-1]) for path in paths}
    places = find_places(name, chains.values())
    class_names, labels = name_classes(name, sorted({place.class_folder for place in places.values()} - {""}))
    return {path: places[chain] for path, chain in chains.items()}, class_names, labels


def in_place(scan: Scan, place: Place, labels: Mapping[str, int]) -> Scan:
    """Return the scan with the label and the part that its place among folders gives."""
    problem = scan.problem or ("" if place.class_folder else "lies in no class folder")
    return replace(scan, label=labels.get(place.class_folder), part=place.part, problem=problem)


def in_order(paths: Iterable[str], places: Mapping[str, Place]) -> list[str]:
    """Return paths by part, then by name, numbers by their value."""
    return sorted(paths, key=lambda path: (part_order(places[path].part), *map(natural, path.split("/"))))
