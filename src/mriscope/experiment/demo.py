"""The whole job on synthetic brains, and the report of a run."""

from pathlib import Path

from mriscope.experiment.explaining import checked_output, explain_run
from mriscope.experiment.running import run
from mriscope.files import write_text
from mriscope.output_folder import OutputFolder, written_with
from mriscope.recipe import read_recipe, write_recipe
from mriscope.reports.page import Picture, run_page
from mriscope.results import Environment
from mriscope.run_directory import ENVIRONMENT, FIGURES, RunDirectory

RECIPE = Path(__file__).with_name("demo.yaml")
REPORT = "report.html"

PICTURES = {
    "slices.png": ("Slices", "Drawn at random from the data, a column for each class."),
    "training.png": ("Training", "Loss and accuracy by epoch; a line marks the epoch whose weights were kept."),
    "confusion.png": ("Confusion matrix", "How the slices of each class were called: counts, and shares of the class."),
    "roc.png": ("ROC curves", "Each class against the rest."),
}


def run_demo(out: str | Path, *, fresh: bool = False) -> Path:
    """Make brains, train a small recipe on them, judge it, explain it and write a report.

    Args:
        out: folder for the run, the explanations and report.html.
        fresh: begin anew where a demo was made before, rather than finish that one.

    Returns:
        the report.
    """
    _output(Path(out)).check([REPORT])
    checked_output(Path(out) / "explain")
    directory = run(read_recipe(RECIPE), Path(out) / "run", fresh=fresh)
    return write_report("mriscope demo: synthetic brains", directory, Path(out) / REPORT)


def write_report(title: str, directory: RunDirectory, path: Path) -> Path:
    """The report of a finished run: one HTML file with its pictures inside, explanations among them."""
    folder = path.parent / "explain"
    explain_run(directory.path, folder)
    pictures = [
        Picture(heading, caption, (directory.path / FIGURES / name).read_bytes())
        for name, (heading, caption) in PICTURES.items()
    ]
    caption = "Grad-CAM on slices of the test part: warm colours mark what spoke for the predicted class."
    pictures.append(Picture("Explanations", caption, (folder / "grid.png").read_bytes()))
    page = run_page(title, directory.metrics(), write_recipe(directory.recipe), directory.environment, pictures)
    with _output(path.parent).writing([path.name]):
        write_text(path, page)
    return path


def _output(out: Path) -> OutputFolder:
    """Return the folder of a demo; the run within it shows that an older version wrote the report."""
    return OutputFolder(out, "demo", written_with(f"run/{ENVIRONMENT}", Environment.read, [REPORT]))
