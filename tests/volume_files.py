"""Volumes with planted truth, and the files that hold them: NIfTI, DICOM, MATLAB."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from mriscope.data.phantom import make_phantom

LPS = np.array([-1.0, -1.0, 1.0])


def brain(seed: int, shape: tuple[int, int, int] = (14, 18, 12)) -> np.ndarray:
    """A volume in RAS+ whose every voxel differs from its neighbours, int16 from 0 to 999, 0 in all corners."""
    voxels = np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)
    voxels[np.ix_([0, -1], [0, -1], [0, -1])] = 0
    return voxels


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def dataset(image: np.ndarray, position: Sequence[float] | np.ndarray = (0, 0, 0), **tags: Any) -> FileDataset:
    """One grey image of 16 bits as a DICOM file, at a place in mm (LPS); tags by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID = "Doe^Jane", "MRN-4711"
    made.Modality = "MR"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    made.SeriesNumber, made.SeriesDescription = 4, "T1 MPRAGE"
    made.Rows, made.Columns = image.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.PixelRepresentation = int(image.dtype.kind == "i")
    made.ImagePositionPatient, made.ImageOrientationPatient = list(map(float, position)), [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness = [1, 1], 1
    made.PixelData = image.astype(image.dtype.newbyteorder("<")).tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def axial_series(voxels: np.ndarray, affine: np.ndarray | None = None, **tags: Any) -> list[FileDataset]:
    """The axial images of a volume in RAS+ as a scanner stores them: rows to the left, columns to posterior (LPS)."""
    affine = np.eye(4) if affine is None else affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    last_x, last_y = voxels.shape[0] - 1, voxels.shape[1] - 1
    along_row, along_column = -affine[:3, 0] * LPS / spacing[0], -affine[:3, 1] * LPS / spacing[1]
    orientation = [float(cosine) for cosine in (*along_row, *along_column)]
    images = []
    for k in range(voxels.shape[2]):
        corner = (affine @ [last_x, last_y, k, 1])[:3] * LPS
        place = {"ImageOrientationPatient": orientation, "PixelSpacing": [float(spacing[1]), float(spacing[0])]}
        image = np.ascontiguousarray(voxels[::-1, ::-1, k].T)
        images.append(dataset(image, corner, **{**place, "InstanceNumber": k + 1, **tags}))
    return images


def write_dicoms(folder: Path, images: Sequence[Dataset], names: Sequence[str] | None = None) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names or [f"IM{number:04d}.dcm" for number in range(len(images))]]
    for image, path in zip(images, paths, strict=True):
        image.save_as(path, enforce_file_format=True)
    return paths


def enhanced(images: Sequence[FileDataset]) -> FileDataset:
    """The same images as the frames of one enhanced file."""
    whole = dataset(np.stack([image.pixel_array for image in images]))
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID = EnhancedMRImageStorage
    whole.NumberOfFrames = len(images)
    del whole.ImagePositionPatient, whole.ImageOrientationPatient, whole.PixelSpacing
    frames = []
    for image in images:
        place, measures, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = image.ImagePositionPatient
        measures.PixelSpacing, measures.SliceThickness = image.PixelSpacing, image.SliceThickness
        frame.PlanePositionSequence, frame.PixelMeasuresSequence = [place], [measures]
        frames.append(frame)
    direction, shared = Dataset(), Dataset()
    direction.ImageOrientationPatient = images[0].ImageOrientationPatient
    shared.PlaneOrientationSequence = [direction]
    whole.PerFrameFunctionalGroupsSequence, whole.SharedFunctionalGroupsSequence = frames, [shared]
    return whole


def write_tumour(path: Path, image: np.ndarray, label: int, patient: str) -> Path:
    """One file of the figshare brain tumours as MATLAB 7.3 stores it: columns first, texts as numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group["image"] = image.T
        group["label"] = np.array([[float(label)]])
        group["PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
        group["tumorMask"] = np.zeros(image.T.shape, np.uint8)
    return path


def phantom_volumes(subjects: int) -> list[np.ndarray]:
    """Phantom brains in RAS+, 12 axial slices of 32×32 each."""
    slices = make_phantom(subjects, 12, size=32).slices
    return [
        np.ascontiguousarray(slices.images[slices.subjects == who][:, ::-1].transpose(2, 1, 0))
        for who in range(subjects)
    ]


def phantom_bids(root: Path) -> None:
    """Twelve phantom brains as a BIDS data set, with two sessions of the first."""
    table = "participant_id\tdiagnosis\n"
    for who, volume in enumerate(phantom_volumes(12)):
        table += f"sub-{who:02d}\t{('AD', 'CN')[who % 2]}\n"
        for session in (1, 2) if who == 0 else (1,):
            folder = root / f"sub-{who:02d}" / f"ses-{session}" / "anat"
            affine = np.diag([5.0, 5.0, 4.0, 1.0])
            write_nifti(folder / f"sub-{who:02d}_ses-{session}_T1w.nii.gz", volume // session, affine)
    (root / "participants.tsv").write_text(table)


def phantom_dicoms(root: Path) -> None:
    """Twelve phantom brains as DICOM series in class folders."""
    for who, volume in enumerate(phantom_volumes(12)):
        about: dict[str, Any] = {
            "PatientID": f"{who}",
            "StudyInstanceUID": f"1.{who}",
            "SeriesInstanceUID": f"1.{who}.1",
        }
        series = axial_series(volume.astype(np.int16), np.diag([5.0, 5.0, 4.0, 1.0]), **about)
        write_dicoms(root / ("AD", "CN")[who % 2] / f"p{who}", series)
