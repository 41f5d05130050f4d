"""One file as its bytes, of whatever kind: the slices that it holds. Nothing is written to a disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mriscope.data.decoding import bits_of, decode_deep, fit, to_8_bits
from mriscope.data.dicom_folders import own_plane, read_headers, series_request
from mriscope.data.identifiers import identify
from mriscope.data.images import Images, SliceOrigin
from mriscope.data.naming import printable
from mriscope.data.sandbox import Request, Sandbox
from mriscope.data.series import find_series
from mriscope.data.volumes import PLANES, Cut
from mriscope.errors import DataError, need

_GZIP, _MARK = b"\x1f\x8b", slice(128, 132)
_LONGEST_NAME = 200
_NIFTI = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}
AXIAL = Cut()
_AXIS: dict[str, str] = dict(zip(PLANES, "xyz", strict=True))


def read_content(
    name: str, content: bytes, sandbox: Sandbox, *, size: int, stretch: bool = False, cut: Cut = AXIAL
) -> Images:
    """Read the slices of one file, brought to one size as `read` does.

    What the file is, its content tells: a picture (JPEG, PNG, TIFF, BMP), a NIfTI volume, or DICOM, of one image or
    several. A DICOM file of one image is read in its own plane. Volumes are parsed in the sandbox. A subject is told by
    the file's name alone, never by its content.

    Args:
        name: of the file; the slices of a volume are called name#z012, by axis and index.
        content: the file, whole.
        sandbox: for volumes.
        size: height and width to reach, in pixels.
        stretch: resize height and width each by itself; else the aspect is kept, on a black square.
        cut: how volumes become slices.

    Raises:
        DataError: the file holds no slice, and why.
        MissingExtraError: the packages that read volumes are not installed.
    """
    name = printable(name)[:_LONGEST_NAME] or "the file"
    try:
        if content[_MARK] == b"DICM":
            need("volumes", "pydicom")
            return _read_volume(name, content, sandbox, cut, size, stretch, dicom=True)
        if content[:2] == _GZIP or content[:4] in _NIFTI:
            need("volumes", "nibabel")
            return _read_volume(name, content, sandbox, cut, size, stretch, dicom=False)
        return Images(_read_picture(content, size, stretch)[None], (name,), (_origin_of(name),))
    except DataError as error:
        raise DataError(f"{name} {error}") from error


def _read_picture(content: bytes, size: int, stretch: bool) -> np.ndarray:
    try:
        pixels = decode_deep(content)
    except DataError as error:
        raise DataError(f"{error}; expected a JPEG, PNG, TIFF, BMP, NIfTI or DICOM file") from error
    fitted = fit(pixels, size, stretch=stretch)
    return fitted if pixels.dtype == np.uint8 else to_8_bits(fitted, bits_of(int(pixels.max(initial=0))))


def _read_volume(
    name: str, content: bytes, sandbox: Sandbox, cut: Cut, size: int, stretch: bool, *, dicom: bool
) -> Images:
    with _in_memory(content) as path:
        request: Request = {"task": "nifti", "files": [path]}
        if dicom:
            request, cut = _dicom_request(path, sandbox, cut)
        ((_, answer),) = sandbox.map([{**request, **asdict(cut)}], lambda one: one)
    if isinstance(answer, DataError):
        raise answer
    assert answer.images is not None
    images = np.stack([fit(one, size, stretch=stretch) for one in answer.images])
    paths = tuple(f"{name}#{_AXIS[cut.plane]}{index:03d}" for index in answer.facts["indices"])
    origin = replace(_origin_of(name), volume=name)
    return Images(images, paths, tuple(replace(origin, position=place) for place in answer.facts["positions"]))


def _origin_of(name: str) -> SliceOrigin:
    ((who,), _) = identify([name])
    return SliceOrigin(who.subject, who.session, who.position)


def _dicom_request(path: str, sandbox: Sandbox, cut: Cut) -> tuple[Request, Cut]:
    files = {"file": Path(path)}
    headers, problems = read_headers(files, sandbox)
    if problems:
        raise DataError(problems["file"])
    (series,) = find_series(headers)
    if series.problem:
        raise DataError(series.problem)
    plane = own_plane(series)
    return series_request(series, files), cut if plane is None else Cut(plane)


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Yield a path at which a child process finds bytes that stand in memory alone.

    Raises:
        DataError: the system has no such files.
    """
    if not hasattr(os, "memfd_create"):
        raise DataError("holds a volume, which this system cannot hand to a parser in memory (Linux can)")
    number = os.memfd_create("mriscope")
    try:
        with os.fdopen(number, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/{os.getpid()}/fd/{number}"
    finally:
        os.close(number)
