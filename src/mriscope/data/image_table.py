"""Slices as image files that a CSV table names, each with its class and what else is known of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mriscope.data.folders import MAX_BYTES, content_of
from mriscope.data.listing import problem_of
from mriscope.data.naming import number_classes, part_of_folder, part_order, printable
from mriscope.data.nifti import is_nifti
from mriscope.data.read_options import OF_VOLUMES, ReadOptions
from mriscope.data.rows import Row, Source
from mriscope.data.tables import (
    ROLES,
    SUFFIXES,
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
        DataError: there are several.
    """
    found = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()):
        try:
            table = read_table(path)
            roles = _roles(table, options)
        except DataError:
            continue  # another table, which need not be one of images
        if roles["path"] and roles["label"] and any((folder / row[str(roles["path"])]).is_file() for row in table.rows):
            found.append(path)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder} has several tables of images, {names}; name one of them as the source")
    return found[0] if found else None


def open_image_table(name: str, path: Path, options: ReadOptions) -> Source:
    """Return a source of the images that a table names, by their paths below its folder.

    Args:
        name: the source as its user wrote it.
        path: a CSV file as `read_table` takes it, with the columns path (also file_name, file, image) and label (also
            class, diagnosis), and where they are known subject, session, position, part (also split); each other
            column becomes a covariate.
        options: of which label_column and subject_column count.

    Raises:
        DataError: the table cannot be read, lacks a column or rows, or names fewer than two classes.
    """
    table = read_table(path)
    roles = _roles(table, options)
    for role in ("path", "label"):
        if roles[role] is None:
            raise DataError(
                f"{name} has the columns {', '.join(table.columns) or '(none)'}, and none for the {role}; expected "
                "path and label, and where they are known subject, session, position, part and covariates"
                + ("; name it with --label-column" if role == "label" else "")
            )
    if not table.rows:
        raise DataError(f"{name} has no rows; expected one row a slice")
    class_names, number_of = number_classes(name, [known(row[str(roles["label"])]) for row in table.rows])
    lines = [_line(number, row, roles, number_of) for number, row in enumerate(table.rows)]
    lines.sort(key=lambda line: part_order(line.part))
    notes = column_notes(path.name, roles, ("subject", "session", "position", "part"))
    if all(is_nifti(line.path) for line in lines):
        return open_listed_volumes(path, lines, class_names, Cut(options.plane, options.slices), notes)
    options.refuse(OF_VOLUMES, f"{name} lists images and no volumes")
    files = {line.path: problem_of(path.parent / line.path, MAX_BYTES) or path.parent / line.path for line in lines}

    def rows() -> Iterator[Row]:
        for line in lines:
            content, problem = content_of(files[line.path])
            yield replace(line, path=printable(line.path), content=content, problem=problem)

    return Source({path.name: path, **files}, class_names, rows, len(lines), notes)


def _roles(table: Table, options: ReadOptions) -> dict[str, str | None]:
    given = {"label": options.label_column, "subject": options.subject_column}
    found = {role: find_column(role, table.columns, given.get(role), table.path) for role in ROLES}
    return {**found, "path": found["path"] or found["image"], "image": None}


def _line(number: int, row: Mapping[str, str], roles: Mapping[str, str | None], number_of: Mapping[str, int]) -> Row:
    """Return what a row of the table tells, without the image."""
    told = {role: known(row[column]) if column else "" for role, column in roles.items()}
    position = position_of(told["position"])
    if position is None:
        raise DataError(f"row {number + 1} has the position {told['position']!r}; expected a number, or nothing")
    part = part_of_folder(told["part"])
    if told["part"] and not part:
        raise DataError(f"row {number + 1} is of the part {told['part']!r}; expected train, validation or test")
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
