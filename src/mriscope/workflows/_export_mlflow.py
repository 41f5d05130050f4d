"""A model in MLflow's format, by its ONNX flavour: it answers where neither mriscope nor torch is installed."""

import os
import tempfile
from pathlib import Path

import numpy as np

from mriscope.data.phantom import make_phantom
from mriscope.errors import need
from mriscope.reports.answer import NO_DIAGNOSIS
from mriscope.results import ModelDescription
from mriscope.tracking.store import ALWAYS, silenced_mlflow


def make_mlflow(description: ModelDescription, graph: bytes) -> dict[str, bytes]:
    """Make the files of a model for MLflow, by name; the example of an input is a synthetic brain.

    Args:
        description: of the model.
        graph: its ONNX graph, which gives `probabilities` and `distances`.

    Raises:
        MissingExtraError: pandas, which comes with the extra "ui", is not installed; or onnx or onnxruntime.
    """
    need("ui", "pandas")  # which MLflow's lighter package does not bring
    onnx, runtime = need("export", "onnx"), need("export", "onnxruntime")
    os.environ.update(ALWAYS)
    from mlflow.models import ModelSignature
    from mlflow.onnx import save_model
    from mlflow.types import Schema, TensorSpec

    size, classes = description.size, len(description.class_names)
    outputs = [("probabilities", (-1, classes)), ("distances", (-1,))]
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size))]),
        Schema([TensorSpec(np.dtype(np.float32), shape, name) for name, shape in outputs]),
    )
    origin = description.origin
    about = {"class_names": description.class_names, "run": origin.run, "protocol": origin.protocol}
    with silenced_mlflow(), tempfile.TemporaryDirectory() as place:
        folder = Path(place, "model")
        save_model(
            onnx.load_from_string(graph),
            str(folder),
            signature=signature,
            input_example=make_phantom(1, 1, size=size).slices.images,
            pip_requirements=[f"{one.__name__}=={one.__version__}" for one in (np, onnx, runtime)],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
            metadata={**about, "leaky": origin.leaky, "statement": origin.statement, "use": NO_DIAGNOSIS},
        )
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
