"""Which kind of volumes a folder holds."""

from pathlib import Path

from mriscope.data.bids import is_bids, open_bids
from mriscope.data.decoding import SUFFIXES
from mriscope.data.dicom import is_dicom
from mriscope.data.listing import walk
from mriscope.data.nifti import is_nifti
from mriscope.data.rows import AS_IT_IS, ReadOptions, Source
from mriscope.data.volume_folders import open_dicom_folders, open_nifti_folders, open_tumour_slices
from mriscope.data.volumes import Cut
from mriscope.errors import DataError, need

OTHER_KINDS = (*SUFFIXES, ".parquet")


def open_volumes(name: str, root: Path, options: ReadOptions) -> Source | None:
    """Open a folder of volumes; None where it holds none, or images or parquet files beside them.

    A BIDS data set is one whatever else it holds. Of other folders, one NIfTI file makes it a source of those, else
    MATLAB files do, else DICOM files.

    Args:
        name: the source as its user wrote it.
        root: the folder.
        options: how volumes are read.

    Raises:
        DataError: volumes that are not laid out as one of the kinds expects.
        MissingExtra: the packages that read them are not installed.
    """
    files = {path: Path(entry.path) for path, entry in walk(name, root)}
    cut = Cut(options.plane, options.slices)
    if is_bids(files):
        need("volumes", "nibabel")
        return open_bids(name, root, files, cut, options.label_column, options.series)
    names = [path.lower() for path in files]
    if any(path.endswith(OTHER_KINDS) for path in names):
        return _no_volumes(name, options)
    if any(map(is_nifti, names)):
        need("volumes", "nibabel")
        return open_nifti_folders(name, files, cut)
    if any(path.endswith(".mat") for path in names):
        need("volumes", "h5py")
        return open_tumour_slices(files)
    if dicoms := [path for path, file in files.items() if path.lower().endswith(".dcm") or is_dicom(file)]:
        need("volumes", "pydicom")
        return open_dicom_folders(name, files, dicoms, cut, options.series)
    return _no_volumes(name, options)


def takes_tables_from_above(root: Path) -> bool:
    """Tell whether a folder may be a data set of derivatives, whose tables are those of the data set above it."""
    return "derivatives" in root.resolve().parts


def _no_volumes(name: str, options: ReadOptions) -> None:
    if (options.plane, options.slices, options.series) != (AS_IT_IS.plane, AS_IT_IS.slices, AS_IT_IS.series):
        raise DataError(f"{name} holds no volumes, and plane, slices and series are for volumes; leave them out")
