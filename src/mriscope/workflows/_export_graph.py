"""The ONNX graph of a trained model, compared with torch before anybody gets it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from mriscope.data.phantom import make_phantom
from mriscope.errors import RunError, need
from mriscope.models.registration import Estimator
from mriscope.workflows.predict import TrainedModel
from mriscope.workflows.predict_onnx import GRAPH, compute_onnx, open_session

CHECKED = 256
TOLERANCE = 1e-5
"""Of probabilities; those of the graph differ from torch's by rounding alone."""


def make_graph(model: TrainedModel, module: nn.Module | None = None, more: Sequence[str] = ()) -> bytes:
    """Make the ONNX graph of a model, checked against torch on 256 slices of synthetic brains.

    Args:
        model: of a run.
        module: what the graph computes, from uint8 slices; None: the model's probabilities and distances.
        more: names of what else the module gives after these.

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
        module or model.deployed,
        (torch.zeros(2, size, size, dtype=torch.uint8),),
        dynamo=True,
        input_names=["images"],
        output_names=["probabilities", "distances", *more],
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
