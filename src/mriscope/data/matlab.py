"""The brain tumours of figshare (Cheng, 2017): one slice a MATLAB file of format 7.3, which is HDF5."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.errors import DataError

CLASSES = ("meningioma", "glioma", "pituitary")
"""By their labels, which count from 1."""
MAX_PIXELS = 16_000_000
LARGEST_FILE = 2**28  # bytes
_LONGEST_ID = 64


@dataclass(frozen=True, eq=False)
class TumourSlice:
    """One slice as its file holds it.

    Args:
        image: uint8 (H, W), from its least to its greatest value.
        label: index into CLASSES.
        subject: the patient's number, cjdata.PID; "" where there is none.
    """

    image: np.ndarray
    label: int
    subject: str


def read_tumour_slice(path: Path) -> TumourSlice:
    """Read cjdata.image, cjdata.label and cjdata.PID.

    Raises:
        DataError: no such file, or values that are no slice. The text is the predicate of a sentence.
    """
    import h5py

    if path.stat().st_size > LARGEST_FILE:
        raise DataError(f"has {path.stat().st_size >> 20:,} MiB, where a slice has at most {LARGEST_FILE >> 20:,}")
    with path.open("rb") as file:
        start = file.read(520)
    if b"\x89HDF\r\n\x1a\n" not in (start[:8], start[512:520]):
        kind = "a MATLAB file older than 7.3" if start.startswith(b"MATLAB 5") else "no MATLAB file of format 7.3"
        raise DataError(f"is {kind}; expected HDF5 with cjdata, or save it again with -v7.3")
    try:
        with h5py.File(path, "r") as file:
            return _read_slice(file)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # damaged files raise whatever the parser stumbled over
        raise DataError(f"is a damaged MATLAB file ({' '.join(str(error).split())[:120]})") from error


def _read_slice(file: Any) -> TumourSlice:
    fields = {name: _dataset(file, name) for name in ("image", "label", "PID")}
    image, label, who = fields["image"], fields["label"], fields["PID"]
    if image is None or label is None:
        raise DataError("lacks cjdata.image or cjdata.label; expected a file of the figshare brain tumours")
    pixels = np.prod(image.shape, dtype=object)
    if len(image.shape) != 2 or image.dtype.kind not in "iuf" or not 1 <= pixels <= MAX_PIXELS:
        raise DataError(f"holds an image of shape {image.shape} and type {image.dtype}; expected a grey slice")
    if label.size != 1 or float(label[()].item()) not in (1, 2, 3):
        raise DataError(f"holds a label that is none of 1, 2 and 3 ({', '.join(CLASSES)})")
    pixels = np.nan_to_num(np.asarray(image[()], np.float32).T, posinf=0, neginf=0)  # MATLAB stores column by column
    low, high = float(pixels.min()), float(pixels.max())
    grey = np.floor((pixels - low) * (255 / max(high - low, 1e-30)) + 0.5).astype(np.uint8)
    return TumourSlice(grey, int(label[()].item()) - 1, _text(who))


def _dataset(file: Any, name: str) -> Any:
    """Return a dataset that lies in the file itself; HDF5 would open whatever other files a link or a dataset names."""
    import h5py

    for path in ("cjdata", f"cjdata/{name}"):
        if not isinstance(file.get(path, getlink=True), h5py.HardLink):
            return None
    found = file[f"cjdata/{name}"]
    return found if isinstance(found, h5py.Dataset) and not found.external and not found.is_virtual else None


def _text(codes: Any) -> str:
    """Return a MATLAB text, which is stored as the numbers of its letters."""
    if codes is None or not 1 <= codes.size <= _LONGEST_ID or codes.dtype.kind not in "iuf":
        return ""
    letters = [int(code) for code in np.ravel(codes[()])]
    return "".join(chr(code) for code in letters if 32 <= code < 0xD800).strip()
