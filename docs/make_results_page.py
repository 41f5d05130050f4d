"""Write docs/results.md from finished run directories: no figure in it is typed by hand.

    python3 run.py results [FOLDER]      FOLDER holds run directories; default runs/

Each row of recipes/study/ whose run is in FOLDER, under the recipe's name, becomes a row of the table.
"""

import sys
from pathlib import Path
from typing import Any

from mriscope.recipe import read_recipe
from mriscope.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"

# The study's accuracy on its own draw of the test part, in per cent, by the name of our recipe.
STUDY = {"baseline_cnn": 97.19}

HEAD = """# Results

Written by `python3 run.py results` from run directories; every figure was measured.

These are the figures of the **published split**, in which slices of one brain lie on both sides. They say how well a
model recognises brains it has seen, not how well it tells dementia in new people.

The 1,280 slices of the test part judge; a tenth of the training part chose the epoch. The study's split was drawn anew
(its own is not public), so that its figures and ours agree only within sampling error. Intervals are 95 % bootstrap
intervals over slices, as the published parts name no subjects.

| recipe | study, % of slices | ours, % of slices | balanced accuracy | macro-F1 | quadratic kappa | time of training |
|---|---|---|---|---|---|---|
"""


def main(folder: Path) -> None:
    runs = [RunDirectory(folder / recipe.stem) for recipe in sorted((ROOT / "recipes" / "study").glob("*.yaml"))]
    finished = [run for run in runs if run.finished]
    page = HEAD + "".join(map(row, finished)) + "\n## How each row was run\n\n" + "".join(map(origin, finished))
    PAGE.write_text(page, encoding="utf-8")
    print(f"written: {PAGE.name}, {len(finished)} of {len(runs)} rows")


def row(run: RunDirectory) -> str:
    metrics = run.metrics()
    study = STUDY.get(run.path.name)
    cells = [
        f"`{run.path.name}`",
        "not in the study" if study is None else f"{study:.2f}",
        share(metrics["metrics"]["accuracy"]),
        share(metrics["metrics"]["balanced_accuracy"]),
        share(metrics["metrics"]["macro_f1"]),
        figure(metrics["metrics"]["quadratic_kappa"]),
        f"{metrics['training']['seconds'] / 60:.1f} min",
    ]
    return f"| {' | '.join(cells)} |\n"


def origin(run: RunDirectory) -> str:
    facts, training = run.environment, run.metrics()["training"]
    own = read_recipe(ROOT / "recipes" / "study" / f"{run.path.name}.yaml")
    same = own.model_dump(exclude={"data"}) == run.recipe.model_dump(exclude={"data"})
    changed = "" if same else " Its settings differ from the recipe's; see its recipe.yaml."
    return (
        f"* `mriscope train recipes/study/{run.path.name}.yaml --data ../shared/data/alzheimer_mri`: "
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
