"""Predict slices with a trained model: the one inference behind the command, Python, exports and the server."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from mriscope.choices import Plane
from mriscope.data.read_options import split_options
from mriscope.data.severity import order_by_severity
from mriscope.data.unlabelled import read_unlabelled
from mriscope.errors import ArgumentTypeError, DataError, check_type
from mriscope.evaluation.calibration import scale_by_temperature
from mriscope.evaluation.deployed import DeployedModel
from mriscope.evaluation.inference import predict_probabilities
from mriscope.evaluation.out_of_distribution import FeatureReference
from mriscope.models.registration import Estimator
from mriscope.results import Answer, ModelDescription
from mriscope.run_directory import REFERENCE, open_run
from mriscope.training.devices import pick_device
from mriscope.workflows._answer import describe_origin, make_answer, options_of
from mriscope.workflows._inference import read_inference
from mriscope.workflows._model import load_network

BATCH = 64


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """The model of a finished run, ready to be asked; several threads may.

    Attributes:
        network: in evaluation mode, on the device it was loaded to.
        description: what the model is and where it comes from.
        reference: features of the training slices; None where the run has none.

    Example:
        >>> model = mriscope.load_model("mriscope-demo/run")  # doctest: +SKIP
        >>> model.predict(["slice.png"]).slices[0].class_name  # doctest: +SKIP
        'Non_Demented'
    """

    network: nn.Module
    description: ModelDescription
    reference: FeatureReference | None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the network's outputs."""
        return tuple(self.description.class_names)

    @cached_property
    def deployed(self) -> DeployedModel:
        """Return the module from uint8 slices to calibrated probabilities and distances, which export writes."""
        device = next((tensor.device for tensor in self.network.state_dict().values()), torch.device("cpu"))
        temperature = self.description.inference.temperature
        return DeployedModel(self.network, self.description.scale, temperature, self.reference).to(device).eval()

    def predict(self, images: Sequence[str | Path] | np.ndarray) -> Answer:
        """Predict slices.

        Args:
            images: what mriscope.read takes, a list of images, volumes, folders or patterns, which are brought to the
                model's size; or slices of that size, uint8 (N, H, W) with 0 as background.

        Returns:
            an answer for each slice, and of volumes and known subjects one for all their slices.

        Raises:
            DataError: files that hold no image, every one is listed; or an array that holds no slices of this size.
            ArgumentTypeError: images is one text or path.
        """
        if isinstance(images, np.ndarray):
            paths, pixels, origins = tuple(map(str, range(len(images)))), self._check_slices(images), ()
        else:
            if isinstance(images, str | Path):
                raise ArgumentTypeError(f"images is {str(images)!r}; give a list of files and folders")
            given = read_unlabelled(images, self.description.size, options_of(self.description))
            paths, pixels, origins = given.paths, given.images, given.origins
        return make_answer(self.description, paths, *self.compute(pixels), origins)

    def compute(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute calibrated probabilities, float32 (N, K), and distances, float32 (N,), of uint8 (N, H, W)."""
        if isinstance(self.network, Estimator):
            raw = predict_probabilities(self.network, images, self.description.scale)
            probabilities = scale_by_temperature(raw, self.description.inference.temperature)
            return probabilities, np.full(len(images), np.nan, np.float32)
        device = next(self.network.parameters()).device
        found: list[tuple[np.ndarray, np.ndarray]] = []
        with self._lock, torch.inference_mode():
            for start in range(0, len(images), BATCH):
                pixels = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)
                probabilities, distances = self.deployed(pixels)
                found.append((probabilities.cpu().numpy(), distances.cpu().numpy()))
        columns = list(zip(*found, strict=True))
        return np.concatenate(columns[0]), np.concatenate(columns[1])

    def _check_slices(self, images: np.ndarray) -> np.ndarray:
        size = self.description.size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size) or not len(images):
            raise DataError(f"images is {images.dtype} {images.shape}; this model takes uint8 (N, {size}, {size})")
        return images


def load_model(run: str | Path, device: str = "auto") -> TrainedModel:
    """Load the model of a finished run.

    Args:
        run: the run directory.
        device: auto, cpu or cuda.

    Raises:
        RunError: no finished run, or its weights are missing, damaged or another network's.
    """
    check_type("device", device, str, "auto, cpu or cuda")
    directory = open_run(run)
    network, class_names = load_network(directory, pick_device(device))
    inference, recipe = read_inference(directory), directory.recipe
    _, trained = split_options(recipe.data)
    description = ModelDescription(
        origin=describe_origin(directory),
        class_names=list(class_names),
        size=recipe.input.size,
        stretch=recipe.input.stretch,
        scale=recipe.input.scale,
        plane=cast(Plane, trained.plane),
        slices=trained.slices,
        inference=inference,
        severity=order_by_severity(class_names, recipe.severity),
    )
    reference = None if inference.distance is None else FeatureReference.read(directory.path / REFERENCE)
    return TrainedModel(network, description, reference)


def predict_images(run: str | Path, images: Sequence[str | Path], *, device: str = "auto") -> Answer:
    """Predict images with a run.

    Args:
        run: the run directory.
        images: what mriscope.read takes: images, volumes, folders, patterns.
        device: auto, cpu or cuda.

    Raises:
        RunError: no finished run.
        DataError: files that hold no image; every one is listed.
        ArgumentTypeError: images is one text or path.
    """
    if isinstance(images, str | Path):
        raise ArgumentTypeError(f"images is {str(images)!r}; give a list of files and folders")
    return load_model(run, device).predict(images)
