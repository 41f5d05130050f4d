"""Predict images with a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mriscope.data.images import read_images
from mriscope.errors import ArgumentTypeError
from mriscope.evaluation.inference import predict_probabilities
from mriscope.run_directory import open_run
from mriscope.training.devices import pick_device
from mriscope.workflows._model import load_model


def predict_images(folder: str | Path, images: Sequence[str | Path], *, device: str = "auto") -> list[dict[str, Any]]:
    """Predict the class of images with a run.

    Args:
        folder: the run.
        images: JPEG or PNG files, or folders of them.
        device: auto, cpu or cuda.

    Returns:
        for each image its path, its class and the probability of each class.

    Raises:
        RunError: no finished run.
        DataError: files that hold no image; every one is listed.
        ArgumentTypeError: images is one text or path.
    """
    if isinstance(images, str | Path):
        raise ArgumentTypeError(f"images is {str(images)!r}; give a list of files and folders")
    directory = open_run(folder)
    given = read_images(images, directory.recipe.input.size, stretch=directory.recipe.input.stretch)
    model, class_names = load_model(directory, pick_device(device))
    probabilities = predict_probabilities(model, given.images, directory.recipe.input.scale)
    return [
        {
            "path": path,
            "class": class_names[int(row.argmax())],
            "probabilities": dict(zip(class_names, map(float, row), strict=True)),
        }
        for path, row in zip(given.paths, probabilities, strict=True)
    ]
