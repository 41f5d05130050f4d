"""Slices that a model is asked about: whatever `read` takes, but no labels, classes or parts are needed of files."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mriscope.data.bids import choose_volumes, is_bids, scan_of
from mriscope.data.decoding import SUFFIXES
from mriscope.data.dicom import is_dicom
from mriscope.data.dicom_folders import dicom_scans, own_plane
from mriscope.data.folders import MAX_BYTES
from mriscope.data.identifiers import identify
from mriscope.data.image_table import find_image_table
from mriscope.data.images import Images, SliceOrigin, read_images
from mriscope.data.listing import find_paths, problem_of, walk
from mriscope.data.naming import LabelsError, natural, segmentations
from mriscope.data.nifti import LARGEST_FILE, is_nifti
from mriscope.data.parquet import parquet_files
from mriscope.data.read_options import ReadOptions, override_options, split_options
from mriscope.data.readers import open_source, read_silently
from mriscope.data.rows import Row, Source, gather
from mriscope.data.sandbox import Sandbox, children_for
from mriscope.data.scans import Scan, read_scans
from mriscope.data.sizes import settle_sizes
from mriscope.data.source import parse_source
from mriscope.data.tables import SUFFIXES as TABLES
from mriscope.data.volume_folders import open_tumour_slices
from mriscope.data.volumes import Cut
from mriscope.errors import BadRowsError, DataError, need
from mriscope.files import expand_home

LOG = logging.getLogger("mriscope")
BEHIND_A_NAME = "predict takes such options behind a name, as in 'NAME?series=4' or 'NAME?slices=all'"
EXPECTED = "name images, NIfTI, DICOM, MATLAB, parquet or CSV files, folders of them, hf:owner/name, or phantom"
_ONE_CLASS = ("",)
"""Stands for the classes of slices that have no label."""
_Kind = str
"""image, nifti, dicom or matlab."""


@dataclass(frozen=True)
class _Named:
    """What one name leads to.

    Args:
        name: as its user wrote it, without options.
        options: how it is read.
        own: those of them that its user gave.
        files: of each kind, by their paths within; none where `read` opens the name as a table or a set.
    """

    name: str
    options: ReadOptions
    own: ReadOptions
    files: Mapping[_Kind, Mapping[str, Path]]

    def path_of(self, within: str) -> str:
        """Return how a file is called in answers."""
        return self.name if Path(self.name).is_file() else f"{self.name.rstrip('/')}/{within.lstrip('/')}"


def read_unlabelled(named: Sequence[str | Path], size: int, options: ReadOptions) -> Images:
    """Read slices with what is known of each, but for labels.

    Of a folder in BIDS the volumes of T1w are read; of another one every file that holds images, whatever its folders
    are called, but for segmentations beside them. Tables and data sets of the hub are opened as `read` opens them.
    DICOM files of one folder that are named one by one, as a shell does for a pattern, are put together into series. A
    volume that is named twice is read once.

    Args:
        named: files, folders, patterns with * or ?, hf:owner/name or phantom; options may follow a question mark, as in
            "scan.nii.gz?plane=coronal&slices=-12:34".
        size: height and width to reach, in pixels.
        options: of each, where its name does not say otherwise.

    Raises:
        DataError: a name leads nowhere, or to nothing of these kinds.
        BadRowsError: files that hold no slice; every one is listed.
        MissingExtraError: the packages that read volumes are not installed.
    """
    found = [*_name_once(_join_dicoms([one for name in named for one in _resolve(name, options)]))]
    if all([*one.files] == ["image"] for one in found):
        return _read_pictures(found, size, options)
    rows = [replace(row, label=0, part="") for one in found for row in _rows(one, size)]
    if not rows:
        raise DataError(f"there is no slice to predict; {EXPECTED}")
    reading = settle_sizes(gather(rows, _ONE_CLASS, size, options), size, options.stretch)
    for note in reading.notes:
        LOG.warning("%s", note)
    if reading.bad:
        total, remedy = len(reading.bad) + len(reading.slices), "leave them out, or mend them"
        if any("--" in one.reason for one in reading.bad):
            remedy += f" ({BEHIND_A_NAME})"
        raise BadRowsError("the files", list(reading.bad), total, remedy)
    slices = reading.slices
    known = any(row.subject for row in rows)  # else gather has looked for ids in the names of folders above
    told = zip(slices.paths, slices.subject_names, slices.sessions, slices.positions, strict=True)
    origins = [
        SliceOrigin(str(who) if known else "", str(when) if known else "", float(place), _volume_of(str(path)))
        for path, who, when, place in told
    ]
    return Images(np.asarray(slices.images), tuple(map(str, slices.paths)), tuple(origins))


def _read_pictures(found: Sequence[_Named], size: int, options: ReadOptions) -> Images:
    files = [one.files["image"] for one in found]
    given = read_images([file for some in files for file in some.values()], size, stretch=options.stretch)
    who, _ = identify([path for some in files for path in some])
    return replace(given, origins=tuple(SliceOrigin(one.subject, one.session, one.position) for one in who))


def _volume_of(path: str) -> str:
    found = re.fullmatch(r"(.*)#[xyz][0-9]{3,}(?:#[0-9]+)?", path)
    return found[1] if found else ""


def _resolve(name: str | Path, options: ReadOptions) -> Iterator[_Named]:
    if parse_source(name).kind != "path":
        yield _Named(str(name), options, ReadOptions(), {})
        return
    plain, own = split_options(name)
    joined, paths = override_options(name, options), find_paths(expand_home(plain))
    if not paths:
        raise DataError(f"there is no file {plain}; {EXPECTED}")
    for path in paths:
        is_table = path.is_file() and path.suffix.lower() in (".parquet", *TABLES)
        if is_table or (path.is_dir() and _holds_table(path, joined)):
            yield _Named(str(path), joined, own, {})
        else:
            files = _list_folder(path, joined) if path.is_dir() else {_kind_of(path): {path.name: path}}
            yield _Named(str(path), joined, own, files)


def _join_dicoms(found: Sequence[_Named]) -> list[_Named]:
    """Join DICOM files that were named one by one with the others of their folder that were."""
    joined: dict[object, _Named] = {}
    for at, one in enumerate(found):
        alone, folder = [*one.files] == ["dicom"] and Path(one.name).is_file(), str(Path(one.name).parent)
        key = (folder, one.options) if alone else at
        if key in joined:
            one = replace(one, name=folder, files={"dicom": {**joined[key].files["dicom"], **one.files["dicom"]}})
        joined[key] = one
    return [*joined.values()]


def _name_once(found: Sequence[_Named]) -> Iterator[_Named]:
    """Leave out files of volumes that another name led to before, as each slice of a subject counts once."""
    seen: set[tuple[Path, ReadOptions]] = set()
    doubles = 0
    for one in found:
        files: dict[_Kind, dict[str, Path]] = {}
        for kind, some in one.files.items():
            for path, file in some.items():
                key = (file.resolve(), one.options)
                if kind != "image" and key in seen:
                    doubles += 1
                    continue
                seen.add(key)
                files.setdefault(kind, {})[path] = file
        if files or not one.files:
            yield replace(one, files=files)
    if doubles:
        LOG.warning("%d files were named more than once, and are read once", doubles)


def _holds_table(folder: Path, options: ReadOptions) -> bool:
    return bool(parquet_files(folder)) or find_image_table(folder, options) is not None


def _kind_of(path: Path) -> _Kind:
    """Return the kind of a file; one that bears no mark of another is taken for an image."""
    name = path.name.lower()
    if name.endswith(SUFFIXES):
        return "image"
    if is_nifti(name):
        return "nifti"
    if name.endswith(".mat"):
        return "matlab"
    return "dicom" if name.endswith(".dcm") or (path.is_file() and is_dicom(path)) else "image"


def _list_folder(folder: Path, options: ReadOptions) -> Mapping[_Kind, Mapping[str, Path]]:
    every = {path: Path(entry.path) for path, entry in walk(str(folder), folder)}
    every = {path: file for path, file in every.items() if not any(part.startswith(".") for part in path.split("/"))}
    if is_bids(every):
        try:
            volumes = choose_volumes(str(folder), every, options.series)
        except DataError as error:
            raise DataError(f"{error} ({BEHIND_A_NAME})") from error
        return {"nifti": {path: every[path] for path in volumes}}
    masks = segmentations(every)
    kinds: dict[_Kind, dict[str, Path]] = {}
    for path in sorted({*every} - masks, key=lambda one: [*map(natural, one.split("/"))]):
        kind = _kind_of(every[path])
        if kind != "image" or path.lower().endswith(SUFFIXES):
            kinds.setdefault(kind, {})[path] = every[path]
    if not kinds:
        raise DataError(f"the folder {folder} holds no image file and no volume; name one that does")
    if masks:
        LOG.warning("%s: %d segmentations beside the images were left out", folder, len(masks))
    return kinds


def _rows(one: _Named, size: int) -> Iterator[Row]:
    if parse_source(one.name).kind == "phantom":
        slices = read_silently(one.name, size).slices
        for at, (path, who) in enumerate(zip(slices.paths, slices.subject_names, strict=True)):
            place = float(slices.positions[at])
            yield Row(at, str(path), pixels=slices.images[at], subject=str(who), position=place)
    elif not one.files:
        yield from _open_table(one).rows()
    for kind, files in one.files.items():
        if kind == "matlab":
            need("volumes", "h5py")
            yield from (replace(row, path=one.path_of(row.path)) for row in open_tumour_slices(files).rows())
        elif kind == "image":
            yield from _image_rows(one, files)
        else:
            need("volumes", "nibabel" if kind == "nifti" else "pydicom")
            with Sandbox(children_for(files.values())) as sandbox:
                yield from (_nifti_rows if kind == "nifti" else _dicom_rows)(one, files, sandbox)


def _open_table(one: _Named) -> Source:
    """Open a table or a data set of the hub; only one of volumes is told how those of training were cut."""
    try:
        source = open_source(one.name, replace(one.own, stretch=one.options.stretch))
        return open_source(one.name, one.options) if source.of_volumes else source
    except LabelsError as error:
        raise DataError(
            f"{one.name} has no labels of two classes or more; predict uses none, but reads tables as train does: add "
            "a column label with two different texts, name another column, 'NAME?label_column=COLUMN', or name the "
            "images or volumes themselves"
        ) from error


def _image_rows(one: _Named, files: Mapping[str, Path]) -> Iterator[Row]:
    who, _ = identify([*files])
    for at, ((path, file), told) in enumerate(zip(files.items(), who, strict=True)):
        problem = problem_of(file, MAX_BYTES)
        content = None if problem else file.read_bytes()
        about = {"subject": told.subject, "session": told.session, "position": told.position}
        yield Row(at, one.path_of(path), content=content, problem=problem, **about)


def _nifti_rows(one: _Named, files: Mapping[str, Path], sandbox: Sandbox) -> Iterator[Row]:
    who, _ = identify([*files])
    scans = []
    for (path, file), told in zip(files.items(), who, strict=True):
        subject, session = scan_of(path) or (told.subject, told.session)
        request = {"task": "nifti", "files": [str(file)]}
        problem = problem_of(file, LARGEST_FILE)
        scans.append(Scan(one.path_of(path), request, subject=subject, session=session, problem=problem))
    yield from read_scans(scans, Cut(one.options.plane, one.options.slices), sandbox)


def _dicom_rows(one: _Named, files: Mapping[str, Path], sandbox: Sandbox) -> Iterator[Row]:
    """Read series; one of a single image is read in its own plane, as there is no other."""
    found, problems = dicom_scans(files, sandbox, one.options.series)
    usual = Cut(one.options.plane, one.options.slices)
    for series, scan in found:
        plane = own_plane(series)
        named = replace(scan, path=one.path_of(scan.path))
        yield from read_scans([named], usual if plane is None else Cut(plane), sandbox)
    for path, problem in problems.items():
        yield Row(0, one.path_of(path), problem=problem)
