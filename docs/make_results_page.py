"""Write docs/results.md from finished run directories: no figure in it is typed by hand.

    python3 run.py results [FOLDER]      FOLDER holds run directories; default runs/

Each row of recipes/study/ whose run is in FOLDER, under the recipe's name, gets its measured figures.
"""

import sys
from pathlib import Path
from typing import Any

from mriscope.recipe import Recipe, StudyRow, read_recipe
from mriscope.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"

HEAD = """# Results

Written by `python3 run.py results` from run directories; every figure was measured.

These are the figures of the **published split**, in which slices of one brain lie on both sides. They say how well a
model recognises brains it has seen, not how well it tells dementia in new people.

The 1,280 slices of the test part judge; a tenth of the training part chose the epoch. The study's split was drawn anew
(its own is not public), so that its figures and ours agree only within sampling error. Intervals are 95 % bootstrap
intervals over slices, as the published parts name no subjects.

| study rank | recipe | study, % | ours, % of slices | balanced accuracy | macro-F1 | quadratic kappa | training |
|---|---|---|---|---|---|---|---|
"""


def main(folder: Path) -> None:
    recipes = {file.stem: read_recipe(file) for file in (ROOT / "recipes" / "study").glob("*.yaml")}
    ranked = sorted(recipes.items(), key=lambda item: study_row(item[1]).rank)
    runs = {name: RunDirectory(folder / name) for name, _ in ranked}
    finished = [name for name, _ in ranked if runs[name].finished]
    rows = [row(name, study_row(recipe), runs[name]) for name, recipe in ranked]
    origins = [origin(name, recipes[name], runs[name]) for name in finished]
    page = HEAD + "".join(rows) + "\n## How each row was run\n\n" + "".join(origins)
    PAGE.write_text(page, encoding="utf-8")
    print(f"written: {PAGE.name}, {len(finished)} of {len(ranked)} rows")


def study_row(recipe: Recipe) -> StudyRow:
    assert recipe.study is not None
    return recipe.study


def row(name: str, study: StudyRow, run: RunDirectory) -> str:
    cells = [str(study.rank), f"`{name}`", f"{study.accuracy:.2f}"]
    if not run.finished:
        return f"| {' | '.join([*cells, 'not run yet', '', '', '', ''])} |\n"
    metrics = run.metrics()
    figures = metrics["metrics"]
    cells += [share(figures[metric]) for metric in ("accuracy", "balanced_accuracy", "macro_f1")]
    cells += [figure(figures["quadratic_kappa"]), f"{metrics['training']['seconds'] / 60:.1f} min"]
    return f"| {' | '.join(cells)} |\n"


def origin(name: str, recipe: Recipe, run: RunDirectory) -> str:
    facts, training = run.environment, run.metrics()["training"]
    excluded = {"data", "study"}
    same = recipe.model_dump(exclude=excluded) == run.recipe.model_dump(exclude=excluded)
    changed = "" if same else " Its settings differ from the recipe's; see its recipe.yaml."
    return (
        f"* `mriscope train recipes/study/{name}.yaml --data ../shared/data/alzheimer_mri`: "
        f"{training['epochs']} epochs, weights of epoch {training['epoch_kept']}, "
        f"{training['slices_per_second']:.0f} slices/s on {facts['cores']} cores of {facts['processor']} "
        f"({facts['device']}), commit {facts['commit']}, torch {facts['packages']['torch']}, "
        f"{facts['started'][:10]}.{changed}\n"
    )


def share(estimate: dict[str, Any]) -> str:
    return f"{100 * estimate['value']:.2f} ({100 * estimate['low']:.2f} to {100 * estimate['high']:.2f})"


def figure(estimate: dict[str, Any]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs")
