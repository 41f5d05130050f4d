"""Slices in parquet files with the image column of the Hugging Face hub."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mriscope.data.naming import canonical_class, natural, part_of, printable
from mriscope.data.rows import Row, Source
from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import DataError

EXPECTED = "expected image, a struct of bytes and path, and label, an integer"
BATCH = 64
LONGEST_PATH = 1024
LARGEST_FOOTER = 1_000_000  # bytes; a row group of three columns takes about 400
MOST_CLASSES = 1_000


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files of a folder and of its data folder, train before test, each in natural order."""
    found = [path for place in (folder, folder / "data") for path in place.glob("*.parquet") if path.is_file()]
    return sorted(found, key=lambda path: (part_of(path.name) == "test", natural(path.relative_to(folder).as_posix())))


def open_parquet(name: str, root: Path, paths: Sequence[Path]) -> Source:
    """A source of parquet files, their columns checked and their rows unread.

    Args:
        name: the source as its user wrote it.
        root: the folder that the files' names begin from.
        paths: the files; where one name begins with train or test, all must.

    Raises:
        DataError: a file is damaged, empty or of other columns, or the files do not go together.
    """
    files = {path.relative_to(root).as_posix(): path for path in paths}
    parts = {file: part_of(path.name) for file, path in files.items()}
    if any(parts.values()) and not all(parts.values()):
        odd = next(file for file, part in parts.items() if not part)
        raise DataError(f"{name}: {odd} is neither train* nor test*, as the other files are; rename it or move it away")
    named = {file: _class_names(_checked_schema(path)) for file, path in files.items()}
    class_names = _agreed(name, named) or CLASS_NAMES
    return Source(files, class_names, lambda: (row for file in files for row in _rows(files[file], file, parts[file])))


def _checked_schema(path: Path) -> Any:
    try:
        if not path.stat().st_size:
            raise ValueError("it is empty, 0 bytes")
        _check_footer(path)
        with pq.ParquetFile(path) as parquet:
            schema: Any = parquet.schema_arrow
            count = parquet.metadata.num_rows
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    if missing := [column for column in ("image", "label") if column not in schema.names]:
        raise DataError(
            f"{path} has the columns {', '.join(schema.names) or '(none)'}, no {' and no '.join(missing)}; {EXPECTED}"
        )
    image, label = schema.field("image").type, schema.field("label").type
    if not (_holds_bytes(image) and pa.types.is_integer(label)):
        raise DataError(f"{path} holds image as {image} and label as {label}; {EXPECTED}")
    if not count:
        raise DataError(f"{path} has no rows; expected one row a slice, so write it again or move it away")
    return schema


def _check_footer(path: Path) -> None:
    """Refuse metadata that would cost hundreds of megabytes to read: thousands of columns or of class names."""
    with path.open("rb") as file:
        file.seek(-min(8, path.stat().st_size), os.SEEK_END)
        end = file.read()
    length = int.from_bytes(end[:4], "little")
    if end[4:] == b"PAR1" and length > LARGEST_FOOTER:
        raise ValueError(f"its metadata has {length:,} bytes, at most {LARGEST_FOOTER:,} are read")


def _holds_bytes(image: Any) -> bool:
    return pa.types.is_struct(image) and any(field.name == "bytes" and "binary" in str(field.type) for field in image)


def _rows(path: Path, file: str, part: str) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            for batch in parquet.iter_batches(BATCH, columns=["image", "label"]):
                for content, named, label in _columns(batch):
                    yield Row(number, _path(named, path, number), file, part, label, content)
                    number += 1
            if number != parquet.metadata.num_rows:
                raise ValueError(f"{number} rows where it tells of {parquet.metadata.num_rows}")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _columns(batch: Any) -> Iterator[tuple[bytes | None, bytes | None, int | None]]:
    """Bytes, path and label of each row; a null image has neither of the first two."""
    image = batch.column("image")
    # flatten heeds null structs, which field() does not; binary, because text that is not UTF-8 fails to become str.
    fields = {field.name: values for field, values in zip(image.type, image.flatten(), strict=True)}
    contents = fields["bytes"].cast(pa.large_binary()).to_pylist()
    paths = fields["path"].cast(pa.large_binary()).to_pylist() if "path" in fields else [None] * len(image)
    return zip(contents, paths, batch.column("label").to_pylist(), strict=True)


def _path(named: bytes | None, path: Path, number: int) -> str:
    """The row's own path if a file could bear it, else the file's stem and the row."""
    text = (named or b"").decode(errors="replace")
    return text if text.isprintable() and 0 < len(text) <= LONGEST_PATH else f"{path.stem}#{number}"


def _class_names(schema: Any) -> tuple[str, ...] | None:
    """The names of the label column in the schema's metadata, if there are any, in this field's own spelling."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < 2:
        return None
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"the metadata of a parquet file names {len(names):,} classes, at most {MOST_CLASSES:,} are read"
        )
    canonical = [canonical_class(name) for name in names]
    known = None not in canonical and len(set(canonical)) == len(names)
    return tuple(printable(str(name)) for name in (canonical if known else names))


def _agreed(name: str, named: Mapping[str, tuple[str, ...] | None]) -> tuple[str, ...] | None:
    found = {classes: file for file, classes in named.items() if classes}
    if len(found) > 1:
        listed = " and ".join(f"{file} has {', '.join(classes)}" for classes, file in found.items())
        raise DataError(f"{name}: the files must count the same classes, but {listed}; read them one by one")
    return next(iter(found), None)


def _damaged(path: Path, error: Exception) -> DataError:
    first = str(error).split(". ")[0].split("\n")[0].strip()[:160]
    return DataError(f"{path} cannot be read as parquet ({first}); copy or download it again")
