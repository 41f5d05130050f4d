"""The ONNX graph of a trained model, compared with torch before anybody gets it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mriscope.errors import RunError, need
from mriscope.evaluation.deployed import MappedModel, linear_evidence
from mriscope.models.registration import Estimator
from mriscope.workflows.predict import TrainedModel
from mriscope.workflows.predict_onnx import GRAPH, compute_onnx, open_session

TOLERANCE = 1e-5
"""Of probabilities; those of the graph differ from torch's by rounding alone."""
MAPS = ("hirescam", "gradcam")
"""Methods whose maps a graph can compute where the logits are linear in the network's last maps."""


@dataclass(frozen=True)
class Graph:
    """A graph that agrees with its model.

    Attributes:
        content: of the ONNX file; takes `images`, uint8 (N, H, W), and gives `probabilities`, `distances` and the maps.
        maps: names of the outputs, float32 (N, K, h, w), that hold maps; none where the graph has none.
        difference: the largest of a probability from torch's.
    """

    content: bytes
    maps: tuple[str, ...]
    difference: float


def make_graph(model: TrainedModel, images: np.ndarray, *, maps: bool = True) -> Graph:
    """Make the ONNX graph of a model, checked against torch.

    Args:
        model: of a run.
        images: slices to compare on, uint8 (N, H, W).
        maps: whether the graph gives maps too, if the network's logits are linear in its last maps.

    Raises:
        RunError: the model is an estimator, or the graph disagrees with torch.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    need("export", "onnx")
    need("export", "onnxscript")
    if isinstance(model.network, Estimator):
        raise RunError(f"{model.description.origin.model} is an estimator, which has no graph; export a network's run")
    evidence = linear_evidence(model.deployed, model.description.size) if maps else None
    mapped = () if evidence is None else MAPS
    module = model.deployed if evidence is None else MappedModel(model.deployed, evidence).eval()
    content = _trace(module, model.description.size, mapped)
    return Graph(content, mapped, check_graph(content, model, images))


def _trace(module: nn.Module, size: int, maps: Sequence[str]) -> bytes:
    program = torch.onnx.export(
        module,
        (torch.zeros(2, size, size, dtype=torch.uint8),),
        dynamo=True,
        input_names=["images"],
        output_names=["probabilities", "distances", *maps],
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=4096)}},
        verbose=False,
    )
    if program is None:
        raise RunError("torch made no graph of the model; export its weights with --format safetensors")
    return program.model_proto.SerializeToString()


def check_graph(graph: bytes, model: TrainedModel, images: np.ndarray) -> float:
    """Compare a graph with its model, in a batch of one slice and a batch of all others.

    Args:
        graph: content of an ONNX file.
        model: what it was made of.
        images: uint8 (N, H, W), two slices or more.

    Returns:
        the largest difference of a probability.

    Raises:
        RunError: probabilities differ by more than 1e-5, or distances by a thousandth.
    """
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
    return worst
