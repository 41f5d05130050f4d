"""Slices as image files in one folder per class, as Kaggle lays them out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mriscope.data.decoding import SUFFIXES
from mriscope.data.layout import Place, find_places
from mriscope.data.listing import problem_of, walk
from mriscope.data.naming import canonical_class, natural, part_order, printable, segmentation_notes, segmentations
from mriscope.data.rows import Row, Source
from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import DataError, suggest

MAX_BYTES = 2**28  # 16 million pixels of 16-bit colour take half of it
TABLES = (".csv", ".tsv", ".json", ".txt", ".md", ".pdf", ".xlsx")
"""What lies beside images and is none: passed over above the class folders, where a set's own papers are."""
UNREAD = (".mgz", ".mgh", ".img", ".img.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mnc", ".webp", ".gif", ".jp2")
"""Formats of volumes and images that are not read, and that other programs convert."""


def open_folders(name: str, root: Path) -> Source:
    """Open a source of class folders, listed but unread.

    Folders of train, validation (val, valid, dev) and test, in any case, sets, folds, planes and subjects may stand
    above the class folders or within them; see `find_places`. Class folders whose names mean the four classes of this
    field, whatever their case and punctuation, get those; folders of which none does are classes of their own, in
    sorted order. Other folders within a class folder belong to it. Segmentations beside images are left out, and
    counted. Each file that is no image is a bad row, but for hidden ones, those of PASSED_OVER, and tables and texts
    at the top. Links to folders are not followed.

    Args:
        name: the source as its user wrote it.
        root: the folder; paths are relative to it.

    Raises:
        DataError: there are no images, fewer than two classes, folders that can be read in two ways, or one whose name
            does not go with the others.
    """
    listed = {path: Path(entry.path) for path, entry in walk(name, root) if not _is_paper(path)}
    if not any(map(_is_image, listed)):
        raise DataError(
            f"{name} holds no image files ({', '.join(SUFFIXES)}); {_hint(listed)}expected one folder of them for each "
            "class, or parquet files"
        )
    masks = segmentations(path for path in listed if _is_image(path))
    listed = {path: file for path, file in listed.items() if path not in masks}
    chains = {path: tuple(path.split("/")[:-1]) for path in listed}
    places = find_places(name, {chains[path] for path in listed if _is_image(path)})
    class_names, labels = name_classes(name, sorted({place.class_folder for place in places.values()} - {""}))

    def place_of(path: str) -> Place:
        return places.get(chains[path], Place())

    order = sorted(listed, key=lambda path: (part_order(place_of(path).part), *map(natural, path.split("/"))))
    files = {path: _problem(listed[path], place_of(path).class_folder) or listed[path] for path in order}

    def rows() -> Iterator[Row]:
        for number, (path, file) in enumerate(files.items()):
            content, problem = content_of(file)
            place = place_of(path)
            yield Row(number, printable(path), "", place.part, labels.get(place.class_folder), content, problem)

    return Source(files, class_names, rows, len(files), segmentation_notes(masks))


def _hint(listed: Mapping[str, Path]) -> str:
    """Say what a folder holds instead of images, where it is something that a user may take for them."""
    if link := next((path for path, file in listed.items() if file.is_dir()), None):
        return f"{printable(link)} is a link to a folder, and those are not followed, so move the folder here; "
    if volume := next((path for path in listed if path.lower().endswith(UNREAD)), None):
        return f"{printable(volume)} is of a format that is not read, so convert it to NIfTI (.nii.gz) or PNG; "
    return ""


def _is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def _is_paper(path: str) -> bool:
    return "/" not in path and path.lower().endswith(TABLES)


def name_classes(name: str, folders: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names of the classes, and the label of each class folder; those that differ only in case are one."""
    spelling: dict[str, str] = {}
    classes = [folder for folder in folders if spelling.setdefault(folder.casefold(), folder) == folder]
    meant = {folder: canonical_class(folder) for folder in folders}
    odd = [folder for folder, known in meant.items() if not known]
    if odd and len(classes) == 1:
        raise DataError(
            f"{name} holds one folder of images, {odd[0]}; expected one for each class; name it if they are in it"
        )
    if not odd and folders:
        return CLASS_NAMES, {folder: CLASS_NAMES.index(str(known)) for folder, known in meant.items()}
    if len(odd) < len(folders):
        raise DataError(
            f"{name}: the folder {odd[0]} is none of the four classes, as others are; {suggest(odd[0], CLASS_NAMES)}"
        )
    if len(odd) < 2:
        raise DataError(f"{name} has its images in no class folder; expected one folder of images for each class")
    return tuple(map(printable, classes)), {folder: classes.index(spelling[folder.casefold()]) for folder in folders}


def _problem(path: Path, class_folder: str) -> str:
    if path.is_dir():
        return "is a link to a folder, and those are not followed"
    if path.suffix.lower() not in SUFFIXES:
        return "is no image file"
    problem = problem_of(path, MAX_BYTES)
    return problem if problem or class_folder else "lies in no class folder"


def content_of(file: Path | str) -> tuple[bytes | None, str]:
    """Return the bytes of a file, or why there are none."""
    if isinstance(file, str):
        return None, file
    try:
        return file.read_bytes(), ""
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
