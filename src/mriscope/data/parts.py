"""Many slices to ask a model about, in parts: parquet files, or thousands of image files, also on an object store."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mriscope.data.decoding import SUFFIXES, decode, fit
from mriscope.data.folders import MAX_BYTES
from mriscope.data.nifti import SUFFIXES as NIFTI
from mriscope.data.parquet import (
    BATCH,
    BUDGET,
    LARGEST_FOOTER,
    damaged,
    holds_bytes,
    images_of,
    row_path,
    unpacked_bytes,
)
from mriscope.errors import ArgumentError, DataError, MissingExtraError, MriscopeError
from mriscope.files import check_file, file_stem

IMAGES_IN_A_PART = 4096
_GLOB = "*?["
_OF_VOLUMES = (*NIFTI, ".mat", ".dcm")
_OF_A_STORE = ("ETag", "etag", "md5Hash", "content_md5")  # what stores tell of a content without sending it
EXPECTED = "name parquet files or images, a folder of them, or a pattern such as 's3://bucket/set/*.parquet'"


@dataclass(frozen=True)
class Part:
    """Slices that are asked about together.

    Attributes:
        name: of what is said of them, unique in its set and the same in each call.
        files: one parquet file, or image files; addresses as fsspec takes them.
        is_parquet: which of both.
    """

    name: str
    files: tuple[str, ...]
    is_parquet: bool


def list_parts(named: Sequence[str], without: Collection[Path] = ()) -> list[Part]:
    """List the parts of what a user named.

    Args:
        named: parquet files, image files, folders of them, or patterns with * and ?; paths, or addresses as
            `s3://bucket/set`.
        without: absolute paths that are passed over, as answers that lie in a folder of the slices.

    Raises:
        DataError: a name leads nowhere, to nothing of these kinds, or to a pipe; or its store does not answer.
        MissingExtraError: the package for this kind of address is not installed.
    """
    parts: dict[str, Part] = {}
    for text in named:
        files = [file for file in _find(text) if Path(file) not in without]
        if volume := next((file for file in files if file.lower().endswith(_OF_VOLUMES)), None):
            raise DataError(
                f"{volume} is a volume, and parts hold images and parquet files alone, so that no subject's slices are "
                "answered in pieces; predict volumes without --out"
            )
        images = [file for file in files if file.lower().endswith(SUFFIXES)]
        groups = [(file,) for file in files if file.lower().endswith(".parquet")]
        number = len(groups)
        groups += [tuple(images[at : at + IMAGES_IN_A_PART]) for at in range(0, len(images), IMAGES_IN_A_PART)]
        if not groups:
            raise DataError(f"{text} leads to no parquet file and no image; {EXPECTED}")
        for at, group in enumerate(groups):
            mark = hashlib.sha256("\0".join(group).encode("utf-8", "surrogateescape")).hexdigest()[:8]
            name = f"{file_stem(PurePosixPath(group[0]).name)}-{mark}"
            parts[name] = Part(name, group, at < number)
    return list(parts.values())


def digest_part(part: Part) -> str:
    """Return a digest of the content of a part: of its bytes, or of what a store tells of them.

    Raises:
        DataError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in part.files:
        try:
            system, path = _open_system(file)
            told = system.info(path)
            mark = next((str(told[name]) for name in _OF_A_STORE if told.get(name)), None)
            if mark is None:
                with system.open(path, "rb") as opened:
                    mark = hashlib.file_digest(opened, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            raise _unreadable(file, error) from error
        digest.update(f"{len(file)} {file} {mark}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_part(part: Part, size: int, *, stretch: bool = False) -> Iterator[tuple[list[str], np.ndarray, list[str]]]:
    """Read the slices of a part, some at a time, at one size; one of more than 8 bits is scaled by its own brightest.

    Args:
        part: of `list_parts`.
        size: height and width to reach, in pixels.
        stretch: resize height and width each by itself; else the aspect is kept, on a black square.

    Yields:
        names, images uint8 (N, size, size), and why there is no slice, "" where there is one; its image is black.

    Raises:
        DataError: a parquet file cannot be read, or has no column of images or several.
    """
    for names, contents in _read_parquet(part.files[0]) if part.is_parquet else _read_files(part.files):
        images, problems = np.zeros((len(names), size, size), np.uint8), [""] * len(names)
        for row, content in enumerate(contents):
            try:
                if isinstance(content, str):
                    raise DataError(content)
                images[row] = fit(decode(content or b""), size, stretch=stretch)
            except DataError as error:
                problems[row] = str(error)
        yield names, images, problems


def _read_files(files: Sequence[str]) -> Iterator[tuple[list[str], list[bytes | str | None]]]:
    for start in range(0, len(files), BATCH):
        names = list(files[start : start + BATCH])
        yield names, [_read_file(name) for name in names]


def _read_file(name: str) -> bytes | str:
    """Return the content of a file, or why it cannot be read."""
    try:
        system, path = _open_system(name)
        with system.open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return content if len(content) <= MAX_BYTES else f"has more than {MAX_BYTES // 2**20} MiB"


def _read_parquet(name: str) -> Iterator[tuple[list[str], list[bytes | str | None]]]:
    try:
        system, path = _open_system(name)
        with system.open(path, "rb") as file:
            _check_footer(file)
            with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as parquet:
                column, number = _image_column(name, parquet.schema_arrow), 0
                for group in range(parquet.metadata.num_row_groups):
                    largest = max(unpacked_bytes(parquet.metadata, group), 1)
                    rows = min(BATCH, max(1, BUDGET // largest))
                    for batch in parquet.iter_batches(rows, row_groups=[group], columns=[column]):
                        found = [*images_of(batch.column(column))]
                        stem = PurePosixPath(path)
                        names = [row_path(named, stem, number + at) for at, (_, named) in enumerate(found)]
                        number += len(found)
                        yield names, [content for content, _ in found]
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        raise damaged(name, error) from error


def _check_footer(file: Any) -> None:
    """Refuse metadata that would cost hundreds of megabytes to read, see mriscope.data.parquet."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    file.seek(0)
    length = int.from_bytes(end[:4], "little")
    if end[4:] == b"PAR1" and length > LARGEST_FOOTER:
        raise ValueError(f"its metadata has {length:,} bytes, at most {LARGEST_FOOTER:,} are read")


def _image_column(name: str, schema: Any) -> str:
    columns = [field.name for field in schema if holds_bytes(field.type)]
    if "image" in columns:
        return "image"
    if len(columns) != 1:
        found = f"{len(columns)} columns that may hold images, {', '.join(columns)}" if columns else "none"
        raise DataError(f"{name} has {found}; expected one, of bytes or a struct of bytes and path, called image")
    return columns[0]


def _find(text: str) -> list[str]:
    """Return the addresses of the files that a name leads to, in order; pipes and devices among them are refused."""
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, path = _open_system(text)
        if any(sign in path for sign in _GLOB) and not system.exists(path):
            found = [one for one in system.glob(path) if system.isfile(one)]
        elif system.isdir(path):
            found = [one for one in system.find(path) if not _is_hidden(one[len(path) :])]
        else:
            found = [path] if system.exists(path) else []
        for one in found if isinstance(system, LocalFileSystem) else ():
            if one.lower().endswith((*SUFFIXES, ".parquet")):
                check_file(one)
    except MriscopeError:
        raise
    except Exception as error:  # stores raise errors of their own, such as botocore's for missing credentials
        raise _unreadable(getattr(error, "filename", None) or text, error) from error
    if not found:
        raise DataError(f"there is no file {text}; {EXPECTED}")
    return [system.unstrip_protocol(one) if "://" in text else one for one in sorted(found)]


def _is_hidden(path: str) -> bool:
    return any(name.startswith(".") for name in path.split("/"))


def _open_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the path within it."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    if "://" not in address:  # a path, in which :: is no chain of addresses
        return LocalFileSystem(), str(LocalFileSystem._strip_protocol(address))
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(
            f"{address} needs a package that is not installed ({error}); run: pip install 'mriscope[cluster]'"
        ) from error
    except ValueError as error:
        raise ArgumentError(f"{address} is no address that can be read ({error}); {EXPECTED}") from error


def _unreadable(name: str, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160] or type(error).__name__
    return DataError(f"{name} cannot be read ({reason}); {EXPECTED}")
