"""The program of a child of `sandbox`: it parses the files it is asked about, until nobody asks any more."""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mriscope.data import dicom, matlab, nifti
from mriscope.data.sandbox import Answer, Request
from mriscope.data.volumes import Cut, Slices, Volume, cut_volume
from mriscope.errors import DataError

PARSERS = {"nifti": "nibabel", "dicom": "pydicom", "dicom headers": "pydicom", "matlab": "h5py"}
ROOM = 2**28  # bytes for libraries that are loaded late, and for one image on its way
BYTES_PER_VOXEL = 24  # decoded, stacked, rescaled, as numbers and as grey levels


def answer(request: Request) -> Answer:
    """Parse the files of a request.

    Args:
        request: task (nifti, dicom, dicom headers or matlab) and its files; plane and slices of a `Cut`; for headers a
            salt in hexadecimal digits; for DICOM also voxels, how many there are.

    Raises:
        DataError: the files hold nothing of use. The text is the predicate of a sentence.
    """
    task = request["task"]
    if task in ("nifti", "dicom"):
        volume, doubles = read_volume(request)
        cut = cut_volume(volume, Cut(request["plane"], request["slices"]))
        return _slices(cut, doubles=doubles, oriented=volume.oriented)
    if task == "dicom headers":
        return Answer({"headers": [_header(Path(name), bytes.fromhex(request["salt"])) for name in request["files"]]})
    slice_ = matlab.read_tumour_slice(Path(request["files"][0]))
    return Answer({"label": slice_.label, "subject": slice_.subject}, slice_.image[None])


def read_volume(request: Request) -> tuple[Volume, int]:
    """Read the volume that a request of the task nifti or dicom names, and count the equal doubles left out.

    Raises:
        DataError: as `nifti.read_nifti` and `dicom.read_series`.
    """
    if request["task"] == "nifti":
        return nifti.read_nifti(Path(request["files"][0])), 0
    layers = [[(Path(name), int(frame)) for name, frame in layer] for layer in request["layers"]]
    return dicom.read_series(layers, [dicom.Frame(**frame) for frame in request["frames"]])


def _slices(slices: Slices, **facts: Any) -> Answer:
    places = {"positions": slices.positions.tolist(), "indices": slices.indices.tolist()}
    return Answer({**places, "spacing": slices.spacing, "empty": slices.empty, **facts}, slices.images)


def _header(path: Path, salt: bytes) -> dict[str, Any]:
    try:
        return asdict(dicom.read_header(path, salt))
    except (DataError, OSError) as error:
        return {"error": _reason(error)}


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "needs more memory to parse than any volume should; it is damaged or forged, or cut it smaller"
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def serve(answer: Callable[[Request], Answer], room: int = 0) -> None:
    """Answer the requests on standard input until it ends; see `sandbox`.

    Args:
        answer: raises a DataError for files that hold nothing of use.
        room: bytes that it takes beside what parsing does.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between answers
    most = int(sys.argv[1])
    for line in sys.stdin.buffer:
        request = json.loads(line)
        importlib.import_module(PARSERS[request["task"]])  # its time is no fault of the file's
        _limit_memory(most, request.get("voxels"), room)
        _limit_time(float(request["seconds"]))
        try:
            _send(out, answer(request))
        except (DataError, OSError, MemoryError) as error:
            _send(out, Answer({"error": _reason(error)}))
        except Exception as error:  # a parser's own mistake; the file is to blame until someone shows that it is not
            _send(out, Answer({"error": f"is damaged ({type(error).__name__})"}))


def _send(out: BinaryIO, said: Answer) -> None:
    images = said.images
    facts = said.facts if images is None else {**said.facts, "shape": images.shape}
    text = json.dumps(facts).encode()
    out.write(len(text).to_bytes(8) + text)
    if images is not None:
        out.write(np.ascontiguousarray(images).data)
    out.flush()


def _limit_memory(most: int, voxels: int | None, room: int) -> None:
    """Let no more memory be taken than reading so many voxels needs, where their number is known.

    A compressed image may claim another size within than its header, and decoders believe it. Systems other than POSIX
    have no such limit, and rely on the checks of headers.
    """
    if os.name == "posix":
        import resource

        taken = _addresses()
        wanted = most if voxels is None or taken is None else taken + room + ROOM + BYTES_PER_VOXEL * voxels
        resource.setrlimit(resource.RLIMIT_AS, (min(wanted, most), most))


def _addresses() -> int | None:
    """Return how many bytes of addresses this process has; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _limit_time(seconds: float) -> None:
    """End this process after so much processor time from now on."""
    if os.name == "posix":
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    serve(answer)
