"""Volumes in NIfTI files (.nii, .nii.gz), their claims checked before their voxels are touched."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.volumes import MAX_VOXELS, Volume
from mriscope.errors import DataError

SUFFIXES = (".nii", ".nii.gz")
LARGEST_FILE = 2**31  # bytes
_HEADER = 544  # bytes of the longer header, NIfTI-2, and of the flag of extensions behind it
_MARGIN = 2**20  # bytes; what may stand between header and voxels, or follow these
_CHUNK = 2**20
_DEFLATE = 1032  # no deflated stream holds more bytes than this for each of its own


def is_nifti(name: str) -> bool:
    """Tell whether the name of a file is that of a NIfTI volume."""
    return name.lower().endswith(SUFFIXES)


def read_nifti(path: Path) -> Volume:
    """Read a file of one 3-D volume.

    Voxels are scaled by slope and intercept; the affine is the sform, else the qform, else that of voxels whose axes
    are left, anterior and superior (nibabel's `get_best_affine`). The checksum of a gzip stream is verified.

    Raises:
        DataError: no NIfTI, cut short or damaged; not 3-D, not of real numbers, or larger than MAX_VOXELS; or a header
            that claims more than the file can hold. The text is the predicate of a sentence ("is cut short").
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError(f"has {size >> 20:,} MiB, where a volume has at most {LARGEST_FILE >> 20:,}")
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return _read(gzip.GzipFile(fileobj=file) if packed else file, size * _DEFLATE if packed else size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"is a damaged gzip file ({error}); copy or download it again") from error


def _read(stream: Any, most: int) -> Volume:
    """Read a volume from an unpacked stream that can hold so many bytes at most."""
    start = stream.read(_HEADER)
    header = _parse_header(start)
    shape, dtype, offset = _checked_claims(header, most)
    count = int(np.prod(shape))
    voxels = np.empty(count * dtype.itemsize, np.uint8)  # takes memory only as it is filled
    early = start[offset:] if offset < len(start) else b""
    stream.read(max(offset - len(start), 0))
    held = _fill(voxels, early, stream)
    if held < len(voxels):
        raise DataError(f"is cut short: its header tells of {len(voxels):,} bytes of voxels, and it holds {held:,}")
    if len(stream.read(_MARGIN)) == _MARGIN:
        raise DataError(f"holds more than the {len(voxels):,} bytes of voxels that its header tells of")
    data = voxels.view(dtype).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        data = data.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    oriented = bool(header["sform_code"] or header["qform_code"])
    return Volume(data, np.asarray(header.get_best_affine(), np.float64), oriented=oriented)


def _parse_header(start: bytes) -> Any:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    sizes = {int.from_bytes(start[:4], order): order for order in ("little", "big")}
    kind = Nifti1Header if 348 in sizes else Nifti2Header if 540 in sizes else None
    if kind is None:
        raise DataError("is no NIfTI file: it begins with neither 348 nor 540, the size of a header")
    try:
        header = kind.from_fileobj(io.BytesIO(start[: kind.template_dtype.itemsize]))
        one_part = header["magic"].item() in (b"n+1", b"n+2")
    except (HeaderDataError, ValueError, KeyError, ArithmeticError, OSError) as error:
        raise DataError(f"has a damaged NIfTI header ({error})") from error
    if not one_part:
        raise DataError("is no NIfTI file of one part (n+1 or n+2); join .hdr and .img to one .nii")
    return header


def _checked_claims(header: Any, most: int) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape, type and first byte of the voxels, once the header's claims are found possible."""
    sides = [int(side) for side in header.get_data_shape()]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    told = " × ".join(map(str, sides))
    if len(sides) != 3:
        raise DataError(f"has {len(sides)} dimensions ({told or 'none'}); expected one volume of three; take one out")
    if min(sides) < 1 or np.prod(sides, dtype=object) > MAX_VOXELS:
        raise DataError(f"claims {told} voxels; expected 1 to {MAX_VOXELS:,} in all")
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError(f"holds voxels of type {dtype}; expected real numbers of at most 64 bits")
    offset = float(header["vox_offset"])
    least = 352 if header["sizeof_hdr"] == 348 else 544
    if not least <= offset <= least + _MARGIN:
        raise DataError(f"tells of voxels from byte {offset:g} on; expected {least} to {least + _MARGIN:,}")
    needed = int(offset) + int(np.prod(sides)) * dtype.itemsize
    if needed > most:
        raise DataError(f"claims {told} voxels, {needed:,} bytes, and can hold {most:,} at most; it is cut or forged")
    return tuple(sides), dtype, int(offset)


def _fill(voxels: np.ndarray, early: bytes, stream: Any) -> int:
    """Fill voxels with bytes that were read already and those of a stream; return how many there were."""
    held = min(len(early), len(voxels))
    voxels[:held] = np.frombuffer(early[:held], np.uint8)
    while chunk := stream.read(min(_CHUNK, len(voxels) - held)):
        voxels[held : held + len(chunk)] = np.frombuffer(chunk, np.uint8)
        held += len(chunk)
    return held
