"""read(source) -> SliceSet: parquet files, class folders, a data set of the Hugging Face hub, or the phantom.

To add a format: one function from its path to a Source (see parquet.py, folders.py), and one branch in open_source.
"""

import csv
import io
import logging
from dataclasses import astuple, replace
from pathlib import Path

import PIL

from mriscope.data.cache import cached, content_key
from mriscope.data.folders import open_folders
from mriscope.data.hub import fetch
from mriscope.data.manifest import with_manifest
from mriscope.data.open_volumes import open_volumes
from mriscope.data.parquet import open_parquet, parquet_files
from mriscope.data.rows import Reading, Source, gather
from mriscope.data.slices import SIZE, SliceSet
from mriscope.data.volume_options import VolumeOptions, split_options
from mriscope.errors import BadRowsError, DataError
from mriscope.files import spreadsheet_safe, write_text

LOG = logging.getLogger("mriscope")

SIZES = range(16, 1025)
KINDS = "a parquet file, a folder of parquet files or of class folders, hf:owner/name, or phantom"


def read(
    source: str | Path,
    *,
    skip_bad: bool = False,
    size: int | None = None,
    bad_rows_to: str | Path | None = None,
    manifest: str | Path | None = None,
) -> SliceSet:
    """Read slices; every row becomes a slice or is named as bad, none disappears.

    The decoded slices are kept in the user's cache folder under their source's content, and memory-mapped from there.
    Rows come in the order of their files: train before test, each in natural order. Slices of another height and width
    than 128 are resized, which is said through the logger "mriscope".

    Args:
        source: a parquet file with columns image (struct of bytes and path) and label; a folder of such files, where
            train* and test* are the published split; a folder of class folders with JPEG and PNG files, also below
            folders of train and test, sets, folds, planes or subjects; hf:owner/name, a data set of the Hugging Face
            hub; or phantom, also with options as in phantom:subjects=40,seed=3. A Path is always a file or folder.
        skip_bad: leave bad rows out, say how many, and list them in a CSV file.
        size: height and width in pixels, 16 to 1024, to bring every slice to, whatever its own. None: 128, and slices
            of another size than most are bad rows. The phantom is made at that size, else at its own.
        bad_rows_to: the CSV file (row, path, reason) of skip_bad; default bad_rows.csv in the current folder.
        manifest: a CSV file that gives slices their subjects, see with_manifest, such as slices.csv of an audit.

    Raises:
        DataError: the source is missing, of no known kind, damaged or empty, all its rows are bad, or the manifest does
            not fit it.
        BadRowsError: rows hold no usable slice; every one is listed.
        WriteError: the CSV file cannot be written.
    """
    reading = read_rows(source, skip_bad=skip_bad, size=size, manifest=manifest)
    report_bad_rows(source, reading, bad_rows_to or "bad_rows.csv")
    return reading.slices


def read_rows(source: str | Path, *, skip_bad: bool, size: int | None, manifest: str | Path | None = None) -> Reading:
    """What `read` reads, and the rows that skip_bad left out, for report_bad_rows to list."""
    if size is not None and not (isinstance(size, int) and size in SIZES):
        raise DataError(f"size is {size!r}; choose a whole number from {SIZES[0]} to {SIZES[-1]}")
    reading = read_silently(source, size)
    for note in reading.notes:
        LOG.warning("%s: %s", source, note)
    total = len(reading.bad) + len(reading.slices)
    if reading.bad and not skip_bad:
        raise BadRowsError(str(source), reading.bad, total)
    if reading.bad and not len(reading.slices):
        raise BadRowsError(str(source), reading.bad, total, "no slice is left; mend the source")
    if manifest is None:
        return reading
    return replace(reading, slices=with_manifest(reading.slices, manifest, {bad.path for bad in reading.bad}))


def read_silently(source: str | Path, size: int | None) -> Reading:
    """What a source holds, at a size as in `read`; nothing is said of it, and bad rows are no error."""
    return _read_phantom(str(source), size) if is_phantom(source) else _read_files(open_source(source), size)


def report_bad_rows(source: str | Path, reading: Reading, to: str | Path) -> None:
    """List the rows that were left out in a CSV file (row, path, reason), and say how many; without any, do nothing."""
    if not reading.bad:
        return
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("row", "path", "reason"))
    writer.writerows(map(spreadsheet_safe, astuple(row)) for row in reading.bad)
    write_text(to, table.getvalue())
    total = len(reading.bad) + len(reading.slices)
    LOG.warning("%s: %d of %d rows are unusable and were left out; %s lists them", source, len(reading.bad), total, to)


def is_phantom(source: str | Path) -> bool:
    """Tell whether a source is the phantom, which has no files."""
    return isinstance(source, str) and source.partition(":")[0] == "phantom"


def _read_phantom(spec: str, size: int | None) -> Reading:
    from mriscope.data import phantom

    options = phantom.phantom_options(spec) | ({} if size is None else {"size": size})
    return cached(
        lambda: content_key({}, phantom=phantom.VERSION, **options),
        lambda: Reading(phantom.make_phantom(**options).slices),
    )


def _read_files(source: Source, size: int | None) -> Reading:
    return cached(
        lambda: content_key(source.files, size=size, decoder=PIL.__version__, **source.options),
        lambda: _gather(source, SIZE if source.of_volumes and size is None else size),
    )


def _gather(source: Source, size: int | None) -> Reading:
    reading = gather(source.rows(), source.class_names, size)
    return replace(reading, notes=(*source.notes, *reading.notes))


def open_source(source: str | Path) -> Source:
    """The source of a name, its kind and its columns or folders checked, its rows unread."""
    named, options = split_options(source)
    name = str(named)
    path = fetch(name) if isinstance(named, str) and name.startswith("hf:") else _existing(named)
    if path.is_dir() and (volumes := open_volumes(name, path, options)):
        return volumes
    if options != VolumeOptions():
        raise DataError(f"{name} holds no volumes, and {str(source).rpartition('?')[2]} is for volumes; leave it out")
    if path.is_dir():
        files = parquet_files(path)
        return open_parquet(name, path, files) if files else open_folders(name, path)
    if path.suffix.lower() == ".parquet":
        return open_parquet(name, path.parent, [path])
    raise DataError(f"{name} is a file of no known kind; expected {KINDS}")


def _existing(source: str | Path) -> Path:
    if not str(source):
        raise DataError(f"no source is named; expected {KINDS}")
    try:
        path = Path(source).expanduser()
        path.stat()
    except (OSError, ValueError, RuntimeError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error})"
        raise DataError(f"{source} {reason}; expected {KINDS}") from error
    return path
