"""Load a run's model in MLflow ("models from code"): MLflow keeps a copy of this file beside the weights and runs it.

Nothing imports this file, as running it hands a model to MLflow. It reads safetensors and a recipe, and no pickle.
"""

import json
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from safetensors import safe_open

from mriscope.choices import Scale
from mriscope.evaluation.inference import predict_probabilities
from mriscope.models.registry import create_model
from mriscope.recipe import read_recipe


class SliceClassifier(PythonModel):
    """Predict the probability of each class for slices."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights and the recipe that MLflow keeps beside this file."""
        recipe = read_recipe(context.artifacts["recipe"])
        with safe_open(context.artifacts["weights"], framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            class_names = json.loads(file.metadata()["mriscope"])["class_names"]
        self.scale: Scale = recipe.input.scale
        self.model = create_model(
            recipe.model,
            classes=len(class_names),
            size=recipe.input.size,
            options=recipe.model_options,
            pretrained=False,
        )
        self.model.load_state_dict(weights)

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> Any:
        """Return probabilities, float32 (N, K), of slices, uint8 (N, H, W) with H and W the recipe's input.size."""
        return predict_probabilities(self.model, np.asarray(model_input, np.uint8), self.scale)


set_model(SliceClassifier())
