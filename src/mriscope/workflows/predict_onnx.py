"""Predict slices with an exported ONNX graph. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.unlabelled import read_unlabelled
from mriscope.errors import ArgumentTypeError, RunError, need
from mriscope.results import Answer, ModelDescription
from mriscope.workflows._answer import make_answer, options_of

GRAPH, DESCRIPTION = "model.onnx", "model.json"
BATCH = 64


def predict_onnx(folder: str | Path, images: Sequence[str | Path]) -> Answer:
    """Predict images with what `mriscope export --format onnx` wrote.

    Args:
        folder: of the export.
        images: what mriscope.read takes: images, volumes, folders, patterns.

    Raises:
        RunError: the folder holds no export, or a damaged one.
        DataError: files that hold no image; every one is listed.
        ArgumentTypeError: images is one text or path.
        MissingExtraError: onnxruntime is not installed.
    """
    if isinstance(images, str | Path):
        raise ArgumentTypeError(f"images is {str(images)!r}; give a list of files and folders")
    path = Path(folder) / GRAPH
    if not path.is_file():
        raise RunError(f"{folder} holds no {GRAPH}; make one with `mriscope export RUN --format onnx --out DIR`")
    description = ModelDescription.read(Path(folder) / DESCRIPTION)
    given = read_unlabelled(images, description.size, options_of(description))
    session = open_session(path.read_bytes(), str(path))
    starts = range(0, len(given), BATCH)
    found = [compute_onnx(session, given.images[start : start + BATCH]) for start in starts]
    probabilities, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    return make_answer(description, given.paths, probabilities, distances, given.origins)


def open_session(graph: bytes, name: str) -> Any:
    """Open a graph for the CPU.

    Raises:
        RunError: it is damaged, or no graph.
        MissingExtraError: onnxruntime is not installed.
    """
    runtime = need("export", "onnxruntime")
    try:
        return runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    except Exception as error:  # its kinds of errors are private
        raise RunError(f"{name} is damaged or no ONNX graph; export the run again") from error


def compute_onnx(session: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute calibrated probabilities (N, K) and distances (N,) of uint8 (N, H, W)."""
    probabilities, distances = session.run(["probabilities", "distances"], {"images": images})
    return probabilities, distances
