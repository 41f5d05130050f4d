"""Slices as image files that a CSV table names, each with its class and what else is known of it."""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mriscope.data.decoding import SUFFIXES as IMAGES
from mriscope.data.dicom import is_dicom
from mriscope.data.dicom_folders import open_listed_dicoms
from mriscope.data.folders import MAX_BYTES, content_of
from mriscope.data.listing import kind_of, problem_of, walk
from mriscope.data.naming import LabelsError, number_classes, part_of_folder, part_order, printable, spelling_notes
from mriscope.data.nifti import is_nifti
from mriscope.data.read_options import OF_VOLUMES, ReadOptions
from mriscope.data.rows import Row, Source
from mriscope.data.tables import (
    ROLES,
    SUFFIXES,
    BadLineError,
    Table,
    column_notes,
    find_column,
    is_index,
    known,
    position_of,
    read_table,
)
from mriscope.data.volume_folders import open_listed_volumes
from mriscope.data.volumes import Cut
from mriscope.errors import DataError


def find_image_table(folder: Path, options: ReadOptions) -> Path | None:
    """Return the one table at the top of a folder that names images and their labels; None where there is none.

    Raises:
        DataError: there are several, or a row of one has more or fewer cells than its header.
    """
    found = [path for path, reason in _tables(folder, options).items() if not reason]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder} has several tables of images, {names}; name one of them as the source")
    return found[0] if found else None


def _lists_images(path: Path, columns: tuple[str, ...], options: ReadOptions) -> bool:
    try:
        roles = _roles(Table(path, columns, []), options)
    except DataError:
        return False
    return bool(roles["path"] and roles["label"])


def why_unused(folder: Path, options: ReadOptions) -> str:
    """Say why the first table at the top of a folder is none of its images; "" where there is no table."""
    return next(
        (f"{folder / path.name} is not used, as it {why}" for path, why in _tables(folder, options).items()), ""
    )


def _tables(folder: Path, options: ReadOptions) -> dict[Path, str]:
    """Return the tables at the top of a folder, each with why it is none of its images, "" for one that is."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return {path: _unfit(folder, path, options) for path in paths}


def _unfit(folder: Path, path: Path, options: ReadOptions) -> str:
    try:
        table = read_table(path)
        roles = _roles(table, options)
    except BadLineError as error:
        if _lists_images(path, error.columns, options):
            raise
        return f"cannot be read as a table of images ({error})"
    except DataError as error:
        return f"cannot be read as a table of images ({error})"
    if lacking := [role for role in ("path", "label") if not roles[role]]:
        return (
            f"has the columns {', '.join(table.columns) or '(none)'}, and none for the {' and the '.join(lacking)}"
            + ("; name it with --label-column" if lacking == ["label"] else "")
        )
    column = str(roles["path"])
    if all(kind_of(folder / row[column].replace("\\", "/")) == "nothing" for row in table.rows):
        first = f", the first {table.rows[0][column]!r}" if table.rows else ""
        return f"names no file that is there{first}; expected paths from its own folder on"
    return ""


def open_folder_table(name: str, folder: Path, table: Path, options: ReadOptions) -> Source:
    """Open the table of a folder, see `open_image_table`, and say how many images below the folder it does not name."""
    source = open_image_table(f"{name}/{table.name}", table, options)
    named = set(map(posixpath.normpath, source.files))
    kinds = (*IMAGES, ".nii", ".nii.gz", ".dcm")
    others = sorted(path for path, _ in walk(name, folder) if path.lower().endswith(kinds) and path not in named)
    if not others:
        return source
    note = f"{len(others):,} images such as {others[0]} are not named by {table.name} and were left out"
    return replace(source, notes=(*source.notes, printable(note)))


def open_image_table(name: str, path: Path, options: ReadOptions) -> Source:
    """Return a source of the images that a table names, by their paths below its folder.

    Args:
        name: the source as its user wrote it.
        path: a CSV file as `read_table` takes it, with the columns path (also file_name, file, image) and label (also
            class, diagnosis), and where they are known subject, session, position, part (also split); each other
            column becomes a covariate.
        options: of which label_column and subject_column count.

    Raises:
        DataError: the table cannot be read, lacks a column or rows, names one file twice, or fewer than two classes.
    """
    table = read_table(path)
    roles = _roles(table, options)
    for role in ("path", "label"):
        if roles[role] is None:
            raise (LabelsError if role == "label" else DataError)(
                f"{name} has the columns {', '.join(table.columns) or '(none)'}, and none for the {role}; expected "
                "path and label, and where they are known subject, session, position, part and covariates"
                + ("; name it with --label-column" if role == "label" else "")
            )
    if not table.rows:
        raise DataError(f"{name} has no rows; expected one row a slice")
    labels = [known(row[str(roles["label"])]) for row in table.rows]
    class_names, number_of = number_classes(name, labels)
    lines = [
        _line(f"row {number + 1} of {name}", number, row, roles, number_of) for number, row in enumerate(table.rows)
    ]
    _check_once(name, lines)
    lines.sort(key=lambda line: part_order(line.part))
    notes = (*column_notes(path.name, roles, ("subject", "session", "position", "part")), *spelling_notes(labels))
    if all(is_nifti(line.path) for line in lines):
        return open_listed_volumes(path, lines, class_names, Cut(options.plane, options.slices), notes)
    if any(_holds_dicom(path.parent / line.path) for line in lines):
        cut = Cut(options.plane, options.slices)
        return open_listed_dicoms(path, lines, class_names, cut, notes, options.series)
    options.refuse(OF_VOLUMES, f"{name} lists images and no volumes")
    files = {line.path: problem_of(path.parent / line.path, MAX_BYTES) or path.parent / line.path for line in lines}

    def rows() -> Iterator[Row]:
        for line in lines:
            content, problem = content_of(files[line.path])
            yield replace(line, path=printable(line.path), content=content, problem=problem)

    return Source({path.name: path, **files}, class_names, rows, len(lines), notes)


def _holds_dicom(place: Path) -> bool:
    """Tell whether a table names a DICOM file or a folder; the usual names of images are not opened."""
    kind = kind_of(place)
    return kind == "folder" or (kind == "file" and not place.name.lower().endswith(IMAGES) and is_dicom(place))


def _roles(table: Table, options: ReadOptions) -> dict[str, str | None]:
    given = {"label": options.label_column, "subject": options.subject_column}
    found = {role: find_column(role, table.columns, given.get(role), table.path) for role in ROLES}
    return {**found, "path": found["path"] or found["image"], "image": None}


def _check_once(name: str, lines: Sequence[Row]) -> None:
    """Refuse a table that names one file twice, whatever its rows say of it."""
    first: dict[str, Row] = {}
    for line in lines:
        other = first.setdefault(posixpath.normpath(line.path), line)
        if other is not line:
            same = repr(replace(other, number=line.number, path=line.path)) == repr(line)  # nan is unequal to nan
            raise DataError(
                f"{name} names the file {line.path!r} twice, in rows {other.number + 1} and {line.number + 1}"
                f"{', which say the same' if same else ', which differ in what they say of it'}; keep one"
            )


def _line(
    where: str, number: int, row: Mapping[str, str], roles: Mapping[str, str | None], number_of: Mapping[str, int]
) -> Row:
    """Return what a row of the table tells, without the image."""
    told = {role: known(row[column]) if column else "" for role, column in roles.items()}
    position = position_of(told["position"])
    if position is None:
        raise DataError(f"{where} has the position {told['position']!r}; expected a number, or nothing")
    part = part_of_folder(told["part"])
    if told["part"] and not part:
        raise DataError(f"{where} is of the part {told['part']!r}; expected train, validation or test")
    others = [name for name in row if name not in roles.values() and not is_index(name)]
    return Row(
        number,
        told["path"].replace("\\", "/").removeprefix("./"),
        part=part,
        label=number_of.get(told["label"]),
        subject=told["subject"],
        session=told["session"],
        position=position,
        covariates={name: known(row[name]) for name in others},
    )
