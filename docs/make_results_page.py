"""Write docs/results.md from finished run directories: no number in it is typed by hand.

    python3 run.py results [FOLDER] [--headers]      FOLDER holds run directories; default runs/

Each recipe of the group study whose run is in FOLDER, under the recipe's name, gets its measured metrics. They are
also kept in docs/results.json, so that a row stands until a newer run takes its place. With --headers the recipes' own
"Expect" lines get the metrics of rows that were run in full.
"""

import json
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from honest_table import FOLDER, crossval_records, honest_section

from mriscope.files import write_text
from mriscope.recipe import Recipe, StudyRow, make_recipe, read_recipe
from mriscope.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
Record = Mapping[str, Any]

SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "quadratic_kappa")
NOT_CNN = ("resnet50", "efficientnet_b3")
IN_FULL = {"training.precision=bfloat16"}
"""Changes of settings that leave a row run in full."""
STRANGE = {
    15: "The study reports 92.42 %.",
    18: "The study reports 48.83 %, about the share of the largest class; its author's notes give 98.44 %.",
    19: "The study reports 13.44 %, exactly 172 of 1,280: every slice called Mild; its author's notes give 98.12 %.",
}
"""Rows, by rank, whose metrics in the study say little of their settings."""

HEAD = """# Results

Written by `python3 run.py results` from run directories; every number was measured. The metrics are also kept in
`docs/results.json`: a row that was measured stands here until a newer run directory takes its place.

These are the metrics of the **published split**, in which slices of one brain lie on both sides. They say how well a
model recognises brains it has seen, not how well it tells dementia in new people. **For new people, go on to
[the same recipes, evaluated by subject](#the-same-recipes-evaluated-by-subject) and
[what pretraining adds](#what-pretraining-adds).**

"""
FAIR = """Metrics are of the {count} slices of the test part; a tenth of the training part chose the epoch. The study's
split was drawn anew (its own is not public), so that its metrics and ours agree only within sampling error. {intervals}
A note says where a row was run with other settings than its recipe's{leaky}.
Training times are as they came, often beside other work on the same machine; they are no benchmark."""
COLUMNS = (
    *("study rank", "recipe", "study, %", "ours, % of slices"),
    *("balanced accuracy", "macro-F1", "quadratic kappa", "training", "note"),
)


def main(folder: Path, root: Path = ROOT, *, headers: bool = False) -> None:
    files = sorted((root / "src/mriscope/recipes/study").glob("*.yaml"))
    recipes = {file.stem: read_recipe(file) for file in files}
    recipes = dict(sorted(recipes.items(), key=lambda item: study_row(item[1]).rank))
    before = kept(root / "docs" / "results.json")
    honest = crossval_records(root, folder, before.pop(FOLDER, {}))
    records = newest(recipes, before, folder)
    lines = [f"{json.dumps(name)}: {json.dumps(record)}" for name, record in {**records, FOLDER: honest}.items()]
    write_text(root / "docs" / "results.json", "{\n" + ",\n".join(lines) + "\n}\n")
    section = honest_section(root, honest, records, changes=changes, share=share, figure=figure)
    write_text(root / "docs" / "results.md", page(recipes, records, section))
    if headers:
        for file in files:
            update_header(file, recipes[file.stem], records.get(file.stem))
    print(f"written: results.md and results.json, {len(records)} of {len(recipes)} rows")


def study_row(recipe: Recipe) -> StudyRow:
    assert recipe.study is not None
    return recipe.study


def kept(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def newest(recipes: Mapping[str, Recipe], before: Mapping[str, Record], folder: Path) -> dict[str, Record]:
    """Of each row the metrics of its run directory, or those kept before where they are newer or alone."""
    found = {name: record_of(RunDirectory(folder / name)) for name in recipes if RunDirectory(folder / name).evaluated}
    both = {name: [one[name] for one in (before, found) if name in one] for name in recipes}
    return {name: max(reversed(ones), key=lambda one: one["run"]["started"]) for name, ones in both.items() if ones}


def record_of(run: RunDirectory) -> Record:
    """What is kept of a run: its metrics, and how it was run."""
    metrics, made = run.metrics(), run.environment
    return {
        "recipe": run.recipe.model_dump(exclude={"data", "study"}, exclude_defaults=True),
        **metrics.model_dump(mode="json", include={"protocol", "leaky", "n_slices", "interval", "training"}),
        "metrics": {name: metrics.metrics[name].to_json() for name in SHOWN},
        "run": {
            **made.model_dump(
                mode="json",
                include={
                    "commit",
                    "cores",
                    "processor",
                    "device",
                    "started",
                    "program",
                },  # program: unless mriscope train
                exclude_none=True,
            ),
            "torch": made.packages["torch"],
        },
    }


def page(recipes: Mapping[str, Recipe], records: Mapping[str, Record], honest: str = "") -> str:
    rows = [row(name, recipe, records.get(name)) for name, recipe in recipes.items()]
    origins = [origin(name, recipes[name], record) + taken_over(record, records) for name, record in records.items()]
    strange = [remark(recipe, records.get(name)) for name, recipe in recipes.items()]
    sections = [
        HEAD + fair(records),
        line(COLUMNS) + line(["---"] * len(COLUMNS)) + "".join(rows),
        reached(recipes, records),
        *[honest] * bool(honest),
        "## Rows 15, 18 and 19\n\n" + "".join(strange),
        "## How each row was run\n\n" + "".join(origins),
    ]
    return "\n".join(sections)


def fair(records: Mapping[str, Record]) -> str:
    """Say what was evaluated, and what the intervals mean."""
    counts = sorted({record["n_slices"] for record in records.values()})
    leaky = any(record["leaky"] for record in records.values())
    text = FAIR.format(
        count=" or ".join(f"{count:,}" for count in counts),
        intervals=intervals(records),
        leaky=", and LEAKY where subjects of the test part are known to be in training too" * leaky,
    )
    return textwrap.fill(text if records else "No row has been run yet.", 120) + "\n"


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def intervals(records: Mapping[str, Record]) -> str:
    """What the intervals resample, and what that leaves out."""
    units = sorted({f"{record['interval']['unit']}s" for record in records.values()})
    notes = {record["interval"].get("note") for record in records.values()}
    text = f"Intervals are 95 % bootstrap intervals over {' or '.join(units)}"
    text += ", as stands below with each row" if len(units) > 1 else ""
    (*_, said) = notes or {None}
    return f"{text} ({said})." if said and len(notes) == 1 else f"{text}."


def row(name: str, recipe: Recipe, record: Record | None) -> str:
    study = study_row(recipe)
    cells = [str(study.rank), f"`{name}`", f"{study.accuracy:.2f}"]
    if record is None:
        return line([*cells, "not run", *[""] * (len(COLUMNS) - len(cells) - 1)])
    figures = record["metrics"]
    cells += [share(figures[metric]) for metric in SHOWN[:-1]]
    cells += [figure(figures[SHOWN[-1]]), f"{record['training']['seconds'] / 60:.1f} min", note(recipe, record)]
    return line(cells)


def note(recipe: Recipe, record: Record) -> str:
    """What a reader of the row must know."""
    words = {
        "training.precision=bfloat16": "bfloat16",
        "model_options.weights=none": "random weights, no ImageNet",
        f"training.epochs={record['training']['epochs']}": (
            f"{record['training']['epochs']} of {recipe.training.epochs} epochs"
        ),
    }
    told = [words.get(change, f"`{change}`") for change in changes(recipe, record)]
    return "; ".join([*told, *["LEAKY"] * bool(record["leaky"])])


def reached(recipes: Mapping[str, Recipe], records: Mapping[str, Record]) -> str:
    """How many of the study's own networks reach its accuracies."""
    own = [name for name, recipe in recipes.items() if recipe.model not in NOT_CNN]
    run = [name for name in own if name in records]
    below = [name for name in run if per_cent(records[name]) < round(study_row(recipes[name]).accuracy - 1, 2)]
    text = (
        f"{len(run)} of the {len(own)} CNN rows were run; **{len(run) - len(below)}** of them are at or above the "
        "study's accuracy less one point."
    )
    return text + (f" Below it: {', '.join(f'`{name}`' for name in below)}.\n" if below else "\n")


def remark(recipe: Recipe, record: Record | None) -> str:
    """On a row whose accuracy in the study is strange: what its settings really give."""
    study = study_row(recipe)
    if study.rank not in STRANGE:
        return ""
    ours = "Not run here."
    if record is not None:
        told = note(recipe, record)
        how = f" ({told})" if told else ""
        ours = f"Its settings give {share(record['metrics']['accuracy'])} % here{how}."
    return f"* Row {study.rank}, {study.run}: {STRANGE[study.rank]} {ours}\n"


def origin(name: str, recipe: Recipe, record: Record) -> str:
    facts, training = record["run"], record["training"]
    by = f" by the loop of `{facts['program']}`" if "program" in facts else ""
    return (
        f"* `{command(name, changes(recipe, record))}`{by}: "
        f"{training['epochs']} epochs, weights of epoch {training['epoch_kept']}, "
        f"{training['slices_per_second']:.0f} slices/s on {facts['cores']} cores of {facts['processor']} "
        f"({facts['device']}), intervals over {record['interval']['unit']}s, commit {facts['commit']}, "
        f"torch {facts['torch']}, {facts['started'][:10]}.\n"
    )


def taken_over(record: Record, records: Mapping[str, Record]) -> str:
    """Whose first epochs a row shares: its run directory began as a copy of a shorter run's, with the same start."""
    for name, other in records.items():
        same = all(record["run"][key] == other["run"][key] for key in ("started", "commit"))
        shorter = other["training"]["epochs"] < record["training"]["epochs"]
        if same and shorter and other["recipe"]["model"] == record["recipe"]["model"]:
            return f"  It went on from the last checkpoint of `{name}`, whose first steps are the same.\n"
    return ""


def command(name: str, changed: Sequence[str]) -> str:
    sets = [word for change in changed for word in ("--set", change)]
    return shlex.join(
        ["mriscope", "train", f"recipes/study/{name}.yaml", *sets, "--data", "../shared/data/alzheimer_mri"]
    )


def changes(recipe: Recipe, record: Record) -> list[str]:
    """The settings of a run that are not its recipe's, each as --set takes it."""
    excluded = {"data", "study"}
    there, here = (one.model_dump(exclude=excluded) for one in (recipe, make_recipe(record["recipe"])))
    return list(_changes(there, here))


def _changes(there: Mapping[str, Any], here: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in here.items():
        was = there.get(key)
        if value == was:
            continue
        if isinstance(value, dict) and isinstance(was, dict) and value and was.keys() <= value.keys():
            yield from _changes(was, value, f"{above}{key}.")
        else:
            plain = isinstance(value, str) and yaml.safe_load(value) == value
            yield f"{above}{key}={value if plain else json.dumps(value)}"


def update_header(file: Path, recipe: Recipe, record: Record | None) -> None:
    """Put what was measured in the place of what a recipe expects, where it was run in full."""
    if record is None or not set(changes(recipe, record)) <= IN_FULL:
        return
    facts, changed = record["run"], note(recipe, record)
    said = (
        f"# Expect {share(record['metrics']['accuracy'])} %, {max(record['training']['seconds'] / 60, 1):.0f} min "
        f"on {facts['cores']} cores of {facts['processor']} ({facts['device']}{f'; {changed}' if changed else ''})."
    )
    text = file.read_text(encoding="utf-8")
    write_text(file, re.sub(r"^# Expect .*?\.(?= |$)", lambda _: said, text, count=1, flags=re.MULTILINE))


def per_cent(record: Record) -> float:
    """Accuracy as the study's table writes it."""
    return round(100 * record["metrics"]["accuracy"]["value"], 2)


def share(estimate: Mapping[str, Any]) -> str:
    return _spelled(estimate, 100, 2)


def figure(estimate: Mapping[str, Any]) -> str:
    return _spelled(estimate, 1, 3)


def _spelled(estimate: Mapping[str, Any], scale: int, digits: int) -> str:
    if estimate["value"] is None:
        return "undefined"
    value, low, high = (
        "none" if estimate[name] is None else f"{scale * estimate[name]:.{digits}f}"
        for name in ("value", "low", "high")
    )
    if estimate.get("reliable") is False:
        return f"{value} (interval not reliable here)"
    return f"{value} ({low} to {high})" if "none" not in (low, high) else f"{value} (no interval)"


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--headers"]
    main(Path(words[0]) if words else ROOT / "runs", headers="--headers" in sys.argv)
