"""Show where a run sees evidence."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mriscope.data.batches import scaled
from mriscope.data.images import Images, read_images
from mriscope.data.slices import SliceSet
from mriscope.data.splits import read_split
from mriscope.errors import RunError, UnknownName
from mriscope.evaluation.inference import predict_probabilities
from mriscope.evaluation.plots import class_title
from mriscope.experiment.parts import load_model, read_for
from mriscope.explain.cam import GradCAM
from mriscope.explain.finishing import study_exponents
from mriscope.explain.overlays import grid, overlay, save_png
from mriscope.files import write_text
from mriscope.models.registry import Estimator
from mriscope.run_directory import SPLIT, RunDirectory, open_run
from mriscope.training.devices import pick_device

LISTED = "pictures.json"
"""Names the pictures that an explanation wrote, so that the next one can take them away."""


@dataclass(frozen=True)
class Look:
    """How an explanation is made and shown.

    Args:
        layer: dotted name; None takes the last convolution.
        class_name: the class to explain; None the predicted one.
        study_exponents: raise maps to the reference study's power for each class.
        colormap: of matplotlib.
        alpha: share of the colours, from 0 to 1.
    """

    layer: str | None = None
    class_name: str | None = None
    study_exponents: bool = False
    colormap: str = "jet"
    alpha: float = 0.5


def explain_run(
    folder: str | Path,
    out: str | Path,
    look: Look = Look(),
    *,
    images: Sequence[str | Path] | None = None,
    count: int = 8,
    seed: int = 0,
    source: str | None = None,
    device: str = "auto",
) -> list[Path]:
    """Grad-CAM overlays of one run: a picture for each slice, and grid.png with all of them.

    They take the place of those that an earlier call wrote to the folder; other files there are left alone.

    Args:
        folder: the run.
        out: folder for the pictures.
        look: how.
        images: JPEG or PNG files or folders of them; None takes slices of the run's test part, or for imported weights
            of the whole source, as evenly over the classes as they allow.
        count: how many test slices.
        seed: of their choice.
        source: where the run's data is now, if it was moved.
        device: auto, cpu or cuda.

    Raises:
        MriscopeError: no finished run, or an unknown layer, class, colour map or image.
    """
    directory = open_run(folder)
    model, class_names = load_model(directory, pick_device(device))
    if isinstance(model, Estimator):
        raise RunError(f"{directory.recipe.model} has no layers whose maps could be explained; name a network's run")
    if images is None:
        slices = _some_of_test(directory, source, count, seed)
        shown = Images(slices.images, tuple(slices.paths.tolist()))
        truths = [class_names[label] for label in slices.labels]
    else:
        shown = read_images(images, directory.recipe.input.size)
        truths = [None] * len(shown)
    classes = None if look.class_name is None else _class_number(look.class_name, class_names)
    probabilities = predict_probabilities(model, shown.images, directory.recipe.input.scale)
    maps = GradCAM(model, look.layer)(
        scaled(torch.from_numpy(np.array(shown.images)), directory.recipe.input.scale),
        classes,
        exponents=study_exponents(class_names) if look.study_exponents else None,
    )
    titles = [_title(row, truth, class_names) for row, truth in zip(probabilities, truths, strict=True)]
    return _write_overlays(Path(out), shown, maps.cpu().numpy(), titles, look)


def _write_overlays(out: Path, shown: Images, maps: np.ndarray, titles: Sequence[str], look: Look) -> list[Path]:
    """Write the pictures in the place of those that an earlier explanation left there."""
    colours = {"colormap": look.colormap, "alpha": look.alpha}
    pictures = {"grid.png": grid(shown.images, maps, titles, **colours)}
    for row, path in enumerate(shown.paths):
        pictures[f"{row:03d}_{Path(path).stem}.png"] = overlay(shown.images[row], maps[row], **colours)
    for name in _earlier(out):
        (out / name).unlink(missing_ok=True)
    write_text(out / LISTED, json.dumps(list(pictures), indent=2) + "\n")  # first, so that a kill leaves none unlisted
    for name, picture in pictures.items():
        save_png(picture, out / name)
    return [out / name for name in pictures]


def _earlier(out: Path) -> list[str]:
    """What an earlier explanation wrote there; other files are somebody else's."""
    try:
        listed = json.loads((out / LISTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nothing is listed, so nothing is known to be ours
        return []
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    return [name for name in names if name == Path(name).name and name.endswith(".png")]


def _some_of_test(directory: RunDirectory, source: str | None, count: int, seed: int) -> SliceSet:
    """Slices of the test part, the classes taking turns."""
    there = source or directory.environment["source"]
    if there is None:
        raise RunError(f"the weights in {directory.path} were imported without data; name --images or --data SOURCE")
    recipe = directory.recipe.model_copy(update={"manifest": None})  # it may be gone, and a picture needs no subject
    slices = read_for(recipe, there, skip_bad=directory.environment["skip_bad"]).slices
    part = np.arange(len(slices)) if directory.imported else read_split(directory.path / SPLIT, slices).test
    test = np.random.default_rng(seed).permutation(part)
    labels = slices.labels[test]
    turn = np.zeros(len(test), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return slices[test[np.lexsort((labels, turn))[:count]]]


def _class_number(name: str, class_names: Sequence[str]) -> int:
    if name not in class_names:
        raise UnknownName("class", name, class_names)
    return list(class_names).index(name)


def _title(probabilities: np.ndarray, truth: str | None, class_names: Sequence[str]) -> str:
    predicted = int(probabilities.argmax())
    said = f"{class_title(class_names[predicted])} {probabilities[predicted]:.2f}"
    return f"predicted {said}" if truth is None else f"true {class_title(truth)}\npredicted {said}"
