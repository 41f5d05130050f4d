"""import_weights(): make a run directory of weights that another program trained."""

import hashlib
import logging
from pathlib import Path

import yaml

from mriscope.data.slices import CLASS_NAMES, SIZE
from mriscope.environment import describe_environment
from mriscope.errors import DataError, RunError
from mriscope.files import write_text
from mriscope.models.foreign import match_weights, read_state_dict
from mriscope.models.registry import count_parameters, create_model
from mriscope.recipe import make_recipe
from mriscope.results import ImportedMetrics, ImportedWeights, ParameterCount
from mriscope.run_directory import ENVIRONMENT, METRICS, RECIPE, WEIGHTS, WRITTEN, RunDirectory, output_of_run
from mriscope.training.checkpoint import put_weights, save_weights

LOG = logging.getLogger("mriscope")
_SHOWN = 8
_HEAD = """\
# Imported weights: how they were trained is not known, so that only the model and its input stand here.
"""


def import_weights(
    file: str | Path, model: str, out: str | Path, *, scale: str = "raw", size: int = SIZE
) -> RunDirectory:
    """Make a run directory of a checkpoint that another program saved, such as the study's notebooks.

    The run can predict, be explained and be evaluated on a source; it has no predictions of its own, and what its
    weights were trained on is not known. Its classes are taken to be the study's four, in the order of the study's
    labels.

    Args:
        file: a checkpoint as read_state_dict takes it; nothing in it is run.
        model: the network the weights belong to, by its name here.
        out: the run directory, new or empty.
        scale: of the network's input: raw, 0 to 255, as the study does; unit, 0 to 1; or imagenet.
        size: height and width of the network's input in pixels.

    Raises:
        DataError: the file cannot be read, holds no plain weights, or those of another network; differing names and
            shapes are listed.
        RunError: the folder is not empty.
        UnknownNameError: no model has this name.
        RecipeError: there is no such scale or size.
    """
    source, folder = Path(file), Path(out)
    settings = {"model": model, "data": "unknown", "input": {"size": size, "scale": scale}}
    recipe = make_recipe(settings, "import")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{out} is not empty; name a new folder with --out")
    network = create_model(model, classes=len(CLASS_NAMES), size=recipe.input.size, pretrained=False)
    matching = match_weights(read_state_dict(source), network.state_dict(), source, model)
    broken = [name for name, weights in matching.weights.items() if not weights.isfinite().all()]
    if broken:
        raise DataError(f"{source}: {', '.join(broken)} hold numbers that are not finite; import another checkpoint")
    put_weights(network, matching.weights, source)

    directory = RunDirectory(folder)
    output_of_run(folder).claim(WRITTEN)
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    origin = ImportedWeights(file=source.name, sha256=digest, matched_by=matching.way, by_order=list(matching.by_order))
    describe_environment("none, as the weights were imported", imported=origin).write(folder / ENVIRONMENT)
    save_weights(network.state_dict(), folder / WEIGHTS, model, CLASS_NAMES)
    write_text(folder / RECIPE, _HEAD + yaml.safe_dump(settings, sort_keys=False))
    parameters = ParameterCount(parameters=count_parameters(network))
    ImportedMetrics(training=parameters, model=model).write(folder / METRICS)
    if matching.by_order:
        names = ", ".join(matching.by_order[:_SHOWN]) + (" ..." if len(matching.by_order) > _SHOWN else "")
        count = len(matching.by_order)
        LOG.warning("%s: %d layers share a shape and were matched by their order: %s", source, count, names)
    return directory
