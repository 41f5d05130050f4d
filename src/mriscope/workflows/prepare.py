"""Prepare the slices of volumes: from a source of volumes to parquet files, volume by volume."""

import base64
import hashlib
import importlib.metadata
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.naming import part_order, printable
from mriscope.data.read_options import ReadOptions, split_options
from mriscope.data.readers import find_source, open_path
from mriscope.data.rows import Row, Source, find_subjects
from mriscope.data.sandbox import Answer, Sandbox, children_for
from mriscope.data.scans import Scan
from mriscope.data.source import parse_source
from mriscope.errors import DataError, need
from mriscope.files import write_bytes, write_text
from mriscope.output_folder import OutputFolder
from mriscope.preparation.options import PrepareOptions
from mriscope.preparation.parquet import PreparedSlices, write_slices
from mriscope.preparation.tiles import Tile
from mriscope.progress import saying
from mriscope.reports.preparation import preparation_page
from mriscope.results import Preparation, PreparedVolume, PrepareSettings, VolumeMeasures
from mriscope.version import __version__

LOG = logging.getLogger("mriscope")

VERSION = 1
"""Part of the key of finished volumes; raise it with every change of their pixels."""
RESULT, PAGE, FINISHED = "prepare.json", "prepare.html", ".volumes"
PROGRAM = "mriscope.preparation.child"
MEMORY = 8 * 2**30  # bytes of addresses for a child; torch and SimpleITK take some without using them
SECONDS = 900.0  # of processor time for a volume; one of 256 × 256 × 180 takes 20
PACKAGES = ("numpy", "scipy", "simpleitk", "torch")


@dataclass(frozen=True)
class _Job:
    """A volume with what is known of it, and where its slices are kept once it is finished."""

    scan: Scan
    path: str
    class_name: str
    subject: str
    session: str
    key: str
    problem: str

    @property
    def file(self) -> str:
        return _file(self.key)


@dataclass(frozen=True, eq=False)
class _Finished:
    """What is kept of a volume."""

    images: np.ndarray
    positions: np.ndarray
    measures: VolumeMeasures
    tiles: tuple[Tile, ...]


def prepare_source(
    source: str | Path, out: str | Path, *, options: PrepareOptions | None = None, jobs: int = 1
) -> Preparation:
    """Prepare the slices of volumes, and write them as parquet files that `read` takes.

    Below `out` lie data/*.parquet with image, label, subject, session, position (mm in the template), part and
    covariates; prepare.html with a picture of each step for each volume; and prepare.json. A volume that fails costs
    itself alone. Finished volumes are kept in .volumes/ by the content of their files and the options, so that the same
    command resumes after a kill.

    Args:
        source: NIfTI or DICOM files in class folders, a CSV file of volumes, or BIDS; with the options of `read` behind
            a question mark, but for plane and slices, which `options` tells.
        out: a folder.
        options: the steps; none: those of `PrepareOptions()`.
        jobs: processes that prepare a volume each.

    Raises:
        DataError: the source cannot be read, or holds no volumes in files.
        WriteError: the folder holds files of these names that mriscope did not write.
        MissingExtraError: a package that preparing needs is not installed.

    Example:
        >>> prepare_source("bids", "prepared", options=PrepareOptions(slices="32"))  # doctest: +SKIP
    """
    steps = options or PrepareOptions()
    need("prepare", "nibabel")
    need("prepare", "SimpleITK")
    opened, reading = _open(source)
    folder = OutputFolder(Path(out), "prepare")
    folder.check([RESULT, PAGE])
    work = _find_jobs(opened, reading, steps)
    ready = [job for job in work if not job.problem]
    folder.check({_data_file(job.scan.part) for job in ready})
    folder.claim([job.file for job in ready])
    problems, pictures = _prepare(ready, folder.path, steps, jobs)
    outcomes = [_outcome(job, folder.path, problems) for job in work]
    result = Preparation(
        source=parse_source(source).label,
        mriscope=__version__,
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        settings=PrepareSettings(**asdict(steps)),
        class_names=list(opened.class_names),
        volumes=outcomes,
    )
    _write(folder, result, work, pictures)
    return result


def _open(source: str | Path) -> tuple[Source, ReadOptions]:
    """Open a source of volumes.

    Raises:
        DataError: it holds something else, or tells how volumes are cut.
    """
    name, reading = split_options(source)
    if parse_source(name).kind == "phantom":
        raise DataError("the phantom is made as slices, and prepare takes volumes: NIfTI, DICOM, or a data set in BIDS")
    reading.refuse(("plane", "slices"), f"{name} is prepared, which has options of its own for plane and slices")
    opened = open_path(str(name), find_source(name), reading)
    if opened.scans is None:
        kind = "volumes inside a table; write them to files" if opened.of_volumes else "slices"
        raise DataError(f"{name} holds {kind}, and prepare takes volumes in files: NIfTI, DICOM, or a data set in BIDS")
    for note in opened.notes:
        LOG.warning("%s: %s", name, note)
    return opened, reading


def _find_jobs(opened: Source, reading: ReadOptions, steps: PrepareOptions) -> list[_Job]:
    """List the volumes of a source with their subjects and keys; what is no volume is none of them."""
    assert opened.scans is not None
    with Sandbox(children_for(file for file in opened.files.values() if isinstance(file, Path))) as sandbox:
        scans = list(opened.scans(sandbox))
    rows = [Row(at, one.path, label=one.label, subject=one.subject) for at, one in enumerate(scans)]
    who, notes = find_subjects(rows, opened.class_names, reading)
    for note in notes:
        LOG.warning("%s", note)
    work = []
    for scan, one in zip(scans, who, strict=True):
        key, problem = ("", scan.problem) if scan.problem else _key(scan, steps)
        work.append(
            _Job(
                replace(scan, covariates={**one.further, **scan.covariates}),
                path=printable(scan.path),
                class_name="" if scan.label is None else opened.class_names[scan.label],
                subject=one.subject,
                session=scan.session or one.session,
                key=key,
                problem=problem,
            )
        )
    return work


def _key(scan: Scan, steps: PrepareOptions) -> tuple[str, str]:
    """Return the key of a volume by the content of its files, and why there is none."""
    named = {file: str(place) for place, file in enumerate(scan.request["files"])}
    request = json.dumps([VERSION, asdict(steps), _renamed(scan.request, named)], sort_keys=True)
    digest = hashlib.sha256(request.encode())
    try:
        for file in named:
            with Path(file).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        return "", f"cannot be read ({error.strerror})"
    return digest.hexdigest(), ""


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a request with its files by number, as where they lie is no part of what they hold."""
    if isinstance(value, Mapping):
        return {key: _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def _prepare(
    work: Sequence[_Job], folder: Path, steps: PrepareOptions, jobs: int
) -> tuple[dict[str, str], dict[str, tuple[Tile, ...]]]:
    """Prepare the volumes that are not finished; return why some have no slices, and the pictures of those, by key."""
    problems: dict[str, str] = {}
    pictures: dict[str, tuple[Tile, ...]] = {}
    waiting = {job.key: job for job in work if _load(folder / job.file) is None}
    asked = {"steps": asdict(steps)}
    with (
        saying("preparing volumes") as progress,
        Sandbox(min(jobs, len(waiting) or 1), MEMORY, PROGRAM, SECONDS) as sandbox,
    ):
        progress(0, len(waiting))
        answers = sandbox.map(waiting.values(), lambda job: {**job.scan.request, **asked})
        for done, (job, answer) in enumerate(answers, 1):
            if isinstance(answer, DataError):
                problems[job.key] = str(answer)
            elif "problem" in answer.facts:
                problems[job.key] = printable(str(answer.facts["problem"]))
                pictures[job.key] = _tiles(answer.facts)
            else:
                _keep(folder / job.file, answer)
            progress(done, len(waiting))
    return problems, pictures


def _data_file(part: str) -> str:
    """Return where the slices of a part go."""
    return f"data/{part or 'prepared'}-00000-of-00001.parquet"


def _file(key: str) -> str:
    """Return where the slices of a finished volume are kept."""
    return f"{FINISHED}/{key[:32]}.npz"


def _keep(file: Path, answer: Answer) -> None:
    content = io.BytesIO()
    facts = np.frombuffer(json.dumps(answer.facts).encode(), np.uint8)
    np.savez_compressed(content, images=np.asarray(answer.images), facts=facts)
    write_bytes(file, content.getvalue())


def _load(file: Path) -> _Finished | None:
    """Return a finished volume; None where it is not, or its file is damaged."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            images, facts = arrays["images"], json.loads(arrays["facts"].tobytes())
        measures = VolumeMeasures.model_validate_json(json.dumps(facts["measures"]))
        return _Finished(images, np.array(facts["positions"], np.float64), measures, _tiles(facts))
    except Exception:  # a damaged archive may fail in any way: in zip, zlib, numpy or JSON
        return None


def _tiles(facts: Mapping[str, Any]) -> tuple[Tile, ...]:
    return tuple(Tile(one["step"], one["view"], base64.b64decode(one["jpeg"])) for one in facts["tiles"])


def _outcome(job: _Job, folder: Path, problems: Mapping[str, str]) -> PreparedVolume:
    problem = job.problem or problems.get(job.key, "")
    found = None if problem else _load(folder / job.file)
    return PreparedVolume(
        path=job.path,
        subject=job.subject,
        session=job.session,
        part=job.scan.part,
        class_name=job.class_name,
        key=job.key,
        slices=0 if found is None else len(found.images),
        problem=problem,
        measures=None if found is None else found.measures,
    )


def _write(
    folder: OutputFolder, result: Preparation, work: Sequence[_Job], pictures: Mapping[str, tuple[Tile, ...]]
) -> None:
    """Write the slices, the page and the record; what earlier calls wrote besides is removed."""
    pairs = list(zip(work, result.volumes, strict=True))
    good = [(job, one) for job, one in pairs if not one.problem]
    parts = sorted({one.part for _, one in good}, key=part_order)
    named = {part: _data_file(part) for part in parts}
    kept = list(dict.fromkeys(job.file for job, _ in good))

    def slices(part: str) -> Iterator[PreparedSlices]:
        for job, one in good:
            if one.part == part and (found := _load(folder.path / job.file)):
                yield PreparedSlices(one, job.scan.label, job.scan.covariates, found.images, found.positions)

    def tiles_of(one: PreparedVolume) -> tuple[Tile, ...]:
        if one.problem:
            return pictures.get(one.key, ())
        found = _load(folder.path / _file(one.key))
        return () if found is None else found.tiles

    page = preparation_page(result, tiles_of)
    with folder.writing([*kept, *named.values(), PAGE, RESULT]) as place:
        for part, file in named.items():
            write_slices(place / file, result, [job.scan.covariates for job, _ in good], slices(part))
        write_text(place / PAGE, page)
        result.write(place / RESULT)
