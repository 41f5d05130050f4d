"""Do the whole job on synthetic brains, and write a report."""

from pathlib import Path

from mriscope.data.source import strip_folders
from mriscope.files import write_text
from mriscope.output_folder import OutputFolder, written_with
from mriscope.recipe import read_recipe, write_recipe
from mriscope.reports.page import Picture, run_page
from mriscope.results import Environment
from mriscope.run_directory import ENVIRONMENT, FIGURES
from mriscope.workflows.explain import GRID, checked_output, explain_run
from mriscope.workflows.train import run

RECIPE = Path(__file__).with_name("demo.yaml")
REPORT = "report.html"

PICTURES = {
    "slices.png": ("Slices", "Drawn at random from the data, a column for each class."),
    "training.png": ("Training", "Loss and accuracy by epoch; a line marks the epoch whose weights were kept."),
    "confusion.png": ("Confusion matrix", "How the slices of each class were called: counts, and shares of the class."),
    "roc.png": ("ROC curves", "Each class against the rest."),
}


def run_demo(out: str | Path, *, fresh: bool = False) -> Path:
    """Make brains, train a small recipe on them, evaluate it, explain it and write a report with pictures inside.

    Args:
        out: folder for the run, the explanations and report.html.
        fresh: begin anew where a demo was made before, rather than finish that one.

    Returns:
        the report.
    """
    report, explained = Path(out) / REPORT, Path(out) / "explain"
    # The run within the folder shows that an older version wrote the report.
    output = OutputFolder(Path(out), "demo", written_with(f"run/{ENVIRONMENT}", Environment.read, [REPORT]))
    output.check([REPORT])
    checked_output(explained)
    directory = run(read_recipe(RECIPE), Path(out) / "run", fresh=fresh)
    explain_run(directory.path, explained)
    pictures = [
        Picture(heading, caption, (directory.path / FIGURES / name).read_bytes())
        for name, (heading, caption) in PICTURES.items()
    ]
    caption = "Grad-CAM on slices of the test part: warm colours mark what spoke for the predicted class."
    pictures.append(Picture("Explanations", caption, (explained / GRID).read_bytes()))
    title, recipe = "mriscope demo: synthetic brains", write_recipe(strip_folders(directory.recipe))
    with output.writing([REPORT]):
        write_text(report, run_page(title, directory.metrics(), recipe, directory.environment, pictures))
    return report
