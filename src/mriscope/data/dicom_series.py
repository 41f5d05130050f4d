"""DICOM files to scans: headers read in a sandbox, series, and whose they are without a name."""

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.dicom import Frame, Header
from mriscope.data.identifiers import identify
from mriscope.data.layout import Place
from mriscope.data.naming import part_order
from mriscope.data.sandbox import Request, Sandbox
from mriscope.data.scans import Scan
from mriscope.data.series import Series, find_series
from mriscope.data.volumes import PLANES
from mriscope.errors import DataError

Listing = Mapping[str, Path]
"""The files of a source by their paths within it."""
RESPELLED = "patients have PatientIDs that differ only in case, blanks or a session; each was taken for one subject"
ONE_PATIENT = "series have one and the same PatientID; it was taken for nobody's"
_AT_ONCE = 64  # headers that one request asks for


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
    subjects, told = subjects_of(series, [who.subject for who in folders])
    if respelled := _respelled(headers.values()):
        told = {**told, RESPELLED: respelled}
    found = []
    for one, subject, session in zip(series, subjects, sessions_of(series, subjects), strict=True):
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


def subjects_of(series: Sequence[Series], folders: Sequence[str]) -> tuple[list[str], dict[str, int]]:
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


def sessions_of(series: Sequence[Series], subjects: Sequence[str]) -> list[str]:
    """Return the place of each series' study among those of its subject by time, from 1; "" where no study is told."""
    studies: dict[str, set[tuple[str, str]]] = {}
    for one, subject in zip(series, subjects, strict=True):
        studies.setdefault(subject, set()).add((one.when, one.study))
    places = {who: {study: str(at) for at, (_, study) in enumerate(sorted(of), 1)} for who, of in studies.items()}
    return [places[who][one.study] if who and one.study else "" for one, who in zip(series, subjects, strict=True)]
