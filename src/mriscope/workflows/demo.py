"""Tell on synthetic brains what the package is for, and write a report.

The same network is trained on a split by slice and on a split by subject, the first split is audited, and the maps of
the second run are held against the change that disease makes in the phantom.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mriscope.data.batches import scaled
from mriscope.data.phantom import FLUID, phantom_masks
from mriscope.data.source import strip_folders
from mriscope.data.splits import read_split
from mriscope.explain.maps import explain
from mriscope.explain.metrics.localisation import brain_mask, pointing_game
from mriscope.files import write_text
from mriscope.output_folder import OutputFolder, written_with
from mriscope.recipe import read_recipe, write_recipe
from mriscope.reports.page import Picture, run_page
from mriscope.reports.text import by_severity
from mriscope.results import Environment, Metrics
from mriscope.run_directory import ENVIRONMENT, FIGURES, SPLIT, RunDirectory
from mriscope.sweep import count_idle_cores, limited_threads
from mriscope.workflows._load import load
from mriscope.workflows.audit import audit_source
from mriscope.workflows.evaluate import evaluate_run
from mriscope.workflows.explain import GRID, ExplainOptions, checked_output, explain_run, open_network
from mriscope.workflows.train import run

RECIPE = Path(__file__).with_name("demo.yaml")
REPORT = "report.html"
METHOD = "layercam"

PICTURES = {
    "slices.png": ("Slices", "Drawn at random from the data, a column for each class."),
    "training.png": ("Training", "Loss and accuracy by epoch; a line marks the epoch whose weights were kept."),
    "confusion.png": ("Confusion matrix", "How the slices of each class were called: counts, and shares of the class."),
    "roc.png": ("ROC curves", "Each class against the rest."),
}


@dataclass(frozen=True)
class Demo:
    """What a demo found.

    Args:
        report: the page.
        lines: the story in sentences.
    """

    report: Path
    lines: tuple[str, ...]


def run_demo(out: str | Path, *, fresh: bool = False) -> Demo:
    """Make brains, train a small network on two splits of them, audit, evaluate, explain, and write a report.

    Args:
        out: folder for the runs, the audit, the explanations and report.html.
        fresh: begin anew where a demo was made before, rather than finish that one.

    Returns:
        the report and its first lines.
    """
    with limited_threads(min(count_idle_cores(), torch.get_num_threads())):
        return _run(Path(out), fresh)


def _run(out: Path, fresh: bool) -> Demo:
    explained = out / "explain"
    # The run within the folder shows that an older version wrote the report.
    output = OutputFolder(out, "demo", written_with(f"run/{ENVIRONMENT}", Environment.read, [REPORT]))
    output.check([REPORT])
    checked_output(explained)
    recipe = read_recipe(RECIPE)
    directory = run(recipe, out / "run", fresh=fresh, track="none")
    by_slice = recipe.model_copy(update={"split": recipe.split.model_copy(update={"protocol": "by_slice"})})
    leaky = run(by_slice, out / "run-by-slice", fresh=fresh, track="none")
    audit = audit_source(recipe.data, out / "audit", split=str(leaky.path / SPLIT))
    explain_run(directory.path, explained, ExplainOptions(methods=(METHOD,)))
    subjects = evaluate_run(directory.path, level="subject", task="non_vs_demented")
    story = (*_story(directory.metrics(), leaky.metrics(), subjects, audit.verdict), _say_where_maps_point(directory))
    alts = dict(_describe_pictures(directory.metrics()))
    pictures = [
        Picture(heading, caption, (directory.path / FIGURES / name).read_bytes(), alts[name])
        for name, (heading, caption) in PICTURES.items()
    ]
    caption = "Layer-CAM on slices of the test part: bright colours mark what spoke for the predicted class."
    pictures.insert(0, Picture("Explanations", caption, (explained / GRID).read_bytes()))
    title, text = "mriscope demo: synthetic brains", write_recipe(strip_folders(directory.recipe))
    page = run_page(title, directory.metrics(), text, directory.environment, pictures, story=story)
    with output.writing([REPORT]):
        write_text(out / REPORT, page)
    return Demo(out / REPORT, story)


def _describe_pictures(metrics: Metrics) -> Iterator[tuple[str, str]]:
    """Yield the file and what is seen in it, for those who do not see it."""
    classes = {name.replace("_", " "): metrics.classes[name] for name in by_severity(metrics.classes)}
    yield "slices.png", f"Axial slices of synthetic brains in columns: {', '.join(classes)}."
    kept = metrics.training.epoch_kept if metrics.training is not None else 0
    yield "training.png", f"Curves of loss and accuracy by epoch, with a line at epoch {kept}, whose weights were kept."
    for file, said, values in (
        (
            "confusion.png",
            "Confusion matrix. Recall",
            [f"{100 * one.recall.value:.0f} %" for one in classes.values()],
        ),
        ("roc.png", "ROC curves. AUROC", [f"{one.auroc.value:.3f}" for one in classes.values()]),
    ):
        told = ", ".join(f"{name} {value}" for name, value in zip(classes, values, strict=True))
        yield file, f"{said}: {told}."


def _story(honest: Metrics, leaky: Metrics, subjects: Metrics, verdict: str) -> Iterator[str]:
    """Yield what the two splits give, what the audit says of the first, and what a baseline without a network gives."""
    shared, unseen = (100 * one.metrics["accuracy"].value for one in (leaky, honest))
    yield (
        f"The same network has an accuracy of {shared:.1f} % where slices were divided at random, and of "
        f"{unseen:.1f} % on subjects that it has not seen."
    )
    yield f"The audit of the split by slice: {verdict}"
    auroc = subjects.metrics["auroc"].value
    best = max(one.metrics["auroc"].value for one in subjects.baselines.values())
    yield (
        f"By subject, demented or not, its AUROC is {auroc:.2f}; the best baseline without a network has {best:.2f}. "
        "The phantom's disease is stronger than any real one, so that a network can learn it in seconds."
    )


def _say_where_maps_point(directory: RunDirectory) -> str:
    """Say how often a map is highest where disease turned tissue into fluid, and how often chance would be."""
    source = directory.environment.source
    assert source is not None
    whole = load(source, recipe=directory.recipe).slices
    test = whole[read_split(directory.path / SPLIT, whole).test]
    truth = phantom_masks(test, source, least=FLUID)
    assert truth is not None
    model, names = open_network(directory, "cpu")
    batch = scaled(torch.from_numpy(np.array(test.images)), directory.recipe.input.scale)
    with torch.no_grad():
        called = model(batch).argmax(1).numpy()
    changed = truth.any(axis=(1, 2)) & (called == test.labels) & (called != names.index("Non_Demented"))
    if not changed.any():
        return "Maps could not be held against the planted change, as no demented test slice was called rightly."
    masks = torch.from_numpy(truth[changed])
    maps = explain(model, batch[torch.from_numpy(changed)], (METHOD,))[METHOD].maps
    hits = float(pointing_game(maps, masks).nan_to_num(0).mean())
    brains = brain_mask(test.images[changed])
    chance = float(np.mean([(a & b).sum() / b.sum() for a, b in zip(truth[changed], brains, strict=True)]))
    return (
        f"Layer-CAM is highest where disease enlarged the ventricles in {100 * hits:.0f} % of {int(changed.sum())} "
        f"demented test slices called rightly; a place of the brain at random would be there in {100 * chance:.0f} %."
    )
