"""Seeded mutations of volumes: each must give slices or a sentence of ours, in 2 seconds, without growing memory.

    python3 run.py bench volume_mutations            3,000 of each of NIfTI, gzipped NIfTI, DICOM, JPEG 2000 and .mat

Prints, for each kind, how many gave slices, how many gave errors, the longest time, and the resident memory of the
largest child that has run, beside what it was when only the sound file had been read.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from volume_files import axial_series, brain, write_dicoms, write_nifti, write_tumour

from mriscope.data.sandbox import Answer, Request, Sandbox

COUNT = int(os.environ.get("COUNT", 3_000))
CUT = {"plane": "axial", "slices": "all"}


@dataclass(frozen=True)
class Kind:
    """A sound file, and what to ask of one like it."""

    content: bytes
    suffix: str
    requests: Callable[[Path], list[Request]]


def kinds(folder: Path) -> dict[str, Kind]:
    """Sound files of each kind, of a few kilobytes."""

    def nifti(path: Path) -> list[Request]:
        return [{"task": "nifti", "files": [str(path)], **CUT}]

    def dicom(path: Path) -> list[Request]:
        place = {"position": [0, 0, 0], "orientation": [1, 0, 0, 0, 1, 0], "spacing": [1, 1], "thickness": 1}
        layers = {"layers": [[[str(path), 0]]], "frames": [place]}
        return [
            {"task": "dicom headers", "files": [str(path)], "salt": "00", "voxels": 0},
            {"task": "dicom", "files": [str(path)], "voxels": 1440, **layers, **CUT},
        ]

    def matlab(path: Path) -> list[Request]:
        return [{"task": "matlab", "files": [str(path)]}]

    voxels = brain(0, (40, 36, 4))
    (plain,) = write_dicoms(folder, axial_series(voxels.astype(np.uint16))[1:2], ["plain"])
    images = axial_series(voxels.astype(np.uint16))[1:2]
    images[0].compress("1.2.840.10008.1.2.4.90")
    (packed,) = write_dicoms(folder, images, ["packed"])
    tumour = write_tumour(folder / "1.mat", voxels[:, :, 1], 2, "100360")
    sound = {
        "nifti": (write_nifti(folder / "a.nii", voxels), ".nii", nifti),
        "nifti.gz": (write_nifti(folder / "a.nii.gz", voxels), ".nii.gz", nifti),
        "dicom": (plain, ".dcm", dicom),
        "jpeg2000": (packed, ".dcm", dicom),
        "matlab": (tumour, ".mat", matlab),
    }
    return {name: Kind(path.read_bytes(), suffix, ask) for name, (path, suffix, ask) in sound.items()}


def mutated(content: bytes, seed: int) -> bytes:
    """Change a file as damage and malice do: bits, bytes, numbers, cuts, doubled and moved pieces; the header most."""
    rng = np.random.default_rng(seed)
    file = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        reach = len(file) if rng.random() < 0.5 else min(len(file), 600)
        at = int(rng.integers(0, max(reach, 1)))
        kind = rng.integers(0, 7)
        if kind == 0:
            file[at : at + 1] = bytes([file[at] ^ (1 << int(rng.integers(0, 8)))]) if at < len(file) else b""
        elif kind == 1:
            file[at : at + 1] = rng.bytes(1)
        elif kind == 2:
            number = int(rng.choice([0, -1, 2**31 - 1, 2**15 - 1, 2**16 - 1, 70_000, 1]))
            width = int(rng.choice([2, 4]))
            file[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
        elif kind == 3:
            del file[at:]
        elif kind == 4:
            del file[at : at + int(rng.integers(1, 40))]
        elif kind == 5:
            piece = file[at : at + int(rng.integers(1, 40))]
            file[at:at] = piece * int(rng.integers(1, 50))
        else:
            file[at:at] = rng.bytes(int(rng.integers(1, 40)))
    return bytes(file)


def try_mutations(kind: Kind, seeds: range, folder: Path, sandbox: Sandbox) -> Iterator[tuple[bool, float]]:
    """Read mutations of one kind; yields whether slices came, and the seconds. Anything but ours is raised."""
    path = folder / f"mutated{kind.suffix}"
    for seed in seeds:
        path.write_bytes(mutated(kind.content, seed))
        start = time.perf_counter()
        read = True
        for request in kind.requests(path):
            ((_, answer),) = sandbox.map([request], lambda one: one)
            read &= isinstance(answer, Answer)
        yield read, time.perf_counter() - start


def largest_child(kind: Kind, seeds: range, folder: Path) -> tuple[list[tuple[bool, float]], int]:
    with Sandbox(children=1) as sandbox:
        list(sandbox.map(kind.requests(folder / "sound"), lambda request: request))  # starts the child
        found = list(try_mutations(kind, seeds, folder, sandbox))
    return found, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> None:
    for name in sys.argv[1:] or ("nifti", "nifti.gz", "dicom", "jpeg2000", "matlab"):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            kind = kinds(folder)[name]
            (folder / "sound").write_bytes(kind.content)
            with Sandbox(children=1) as sandbox:
                answers = list(sandbox.map(kind.requests(folder / "sound"), lambda request: request))
            assert all(isinstance(answer, Answer) for _, answer in answers), answers
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            found, after = largest_child(kind, range(COUNT), folder)
            slices = sum(read for read, _ in found)
            times = [seconds for _, seconds in found]
            slow = sum(seconds > 2 for seconds in times)
            print(
                f"{name}: {len(found):,} mutations, {slices:,} gave slices, {len(found) - slices:,} an error; longest "
                f"{max(times):.2f} s, {slow} over 2 s; the largest child had {after >> 10} MiB, {before >> 10} before",
                flush=True,
            )


if __name__ == "__main__":
    main()
