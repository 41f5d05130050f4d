"""A page that asks a model in the browser itself: the graph, ONNX Runtime and the page's parts as files of a folder."""

import base64
import gzip
import json

import numpy as np

from mriscope.evaluation.deployed import MappedModel, linear_evidence
from mriscope.explain.methods import METHODS
from mriscope.reports.model_page import as_script, browser_page
from mriscope.workflows._export_graph import make_graph
from mriscope.workflows._web_runtime import GLUE, LOADER, WASM, web_runtime
from mriscope.workflows.predict import TrainedModel

MAPS = ("hirescam", "gradcam")
"""Methods whose maps a graph can compute where the logits are linear in the network's last maps."""


def make_page(model: TrainedModel, card: str) -> dict[str, bytes]:
    """Make the files of a page, by name.

    Args:
        model: of a run.
        card: its model card.

    Raises:
        RunError: the model is an estimator, or the graph disagrees with torch.
        MissingExtraError: onnx or onnxruntime is not installed.
        MriscopeError: ONNX Runtime for browsers cannot be had.
    """
    runtime = web_runtime()
    evidence = linear_evidence(model.deployed, model.description.size)
    maps = () if evidence is None else MAPS
    module = None if evidence is None else MappedModel(model.deployed, evidence).eval()
    shown = {
        "description": json.loads(model.description.to_json()),
        "card": card,
        "methods": {name: METHODS[name] for name in maps},
        "colours": base64.b64encode(_colours()).decode(),
        "graph": _packed(make_graph(model, module, maps)),
    }
    loaded = {
        LOADER: runtime[LOADER],
        "runtime.js": as_script("RUNTIME", {"wasm": _packed(runtime[WASM]), "glue": _packed(runtime[GLUE])}),
        "model.js": as_script("MODEL", shown),
    }
    return {**browser_page(list(loaded)), **loaded}


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _colours() -> bytes:
    """Return the 256 colours of overlays, three bytes each."""
    from matplotlib import colormaps

    return np.rint(colormaps["jet"](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes()
