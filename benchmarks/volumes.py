"""How fast volumes become slices: NIfTI, gzipped NIfTI and DICOM, made from the phantom's template.

    python3 run.py bench volumes            11 volumes of 256 x 256 x 176 of each kind; VOLUMES=114 for 20,000 slices

Prints slices a second by the clock and a second of processor time of this process and its children, at 128 x 128.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from volume_files import axial_series, write_dicoms

from mriscope.data.anatomy import load_atlas
from mriscope.data.readers import read

VOLUMES = int(os.environ.get("VOLUMES", "11"))
SHAPE = (256, 256, 176)


def brain(seed: int) -> np.ndarray:
    """The template at 1 mm in a field of 256 x 256 x 176, int16, with noise."""
    tissue = load_atlas().tissue
    whole = np.zeros(SHAPE, np.float32)
    corner = [(side - length) // 2 for side, length in zip(SHAPE, tissue.shape, strict=True)]
    whole[tuple(slice(at, at + length) for at, length in zip(corner, tissue.shape, strict=True))] = tissue
    return (whole * 900 + np.abs(np.random.default_rng(seed).normal(0, 12, SHAPE))).astype(np.int16)


def write_nifti_set(folder: Path, suffix: str) -> None:
    import nibabel

    for number in range(VOLUMES):
        path = folder / ("AD", "CN")[number % 2] / f"sub-{number:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < 3:
            nibabel.save(nibabel.Nifti1Image(brain(number), np.eye(4)), path)
        else:
            path.hardlink_to(folder / ("AD", "CN")[number % 3 % 2] / f"sub-{number % 3:03d}{suffix}")


def write_dicom_set(folder: Path) -> None:
    images = axial_series(brain(0).astype(np.uint16))
    for number in range(VOLUMES):
        for image in images:
            image.PatientID, image.StudyInstanceUID = f"P{number}", f"1.2.{number}"
            image.SeriesInstanceUID = f"1.2.{number}.1"
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        write_dicoms(folder / ("AD", "CN")[number % 2] / f"p{number}", images)


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    makers = {
        "NIfTI": lambda folder: write_nifti_set(folder, ".nii"),
        "gzipped NIfTI": lambda folder: write_nifti_set(folder, ".nii.gz"),
        "DICOM": write_dicom_set,
    }
    for name, make in makers.items():
        with tempfile.TemporaryDirectory() as place:
            os.environ["MRISCOPE_CACHE"] = f"{place}/cache"
            make(Path(place, "set"))
            clock, processor = time.perf_counter(), processor_seconds()
            count = len(read(Path(place, "set"), size=128))
            clock, processor = time.perf_counter() - clock, processor_seconds() - processor
            rates = f"{count / clock:.0f} a second, {count / processor:.0f} a second of processor time"
            print(f"{name}: {count:,} slices, {rates}", flush=True)


if __name__ == "__main__":
    main()
