"""read(source) -> SliceSet: image files, parquet files, tables of images, data sets of the hub, or the phantom.

To add a format: one function from its path to a Source (see parquet.py, folders.py), and one branch in open_source.
"""

import csv
import io
import logging
from dataclasses import astuple, replace
from pathlib import Path

import PIL

from mriscope.data.cache import cache_folder, cached, content_key
from mriscope.data.folders import open_folders
from mriscope.data.hub import fetch
from mriscope.data.image_table import find_image_table, open_folder_table, open_image_table, why_unused
from mriscope.data.listing import stamp
from mriscope.data.manifest import names_subjects, with_manifest
from mriscope.data.open_volumes import open_volumes, takes_tables_from_above
from mriscope.data.parquet import open_parquet, parquet_files
from mriscope.data.phantom_options import phantom_options
from mriscope.data.read_options import AS_IT_IS, OF_TABLES, OF_VOLUMES, ReadOptions, split_options
from mriscope.data.rows import Reading, Source, gather
from mriscope.data.sizes import settle_sizes
from mriscope.data.slices import SIZE, SliceSet
from mriscope.data.source import KINDS, find_path, parse_source
from mriscope.data.tables import SUFFIXES as TABLES
from mriscope.errors import BadRowsError, DataError, WriteError, check_type
from mriscope.files import read_file, spreadsheet_safe, write_text
from mriscope.progress import saying

LOG = logging.getLogger("mriscope")

SIZES = range(16, 1025)
_BAD_ROWS_HEADER = ("row", "path", "reason")


def read(
    source: str | Path,
    *,
    skip_bad: bool = False,
    size: int | None = None,
    bad_rows_to: str | Path | None = None,
    manifest: str | Path | None = None,
    stretch: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    subject_column: str | None = None,
    subject_pattern: str | None = None,
    plane: str = "axial",
    slices: str = "all",
    series: str | None = None,
) -> SliceSet:
    """Read slices; every row becomes a slice or is named as bad, none disappears.

    The decoded slices are kept in the user's cache folder under their source's content, and memory-mapped from there.
    Rows come in the order of their files: train, validation, test, each in natural order. What is resized, which
    columns and names were recognised, and the like is said through the logger "mriscope".

    Args:
        source: a folder of class folders with image files (JPEG, PNG, TIFF, BMP), also below folders of train,
            validation and test, sets, folds, planes or subjects; a CSV file of paths and labels, or a folder of images
            that holds one; a parquet file with an image and a label column, or a folder of such files, where the names
            of files and folders tell the published split; hf:owner/name, a data set of the Hugging Face hub; or
            phantom, also with options as in phantom:subjects=40,seed=3. A Path is always a file or folder.
        skip_bad: leave bad rows out, say how many, and list them in a CSV file.
        size: height and width in pixels, 16 to 1024, to bring every slice to, whatever its own. None: 128, and slices
            of another size than most are bad rows. The phantom is made at that size, else at its own.
        bad_rows_to: the CSV file (row, path, reason) of skip_bad; default bad_rows.csv in the current folder.
        manifest: a CSV file of what is known of the slices, see with_manifest, such as slices.csv of an audit.
        stretch: resize height and width each by itself; else the aspect is kept, on a black square.
        image_column: the column of a parquet file that holds the images, where that is not called image.
        label_column: the column of the classes, where that is not called label, class or diagnosis.
        subject_column: the column of the subjects, where that is not called subject, patient_id or the like.
        subject_pattern: a regular expression with the groups subject, session and position, to search for in paths.
        plane: of volumes: axial, coronal or sagittal.
        slices: of volumes: all; a number, those of highest entropy; or LOW:HIGH, a slab in mm.
        series: which of several volumes: a pattern of file names (BIDS), the number or a pattern of the description of
            a DICOM series.

    Raises:
        DataError: the source is missing, of no known kind, damaged or empty, all its rows are bad, or the manifest does
            not fit it.
        BadRowsError: rows hold no usable slice; every one is listed.
        WriteError: the CSV file cannot be written.
        ArgumentTypeError: the source is neither a text nor a path.

    Example:
        >>> read("phantom:subjects=4,slices=2").images.shape
        (8, 128, 128)
    """
    check_type("source", source, (str, Path), "a path, hf:owner/name, or phantom")
    if skip_bad:
        check_bad_rows_place(bad_rows_to or "bad_rows.csv")
    options = ReadOptions(
        stretch=stretch,
        image_column=image_column,
        label_column=label_column,
        subject_column=subject_column,
        subject_pattern=subject_pattern,
        plane=plane,
        slices=slices,
        series=series,
    )
    reading = read_rows(source, skip_bad=skip_bad, size=size, manifest=manifest, options=options)
    report_bad_rows(source, reading, bad_rows_to or "bad_rows.csv")
    return reading.slices


def read_rows(
    source: str | Path,
    *,
    skip_bad: bool,
    size: int | None,
    manifest: str | Path | None = None,
    options: ReadOptions = AS_IT_IS,
) -> Reading:
    """Return what `read` reads, and the rows that skip_bad left out, for report_bad_rows to list."""
    if size is not None and not (isinstance(size, int) and size in SIZES):
        raise DataError(f"size is {size!r}; choose a whole number from {SIZES[0]} to {SIZES[-1]}")
    reading = read_silently(source, size, options)
    hinted = manifest is not None and names_subjects(manifest)
    for note in reading.notes:
        if hinted and "--subject-pattern" in note:  # the manifest names them
            continue
        LOG.warning("%s: %s", split_options(str(source))[0], note)
    total = len(reading.bad) + len(reading.slices)
    if reading.bad and not skip_bad:
        raise BadRowsError(str(source), reading.bad, total)
    if reading.bad and not len(reading.slices):
        raise BadRowsError(str(source), reading.bad, total, "no slice is left; mend the source")
    if manifest is None:
        return reading
    return replace(reading, slices=with_manifest(reading.slices, manifest, {bad.path for bad in reading.bad}))


def read_silently(source: str | Path, size: int | None, options: ReadOptions = AS_IT_IS) -> Reading:
    """Return what a source holds, at a size as in `read`; nothing is said of it, and bad rows are no error."""
    name, own = split_options(source)
    options = own if options == AS_IT_IS else own.joined(options)
    if parse_source(name).kind == "phantom":
        options.refuse((*OF_VOLUMES, *OF_TABLES), "the phantom is made as slices")
        if options.subject_pattern is not None:
            raise DataError("the phantom tells its subjects, and subject_pattern is for names of files; leave it out")
        return _read_phantom(str(name), size)
    return settle_sizes(_read_files(name, size or SIZE, options), size, options.stretch)


def report_bad_rows(source: str | Path, reading: Reading, to: str | Path) -> None:
    """List the rows that were left out in a CSV file (row, path, reason), and say how many; without any, do nothing."""
    if not reading.bad:
        return
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_BAD_ROWS_HEADER)
    writer.writerows(map(spreadsheet_safe, astuple(row)) for row in reading.bad)
    check_bad_rows_place(to)
    write_text(to, table.getvalue())
    total = len(reading.bad) + len(reading.slices)
    LOG.warning("%s: %d of %d rows are unusable and were left out; %s lists them", source, len(reading.bad), total, to)


def check_bad_rows_place(to: str | Path) -> None:
    """Refuse to replace a file that is no list of bad rows, as it is somebody else's; call it before reading.

    Raises:
        WriteError: there is such a file.
    """
    path = Path(to)
    try:
        ours = not path.exists() or read_file(path).startswith(",".join(_BAD_ROWS_HEADER).encode())
    except OSError:
        ours = False
    if not ours:
        raise WriteError(f"{to} is no list of bad rows and would be replaced; move it, or work in another folder")


def _read_phantom(spec: str, size: int | None) -> Reading:
    from mriscope.data import phantom

    options = phantom_options(spec) | ({} if size is None else {"size": size})
    return cached(
        lambda: content_key({}, phantom=phantom.VERSION, **options),
        lambda: Reading(phantom.make_phantom(**options).slices),
    )


def _read_files(source: str | Path, size: int, options: ReadOptions) -> Reading:
    """Read slices at one size, from the cache without a look at their content where nothing was written since."""
    name, path = str(source), find_source(source)
    decoder = {"size": size, "decoder": PIL.__version__, "options": astuple(options)}
    marked = None if takes_tables_from_above(path) else stamp(name, path)
    opened: list[Source] = []

    def open_once() -> Source:
        opened[:] = opened or [open_path(name, path, options)]
        return opened[0]

    def build() -> Reading:
        one = open_once()
        with saying(f"reading {name}") as progress:
            found = gather(
                one.rows(),
                one.class_names,
                size,
                options,
                scratch=cache_folder(),
                progress=lambda done: progress(done, one.count),
            )
        told = replace(found, notes=(*one.notes, *found.notes))
        # Slices of volumes have the size of their voxels, which is nothing that their user chose.
        return replace(settle_sizes(told, size, options.stretch), sizes=None) if one.of_volumes else told

    return cached(
        lambda: content_key(open_once().files, **decoder),
        build,
        None if marked is None else content_key({"": f"{path.absolute()} {marked}"}, **decoder),
        lambda: all(path == file or (path.is_dir() and _is_below(at)) for at, file in open_once().files.items()),
    )


def _is_below(name: str) -> bool:
    """Tell whether a file that a source names lies below its folder; a table may name others."""
    return not name.startswith("/") and ".." not in name.split("/") and ":" not in name


def open_source(source: str | Path, options: ReadOptions = AS_IT_IS) -> Source:
    """Return the source of a name, its kind and its columns or folders checked, its rows unread."""
    name, own = split_options(source)
    return open_path(str(name), find_source(name), own.joined(options))


def open_path(name: str, path: Path, options: ReadOptions) -> Source:
    """Return the source at a path; `name` is what its user calls it."""
    if path.is_dir() and (volumes := open_volumes(name, path, options)):
        return volumes
    if path.is_dir():
        if files := parquet_files(path):
            return open_parquet(name, path, files, options)
        if table := find_image_table(path, options):
            return open_folder_table(name, path, table, options)
        options.refuse(OF_VOLUMES, f"{name} holds no volumes")
        unused = why_unused(path, options)
        options.refuse(OF_TABLES, unused or f"{name} has folders of images and no table of them")
        try:
            return open_folders(name, path)
        except DataError as error:
            raise DataError(f"{unused}; and without it: {error}") if unused else error from None
    if path.is_file() and path.suffix.lower() == ".parquet":
        return open_parquet(name, path.parent, [path], options)
    if path.is_file() and path.suffix.lower() in TABLES:
        return open_image_table(name, path, options)
    raise DataError(f"{name} is a file of no known kind; expected {KINDS}")


def find_source(source: str | Path) -> Path:
    """Return the file or folder that a source means, which is there; one of the hub is fetched.

    Raises:
        DataError: it is not there, or cannot be fetched.
    """
    return fetch(str(source)) if parse_source(source).kind == "hub" else find_path(source)


_open = open_source  # its name in scripts of earlier versions
