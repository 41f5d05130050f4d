"""A page that asks a model in the browser itself: the graph, ONNX Runtime and the page's parts as files of a folder."""

import base64
import gzip
import json

import numpy as np

from mriscope.explain.methods import METHODS
from mriscope.explain.overlays import overlay
from mriscope.reports.model_page import as_script, browser_page
from mriscope.results import ModelDescription
from mriscope.workflows._export_graph import Graph
from mriscope.workflows._web_runtime import GLUE, LOADER, WASM, web_runtime


def make_page(description: ModelDescription, graph: Graph, card: str) -> dict[str, bytes]:
    """Make the files of a page, by name.

    Args:
        description: of the model.
        graph: of the model.
        card: its model card.

    Raises:
        MriscopeError: ONNX Runtime for browsers cannot be had.
    """
    runtime = web_runtime()
    shown = {
        "description": json.loads(description.to_json()),
        "card": card,
        "methods": {name: METHODS[name] for name in graph.maps},
        "colours": base64.b64encode(_colours()).decode(),
        "graph": _packed(graph.content),
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
    """Return the 256 colours of overlays from no evidence to most, three bytes each."""
    shares = np.linspace(0, 1, 256, dtype=np.float32)[None]
    return overlay(np.zeros((1, 256), np.uint8), shares, alpha=1.0).tobytes()
