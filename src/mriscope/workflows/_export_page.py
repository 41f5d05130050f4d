"""A page that asks a model in the browser itself: the graph, ONNX Runtime and the page's parts as files of a folder."""

import base64
import gzip
import json

import numpy as np

from mriscope.explain.methods import METHODS
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
    """Return the 256 colours of overlays, three bytes each."""
    from matplotlib import colormaps

    return np.rint(colormaps["jet"](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes()
