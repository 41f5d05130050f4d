"""Export a trained model for others: an ONNX graph, a folder for a model hub or MLflow, or a page without a server."""

import logging
from pathlib import Path
from typing import get_args

import numpy as np

from mriscope.choices import ExportFormat
from mriscope.data.phantom import make_phantom
from mriscope.data.source import parse_source, strip_folders
from mriscope.errors import MriscopeError, RunError, UnknownNameError
from mriscope.files import write_bytes
from mriscope.output_folder import OutputFolder
from mriscope.recipe import write_recipe
from mriscope.reports.model_card import CardFacts, model_card
from mriscope.results import Metrics
from mriscope.run_directory import INFERENCE, METRICS, RECIPE, REFERENCE, WEIGHTS, RunDirectory, open_run
from mriscope.workflows._baselines import load_own
from mriscope.workflows._export_graph import Graph, make_graph
from mriscope.workflows._export_mlflow import make_mlflow
from mriscope.workflows._export_page import make_page
from mriscope.workflows.predict import TrainedModel, load_model
from mriscope.workflows.predict_onnx import DESCRIPTION, GRAPH

FORMATS = get_args(ExportFormat)
CARD = "README.md"
CHECKED = 256
"""Slices that a graph is compared with torch on."""
LOG = logging.getLogger("mriscope")


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    form: str = "onnx",
    licence: str = "other",
    evaluation: str | Path | None = None,
) -> list[Path]:
    """Export the model of a run.

    onnx gives model.onnx, from uint8 slices (N, H, W) to `probabilities` (N, K), calibrated, and `distances` (N,), and
    to maps `hirescam` and `gradcam` (N, K, h, w), before ReLU, where the logits are linear in the network's last maps;
    safetensors gives the weights and the recipe; mlflow a folder that `mlflow.pyfunc.load_model` takes, without code of
    ours. html gives index.html and what it needs, which work from a disk or any static host and ask nobody; a graph
    runs in the browser. Beside each lie model.json, the typed description, and README.md, a model card.

    Args:
        run: the run directory.
        out: a folder; what an earlier export wrote there is replaced, and no other file.
        form: "onnx", "safetensors", "mlflow" or "html".
        licence: of the weights, for the card.
        evaluation: a folder of `mriscope evaluate RUN --covariates FILE --out DIR`, whose statistics beside covariates
            go into the card.

    Returns:
        the files.

    Raises:
        RunError: no finished run, a model that has no graph, a graph that disagrees with torch, or an evaluation that
            is damaged, of another model, or without covariates.
        UnknownNameError: there is no such format.
        MriscopeError: ONNX Runtime for browsers is not in the cache and cannot be fetched.
        MissingExtraError: onnx, onnxruntime or, for mlflow, pandas is not installed.
        WriteError: the folder holds files of these names that no export wrote.
    """
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    directory, folder = open_run(run), Path(out)
    if (folder / RECIPE).is_file() and (folder / WEIGHTS).is_file() and folder.resolve() == directory.path.resolve():
        raise RunError(f"{out} is the run itself; name another folder with --out")
    confounds = None if evaluation is None else _read_evaluation(directory, Path(evaluation))
    model = load_model(run, "cpu")
    if form == "safetensors":
        contents, card = _read_weights(directory), make_card(directory, model, licence, confounds)
    else:
        images, what = _choose_slices(directory, model)
        graph = make_graph(model, images, maps=form != "mlflow")
        checked = f"The ONNX graph gives probabilities within {graph.difference:.1g} of torch's on {what}."
        card = make_card(directory, model, licence, confounds, checked)
        contents = _write_graph(form, model, graph, card)
    contents[DESCRIPTION] = (model.description.to_json() + "\n").encode()
    contents[CARD] = card.encode()
    with OutputFolder(folder, "export").writing(list(contents)):
        for name, content in contents.items():
            write_bytes(folder / name, content)
    return [folder / name for name in contents]


def _write_graph(form: str, model: TrainedModel, graph: Graph, card: str) -> dict[str, bytes]:
    if form == "html":
        return make_page(model.description, graph, card)
    return make_mlflow(model.description, graph.content) if form == "mlflow" else {GRAPH: graph.content}


def _choose_slices(directory: RunDirectory, model: TrainedModel) -> tuple[np.ndarray, str]:
    """Return 256 slices to compare a graph on, of the run's test part as far as it goes, and what they are."""
    synthetic = make_phantom(CHECKED // 8, 8, size=model.description.size).slices.images
    if directory.imported:
        return synthetic, f"{CHECKED} slices of synthetic brains"
    try:
        slices, split = load_own(directory)
    except MriscopeError as error:
        LOG.warning(
            "the graph is compared with torch on synthetic brains alone, as the run's source is gone: %s", error
        )
        return synthetic, f"{CHECKED} slices of synthetic brains"
    rows = split.test[np.unique(np.linspace(0, len(split.test) - 1, CHECKED).astype(int))]
    rest = CHECKED - len(rows)
    more = f" and {rest} of synthetic brains" if rest else ""
    return np.concatenate([slices.images[rows], synthetic[:rest]]), f"{len(rows)} slices of the test part{more}"


def _read_evaluation(directory: RunDirectory, folder: Path) -> Metrics:
    found = Metrics.read(folder / METRICS)
    if found.model != directory.recipe.model:
        raise RunError(f"{folder} evaluates {found.model} and the run is of {directory.recipe.model}; name its own")
    if not found.confounding:
        raise RunError(f"{folder} was evaluated without covariates; evaluate the run anew with --covariates FILE")
    return found


def _read_weights(directory: RunDirectory) -> dict[str, bytes]:
    contents = {RECIPE: write_recipe(strip_folders(directory.recipe)).encode()}
    names = [WEIGHTS, *(name for name in (INFERENCE, REFERENCE) if (directory.path / name).is_file())]
    return contents | {name: (directory.path / name).read_bytes() for name in names}


def make_card(
    directory: RunDirectory,
    model: TrainedModel,
    licence: str = "other",
    confounds: Metrics | None = None,
    checked: str | None = None,
) -> str:
    """Write the model card of a run.

    Args:
        directory: of the run.
        model: of the run.
        licence: of the weights.
        confounds: an evaluation of the run beside covariates.
        checked: how an export was compared with the run, in a sentence.

    Raises:
        RunError: a file of the run is damaged, or a section would be empty.
    """
    source = directory.environment.source
    if source is None:
        facts = CardFacts("Not known: the weights were imported.", licence, confounds, checked)
        return model_card(model.description, None, facts)
    metrics, parts = directory.metrics(), directory.parts()
    data = (
        f"{parse_source(source).label}: {len(parts.train):,} training, {len(parts.validation):,} validation and "
        f"{len(parts.test):,} test slices; subjects from: {directory.environment.subjects_from or 'unknown'}; "
        f"fingerprint {(metrics.data or 'unknown')[:16]}."
    )
    return model_card(model.description, metrics, CardFacts(data, licence, confounds, checked))
