"""Slices as JPEG and PNG files in one folder per class, as Kaggle lays them out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mriscope.data.layout import Place, find_places
from mriscope.data.naming import canonical_class, natural, printable
from mriscope.data.rows import Row, Source
from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import DataError, suggest

SUFFIXES = (".jpg", ".jpeg", ".png")
PASSED_OVER = ("thumbs.db", "desktop.ini", "__macosx")
"""What file managers leave behind; it is passed over, as is every name that begins with a dot."""
MAX_BYTES = 2**28  # 16 million pixels of 16-bit colour take half of it


def open_folders(name: str, root: Path) -> Source:
    """A source of class folders, listed but unread.

    Train and test folders (also training, testing, in any case), sets, folds, planes and subjects may stand above the
    class folders or within them; see `find_places`. Class folders whose names mean the four classes of this field,
    whatever their case and punctuation, get those; folders of which none does are classes of their own, in sorted
    order. Other folders within a class folder belong to it. Each file that is no JPEG or PNG is a bad row, but for
    hidden ones and those of PASSED_OVER. Links to folders are not followed.

    Args:
        name: the source as its user wrote it.
        root: the folder; paths are relative to it.

    Raises:
        DataError: there are no images, fewer than two classes, folders that can be read in two ways, or one whose name
            does not go with the others.
    """
    listed = {path.relative_to(root).as_posix(): path for path in walk_files(name, root)}
    if not any(path.suffix.lower() in SUFFIXES for path in listed.values()):
        raise DataError(
            f"{name} holds no JPEG or PNG files; expected one folder of them for each class, or parquet files"
        )
    chains = {path: tuple(path.split("/")[:-1]) for path in listed}
    places = find_places(name, [chains[path] for path, file in listed.items() if file.suffix.lower() in SUFFIXES])
    class_names, labels = class_labels(name, sorted({place.class_folder for place in places.values()} - {""}))

    def place_of(path: str) -> Place:
        return places.get(chains[path], Place())

    order = sorted(listed, key=lambda path: (place_of(path).part == "test", *map(natural, path.split("/"))))
    files = {path: _problem(listed[path], place_of(path).class_folder) or listed[path] for path in order}

    def rows() -> Iterator[Row]:
        for number, (path, file) in enumerate(files.items()):
            content, problem = _content(file)
            place = place_of(path)
            label = labels.get(place.class_folder)
            yield Row(number, printable(path), "", place.part, label, content, problem, place.subject)

    return Source(files, class_names, rows)


def walk_files(name: str, root: Path) -> Iterator[Path]:
    """Every file below a folder, and whatever else is no folder."""
    waiting = [root]
    while waiting:
        try:
            found = [(path, path.is_dir() and not path.is_symlink()) for path in waiting.pop().iterdir()]
        except OSError as error:
            raise DataError(f"{name}: {error.filename} cannot be listed ({error.strerror}); allow it to be") from error
        for path, is_folder in found:
            if path.name.startswith(".") or path.name.lower() in PASSED_OVER:
                continue
            if is_folder:
                waiting.append(path)
            else:
                yield path


def class_labels(name: str, folders: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The names of the classes, and the label of each class folder."""
    meant = {folder: canonical_class(folder) for folder in folders}
    odd = [folder for folder, known in meant.items() if not known]
    if len(odd) == 1 and len(folders) == 1:
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
    return tuple(map(printable, folders)), {folder: label for label, folder in enumerate(folders)}


def _problem(path: Path, class_folder: str) -> str:
    if path.suffix.lower() not in SUFFIXES:
        return "is no .jpg, .jpeg or .png file"
    if not path.is_file():
        return "is a link that leads to no file" if path.is_symlink() else "is no ordinary file"
    if not class_folder:
        return "lies in no class folder"
    size = path.stat().st_size
    return f"has {size // 2**20} MiB, where a slice has less than {MAX_BYTES // 2**20}" if size > MAX_BYTES else ""


def _content(file: Path | str) -> tuple[bytes | None, str]:
    """The bytes of a file, or why there are none."""
    if isinstance(file, str):
        return None, file
    try:
        return file.read_bytes(), ""
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
