"""Slices in parquet files, as the Hugging Face hub and pandas write them."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mriscope.data.listing import problem_of
from mriscope.data.naming import (
    CLASS_NAMES,
    LabelsError,
    canonical_class,
    natural,
    number_classes,
    part_of,
    part_of_folder,
    part_order,
    printable,
    spelling_notes,
)
from mriscope.data.read_options import AS_IT_IS, OF_VOLUMES, ReadOptions
from mriscope.data.rows import Row, Source
from mriscope.data.shards import check_copies, missing_shards
from mriscope.data.tables import column_notes, find_column, is_index, known, position_of
from mriscope.data.volume_folders import open_packed_volumes
from mriscope.data.volumes import Cut
from mriscope.errors import DataError

EXPECTED = "expected an image, as bytes or a struct of bytes and path, and a label, as a number or a text"
BATCH = 64  # rows at most
BUDGET = 2**26  # bytes of a batch
MOST_UNPACKED, MOST_TIMES = 2**26, 100  # images are compressed already; what unpacks to more than both is no image
LONGEST_PATH = 1024
LARGEST_FOOTER = 1_000_000  # bytes; a row group of three columns takes about 400
_LARGEST_EXACT = 2**53  # below it a float64 holds every whole number
MOST_CLASSES = 1_000
_ROLES = ("image", "label", "subject", "session", "position", "part")


@dataclass(frozen=True)
class _File:
    """A parquet file whose columns are known."""

    path: Path
    part: str
    columns: Mapping[str, str | None]
    covariates: tuple[str, ...]
    class_names: tuple[str, ...] | None
    numbers: bool
    """Whether labels are whole numbers that count the classes, and not their names."""
    count: int
    volumes: bool
    """Whether its images are NIfTI volumes."""


def parquet_files(folder: Path) -> list[Path]:
    """Return the parquet files below a folder: of train, of validation, of test, each in natural order."""
    found = [
        path
        for path in folder.rglob("*.parquet")
        if path.is_file() and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    ]
    names = {path: path.relative_to(folder) for path in found}
    return sorted(found, key=lambda path: (part_order(_part(names[path])), natural(names[path].as_posix())))


def open_parquet(name: str, root: Path, paths: Sequence[Path], options: ReadOptions = AS_IT_IS) -> Source:
    """Return a source of parquet files, their columns checked and their rows unread.

    Args:
        name: the source as its user wrote it.
        root: the folder that the files' names begin from. Where the name of one file, or of a folder above it, begins
            with train, val or test, that of each must. Folders of several configurations are refused.
        paths: the files.
        options: which columns hold image, label and subject, where their names do not tell. Other columns of numbers
            and texts become covariates.

    Raises:
        DataError: a file is damaged, empty or of other columns, or the files do not go together.
    """
    names = {path: path.relative_to(root) for path in paths}
    _check_parts(name, {path: _part(file) for path, file in names.items()}, names)
    check_copies(name, names)
    files = {file.as_posix(): _open(path, _part(file), options) for path, file in names.items()}
    class_names, numbering, said = _number_labels(name, files)
    first = next(iter(files.values()))
    notes = (*column_notes(next(iter(files)), first.columns, _ROLES), *said, *missing_shards(files))
    paths_of = {file: one.path for file, one in files.items()}

    def rows() -> Iterator[Row]:
        return (row for file, one in files.items() for row in _rows(one, file, numbering))

    if any(one.volumes for one in files.values()):
        return open_packed_volumes(paths_of, rows, class_names, Cut(options.plane, options.slices), notes)
    options.refuse(OF_VOLUMES, f"{name} holds no volumes")
    return Source(paths_of, class_names, rows, sum(one.count for one in files.values()), notes)


def _number_labels(
    name: str, files: Mapping[str, _File]
) -> tuple[tuple[str, ...], Mapping[str, int] | None, tuple[str, ...]]:
    """Return the names of the classes, the number of each label (None: its own value), and what is to be told.

    Numbers without names count the four classes of the study where exactly 0 to 3 occur; others are names themselves.
    """
    numbers = all(one.numbers for one in files.values())
    if numbers and (named := _agreed(name, files)):
        return named, None, ()
    texts = {text for one in files.values() for text in _labels(one)} - {""}
    if not numbers:
        return *number_classes(name, texts), spelling_notes(texts)
    counts = {text for text in texts if text.isdecimal()}  # others, such as -1, are bad rows
    if counts == set(map(str, range(len(CLASS_NAMES)))):
        return CLASS_NAMES, None, (f"labels are 0 to 3 without names, and taken to count {', '.join(CLASS_NAMES)}",)
    if len(counts) > MOST_CLASSES:
        raise DataError(f"{name} has {len(counts):,} different labels, at most {MOST_CLASSES:,} are read")
    class_names, numbering = number_classes(name, counts)
    return class_names, numbering, (f"labels are numbers without names; the classes are {', '.join(class_names)}",)


def _part(file: Path) -> str:
    """Return the part that a file or a folder above it is named for; the lowest counts."""
    return part_of(file.name) or next((part for one in reversed(file.parts[:-1]) if (part := part_of_folder(one))), "")


def _check_parts(name: str, parts: Mapping[Path, str], names: Mapping[Path, Path]) -> None:
    odd = next((names[path].as_posix() for path, part in parts.items() if not part), None)
    if odd is not None and any(parts.values()):
        raise DataError(
            f"{name}: {odd} is neither train*, val* nor test*, as the other files are; rename it or move it away"
        )
    above = {path.parts[0] for path in names.values() if len(path.parts) > 1}
    sets = sorted(one for one in above if not part_of_folder(one) and one != "data")
    if len(sets) > 1 and len(above) == len(sets):
        raise DataError(
            f"{name} holds several sets of parquet files, {', '.join(sets)}; name one of them as the source, such as "
            f"{name}/{sets[0]}"
        )


def _open(path: Path, part: str, options: ReadOptions) -> _File:
    """Check a file's schema, and find its columns."""
    if problem := problem_of(path, 2**62):
        raise DataError(f"{path} {problem}; name a parquet file")
    try:
        if not path.stat().st_size:
            raise ValueError("it is empty, 0 bytes")
        _check_footer(path)
        with pq.ParquetFile(path) as parquet:
            schema: Any = parquet.schema_arrow
            count = parquet.metadata.num_rows
            large = sum(unpacked_bytes(parquet.metadata, group) for group in range(parquet.metadata.num_row_groups))
            small = path.stat().st_size
    except (OSError, ValueError, pa.ArrowException) as error:
        raise damaged(path, error) from error
    columns = _find_columns(path, schema, options)
    if not count:
        raise DataError(f"{path} has no rows; expected one row a slice, so write it again or move it away")
    if large > MOST_UNPACKED and large > MOST_TIMES * small:
        raise DataError(f"{path} unpacks {small:,} bytes to {large:,}, which no images do; write it again with images")
    label = schema.field(str(columns["label"])).type
    taken = {*columns.values()}
    others = [field for field in schema if field.name not in taken and not is_index(field.name)]
    covariates = tuple(field.name for field in others if _is_plain(field.type))
    volumes = columns["image"] == "nifti" or _feature(schema, str(columns["image"])).get("_type") == "Nifti"
    return _File(
        path, part, columns, covariates, _class_names(schema, str(columns["label"])), _counts(label), count, volumes
    )


def _check_footer(path: Path) -> None:
    """Refuse metadata that would cost hundreds of megabytes to read: thousands of columns or of class names."""
    with path.open("rb") as file:
        file.seek(-min(8, path.stat().st_size), os.SEEK_END)
        end = file.read()
    length = int.from_bytes(end[:4], "little")
    if end[4:] == b"PAR1" and length > LARGEST_FOOTER:
        raise ValueError(f"its metadata has {length:,} bytes, at most {LARGEST_FOOTER:,} are read")


def unpacked_bytes(metadata: Any, group: int) -> int:
    """Return the bytes of a row group when it is unpacked, as it tells of itself.

    The metadata of its columns is not asked: pyarrow 25 ends the process where that is damaged.
    """
    return int(metadata.row_group(group).total_byte_size)


def _find_columns(path: Path, schema: Any, options: ReadOptions) -> dict[str, str | None]:
    given = {"image": options.image_column, "label": options.label_column, "subject": options.subject_column}
    images = [field.name for field in schema if holds_bytes(field.type)]
    plain = [field.name for field in schema if _is_plain(field.type)]
    columns: dict[str, str | None] = {}
    for role in _ROLES:
        usable, own = images if role == "image" else plain, given.get(role)
        named = find_column(role, usable if own is None else schema.names, own, path)
        columns[role] = named if named in usable else None
    if columns["image"] is None and given["image"] is None and len(images) == 1:
        columns["image"] = images[0]
    for role in ("image", "label"):
        if columns[role] is None:
            types = [f"{field.name} ({field.type})" for field in schema]
            raise (LabelsError if role == "label" else DataError)(
                f"{path} has the columns {', '.join(types) or '(none)'}, and none for the {role}; {EXPECTED}, so name "
                f"it with --{role}-column"
            )
    return columns


def holds_bytes(kind: Any) -> bool:
    """Tell whether a column may hold images: bytes, or a struct of bytes and path."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    return "binary" in str(kind) and not pa.types.is_nested(kind)


def _is_plain(kind: Any) -> bool:
    """Tell whether a column holds numbers or texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or any(name in str(kind) for name in ("string", "date", "timestamp"))
    ) and not pa.types.is_nested(kind)


def _counts(kind: Any) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _batches(one: _File, columns: Sequence[str]) -> Iterator[Any]:
    """Read columns in batches within the budget, however much a page of one value for many rows unpacks to."""
    try:
        with pq.ParquetFile(one.path, page_checksum_verification=True) as parquet:
            done = 0
            for group in range(parquet.metadata.num_row_groups):
                largest = max(unpacked_bytes(parquet.metadata, group), 1)  # of a row, at the most
                size = min(BATCH, max(1, BUDGET // largest))
                for batch in parquet.iter_batches(size, row_groups=[group], columns=list(columns)):
                    done += batch.num_rows
                    yield batch
            if done != parquet.metadata.num_rows:
                raise ValueError(f"{done} rows where it tells of {parquet.metadata.num_rows}")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise damaged(one.path, error) from error


def _labels(one: _File) -> Iterator[str]:
    """Read what the labels are called, without the images."""
    label = str(one.columns["label"])
    for batch in _batches(one, [label]):
        yield from (known(text) for text in _texts(batch.column(label)))


def _rows(one: _File, file: str, number_of: Mapping[str, int] | None) -> Iterator[Row]:
    columns = {role: column for role, column in one.columns.items() if column is not None}
    number = 0
    for batch in _batches(one, [*columns.values(), *one.covariates]):
        images = images_of(batch.column(columns["image"]))
        if "subject" in columns:
            _check_exact(one, batch.column(columns["subject"]))
        told = {role: _texts(batch.column(name)) for role, name in columns.items() if role not in ("image", "label")}
        further = {name: _texts(batch.column(name)) for name in one.covariates}
        labels = batch.column(columns["label"])
        labels = _texts(labels) if number_of is not None else labels.to_pylist()
        for at, (content, named) in enumerate(images):
            cells = {role: known(texts[at]) for role, texts in told.items()}
            label, problem = _label(labels[at], number_of)
            position = position_of(cells.get("position", ""))
            yield Row(
                number,
                row_path(named, one.path, number),
                file,
                part_of_folder(cells.get("part", "")) or one.part,
                label,
                content,
                problem or ("" if position is not None else f"has the position {cells['position']!r}, no number"),
                cells.get("subject", ""),
                cells.get("session", ""),
                math.nan if position is None else position,
                {name: known(texts[at]) for name, texts in further.items()},
            )
            number += 1


def _label(value: Any, number_of: Mapping[str, int] | None) -> tuple[int | None, str]:
    """Return the number of a class, and why there is none."""
    if number_of is not None:
        text = known(value)
        found = number_of.get(text)
        return found, f"has the label {text}, which counts no class" if found is None and text else ""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None, ""
    return (int(value), "") if value % 1 == 0 else (None, f"has the label {value}, which counts no class")


def images_of(image: Any) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Return the bytes and path of each row; a null image has neither."""
    if not pa.types.is_struct(image.type):
        return ((content, None) for content in image.cast(pa.large_binary()).to_pylist())
    # flatten heeds null structs, which field() does not; binary, because text that is not UTF-8 fails to become str.
    fields = {field.name: values for field, values in zip(image.type, image.flatten(), strict=True)}
    contents = fields["bytes"].cast(pa.large_binary()).to_pylist()
    has_path = "path" in fields and str(fields["path"].type) != "null"
    paths = fields["path"].cast(pa.large_binary()).to_pylist() if has_path else [None] * len(image)
    return zip(contents, paths, strict=True)


def _texts(column: Any) -> list[str]:
    """Return the values of a column as texts, "" where there is none; whole numbers have no decimals."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if "string" in str(column.type):
        return [(one or b"").decode(errors="replace") for one in column.cast(pa.large_binary()).to_pylist()]
    return [_text(value) for value in column.to_pylist()]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT:
        return str(int(value))
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _check_exact(one: _File, column: Any) -> None:
    """Refuse decimals as the ids of subjects where they are too large to tell neighbours apart."""
    if not pa.types.is_floating(column.type):
        return
    bits = {16: 11, 32: 24}.get(column.type.bit_width, 53)
    large = next((value for value in column.to_pylist() if value is not None and abs(value) >= 2**bits), None)
    if large is not None:
        raise DataError(
            f"{one.path} has the subject {large:.17g} as a decimal number ({column.type}), which tells whole numbers "
            f"apart below 2^{bits} only; write the column {one.columns['subject']} as whole numbers or texts"
        )


def row_path(named: bytes | None, path: PurePath, number: int) -> str:
    """Return the row's own path if a file could bear it, else the file's stem and the row."""
    text = (named or b"").decode(errors="replace")
    return text if text.isprintable() and 0 < len(text) <= LONGEST_PATH else f"{path.stem}#{number}"


def _feature(schema: Any, column: str) -> dict[str, Any]:
    """Return what the metadata of the Hugging Face hub say of a column, {} where there are none."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return feature if isinstance(feature, dict) else {}


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Read the names of the label column from the schema's metadata, if there are any, in this field's own spelling."""
    names = _feature(schema, label).get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < 2:
        return None
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"the metadata of a parquet file names {len(names):,} classes, at most {MOST_CLASSES:,} are read"
        )
    canonical = [canonical_class(name) for name in names]
    own = None not in canonical and len(set(canonical)) == len(names)
    return tuple(printable(str(name)) for name in (canonical if own else names))


def _agreed(name: str, files: Mapping[str, _File]) -> tuple[str, ...] | None:
    found = {one.class_names: file for file, one in files.items() if one.class_names}
    if len(found) > 1:
        listed = " and ".join(f"{file} has {', '.join(classes)}" for classes, file in found.items() if classes)
        raise DataError(f"{name}: the files must count the same classes, but {listed}; read them one by one")
    return next(iter(found), None)


def damaged(path: Path | str, error: Exception) -> DataError:
    """Return the error of a file that cannot be read."""
    first = str(error).split(". ")[0].split("\n")[0].strip()[:160]
    return DataError(f"{path} cannot be read as parquet ({first}); copy or download it again")
