"""Which kind of volumes a folder holds."""

from pathlib import Path

from mriscope.data.bids import is_bids, open_bids
from mriscope.data.decoding import SUFFIXES
from mriscope.data.dicom import is_dicom
from mriscope.data.dicom_folders import open_dicom_folders
from mriscope.data.image_table import find_image_table, open_folder_table
from mriscope.data.listing import walk
from mriscope.data.nifti import is_nifti
from mriscope.data.read_options import ReadOptions
from mriscope.data.rows import Source
from mriscope.data.volume_folders import open_nifti_folders, open_tumour_slices
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
        MissingExtraError: the packages that read them are not installed.
    """
    files = {path: Path(entry.path) for path, entry in sorted(walk(name, root), key=lambda one: one[0])}
    cut = Cut(options.plane, options.slices)
    if is_bids(files):
        need("volumes", "nibabel")
        return open_bids(name, root, files, cut, options.label_column, options.series)
    below = {path.partition("/")[0] for path in files if is_bids([path.partition("/")[2]])}
    if folder := next((one for one in sorted(below) if f"{one}/participants.tsv" in files), None):
        raise DataError(f"{name} holds a data set in BIDS in its folder {folder}; name that, {name}/{folder}")
    names = [path.lower() for path in files]
    if any(path.endswith(OTHER_KINDS) for path in names):
        return None
    if any(map(is_nifti, names)):
        need("volumes", "nibabel")
        if table := find_image_table(root, options):
            return open_folder_table(name, root, table, options)
        return open_nifti_folders(name, files, cut)
    if any(path.endswith(".mat") for path in names):
        need("volumes", "h5py")
        return open_tumour_slices(files)
    if dicoms := [
        path for path, file in files.items() if path.lower().endswith(".dcm") or (file.is_file() and is_dicom(file))
    ]:
        need("volumes", "pydicom")
        if table := find_image_table(root, options):
            return open_folder_table(name, root, table, options)
        return open_dicom_folders(name, files, dicoms, cut, options.series)
    return None


def takes_tables_from_above(root: Path) -> bool:
    """Tell whether a folder may be a data set of derivatives, whose tables are those of the data set above it."""
    return "derivatives" in root.resolve().parts
