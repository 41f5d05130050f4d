"""Names of the files that make a finished run, and a check that they are there; imports nothing heavy."""

from pathlib import Path

from mriscope.errors import RunError, check_type

RECIPE, WEIGHTS, METRICS = "recipe.yaml", "model.safetensors", "metrics.json"


def check_finished(path: str | Path) -> Path:
    """Return the path of a finished run's directory; whether its files are whole is for their readers to tell.

    Raises:
        RunError: there is no run at this path, or it is unfinished.
        ArgumentTypeError: the path is no path.

    Example:
        >>> check_finished("mriscope-demo/run")  # doctest: +SKIP
        PosixPath('mriscope-demo/run')
    """
    check_type("the run", path, (str, Path), "the path of a run directory")
    folder = Path(path)
    first = folder / "repeat0-fold0"
    if not (folder / RECIPE).is_file() and (first / RECIPE).is_file():
        raise RunError(
            f"{path} is a cross-validation; its summary.md holds the metrics of all folds, and each fold is a run, "
            f"such as {first}"
        )
    if not (folder / RECIPE).is_file():
        raise RunError(f"{path} is no run directory (it holds no {RECIPE}); name one that `mriscope train` wrote")
    if not all((folder / name).is_file() for name in (WEIGHTS, METRICS)):
        raise RunError(f"the run in {path} is not finished; give its `mriscope train` command again to finish it")
    return folder
