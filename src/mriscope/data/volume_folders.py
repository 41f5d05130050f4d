"""Volumes in class folders: NIfTI files, DICOM series, and the slices of the figshare brain tumours."""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mriscope.data import matlab
from mriscope.data.dicom import is_dicom
from mriscope.data.dicom_series import dicom_scans, read_headers, series_request, sessions_of, subjects_of
from mriscope.data.folders import name_classes
from mriscope.data.identifiers import identify
from mriscope.data.layout import Place, find_places
from mriscope.data.listing import problem_of, walk
from mriscope.data.naming import natural, part_order, printable, segmentation_notes, segmentations
from mriscope.data.nifti import LARGEST_FILE, is_nifti
from mriscope.data.rows import Row, Source
from mriscope.data.sandbox import Sandbox, children_for
from mriscope.data.scans import Scan, read_scans
from mriscope.data.series import find_series
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
    places, class_names, labels = _places(name, volumes)
    order = _in_order(volumes, places)
    identities, notes = identify(order, classes=[places[path].class_folder for path in order])
    scans = []
    for path, who in zip(order, identities, strict=True):
        scan = Scan(path, {"task": "nifti", "files": [str(files[path])]}, subject=who.subject, session=who.session)
        scans.append(_in_place(scan, places[path], labels))
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


def open_dicom_folders(name: str, files: Listing, dicoms: Sequence[str], cut: Cut, pattern: str | None) -> Source:
    """Open a source of DICOM files in class folders, listed but unread.

    Each series in a folder is a volume; see `find_series`. Its subject is what the folders call it, or the patient of
    its files by a number. Nothing that could name a person is read, but for a keyed digest of PatientID, whose key is
    drawn anew for each reading.

    Args:
        name: the source as its user wrote it.
        files: all files of the source.
        dicoms: those that are DICOM.
        cut: how volumes become slices.
        pattern: which series of a folder to take, by number or description.

    Raises:
        DataError: folders that tell no classes.
    """
    places, class_names, labels = _places(name, dicoms)
    order = _in_order(dicoms, places)

    def scans(sandbox: Sandbox) -> Iterable[Scan]:
        found, problems = dicom_scans({path: files[path] for path in order}, sandbox, pattern, places)
        yield from (_in_place(scan, places[one.path], labels) for one, scan in found)
        yield from (Scan(path, {}, problem=problem) for path, problem in problems.items())

    return volume_source(files, class_names, scans, cut, strangers(files, dicoms))


def open_listed_dicoms(
    table: Path, lines: Sequence[Row], class_names: tuple[str, ...], cut: Cut, notes: Sequence[str], pattern: str | None
) -> Source:
    """Open a source of the DICOM files, or the folders of them, that a table names.

    Files of one series whose rows say the same are one volume. Subjects and sessions are the table's; where it names no
    subject they are those of the headers.

    Args:
        table: the CSV file; paths are relative to its folder.
        lines: what each of its rows tells of a file or folder, without its pixels.
        class_names: the classes that labels count.
        cut: how volumes become slices.
        notes: what the user should be told of the table.
        pattern: which series of a folder to take, by number or description.
    """
    need("volumes", "pydicom")
    files, groups, problems = {table.name: table}, dict[str, tuple[Row, list[str]]](), dict[str, str]()
    for line in lines:
        place = table.parent / line.path
        below = walk(line.path, place) if place.is_dir() else []
        found = [f"{line.path}/{at}" for at, entry in below if is_dicom(Path(entry.path))]
        if place.is_dir():
            problem = "" if found else "is a folder without DICOM files"
        else:
            problem, found = problem_of(place, LARGEST_FILE), [line.path]
        files |= {path: table.parent / path for path in found}
        if problem := problem or ("" if line.label is not None else "has no label"):
            problems[line.path] = problem
        else:
            said = repr(replace(line, number=0, path="", position=0.0))
            groups.setdefault(said, (line, []))[1].extend(found)

    def scans(sandbox: Sandbox) -> Iterable[Scan]:
        wanted = {path: files[path] for _, paths in groups.values() for path in paths}
        headers, damaged = read_headers(wanted, sandbox)
        known = [(line, {path: headers[path] for path in paths if path in headers}) for line, paths in groups.values()]
        pairs = [(line, one) for line, those in known for one in find_series(those, pattern)]
        subjects = [line.subject for line, _ in pairs]
        told: Mapping[str, int] = {}
        if not any(subjects):
            subjects, told = subjects_of([one for _, one in pairs], subjects)
        sessions = sessions_of([one for _, one in pairs], subjects)
        for (line, one), subject, session in zip(pairs, subjects, sessions, strict=True):
            about = {name: getattr(line, name) for name in ("label", "part", "covariates")}
            about |= {"subject": subject, "session": line.session or session, "problem": one.problem, "told": told}
            yield Scan(one.name, series_request(one, files), **about)
            told = {}
        yield from (Scan(path, {}, problem=problem) for path, problem in {**problems, **damaged}.items())

    return volume_source(files, class_names, scans, cut, notes=notes)


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


def _places(name: str, paths: Collection[str]) -> tuple[dict[str, Place], tuple[str, ...], dict[str, int]]:
    """Return the place of each file, the names of the classes, and the label of each class folder."""
    chains = {path: tuple(path.split("/")[:-1]) for path in paths}
    places = find_places(name, chains.values())
    class_names, labels = name_classes(name, sorted({place.class_folder for place in places.values()} - {""}))
    return {path: places[chain] for path, chain in chains.items()}, class_names, labels


def _in_place(scan: Scan, place: Place, labels: Mapping[str, int]) -> Scan:
    problem = scan.problem or ("" if place.class_folder else "lies in no class folder")
    return replace(scan, label=labels.get(place.class_folder), part=place.part, problem=problem)


def _in_order(paths: Iterable[str], places: Mapping[str, Place]) -> list[str]:
    return sorted(paths, key=lambda path: (part_order(places[path].part), *map(natural, path.split("/"))))
