"""DICOM files: what their headers say, without anything that names a person, and the volume that a series makes."""

import hmac
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.subject_ids import fold, split_session
from mriscope.data.volumes import MAX_VOXELS, Volume
from mriscope.errors import DataError
from mriscope.files import check_file

LARGEST_FILE = 2**31  # bytes
TRANSFER_SYNTAXES = {
    **{"1.2.840.10008.1.2": "implicit", "1.2.840.10008.1.2.1": "explicit", "1.2.840.10008.1.2.2": "big-endian"},
    **{"1.2.840.10008.1.2.5": "RLE", "1.2.840.10008.1.2.4.50": "JPEG", "1.2.840.10008.1.2.4.51": "JPEG, 12 bits"},
    **{"1.2.840.10008.1.2.4.57": "JPEG, lossless", "1.2.840.10008.1.2.4.70": "JPEG, lossless"},
    **{"1.2.840.10008.1.2.4.80": "JPEG-LS", "1.2.840.10008.1.2.4.81": "JPEG-LS, near lossless"},
    **{"1.2.840.10008.1.2.4.90": "JPEG 2000, lossless", "1.2.840.10008.1.2.4.91": "JPEG 2000"},
}
"""The allow-list. Deflated files are not on it: they cannot be opened without being unpacked whole."""
_TAGS = [
    *("PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "SeriesInstanceUID", "SeriesNumber"),
    *("SeriesDescription", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness", "BitsAllocated"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_META = 8192  # bytes that hold the meta information of a file
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Frame:
    """Where one image of a file lies.

    Args:
        position: mm (LPS) of its first pixel, x, y and z.
        orientation: directions of a row and of a column of pixels, six cosines.
        spacing: mm between rows, and between columns.
        thickness: mm; 1 where the file does not tell.
    """

    position: list[float]
    orientation: list[float]
    spacing: list[float]
    thickness: float


@dataclass(frozen=True)
class Header:
    """What one file says of itself; digests stand for all that could name a person.

    Args:
        patient: keyed digest of PatientID in one case, without blanks and known sessions; "" where it is empty.
        study: keyed digest of StudyInstanceUID.
        series: keyed digest of SeriesInstanceUID.
        when: date and time of the study, only to order the studies of a patient.
        number: SeriesNumber, as text.
        description: SeriesDescription, printable and at most 40 letters long.
        rows: pixels down.
        columns: pixels across.
        frames: the images of the file.
        spelling: keyed digest of PatientID as it is written.
    """

    patient: str
    study: str
    series: str
    when: str
    number: str
    description: str
    rows: int
    columns: int
    frames: list[Frame] = field(default_factory=list)
    spelling: str = ""


def is_dicom(path: Path) -> bool:
    """Tell whether a file bears the mark of DICOM, DICM at byte 128."""
    try:
        with check_file(path).open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path, salt: bytes) -> Header:
    """Read what a file says of itself; its pixels stay unread, its names too.

    Args:
        path: the file.
        salt: key of the digests, drawn anew for each reading.

    Raises:
        DataError: no DICOM, damaged, of a transfer syntax that is not on the list, in colour, without a place in space,
            or with claims that the file cannot hold. The text is the predicate of a sentence.
    """
    with _as_data_errors():
        dataset = _read_dataset(path, _TAGS)
        samples, colours = int(dataset.get("SamplesPerPixel") or 1), str(dataset.get("PhotometricInterpretation") or "")
        if samples != 1 or colours not in ("MONOCHROME1", "MONOCHROME2"):
            raise DataError(f"is {colours or 'of unknown colours'}, {samples} samples a pixel; expected grey images")

        def digest(name: str) -> str:
            return keyed(str(dataset.get(name) or "").strip())

        def keyed(value: str) -> str:
            return hmac.digest(salt, value.encode(errors="replace"), "sha256").hex()[:32] if value else ""

        description = "".join(letter for letter in str(dataset.get("SeriesDescription") or "") if letter.isprintable())
        return Header(
            keyed(fold(split_session(str(dataset.get("PatientID") or "").strip())[0])),
            *(digest(name) for name in ("StudyInstanceUID", "SeriesInstanceUID")),
            when=f"{dataset.get('StudyDate') or ''} {dataset.get('StudyTime') or ''}",
            number=str(dataset.get("SeriesNumber") or "")[:12],
            description=description[:40],
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            frames=_frames(dataset),
            spelling=keyed(str(dataset.get("PatientID") or "")),
        )


def read_series(layers: Sequence[Sequence[tuple[Path, int]]], frames: Sequence[Frame]) -> tuple[Volume, int]:
    """Read the images of a series into one volume.

    Values are rescaled. A window that all images share gives the grey limits; MONOCHROME1 is turned round.

    Args:
        layers: from one end to the other, the images that lie at one place, as files and frames in them. Where they are
            several, they must be equal.
        frames: where each layer lies, as their headers told.

    Returns:
        the volume, and how many equal doubles were left out.

    Raises:
        DataError: a file is damaged, or two images at one place differ.
    """
    images = _Images()
    stack: list[np.ndarray] = []
    doubles = 0
    for layer in layers:
        first = images.get(*layer[0])
        for other in layer[1:]:
            if not np.array_equal(first, images.get(*other)):
                raise DataError(
                    f"holds two different images at one place, {layer[0][0].name} and {other[0].name} (several echoes "
                    "or time points?); keep one kind in a folder"
                )
            doubles += 1
        stack.append(first)
    affine, origins = layout_of(frames)
    return Volume(np.stack(stack).transpose(2, 1, 0), affine, images.limits(), origins), doubles


def layout_of(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the affine of a stack of images, and the place of each layer where their distances differ by over 10 %.

    Args:
        frames: in order along the stack, all of one orientation and spacing.

    Returns:
        float64 (4, 4), from (column, row, layer) to mm (RAS+); float64 (K, 3) or None.
    """
    first = frames[0]
    places = np.array([frame.position for frame in frames]) * _LPS_TO_RAS
    along_row, along_column = (np.array(first.orientation[at : at + 3]) * _LPS_TO_RAS for at in (0, 3))
    normal = np.cross(along_row, along_column)
    step = (places[-1] - places[0]) / (len(frames) - 1) if len(frames) > 1 else normal * first.thickness
    affine = np.eye(4)
    affine[:3] = np.column_stack([along_row * first.spacing[1], along_column * first.spacing[0], step, places[0]])
    gaps = np.diff(places @ normal)
    even = not len(gaps) or np.abs(gaps - np.median(gaps)).max() <= 0.1 * abs(np.median(gaps))
    return affine, None if even else places


class _Images:
    """The pixels of the files of one series, with what is said of them; each file is decoded once in a row."""

    def __init__(self) -> None:
        self.windows: set[tuple[float, float] | None] = set()
        self._open: tuple[Path, Any, np.ndarray] | None = None

    def get(self, path: Path, frame: int) -> np.ndarray:
        dataset, pixels = self._decoded(path)
        with _as_data_errors():
            values = _rescaled(pixels[frame], dataset, frame)
            inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
            window = _window(dataset, frame)
            self.windows.add((-window[1], -window[0]) if window and inverted else window)
            return -values.astype(np.float32) if inverted else values

    def limits(self) -> tuple[float, float] | None:
        return next(iter(self.windows)) if len(self.windows) == 1 else None

    def _decoded(self, path: Path) -> tuple[Any, np.ndarray]:
        if self._open is None or self._open[0] != path:
            with _as_data_errors():
                dataset = _read_dataset(path)
                if dataset.file_meta.TransferSyntaxUID in _JPEG_2000:
                    _check_streams(dataset)
                pixels = np.asarray(dataset.pixel_array)
                self._open = path, dataset, pixels.reshape(-1, int(dataset.Rows), int(dataset.Columns))
        return self._open[1:]


def _read_dataset(path: Path, tags: list[str] | None = None) -> Any:
    """Read a file, with its pixels where no tags are named, after its meta information is found to be in order."""
    from pydicom import dcmread
    from pydicom.uid import UID

    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError(f"has {size >> 20:,} MiB, where a file has at most {LARGEST_FILE >> 20:,}")
    syntax = UID(_transfer_syntax(path))
    if syntax not in TRANSFER_SYNTAXES:
        told = syntax.name if syntax else "that is not told"
        raise DataError(f"has the transfer syntax {told}, which is not read; convert it, with gdcmconv or dcmconv")
    dataset = dcmread(path, stop_before_pixels=tags is not None, specific_tags=tags)
    if dataset.file_meta.TransferSyntaxUID != syntax:
        raise DataError("tells of two transfer syntaxes; it is damaged or forged")
    sides = [int(dataset.get(name) or 0) for name in ("Rows", "Columns")] + [int(dataset.get("NumberOfFrames") or 1)]
    if min(sides) < 1 or np.prod(sides, dtype=object) > MAX_VOXELS:
        raise DataError(f"claims {' × '.join(map(str, sides))} pixels; expected 1 to {MAX_VOXELS:,} in all")
    return dataset


def _check_streams(dataset: Any) -> None:
    """Check that JPEG 2000 streams are of the size that the header tells, as decoders take memory for what they claim.

    The marker SIZ follows that of the stream's start, and tells width and height and the offsets within them
    (ISO/IEC 15444-1, A.5.1).
    """
    from pydicom.encaps import generate_frames

    expected = int(dataset.Columns), int(dataset.Rows)
    for stream in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)):
        at = stream[:256].find(b"\xff\x4f\xff\x51")  # a JP2 file has some boxes before it
        width, height, left, top = (int.from_bytes(stream[at + place : at + place + 4]) for place in (8, 12, 16, 20))
        if at < 0 or (width - left, height - top) != expected:
            raise DataError(f"holds a JPEG 2000 image that is not of {expected[0]}×{expected[1]} pixels, as it tells")


def _transfer_syntax(path: Path) -> str:
    """Return the transfer syntax by the first bytes alone, as a deflated file is unpacked whole when it is parsed."""
    with path.open("rb") as file:
        start = file.read(_META)
    if start[128:132] != b"DICM":
        raise DataError("is no DICOM file: it lacks the mark DICM at byte 128")
    at = start.find(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(start[at + 6 : at + 8], "little")
    return "" if at < 0 else start[at + 8 : at + 8 + length].decode("ascii", "replace").rstrip("\0 ")


def _frames(dataset: Any) -> list[Frame]:
    """Return the place of each image; an enhanced file tells it frame by frame, or once for all."""
    count = int(dataset.get("NumberOfFrames") or 1)
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    shared = dataset.get("SharedFunctionalGroupsSequence")
    if count > 1 and (own is None or len(own) != count):
        raise DataError(f"holds {count} frames, and does not tell where each lies; expected an enhanced DICOM file")
    return [_frame([*(own[at : at + 1] if own else ()), *(shared or ()), dataset]) for at in range(count)]


def _frame(tellers: Sequence[Any]) -> Frame:
    def value(group: str, name: str) -> Any:
        for teller in tellers:
            for inner in (*(teller.get(group) or ()), teller):
                if inner.get(name) is not None:
                    return inner.get(name)
        return None

    position = value("PlanePositionSequence", "ImagePositionPatient")
    orientation = value("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = value("PixelMeasuresSequence", "PixelSpacing")
    thickness = value("PixelMeasuresSequence", "SliceThickness")
    told = (position, 3), (orientation, 6), (spacing, 2)
    if any(values is None or len(values) != length for values, length in told):
        raise DataError("does not tell where it lies (ImagePositionPatient, ImageOrientationPatient, PixelSpacing)")
    lists = [[float(number) for number in values] for values, _ in told]
    if not np.isfinite(np.concatenate(lists)).all():
        raise DataError("tells of a place that is no number")
    rows = np.array(lists[1]).reshape(2, 3)
    if not np.allclose(rows @ rows.T, np.eye(2), atol=0.01):
        raise DataError("has an ImageOrientationPatient that is not two directions at right angles")
    return Frame(*lists, thickness=float(thickness or 1))


def _rescaled(values: np.ndarray, dataset: Any, frame: int) -> np.ndarray:
    from pydicom.pixels.processing import apply_modality_lut

    teller = _group(dataset, frame, "PixelValueTransformationSequence")
    slope = float(teller.get("RescaleSlope", 1) or 1)
    intercept = float(teller.get("RescaleIntercept", 0) or 0)
    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(values, dataset)
    if (slope, intercept) == (1, 0):
        return values
    return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _window(dataset: Any, frame: int) -> tuple[float, float] | None:
    """Return the values that a window makes black and white (PS3.3 C.11.2.1.2), the first where there are several."""
    teller = _group(dataset, frame, "FrameVOILUTSequence")
    centre, width = (_first(teller.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or not width >= 1 or not np.isfinite(centre + width):
        return None
    if teller.get("VOILUTFunction", "LINEAR") == "LINEAR":
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2 if width > 1 else centre
    return centre - width / 2, centre + width / 2


def _group(dataset: Any, frame: int, name: str) -> Any:
    """Return the part of an enhanced file that speaks of one frame, or the file itself."""
    for groups, at in (
        (dataset.get("PerFrameFunctionalGroupsSequence"), frame),
        (dataset.get("SharedFunctionalGroupsSequence"), 0),
    ):
        if groups and groups[at].get(name):
            return groups[at].get(name)[0]
    return dataset


def _first(value: Any) -> float | None:
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return None if not several or several[0] in (None, "") else float(several[0])


@contextmanager
def _as_data_errors() -> Iterator[None]:
    """Turn whatever a damaged file makes the parser raise into a DataError; keep its warnings to itself meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (DataError, MemoryError):
            raise
        except Exception as error:
            text = re.sub(r"(['\"]).*?(\1|$)", "…", " ".join(str(error).split()))[:120]  # values may name a person
            raise DataError(f"is a damaged DICOM file ({text or type(error).__name__})") from error
