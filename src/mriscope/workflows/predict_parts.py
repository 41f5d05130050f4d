"""Predict many slices part by part: one file of answers for each, so that the same call goes on with what is left."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mriscope.data.parts import Part, digest_part, list_parts, read_part
from mriscope.errors import ArgumentTypeError, DataError
from mriscope.evaluation.conformal import prediction_sets
from mriscope.files import replacing
from mriscope.output_folder import OutputFolder
from mriscope.progress import saying
from mriscope.results import ModelDescription, PartsPredicted
from mriscope.run_directory import INFERENCE, RECIPE, REFERENCE, WEIGHTS, open_run
from mriscope.sweep import choose_executor, sweep

if TYPE_CHECKING:
    from mriscope.workflows.predict import TrainedModel

MODEL = "model.json"
VERSION = 2
"""Of what a part's answers hold; raise it where the same slices would get others."""
AT_ONCE = 1024  # slices that are computed together
_MADE_FROM, _UNUSABLE = b"mriscope.made_from", b"mriscope.unusable"


@dataclass(frozen=True)
class _Task:
    part: Part
    run: Path
    model: str
    """A digest of its files."""
    file: Path
    device: str


def predict_parts(
    run: str | Path, named: Sequence[str], out: str | Path, *, device: str = "auto", executor: str = "here"
) -> PartsPredicted:
    """Predict slices part by part; memory stays the same however many there are.

    Each parquet file is a part, and so are 4,096 images. A part's answers are a parquet file in `out`, which appears
    when it is whole: path, class, probability_<class>, prediction_set, out_of_distribution, distance and problem. They
    are of slices alone, as those of a subject may lie in several parts; volumes are refused. A part whose answers were
    made from the same content by the same model is left alone.

    Args:
        run: the run directory.
        named: parquet files, images, folders of them or patterns; paths, or addresses such as `s3://bucket/set`.
        out: folder that gets a parquet file for each part, and model.json, which says what the answers rest on.
        device: auto, cpu or cuda.
        executor: where parts are predicted, as mriscope.sweep.parse_executor takes it; the folders `run` and `out` are
            the same on all machines.

    Raises:
        RunError: no finished run.
        DataError: a name leads nowhere, or to no slices.
        WriteError: a file is in the way that mriscope did not write.
        ArgumentTypeError: `named` is one text.
    """
    if isinstance(named, str | Path):
        raise ArgumentTypeError(f"named is {str(named)!r}; give a list of files, folders, patterns or addresses")
    directory, output = open_run(run), OutputFolder(Path(out), "predict")
    earlier = {output.path.absolute() / name for name, one in output.written().items() if one.command == "predict"}
    parts = list_parts([str(one) for one in named], without=earlier)
    where = choose_executor(executor, len(parts), device)
    files = {part.name: f"{part.name}.parquet" for part in parts}
    output.claim([MODEL, *files.values()])
    from mriscope.workflows.predict import load_model

    load_model(directory.path, "cpu").description.write(output.path / MODEL)
    digest = _digest_model(directory.path)
    tasks = {
        part.name: _Task(part, directory.path.resolve(), digest, output.path.resolve() / files[part.name], device)
        for part in parts
    }
    found, failures = [], {}
    with saying("predicting parts") as progress:
        for name, outcome in sweep(_predict_part, tasks, where, doing=""):
            if outcome.problem is None:
                found.append(outcome.value)
            else:
                failures[name] = outcome.problem
            progress(len(found) + len(failures), len(tasks))
    kept, slices, unusable = (sum(column) for column in zip(*found, strict=True)) if found else (0, 0, 0)
    return PartsPredicted(len(parts), kept, slices, unusable, failures)


def _digest_model(run: Path) -> str:
    digest = hashlib.sha256(str(VERSION).encode())
    for name in (RECIPE, WEIGHTS, INFERENCE, REFERENCE):
        if (run / name).is_file():
            with (run / name).open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()


def _predict_part(task: _Task) -> tuple[int, int, int]:
    """Predict a part unless that was done; return whether it was, and how many slices and unusable ones it has."""
    made_from = hashlib.sha256(f"{task.model} {digest_part(task.part)}".encode()).hexdigest()
    there = _read_counts(task.file, made_from)
    if there is not None:
        return 1, *there
    model = _load_model(task.run, task.model, task.device)
    schema, slices, unusable = _make_schema(model.description), 0, 0
    with replacing(task.file) as draft, pq.ParquetWriter(draft, schema, write_page_checksum=True) as writer:
        for names, images, problems in _gather(task.part, model.description):
            writer.write_table(_answer(model, schema, names, images, problems))
            slices, unusable = slices + len(names), unusable + sum(map(bool, problems))
        writer.add_key_value_metadata({_MADE_FROM: made_from, _UNUSABLE: str(unusable)})
    return 0, slices, unusable


def _read_counts(file: Path, made_from: str) -> tuple[int, int] | None:
    """Return the slices and the unusable ones of a part that was made from this; None where there is none."""
    try:
        metadata = pq.read_metadata(file)
        told = metadata.metadata or {}
        if told.get(_MADE_FROM, b"").decode() == made_from:
            return metadata.num_rows, int(told[_UNUSABLE])
    except (OSError, ValueError, KeyError, pa.ArrowException):
        pass
    return None


@lru_cache(maxsize=1)
def _load_model(run: Path, digest: str, device: str) -> "TrainedModel":
    """Load a model once in each process, as long as its files are the same."""
    from mriscope.workflows.predict import load_model

    return load_model(run, device)


def _gather(part: Part, description: ModelDescription) -> Iterator[tuple[list[str], np.ndarray, list[str]]]:
    """Read a part, so many slices at a time as are computed together."""
    names: list[str] = []
    images: list[np.ndarray] = []
    problems: list[str] = []
    for some, pixels, reasons in read_part(part, description.size, stretch=description.stretch):
        names, images, problems = names + some, [*images, pixels], problems + reasons
        if len(names) >= AT_ONCE:
            yield names, np.concatenate(images), problems
            names, images, problems = [], [], []
    if names:
        yield names, np.concatenate(images), problems


def _make_schema(description: ModelDescription) -> Any:
    names = [description.class_names[at] for at in description.display_order]
    probabilities = [pa.field(f"probability_{name}", pa.float32()) for name in names]
    return pa.schema(
        [
            pa.field("path", pa.string()),
            pa.field("class", pa.string()),
            *probabilities,
            pa.field("prediction_set", pa.list_(pa.string())),
            pa.field("out_of_distribution", pa.bool_()),
            pa.field("distance", pa.float32()),
            pa.field("problem", pa.string()),
        ]
    )


def _answer(
    model: "TrainedModel", schema: Any, names: Sequence[str], images: np.ndarray, problems: Sequence[str]
) -> Any:
    """Return the answers for slices as a table; where there is no slice, all but path and problem are null."""
    order, inference = model.description.display_order, model.description.inference
    classes = np.array(model.class_names)[order]
    probabilities, distances = model.compute(images)
    probabilities = probabilities[:, order]
    if not np.isfinite(probabilities).all():
        raise DataError("the model's outputs are not finite (did the training diverge?); use other weights")
    bad = np.array([bool(one) for one in problems])
    sets = None if inference.conformal is None else prediction_sets(probabilities, inference.conformal)
    threshold = inference.distance
    columns: list[Any] = [
        pa.array([name.encode("utf-8", "replace").decode() for name in names], pa.string()),
        pa.array(classes[probabilities.argmax(axis=1)], pa.string(), mask=bad),
        *(pa.array(column.astype(np.float32), mask=bad) for column in probabilities.T),
        pa.array(
            [None if sets is None or bad[row] else classes[sets[row]].tolist() for row in range(len(names))],
            pa.list_(pa.string()),
        ),
        pa.array(
            [None] * len(names) if threshold is None else ~(distances <= threshold.value),
            pa.bool_(),
            mask=bad,
        ),
        pa.array(distances.astype(np.float32), mask=bad | np.isnan(distances)),
        pa.array([one or None for one in problems], pa.string()),
    ]
    return pa.table(columns, schema=schema)
