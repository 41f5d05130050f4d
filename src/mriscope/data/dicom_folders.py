"""DICOM series: in class folders, named by a table, or by themselves."""

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.dicom import Frame, Header, is_dicom
from mriscope.data.identifiers import identify
from mriscope.data.layout import Place
from mriscope.data.listing import kind_of, problem_of, walk
from mriscope.data.naming import part_order
from mriscope.data.nifti import LARGEST_FILE
from mriscope.data.rows import Row, Source
from mriscope.data.sandbox import Request, Sandbox
from mriscope.data.scans import Scan
from mriscope.data.series import Series, find_series
from mriscope.data.volume_folders import Listing, in_order, in_place, places_of, strangers, volume_source
from mriscope.data.volumes import PLANES, Cut
from mriscope.errors import DataError, need

RESPELLED = "patients have PatientIDs that differ only in case, blanks or a session; each was taken for one subject"
ONE_PATIENT = "series have one and the same PatientID; it was taken for nobody's"
_AT_ONCE = 64  # headers that one request asks for


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
    places, class_names, labels = places_of(name, dicoms)
    order = in_order(dicoms, places)

    def scans(sandbox: Sandbox) -> Iterable[Scan]:
        found, problems = dicom_scans({path: files[path] for path in order}, sandbox, pattern, places)
        yield from (in_place(scan, places[one.path], labels) for one, scan in found)
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
        is_folder = kind_of(place) == "folder"
        below = walk(line.path, place) if is_folder else []
        found = [f"{line.path}/{at}" for at, entry in below if is_dicom(Path(entry.path))]
        if is_folder:
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
            subjects, told = _subjects([one for _, one in pairs], subjects)
        sessions = _sessions([one for _, one in pairs], subjects)
        for (line, one), subject, session in zip(pairs, subjects, sessions, strict=True):
            about = {name: getattr(line, name) for name in ("label", "part", "covariates")}
            about |= {"subject": subject, "session": line.session or session, "problem": one.problem, "told": told}
            yield Scan(one.name, series_request(one, files), **about)
            told = {}
        yield from (Scan(path, {}, problem=problem) for path, problem in {**problems, **damaged}.items())

    return volume_source(files, class_names, scans, cut, notes=notes)


def dicom_scans(
    files: Listing, sandbox: Sandbox, pattern: str | None = None, places: Mapping[str, Place] | None = None
) -> tuple[list[tuple[Series, Scan]], dict[str, str]]:
    """Find the series of DICOM files, each as a scan without a label.

    Args:
        files: DICOM files by their paths within the source, in order.
        sandbox: to read headers in.
        pattern: which series of a folder to take, by number or description.
        places: of the files among folders of parts and classes; None where there are none.

    Returns:
        the series with their scans, and for files that have no header the reason.
    """
    headers, problems = read_headers(files, sandbox)
    series = find_series(headers, pattern)
    if places is not None:
        series.sort(key=lambda one: part_order(places[one.path].part))
    classes = [] if places is None else [places[one.path].class_folder for one in series]
    folders, _ = identify([f"{one.path.rpartition('/')[0]}/series" for one in series], classes=classes)
    subjects, told = _subjects(series, [who.subject for who in folders])
    if respelled := _respelled(headers.values()):
        told = {**told, RESPELLED: respelled}
    found = []
    for one, subject, session in zip(series, subjects, _sessions(series, subjects), strict=True):
        about = {"subject": subject, "session": session, "problem": one.problem, "told": told}
        found.append((one, Scan(one.name, series_request(one, files), **about)))
        told = {}
    return found, problems


def own_plane(series: Series) -> str | None:
    """Return the plane of a series of one image, which can be cut along no other; None of several images."""
    if series.problem or len(series.layers) > 1:
        return None
    along, down = np.array(series.frames[0].orientation).reshape(2, 3)
    return PLANES[int(np.abs(np.cross(along, down)).argmax())]


def series_request(series: Series, files: Listing) -> Request:
    """Return what to ask the sandbox for the images of a series."""
    named = sorted({path for layer in series.layers for path, _ in layer})
    return {
        "task": "dicom",
        "files": [str(files[path]) for path in named],
        "layers": [[(str(files[path]), frame) for path, frame in layer] for layer in series.layers],
        "frames": [asdict(frame) for frame in series.frames],
        "voxels": series.voxels,
    }


def read_headers(files: Listing, sandbox: Sandbox) -> tuple[dict[str, Header], dict[str, str]]:
    """Read the headers of DICOM files in a sandbox.

    Returns:
        the headers by path, and for files that have none the reason.
    """
    salt = secrets.token_hex(32)
    headers: dict[str, Header] = {}
    problems: dict[str, str] = {}

    def request_of(paths: Sequence[str]) -> Request:
        return {"task": "dicom headers", "files": [str(files[path]) for path in paths], "salt": salt, "voxels": 0}

    waiting = list(files)
    batches = [waiting[start : start + _AT_ONCE] for start in range(0, len(waiting), _AT_ONCE)]
    while batches:
        again: list[list[str]] = []
        for paths, answer in sandbox.map(batches, request_of):
            if not isinstance(answer, DataError):
                for path, found in zip(paths, answer.facts["headers"], strict=True):
                    if "error" in found:
                        problems[path] = str(found["error"])
                    else:
                        headers[path] = _header(found)
            elif len(paths) == 1:
                problems[paths[0]] = str(answer)
            else:
                again += [[path] for path in paths]  # one of them ended the process: find out which
        batches = again
    return headers, problems


def _header(found: Mapping[str, Any]) -> Header:
    return Header(**{**found, "frames": [Frame(**frame) for frame in found["frames"]]})


def _subjects(series: Sequence[Series], folders: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """Return what the subject of each series is called, and what is to be told of it.

    A patient's number counts the patients in the order of the series. Where each folder's subject is one patient and
    each patient one folder's, the folders' names serve.
    """
    patients = [one.patient for one in series]
    studies = {one.study for one in series}
    if len(set(patients)) == 1 and patients[0] and len(studies) > 1:
        return list(folders), {ONE_PATIENT: len(series)}
    pairs = set(zip(patients, folders, strict=True))
    if all(folders) and len(pairs) == len(set(patients)) == len(set(folders)):
        return list(folders), {}
    number = {who: place for place, who in enumerate(dict.fromkeys(filter(None, patients)), 1)}
    named = zip(patients, folders, strict=True)
    return [f"patient-{number[who]:03d}" if who else folder for who, folder in named], {}


def _respelled(headers: Iterable[Header]) -> int:
    """Return how many patients have a PatientID that is written in several ways."""
    spellings = Counter(patient for patient, _ in {(one.patient, one.spelling) for one in headers})
    return sum(count > 1 for count in spellings.values())


def _sessions(series: Sequence[Series], subjects: Sequence[str]) -> list[str]:
    """Return the place of each series' study among those of its subject by time, from 1; "" where no study is told."""
    studies: dict[str, set[tuple[str, str]]] = {}
    for one, subject in zip(series, subjects, strict=True):
        studies.setdefault(subject, set()).add((one.when, one.study))
    places = {who: {study: str(at) for at, (_, study) in enumerate(sorted(of), 1)} for who, of in studies.items()}
    return [places[who][one.study] if who and one.study else "" for one, who in zip(series, subjects, strict=True)]
