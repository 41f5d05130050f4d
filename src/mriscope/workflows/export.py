"""Export a trained model for others: an ONNX graph, a folder for a model hub, or a page that needs no server."""

from pathlib import Path
from typing import get_args

from mriscope.choices import ExportFormat
from mriscope.data.source import parse_source, strip_folders
from mriscope.errors import RunError, UnknownNameError
from mriscope.files import write_bytes
from mriscope.output_folder import OutputFolder
from mriscope.recipe import write_recipe
from mriscope.reports.model_card import model_card
from mriscope.run_directory import INFERENCE, RECIPE, REFERENCE, WEIGHTS, RunDirectory, open_run
from mriscope.workflows._export_graph import make_graph
from mriscope.workflows._export_page import make_page
from mriscope.workflows.predict import TrainedModel, load_model
from mriscope.workflows.predict_onnx import DESCRIPTION, GRAPH

FORMATS = get_args(ExportFormat)
CARD = "README.md"


def export_run(run: str | Path, out: str | Path, *, form: str = "onnx", licence: str = "other") -> list[Path]:
    """Export the model of a run.

    onnx gives model.onnx, from uint8 slices (N, H, W) to `probabilities` (N, K), calibrated, and `distances` (N,);
    safetensors gives the weights and the recipe. html gives index.html and what it needs, which work from a disk or any
    static host and ask nobody; a graph runs in the browser. Beside each lie model.json, the typed description, and
    README.md, a model card.

    Args:
        run: the run directory.
        out: a folder; what an earlier export wrote there is replaced, and no other file.
        form: "onnx", "safetensors" or "html".
        licence: of the weights, for the card.

    Returns:
        the files.

    Raises:
        RunError: no finished run, a model that has no graph, or a graph that disagrees with torch.
        UnknownNameError: there is no such format.
        MriscopeError: ONNX Runtime for browsers is not in the cache and cannot be fetched.
        MissingExtraError: onnx or onnxruntime is not installed.
        WriteError: the folder holds files of these names that no export wrote.
    """
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    directory, folder = open_run(run), Path(out)
    if (folder / RECIPE).is_file() and (folder / WEIGHTS).is_file() and folder.resolve() == directory.path.resolve():
        raise RunError(f"{out} is the run itself; name another folder with --out")
    model = load_model(run, "cpu")
    card = make_card(directory, model, licence)
    if form == "html":
        contents = make_page(model, card)
    else:
        contents = {GRAPH: make_graph(model)} if form == "onnx" else _read_weights(directory)
    contents[DESCRIPTION] = (model.description.to_json() + "\n").encode()
    contents[CARD] = card.encode()
    with OutputFolder(folder, "export").writing(list(contents)):
        for name, content in contents.items():
            write_bytes(folder / name, content)
    return [folder / name for name in contents]


def _read_weights(directory: RunDirectory) -> dict[str, bytes]:
    contents = {RECIPE: write_recipe(strip_folders(directory.recipe)).encode()}
    names = [WEIGHTS, *(name for name in (INFERENCE, REFERENCE) if (directory.path / name).is_file())]
    return contents | {name: (directory.path / name).read_bytes() for name in names}


def make_card(directory: RunDirectory, model: TrainedModel, licence: str = "other") -> str:
    """Write the model card of a run.

    Raises:
        RunError: a file of the run is damaged, or a section would be empty.
    """
    source = directory.environment.source
    if source is None:
        return model_card(model.description, None, data="Not known: the weights were imported.", licence=licence)
    metrics, parts = directory.metrics(), directory.parts()
    data = (
        f"{parse_source(source).label}: {len(parts.train):,} training, {len(parts.validation):,} validation and "
        f"{len(parts.test):,} test slices; subjects from: {directory.environment.subjects_from or 'unknown'}; "
        f"fingerprint {(metrics.data or 'unknown')[:16]}."
    )
    return model_card(model.description, metrics, data=data, licence=licence)
