"""Export a trained model for other programs: an ONNX graph, or a folder for a model hub."""

from pathlib import Path
from typing import get_args

import numpy as np
import torch

from mriscope.choices import ExportFormat
from mriscope.data.phantom import make_phantom
from mriscope.data.source import parse_source, strip_folders
from mriscope.errors import RunError, UnknownNameError, need
from mriscope.files import write_bytes
from mriscope.models.registration import Estimator
from mriscope.output_folder import OutputFolder
from mriscope.recipe import write_recipe
from mriscope.reports.model_card import model_card
from mriscope.run_directory import INFERENCE, RECIPE, REFERENCE, WEIGHTS, RunDirectory, open_run
from mriscope.workflows.predict import TrainedModel, load_model
from mriscope.workflows.predict_onnx import DESCRIPTION, GRAPH, compute_onnx, open_session

FORMATS = get_args(ExportFormat)
CARD = "README.md"
CHECKED = 256
TOLERANCE = 1e-5
"""Of probabilities; those of the graph differ from torch's by rounding alone."""


def export_run(run: str | Path, out: str | Path, *, form: str = "onnx", licence: str = "other") -> list[Path]:
    """Export the model of a run.

    onnx gives model.onnx, from uint8 slices (N, H, W) to `probabilities` (N, K), calibrated, and `distances` (N,);
    safetensors gives the weights and the recipe. Beside either lie model.json, the typed description, and README.md, a
    model card.

    Args:
        run: the run directory.
        out: a folder; what an earlier export wrote there is replaced, and no other file.
        form: "onnx" or "safetensors".
        licence: of the weights, for the card.

    Returns:
        the files.

    Raises:
        RunError: no finished run, a model that has no graph, or a graph that disagrees with torch.
        UnknownNameError: there is no such format.
        MissingExtraError: onnx or onnxruntime is not installed.
        WriteError: the folder holds files of these names that no export wrote.
    """
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    directory, folder = open_run(run), Path(out)
    if (folder / RECIPE).is_file() and (folder / WEIGHTS).is_file() and folder.resolve() == directory.path.resolve():
        raise RunError(f"{out} is the run itself; name another folder with --out")
    model = load_model(run, "cpu")
    contents = {GRAPH: make_graph(model)} if form == "onnx" else _read_weights(directory)
    contents[DESCRIPTION] = (model.description.to_json() + "\n").encode()
    contents[CARD] = make_card(directory, model, licence).encode()
    with OutputFolder(folder, "export").writing(list(contents)):
        for name, content in contents.items():
            write_bytes(folder / name, content)
    return [folder / name for name in contents]


def make_graph(model: TrainedModel) -> bytes:
    """Make the ONNX graph of a model, checked against torch on 256 slices of synthetic brains.

    Raises:
        RunError: the model is an estimator, or the graph disagrees with torch.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    need("export", "onnx")
    need("export", "onnxscript")
    if isinstance(model.network, Estimator):
        raise RunError(f"{model.description.origin.model} is an estimator, which has no graph; export a network's run")
    size = model.description.size
    program = torch.onnx.export(
        model.deployed,
        (torch.zeros(2, size, size, dtype=torch.uint8),),
        dynamo=True,
        input_names=["images"],
        output_names=["probabilities", "distances"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=4096)}},
        verbose=False,
    )
    if program is None:
        raise RunError("torch made no graph of the model; export its weights with --format safetensors")
    graph = program.model_proto.SerializeToString()
    check_graph(graph, model)
    return graph


def check_graph(graph: bytes, model: TrainedModel) -> None:
    """Compare a graph with its model on 256 slices of synthetic brains, in batches of 1 and of 255.

    Raises:
        RunError: probabilities differ by more than 1e-5, or distances by a thousandth.
    """
    images = make_phantom(CHECKED // 8, 8, size=model.description.size).slices.images
    expected, far = model.compute(images)
    session = open_session(graph, GRAPH)
    found = [compute_onnx(session, images[rows]) for rows in (slice(0, 1), slice(1, None))]
    probabilities, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    worst = float(np.abs(probabilities - expected).max())
    if not worst <= TOLERANCE or not np.allclose(distances, far, rtol=1e-3, equal_nan=True):
        raise RunError(
            f"the ONNX graph disagrees with torch (probabilities by {worst:.2g}); nothing was written, export the "
            "weights with --format safetensors"
        )


def _read_weights(directory: RunDirectory) -> dict[str, bytes]:
    contents = {RECIPE: write_recipe(strip_folders(directory.recipe)).encode()}
    names = [WEIGHTS, *(name for name in (INFERENCE, REFERENCE) if (directory.path / name).is_file())]
    return contents | {name: (directory.path / name).read_bytes() for name in names}


def make_card(directory: RunDirectory, model: TrainedModel, licence: str = "other") -> str:
    """Write the model card of a run.

    Raises:
        RunError: a file of the run is damaged, or a section would be empty.
    """
    source = directory.environment.source
    if source is None:
        return model_card(model.description, None, data="Not known: the weights were imported.", licence=licence)
    metrics, parts = directory.metrics(), directory.parts()
    data = (
        f"{parse_source(source).label}: {len(parts.train):,} training, {len(parts.validation):,} validation and "
        f"{len(parts.test):,} test slices; subjects from: {directory.environment.subjects_from or 'unknown'}; "
        f"fingerprint {(metrics.data or 'unknown')[:16]}."
    )
    return model_card(model.description, metrics, data=data, licence=licence)
