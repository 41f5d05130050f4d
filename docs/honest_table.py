"""The part of docs/results.md that stands beside the published split: the same recipes cross-validated by subject."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mriscope.recipe import Recipe, read_recipe
from mriscope.results import CrossValidation
from mriscope.run_directory import RunDirectory

Record = Mapping[str, Any]

FOLDER = "crossval"
"""Below the run directories: one cross-validation per recipe, under the recipe's name."""
PUBLISHED = "published"
"""Below it too: runs on the published split of recipes that are not the study's."""
COLUMNS = (
    *("recipe", "published split, % of slices", "by subject, % of slices", "drop, points", "% of subjects"),
    *("macro-F1", "macro-F1, three classes", "macro-F1, Non vs demented", "AUROC, Non vs demented", "note"),
)
TEXT = """## The same recipes, evaluated by subject

Here no brain is on both sides: each of {folds} folds holds out whole subjects, as recovered from the pixels
([how](subjects.md)), and the folds together evaluate all {slices:,} slices of {subjects} subjects. The drop is what the
published split owed to brains that the model had seen. From the fifth column on, a subject's slices are pooled into
one prediction, in the way that suits each fold's validation part best. Intervals are 95 % bootstrap intervals over
subjects.
Half of the subjects are Non demented, so always saying so is right for 50 % of them.
Read `tissue_histograms` with its hindsight: it was chosen after some 350 variants had been looked at on these subjects.
`tissue_families` chooses within each training part. Over twenty fresh draws of the folds its AUROC, Non vs demented, is
0.818 (0.790 to 0.830 from draw to draw), where the brain fraction alone has 0.792; of the subjects of 60 and over it is
0.759 against 0.719 ([honest.md](honest.md)).

"""


def recipe_files(root: Path) -> dict[str, Path]:
    """Every recipe that the table may have, by name."""
    return {
        file.stem: file
        for kind in ("study", "honest")
        for file in sorted((root / "src/mriscope/recipes" / kind).glob("*.yaml"))
    }


def crossval_records(root: Path, folder: Path, before: Mapping[str, Record]) -> dict[str, Record]:
    """What is kept of each cross-validation: from its folder, or as it was kept before."""
    found = {name: place for name in recipe_files(root) if (place := folder / FOLDER / name / "summary.json").is_file()}
    return {**before, **{name: _record(place, folder) for name, place in found.items()}}


def _record(summary: Path, folder: Path) -> Record:
    found = CrossValidation.read(summary)
    assert found.subject is not None, f"{summary} is of no folds by subject"
    first = RunDirectory(next(iter(sorted(summary.parent.glob("repeat*-fold*")))))
    run, published = first.environment, RunDirectory(folder / PUBLISHED / summary.parent.name)
    split = {"protocol", "folds", "fold", "repeat"}
    return {
        "recipe": first.recipe.model_dump(exclude={"data": True, "study": True, "split": split}, exclude_defaults=True),
        **{name: getattr(found, name) for name in ("folds", "repeats", "n_slices", "n_subjects", "training_seconds")},
        "slice": found.slice["four_classes"]["accuracy"].to_json(),
        "subject": {
            "accuracy": found.subject["four_classes"]["accuracy"].to_json(),
            **{task: one["macro_f1"].to_json() for task, one in found.subject.items()},
            "auroc": found.subject["non_vs_demented"]["auroc"].to_json(),
        },
        "published": published.metrics().metrics["accuracy"].to_json() if published.finished else None,
        "run": run.model_dump(mode="json", include={"commit", "cores", "processor", "device", "started"}),
    }


def honest_section(
    root: Path,
    records: Mapping[str, Record],
    published: Mapping[str, Record],
    *,
    changes: Callable[[Recipe, Record], Sequence[str]],
    share: Callable[[Record], str],
    figure: Callable[[Record], str],
) -> str:
    """The table and how each row was run; nothing where no recipe was cross-validated."""
    if not records:
        return ""
    files, first = recipe_files(root), next(iter(records.values()))
    names = sorted(records, key=lambda name: -records[name]["subject"]["auroc"]["value"])
    head = TEXT.format(folds=first["folds"], slices=first["n_slices"], subjects=first["n_subjects"])
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    origins = []
    for name in names:
        one, recipe = records[name], read_recipe(files[name])
        before = published[name]["metrics"]["accuracy"] if name in published else one["published"]
        changed = [change for change in changes(recipe, one) if not change.startswith("split.")]
        subject = one["subject"]
        tasks = ("four_classes", "three_classes", "non_vs_demented")
        drop = "" if before is None else f"{100 * (before['value'] - one['slice']['value']):.1f}"
        rows.append(
            [
                *(f"`{name}`", "" if before is None else share(before), share(one["slice"]), drop),
                *(share(subject["accuracy"]), *(figure(subject[task]) for task in tasks), figure(subject["auroc"])),
                "; ".join(change.removeprefix("training.precision=") for change in changed),
            ]
        )
        origins.append(_origin(name, files[name].parent.name, one, changed))
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
    return f"{head}{table}\n### How each was run\n\n{''.join(origins)}"


def _origin(name: str, kind: str, record: Record, changed: Sequence[str]) -> str:
    facts, sets = record["run"], "".join(f" --set {change}" for change in changed)
    folds = f"--folds {record['folds']} --repeats {record['repeats']}"
    return (
        f"* `mriscope crossval recipes/{kind}/{name}.yaml{sets} {folds} --data ../shared/data/alzheimer_mri`: "
        f"{record['training_seconds']:,.0f} s of training on "
        f"{facts['cores']} cores of {facts['processor']} ({facts['device']}), commit {facts['commit']}, "
        f"{facts['started'][:10]}.\n"
    )
